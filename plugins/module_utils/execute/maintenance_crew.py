# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the threads of maintenance share: how they work, their sessions, and the look at lag and load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Act
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import (
    Manner,
    Seen,
    prepare,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_load import Limits, too_much
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

TIME_IS_UP = "the time is used up"
NOT_NEEDED, AUTOVACUUM, STOPPED, FAILED = "not needed", "autovacuum works on it", "stopped", "failed"
LOOK = 1.0


@dataclass
class Outcome:
    """What became of an act. before, after: counters; said: the server's words; seconds it took."""

    act: Act
    outcome: str
    before: Seen | None = None
    after: Seen | None = None
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0
    facts: dict[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For the result: numbers before and after, what was read for it."""
        act, before, after = self.act, self.before, self.after
        found: dict[str, object] = {
            "database": act.database,
            "table": act.title,
            "kind": act.kind,
            "reason": act.reason,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
        }
        if before is not None and after is not None:
            found["dead_before"], found["dead_after"] = before.dead, after.dead
            found["bytes_before"], found["bytes_after"] = before.bytes, after.bytes
            found["blocks_read"] = max(0, after.blocks - before.blocks)
        if self.said:
            found["said"] = self.said[:3]
        return {**found, **self.facts}


@dataclass(frozen=True)
class Crew:
    """What the threads share. due: whether a conditional act is due after its table was sampled.

    ends: monotonic seconds at which the budget is used up; None without. lock_wait: seconds after which a table that
    somebody holds is given up. fence: raises once the lock on the database is no longer ours. heavy: session, act,
    seconds left, and whether the work is to end now.
    """

    target: Target
    context: Context
    manner: Manner
    limits: Limits
    jobs: int
    ends: float | None
    lock_wait: float
    truncate: str
    due: Callable[[Session, Act], bool]
    done: Callable[[Outcome], None]
    fence: Callable[[], None]
    heavy: Callable[[Session, Act, float | None, Callable[[], bool]], Outcome]


class Fence:
    """The advisory lock of the database, looked at from more than one thread.

    One session holds the locks of all databases, and the server frees them together: one of them tells of all.
    """

    def __init__(self, session: Session, system: str, database: str) -> None:
        self._session, self._system, self._database = session, system, database
        self._one = threading.Lock()

    def __call__(self) -> None:
        """Raises OpsError lock_lost, or that the session was ended."""
        with self._one:
            confirm(self._session, self._system, self._database)


class Sessions:
    """One thread's connection: of one database at a time."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._session: Session | None = None
        self._database = ""

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._session is not None:
            self._session.close()

    def __call__(self, database: str) -> Session:
        if self._session is None or self._database != database:
            if self._session is not None:
                self._session.close()
            self._session, self._database = self._crew.target.session(database), database
            prepare(self._session, self._crew.manner)
        return self._session


class Watch:
    """Looks at load and lag, once in a while, and is patient for a while."""

    def __init__(self, limits: Limits, warn: Callable[[str], None]) -> None:
        self._limits, self._warn = limits, warn
        self._since: float | None = None
        self._looked = 0.0
        self._why = ""

    def look(self, control: Session) -> tuple[str, bool]:
        """(what is too much, "" for nothing; whether it is still waited for)."""
        if self._limits.none:
            return "", True
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked, self._why = now, self._too_much(control)
            self._since = None if not self._why else (now if self._since is None else self._since)
        return self._why, self._since is None or now - self._since < self._limits.patience

    def _too_much(self, control: Session) -> str:
        try:
            return too_much(control, self._limits)
        except OpsError as error:
            if error.code != "not_permitted" or self._limits.asked:
                raise
        self._warn("The lag of standbys is hidden from this role, so nothing waits for them: GRANT pg_monitor to it.")
        self._limits = replace(self._limits, lag=None)
        return too_much(control, self._limits)
