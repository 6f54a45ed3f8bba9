# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An act in a process of its own that is killed, or whose server is killed, at its n-th step.

A step is a statement to the server or a write to the store: between two of them nothing happens that anybody else
could see.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psycopg_session import PsycopgSession
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore


def _wrapped(owner: type, name: str, step: Callable[[str], None]) -> None:
    real = getattr(owner, name)

    def instead(self: object, *arguments: Any, **named: Any) -> Any:  # any method at all
        step(f"{name} {str(arguments[0] if arguments else '')[:60]}")
        return real(self, *arguments, **named)

    setattr(owner, name, instead)


def steps(act: Callable[[], object], log: Path, at: int = -1, strike: Callable[[], object] | None = None) -> int:
    """Fork, and do the act; at step number `at` (from 0 on) strike, or be killed. Gives the exit status of os.wait.

    log: gets the name of each step, one a line.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        count = 0
        with log.open("w", encoding="utf-8", buffering=1) as out:

            def step(name: str) -> None:
                nonlocal count
                if count == at:
                    if strike is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    else:
                        strike()
                out.write(" ".join(name.split()) + "\n")
                count += 1

            _wrapped(PsycopgSession, "_execute", step)
            _wrapped(PosixStore, "put", step)
            act()
            status = 0
    except BaseException:  # noqa: BLE001 - a forked child must not go on as the test
        traceback.print_exc(file=sys.stderr)
        status = 1
    os._exit(status)
