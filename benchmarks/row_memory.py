# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak memory of the modules at growing sizes: it must not grow with the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample
from ansible_collections.saasops.runbook.benchmarks.row import Row
from ansible_collections.saasops.runbook.benchmarks.row_backup import ours
from ansible_collections.saasops.runbook.benchmarks.scene import FailedError, Scene, posix, scene

BACKUP, STREAM, RESTORE = "pg_backup, staged", "pg_backup, streamed", "pg_restore"
# of --megabytes
SHARES = (0.25, 0.5, 1.0, 2.0)


def _at(place: Scene, number: int, megabytes: float) -> list[Sample]:
    found = []
    for side in (STREAM, BACKUP, RESTORE):
        place.settle()
        try:
            if side == RESTORE:
                ran = place.module(
                    "pg_restore",
                    posix(place.store("set")),
                    staging=str(place.staging),
                    acknowledge=["staging_on_pgdata"],
                )
                seconds, peak = ran.seconds, ran.peak
            else:
                seconds, facts = ours(place, "set", str(place.staging) if side == BACKUP else "")
                peak = int(str(facts["peak"]))
            sample = Sample(side, number, seconds, {"megabytes": megabytes, "peak": peak})
        except FailedError as error:
            sample = Sample(side, number, 0.0, failed=str(error))
        place.tell(f"{megabytes:,.0f} MB: {side}: {sample.failed or sample.facts['peak']}")
        found.append(sample)
    return found


def measure(megabytes: float, tell: Callable[[str], None], shares: Sequence[float] = SHARES) -> Row:
    samples: list[Sample] = []
    for number, share in enumerate(shares):
        with scene(megabytes * share, tell) as place:
            samples += _at(place, number, megabytes * share)
    goals = [Goal("flat", "peak", 1.2, side) for side in (BACKUP, STREAM, RESTORE)]
    notes = ["VmHWM of the module's own process, read every 20 ms; client tools are processes of their own."]
    return Row("memory", "Peak memory", samples, goals, notes)
