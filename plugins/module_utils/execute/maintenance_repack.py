# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table by pg_repack: ended in time, and then with nothing of it left on the table.

pg_repack waits without a limit for transactions that are older than its copy, and its own way out of an interrupt
waits without a limit for the table. So the program is ended, then its backends, and what it left is removed here.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Act
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_crew import FAILED, Outcome
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import (
    DONE,
    GONE,
    LATE,
    LOCKED,
    Manner,
    Seen,
    see,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repack import (
    AT_WORK,
    CLEAN,
    HELD,
    SUFFIX,
    end_backends,
    sweep,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process

POLL = 0.2
# a run that is interrupted waits 15 s for what it ends: the program's end, its backends' and the clean-up, in seconds
ENDING, SWEEPING = 3.0, 6.0
REMAINS = "what it left on the table is removed by the next run, because somebody held the table"


@dataclass(frozen=True)
class Repack:
    """Works with the sessions and programs of the target."""

    target: Target
    context: Context
    manner: Manner

    def clean(self, session: Session, act: Act, before: Seen) -> Outcome:
        """The act that removes what an ended pg_repack left on a table."""
        self.context.admission.confirm()
        state = sweep(session, act.table, SWEEPING, self.manner.lock_timeout)
        said = {AT_WORK: ["a pg_repack works on it"], HELD: ["somebody held the table"]}.get(state, [])
        outcome = GONE if state == CLEAN else LOCKED if said else DONE
        return Outcome(act, outcome, before, see(session, act), said)

    def __call__(self, session: Session, act: Act, before: Seen, seconds: float, halted: Callable[[], bool]) -> Outcome:
        """It never ends a session that is in its way (--no-kill-backend). seconds: the longest that it may take."""
        state = sweep(session, act.table, SWEEPING, self.manner.lock_timeout)
        if state == AT_WORK:
            return Outcome(act, LOCKED, before, said=["another pg_repack works on it"])
        if state == HELD:
            return Outcome(act, LOCKED, before, said=["an ended pg_repack left something, and the table is held"])
        self.context.admission.confirm()
        name = str(session.value(render("SELECT {oid}::regclass::text", oid=act.table)))
        argv = [self.target.program("pg_repack"), "--no-kill-backend", "--wait-timeout", "10", "--no-order"]
        mark = self.target.connection.application_name + SUFFIX
        with self.target.environment(act.database) as env:
            process = self.target.transport.start(
                [*argv, "--table", name], env={**env, "PGAPPNAME": mark}, stdout=False
            )
            code: int | None = None
            try:
                code = _wait(process, seconds, halted)
            finally:
                if code is None:
                    process.kill()
        said = process.stderr_text().strip().splitlines()[-3:]
        if code is None:
            said = [f"pg_repack was ended after {human_duration(seconds)}" if not halted() else "pg_repack was ended"]
        if code != 0:
            end_backends(session, mark, ENDING)
            if sweep(session, act.table, SWEEPING, self.manner.lock_timeout) in (AT_WORK, HELD):
                said = [*said, REMAINS]
        after = see(session, act)
        if code is None:
            return Outcome(act, LATE, before, after, said)
        # what waited too long is told as a warning or a notice, and the program ends well
        sizes = after is not None and before.bytes is not None and (after.bytes or 0) < before.bytes
        return Outcome(act, DONE if code == 0 and sizes else FAILED, before, after, said)


def _wait(process: Process, seconds: float, halted: Callable[[], bool]) -> int | None:
    """The exit code; None when it is to be ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not halted():
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            continue
    return None
