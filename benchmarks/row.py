# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row of the table: its sides, run interleaved, and the goals it must reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, Value, order
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError

# does one timed run: seconds and facts. Raises FailedError.
Side = Callable[[], tuple[float, Mapping[str, Value]]]


@dataclass(frozen=True)
class Row:
    """What was measured. notes: what a reader must know to judge it. commands: baselines as they were typed."""

    name: str
    title: str
    samples: Sequence[Sample]
    goals: Sequence[Goal]
    notes: Sequence[str] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    load: float = 0.0


def interleave(
    sides: Mapping[str, Side],
    pairs: int,
    tell: Callable[[str], None],
    between: Callable[[], None],
) -> list[Sample]:
    """Run every side once a pair, in alternating order; between() runs before each, outside the timed span."""
    found = []
    for pair, side in order(list(sides), pairs):
        between()
        began = time.monotonic()
        try:
            seconds, facts = sides[side]()
            sample = Sample(side, pair, seconds, facts)
        except FailedError as error:
            sample = Sample(side, pair, time.monotonic() - began, failed=str(error))
        said = sample.failed or ", ".join(f"{name} {value}" for name, value in sample.facts.items())
        tell(f"pair {pair + 1}: {side}: {sample.seconds:.2f} s; {said}")
        found.append(sample)
    return found
