# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How figures are compared: interleaved runs, medians and worst cases, ratios within one pair. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Sample:
    """One timed run of one side.

    seconds: from the start of the first process to the end of the last one, with the side's own proof in between
    facts:   what else was seen (bytes in the store, largest gap in seconds, ...)
    failed:  why this run proves nothing; it voids the whole row
    """

    side: str
    pair: int
    seconds: float
    facts: Mapping[str, Value] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True)
class Goal:
    """A promise on a row: a figure, how it must compare with a limit, and where it comes from.

    kind "faster than": baseline's seconds / ours, per pair, median at least limit
    kind "no larger than": ours' bytes / baseline's, worst at most limit
    kind "blocks of": ours' blocks read / baseline's, worst at most limit
    kind "at most": a fact of ours (name in `of`), worst at most limit
    kind "seconds more than": ours' seconds - baseline's, per pair, median at most limit
    kind "flat": largest / smallest of a fact over the sizes, at most limit
    """

    kind: str
    of: str
    limit: float
    ours: str


@dataclass(frozen=True)
class Spread:
    """Median and worst of some figures; worst is the largest of times and sizes, the smallest of speed-ups."""

    median: float
    worst: float

    def as_dict(self) -> dict[str, float]:
        return {"median": round(self.median, 4), "worst": round(self.worst, 4)}


def order(sides: Sequence[str], pairs: int) -> list[tuple[int, str]]:
    """(pair, side) in the order of running: forwards, backwards, forwards ... so that drift hits all sides alike."""
    return [(pair, side) for pair in range(pairs) for side in (sides if pair % 2 == 0 else reversed(sides))]


def seconds(samples: Sequence[Sample], side: str) -> Spread:
    """Of one side. Raises ValueError when it never ran."""
    own = [item.seconds for item in samples if item.side == side]
    if not own:
        raise ValueError(f"{side} was never run")
    return Spread(median(own), max(own))


def speedup(samples: Sequence[Sample], baseline: str, ours: str) -> Spread:
    """Baseline's seconds / ours, run by run of the same pair; more is better, so the worst is the smallest.

    Raises ValueError when no pair has both.
    """
    first = {item.pair: item.seconds for item in samples if item.side == baseline}
    second = {item.pair: item.seconds for item in samples if item.side == ours}
    ratios = [first[pair] / second[pair] for pair in sorted(first.keys() & second.keys())]
    if not ratios:
        raise ValueError(f"no pair has both {baseline} and {ours}")
    return Spread(median(ratios), min(ratios))


def later(samples: Sequence[Sample], baseline: str, ours: str) -> Spread:
    """Ours' seconds - baseline's, run by run of the same pair; less is better, so the worst is the largest.

    Raises ValueError when no pair has both.
    """
    first = {item.pair: item.seconds for item in samples if item.side == baseline}
    second = {item.pair: item.seconds for item in samples if item.side == ours}
    more = [second[pair] - first[pair] for pair in sorted(first.keys() & second.keys())]
    if not more:
        raise ValueError(f"no pair has both {baseline} and {ours}")
    return Spread(median(more), max(more))


def fact(samples: Sequence[Sample], side: str, name: str) -> Spread | None:
    """A number that the samples of a side carry; less is better. None when none does."""
    found = [
        float(value)
        for item in samples
        if item.side == side and isinstance(value := item.facts.get(name), (int, float))
    ]
    return Spread(median(found), max(found)) if found else None


def judge(goal: Goal, samples: Sequence[Sample]) -> tuple[bool, float]:
    """(whether the goal is met, the figure that decides it). Raises ValueError when there is no such figure."""
    if goal.kind == "faster than":
        reached = speedup(samples, goal.of, goal.ours).median
        return reached >= goal.limit, reached
    if goal.kind == "seconds more than":
        reached = later(samples, goal.of, goal.ours).median
        return reached <= goal.limit, reached
    if goal.kind in ("no larger than", "blocks of"):
        name = "blocks" if goal.kind == "blocks of" else "bytes"
        own, other = fact(samples, goal.ours, name), fact(samples, goal.of, name)
        if own is None or other is None:
            raise ValueError(f"{goal.ours} or {goal.of} has no {'size' if name == 'bytes' else name}")
        reached = own.worst / other.median
    elif goal.kind == "at most":
        found = fact(samples, goal.ours, goal.of)
        if found is None:
            raise ValueError(f"{goal.ours} has no {goal.of}")
        reached = found.worst
    elif goal.kind == "flat":
        values = [
            float(v) for s in samples if s.side == goal.ours and isinstance(v := s.facts.get(goal.of), (int, float))
        ]
        if not values:
            raise ValueError(f"{goal.ours} has no {goal.of}")
        reached = max(values) / min(values)
    else:
        raise ValueError(f"unknown kind of goal {goal.kind!r}")
    return reached <= goal.limit, reached


def void(samples: Sequence[Sample]) -> list[str]:
    """Why a row does not count: every failed run with its reason; [] when it does."""
    return [f"{item.side}, pair {item.pair + 1}: {item.failed}" for item in samples if item.failed]
