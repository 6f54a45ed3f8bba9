# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measurements mean: levels, reasons, history; no data is never ok."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import (
    MOST_DETAIL,
    Check,
    Level,
    Measurement,
    judge,
    rank_remedies,
    worst,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Point, Value
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

NOW = 1_000_000.0
LOAD = Check("load", "sql", warning="> 80 %", critical="> 95 %", unit="%")


def level(check: Check, value: Value, points: Sequence[tuple[float, Value]] | None = None) -> Level:
    """points: (seconds ago, value), in any order; None for no history at all."""
    history = None
    if points is not None:
        history = {(check.name, ""): sorted(Point(NOW - ago, then) for ago, then in points)}
    return judge(check, [Measurement(value)], history, NOW).level


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (80, "ok"),
        (80.01, "warning"),
        (95, "warning"),
        (95.01, "critical"),
        (None, "inconclusive"),
        ("x", "inconclusive"),
    ],
)
def test_a_value_gets_the_gravest_level_whose_threshold_it_passes(value: Value, found: str) -> None:
    assert level(LOAD, value).value == found


def test_the_sentence_has_number_threshold_and_unit() -> None:
    assert judge(LOAD, [Measurement(96.5)], None, NOW).why == "96.5 %, critical when > 95 %"
    assert judge(LOAD, [Measurement(3)], None, NOW).why == "3 %, warning when > 80 %, critical when > 95 %"
    assert judge(Check("n", "sql"), [Measurement(3)], None, NOW).why == "3, no threshold"


@pytest.mark.parametrize(
    ("measurement", "says"),
    [
        (Measurement(None), "NULL"),
        (Measurement(float("nan")), "NaN"),
        (Measurement(1, samples=4), "only 4 of at least 5 samples"),
        (Measurement(missing="needs GRANT pg_monitor TO app"), "needs GRANT pg_monitor TO app"),
        (Measurement(5, missing="a source that contradicts itself"), "contradicts"),
        (Measurement("text"), "is no number"),
    ],
)
def test_no_data_is_inconclusive_and_says_which(measurement: Measurement, says: str) -> None:
    outcome = judge(
        Check("x", "sql", warning="> 1", minimum_samples=5 if measurement.samples == 4 else 1), [measurement], None, NOW
    )
    assert outcome.level is Level.INCONCLUSIVE
    assert says in outcome.why


def test_nothing_measured_is_inconclusive_and_a_value_without_thresholds_is_ok() -> None:
    assert judge(LOAD, [], None, NOW).level is Level.INCONCLUSIVE
    assert judge(Check("n", "sql"), [], None, NOW).level is Level.INCONCLUSIVE
    assert judge(Check("n", "sql"), [Measurement(3)], None, NOW).level is Level.OK


def test_what_does_not_answer_has_the_level_that_the_check_says_and_what_may_not_be_seen_has_not() -> None:
    check = Check("site", "http", critical="!= 200", when_down=Level.CRITICAL)
    assert judge(check, [Measurement(missing="refused", down=True)], None, NOW).level is Level.CRITICAL
    assert judge(check, [Measurement(missing="refused")], None, NOW).level is Level.INCONCLUSIVE
    assert judge(LOAD, [Measurement(missing="refused", down=True)], None, NOW).level is Level.INCONCLUSIVE


def test_a_verdict_is_the_worst_and_over_nothing_inconclusive() -> None:
    order = [Level.OK, Level.INCONCLUSIVE, Level.WARNING, Level.CRITICAL]
    for first, second in itertools.product(order, order):
        assert worst([first, second]) is order[max(order.index(first), order.index(second))]
    assert worst([]) is Level.INCONCLUSIVE
    assert [item.exit_status for item in (Level.OK, Level.WARNING, Level.CRITICAL, Level.INCONCLUSIVE)] == [0, 1, 2, 3]


HELD = Check("queue", "sql", critical="> 10 for 10m")


@pytest.mark.parametrize(
    ("value", "points", "found"),
    [
        (11, None, "inconclusive"),
        (11, [], "inconclusive"),
        (10, None, "ok"),
        (11, [(600, 11), (300, 11)], "critical"),
        (11, [(601, 11), (300, 11)], "critical"),
        (11, [(599, 11), (300, 11)], "inconclusive"),
        (11, [(600, 11), (300, 10)], "ok"),
        (11, [(600, 10), (300, 11)], "ok"),
        (11, [(900, 11), (300, 11)], "critical"),
        (11, [(1200, 11), (300, 11)], "critical"),
        (11, [(1201, 11), (300, 11)], "inconclusive"),
        (11, [(86400, 11)], "inconclusive"),
        (11, [(600, 11), (300, None)], "inconclusive"),
        (11, [(600, 11), (300, "x")], "inconclusive"),
        (11, [(600, 11), (-5, 0)], "critical"),
        (10, [(600, 11), (300, 11)], "ok"),
    ],
)
def test_for_ten_minutes_needs_ten_minutes_of_history_without_a_gap(
    value: Value, points: list[tuple[float, Value]] | None, found: str
) -> None:
    assert level(HELD, value, points).value == found


def test_hold_is_for_both_thresholds() -> None:
    check = Check("queue", "sql", warning="> 5", critical="> 10", hold="10m")
    points: list[tuple[float, Value]] = [(600, 7), (300, 12)]
    assert level(check, 11, points) is Level.WARNING
    assert level(check, 11, []) is Level.INCONCLUSIVE
    assert "history is empty" in judge(check, [Measurement(11)], None, NOW).why


def test_a_warning_that_is_known_goes_before_a_critical_that_is_not() -> None:
    outcome = judge(Check("q", "sql", warning="> 5", critical="> 10 for 10m"), [Measurement(11)], None, NOW)
    assert outcome.level is Level.WARNING
    assert "critical is not known" in outcome.why


@pytest.mark.parametrize(
    ("text", "value", "points", "found"),
    [
        ("rises by > 20 % in 24h", 121, [(86400, 100)], "warning"),
        ("rises by > 20 % in 24h", 120, [(86400, 100)], "ok"),
        ("rises by 20 % in 24h", 120, [(86400, 100)], "warning"),
        ("rises by > 20 % in 24h", 500, [], "inconclusive"),
        ("rises by > 20 % in 24h", 500, [(3600, 100)], "inconclusive"),
        ("rises by > 20 % in 24h", 121, [(86000, 100), (3600, 200)], "warning"),
        ("rises by > 20 % in 24h", 121, [(100000, 200), (86500, 100)], "warning"),
        ("rises by > 20 % in 24h", 1, [(86400, 0)], "warning"),
        ("rises by > 20 % in 24h", 0, [(86400, 0)], "ok"),
        ("rises by > 5 in 1h", 16, [(3600, 10)], "warning"),
        ("rises by > 5 in 1h", 15, [(3600, 10)], "ok"),
        ("falls by >= 50 % in 1h", 5, [(3600, 10)], "warning"),
        ("falls by >= 50 % in 1h", 50, [(3600, 10)], "ok"),
        ("falls by > 50 % in 1h", -20, [(3600, -10)], "warning"),
        ("rises by > 20 % in 24h", 500, [(86400, None)], "inconclusive"),
        ("rises by > 20 % in 24h and > 100", 50, [], "ok"),
        ("rises by > 20 % in 24h or > 100", 500, [], "warning"),
    ],
)
def test_a_trend_compares_with_what_was_that_long_ago(
    text: str, value: Value, points: list[tuple[float, Value]], found: str
) -> None:
    assert level(Check("size", "sql", warning=text), value, points).value == found


def test_the_worst_tenant_makes_the_outcome_and_the_others_are_counted() -> None:
    outcome = judge(
        LOAD,
        [
            Measurement(1, scope="org_a"),
            Measurement(99, scope="org_b", detail=("a line",)),
            Measurement(missing="no table", scope="org_c"),
        ],
        None,
        NOW,
    )
    assert (outcome.level, outcome.scope, outcome.value, outcome.scopes, outcome.bad) == (
        Level.CRITICAL,
        "org_b",
        99,
        3,
        2,
    )
    assert outcome.why == "org_b: 99 %, critical when > 95 %; 2 of 3 are not ok"
    assert outcome.detail[1] == "a line"
    assert "inconclusive: org_c: no table" in outcome.detail


def test_each_tenant_is_held_by_its_own_history() -> None:
    history = {("queue", "a"): [Point(NOW - 600, 11), Point(NOW - 300, 11)], ("queue", "b"): [Point(NOW - 600, 1)]}
    found = judge(HELD, [Measurement(11, scope="a"), Measurement(11, scope="b")], history, NOW)
    assert (found.level, found.scope, found.bad) == (Level.CRITICAL, "a", 1)


def test_detail_is_bounded_and_says_what_is_left_out() -> None:
    outcome = judge(LOAD, [Measurement(99, detail=tuple(f"row {n}" for n in range(1000)))], None, NOW)
    assert len(outcome.detail) == MOST_DETAIL
    assert outcome.detail[-1] == f"... and {1000 - MOST_DETAIL + 1} more"


def test_a_remedy_names_the_worst_scopes_and_comes_only_with_what_is_known_to_be_bad() -> None:
    check = Check("x", "sql", critical="> 1", remedy=Remedy("repair", {"fix": "x", "tenant": "{scope}"}))
    outcome = judge(check, [Measurement(n, scope=f"{{scope}}{n}") for n in range(9)], None, NOW)
    assert [dict(item.variables)["tenant"] for item in outcome.remedies] == ["{scope}2", "{scope}3", "{scope}4"]
    assert judge(check, [Measurement(None)], None, NOW).remedies == ()
    own = Remedy("sessions", {"pid": 7})
    assert judge(check, [Measurement(5, remedy=own)], None, NOW).remedy == own
    assert judge(check, [Measurement(0, remedy=own)], None, NOW).remedies == ()


def test_at_most_three_remedies_the_worst_first_and_none_twice() -> None:
    def outcome(name: str, value: int, verb: str, priority: int = 50, scopes: int = 1) -> object:
        check = Check(name, "sql", "> 1", "> 5", remedy=Remedy(verb, {"of": "{scope}"}), priority=priority)
        return judge(check, [Measurement(value, scope=str(n)) for n in range(scopes)], None, NOW)

    found = rank_remedies(
        [
            outcome("warned", 2, "a"),  # type: ignore[list-item]
            outcome("grave", 9, "b", scopes=3),  # type: ignore[list-item]
            outcome("graver", 9, "c", priority=1),  # type: ignore[list-item]
            outcome("same", 9, "b"),  # type: ignore[list-item]
            outcome("fine", 0, "d"),  # type: ignore[list-item]
            outcome("advice", 9, ""),  # type: ignore[list-item]
        ]
    )
    assert [item.name for item, _remedy in found] == ["graver", "grave", "warned"]


def test_a_bad_threshold_is_refused_before_anything_is_judged() -> None:
    with pytest.raises(OpsError) as refused:
        Check("x", "sql", critical="> lots").thresholds()
    assert refused.value.code == "bad_threshold"
    assert "check x: critical" in refused.value.cause


def test_a_result_holds_only_what_json_knows() -> None:
    facts = judge(LOAD, [Measurement(float("inf"))], None, NOW).as_dict()
    assert (facts["value"], facts["level"], facts["unit"]) == ("inf", "critical", "%")


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-200, 200), st.floats(), st.text(max_size=5))
MEASUREMENTS = st.builds(
    Measurement, VALUES, st.integers(0, 3), scope=st.sampled_from(["", "a", "b"]), missing=st.sampled_from(["", "no"])
)


@given(st.lists(MEASUREMENTS, max_size=5))
def test_whatever_is_measured_what_was_not_seen_is_never_ok(measurements: list[Measurement]) -> None:
    outcome = judge(LOAD, measurements, None, NOW)
    unseen = [
        its for its in measurements if its.missing or its.value is None or its.value != its.value or not its.samples
    ]
    if unseen or not measurements:
        assert outcome.level is not Level.OK
    assert outcome.bad >= len(unseen)


@given(st.integers(-200, 200), st.integers(-200, 200))
def test_more_load_is_never_a_lesser_level(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert level(LOAD, low).rank <= level(LOAD, high).rank


@given(st.lists(st.tuples(st.floats(1, 7200), st.integers(0, 20)), max_size=20), st.integers(0, 20))
def test_a_condition_that_is_not_true_now_is_never_held(points: list[tuple[float, int]], value: int) -> None:
    found = level(HELD, value, list(points))
    if value <= 10:
        assert found is Level.OK
    if found is Level.CRITICAL:
        assert all(then > 10 for ago, then in points if ago < 600)
