# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session whose statements run in a thread of their own, so that a signal or a deadline reaches one that runs.

A second session of the same server is the hand that cancels, and ends what a cancel does not end.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

_T = TypeVar("_T")
# after a signal to us: between the cancel and the end of the session
PATIENCE_SECONDS = 1.0


class Watched:
    """See postgres.session.Session. What bounds it are moments of time.monotonic(), see bound."""

    def __init__(self, session: Session, hand: Session) -> None:
        self._session, self._hand = session, hand
        self._cancel_at = self._end_at = math.inf

    def bound(self, cancel_at: float = math.inf, end_at: float = math.inf) -> None:
        """From when on the statement that runs is cancelled, and from when on the session is ended."""
        self._cancel_at, self._end_at = cancel_at, end_at

    @property
    def pid(self) -> int:
        return self._session.pid

    @property
    def version(self) -> int:
        return self._session.version

    def rows(self, sql: str) -> list[Row]:
        return self._call(lambda: self._session.rows(sql))

    def value(self, sql: str) -> Json:
        return self._call(lambda: self._session.value(sql))

    def run(self, sql: str) -> None:
        self._call(lambda: self._session.run(sql))

    def notices(self) -> list[str]:
        return self._session.notices()

    def close(self) -> None:
        self._session.close()

    def _call(self, act: Callable[[], _T]) -> _T:
        found: list[_T] = []
        failed: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                found.append(act())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=work, daemon=True).start()
        try:
            self._wait(done)
        except BaseException:
            # a signal: whoever runs the statement is not left behind
            self._signal("pg_cancel_backend")
            if not done.wait(PATIENCE_SECONDS):
                self._signal("pg_terminate_backend")
                done.wait(10)
            raise
        if failed:
            raise failed[0]
        return found[0]

    def _wait(self, done: threading.Event) -> None:
        acts = [(self._cancel_at, "pg_cancel_backend"), (self._end_at, "pg_terminate_backend")]
        for moment, function in acts:
            while (left := moment - time.monotonic()) > 0:
                if done.wait(min(left, 60.0)):
                    return
            self._signal(function)
        done.wait()

    def _signal(self, function: str) -> None:
        # the hand may be gone with the server; then there is nothing left to signal
        with contextlib.suppress(OpsError):
            self._hand.value(render("SELECT {act:raw}({pid}) AS sent", act=function, pid=self.pid))
