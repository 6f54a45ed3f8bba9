# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build of an index in words, out of a row of pg_stat_progress_create_index."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pace import pace

WAITING = "waiting for"


@dataclass(frozen=True)
class Progress:
    """One row. done and total count blocks while the table is read, and tuples while the index is written."""

    pid: int
    phase: str
    lockers_total: int = 0
    lockers_done: int = 0
    locker: int = 0
    blocks_total: int = 0
    blocks_done: int = 0
    tuples_total: int = 0
    tuples_done: int = 0

    @property
    def waits(self) -> bool:
        """Whether it works at nothing: transactions of others must end first."""
        return self.phase.startswith(WAITING)

    @property
    def step(self) -> tuple[str, str, int, int]:
        """(phase, unit, done, total); the rate of one phase says nothing about the next."""
        if self.tuples_total and self.tuples_done and not self.blocks_total > self.blocks_done:
            return self.phase, "rows", self.tuples_done, self.tuples_total
        return self.phase, "blocks", self.blocks_done, self.blocks_total


def line(what: str, seen: Progress, seconds: float, waited: float) -> str:
    """For instance `org_a.i: building index: scanning table, 120 of 480 blocks (25 %), 40 blocks/s, about 9 s left`.

    seconds: in this phase. waited: since it works at nothing, seconds.
    """
    if seen.waits:
        who = f", now for pid {seen.locker}" if seen.locker else ""
        return (
            f"{what}: {seen.phase} ({seen.lockers_done} of {seen.lockers_total} ended{who}), {human_duration(waited)}"
        )
    phase, unit, done, total = seen.step
    return f"{what}: {phase}" + (f", {pace(done, total, seconds, unit)}" if total else "")
