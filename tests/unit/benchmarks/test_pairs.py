# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.benchmarks.pairs import (
    Goal,
    Sample,
    fact,
    judge,
    order,
    seconds,
    speedup,
    void,
)

BASE, OURS = "baseline", "ours"


def runs(*pairs: tuple[float, float], **facts: float) -> list[Sample]:
    """Baseline's and our seconds, pair by pair."""
    found = []
    for number, (base, own) in enumerate(pairs):
        found += [Sample(BASE, number, base, {"bytes": 100}), Sample(OURS, number, own, facts)]
    return found


def test_seconds_more_are_taken_pair_by_pair() -> None:
    samples = runs((10, 11), (20, 26), (30, 32))
    assert judge(Goal("seconds more than", BASE, 2.0, OURS), samples) == (True, 2.0)
    assert judge(Goal("seconds more than", BASE, 1.9, OURS), samples) == (False, 2.0)
    with pytest.raises(ValueError, match="no pair"):
        judge(Goal("seconds more than", "other", 2.0, OURS), samples)


def test_every_second_pair_runs_backwards() -> None:
    assert [side for _pair, side in order(["a", "b"], 4)] == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_each_side_runs_once_a_pair() -> None:
    assert sorted(order(["a", "b", "c"], 5)) == [(pair, side) for pair in range(5) for side in "abc"]


def test_the_worst_time_is_the_longest() -> None:
    spread = seconds(runs((1, 5), (2, 9), (3, 6)), OURS)
    assert (spread.median, spread.worst) == (6, 9)


def test_a_speedup_compares_runs_of_the_same_pair_and_its_worst_is_the_smallest() -> None:
    spread = speedup(runs((10, 5), (30, 10), (12, 10)), BASE, OURS)
    assert (spread.median, spread.worst) == (2.0, 1.2)


def test_a_pair_that_lacks_one_side_is_left_out() -> None:
    samples = [*runs((10, 5)), Sample(OURS, 1, 1000)]
    assert speedup(samples, BASE, OURS).worst == 2


@pytest.mark.parametrize("ask", [lambda s: seconds(s, "nobody"), lambda s: speedup(s, "nobody", OURS)])
def test_a_side_that_never_ran_has_no_figure(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(ValueError, match="nobody"):
        ask(runs((1, 1)))


def test_a_fact_that_no_run_carries_is_none() -> None:
    assert fact(runs((1, 1)), OURS, "gap") is None


@pytest.mark.parametrize(("own", "met"), [(5.0, True), (5.56, False)])
def test_faster_than_is_met_by_the_median(own: float, met: bool) -> None:
    goal = Goal("faster than", BASE, 1.8, OURS)
    # one bad pair does not decide, and is shown as the worst
    assert judge(goal, runs((10, own), (10, own), (10, 100)))[0] is met


@pytest.mark.parametrize(("size", "met"), [(100, True), (101, False)])
def test_no_larger_than_is_met_by_the_largest_set(size: int, met: bool) -> None:
    assert judge(Goal("no larger than", BASE, 1.0, OURS), runs((1, 1), bytes=size))[0] is met


@pytest.mark.parametrize(("gap", "met"), [(0.5, True), (0.51, False)])
def test_a_limit_holds_for_the_worst_run(gap: float, met: bool) -> None:
    samples = [*runs((1, 1), gap=0.01), Sample(OURS, 1, 1, {"gap": gap})]
    assert judge(Goal("at most", "gap", 0.5, OURS), samples) == (met, gap)


@pytest.mark.parametrize(("last", "met"), [(120, True), (121, False), (83, False)])
def test_memory_is_flat_when_the_largest_peak_is_within_a_fifth_of_the_smallest(last: int, met: bool) -> None:
    samples = [Sample(OURS, number, 1, {"peak": peak}) for number, peak in enumerate((100, last))]
    assert judge(Goal("flat", "peak", 1.2, OURS), samples)[0] is met


@pytest.mark.parametrize("kind", ["faster than", "no larger than", "at most", "flat"])
def test_a_goal_without_figures_is_never_met(kind: str) -> None:
    with pytest.raises(ValueError, match="no"):
        judge(Goal(kind, "gap", 1, OURS), [])


def test_one_failed_run_voids_the_row_and_is_named() -> None:
    assert void([*runs((1, 1)), Sample(OURS, 1, 1, failed="the rows differ")]) == ["ours, pair 2: the rows differ"]
