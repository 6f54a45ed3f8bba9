# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thresholds as text: what is read, what is refused and where, and that a text of a threshold is that threshold."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_grammar import parse_threshold
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Threshold, Value
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import DIMENSIONS, factor, plain, shown


def true(text: str, value: Value, unit: str = "") -> bool | None:
    return parse_threshold(text, unit).holds(value, (), 0.0).true


@pytest.mark.parametrize(
    ("text", "unit", "yes", "no"),
    [
        ("> 90", "", 90.1, 90),
        (">= 90", "", 90, 89.9),
        ("< 5", "", 4, 5),
        ("<= 5", "", 5, 5.1),
        ("== 3", "", 3, 4),
        ("= 3", "", 3.0, 4),
        ("!= 3", "", 4, 3),
        ("> -1", "", 0, -1),
        ("> 1e3", "", 1001, 1000),
        ("> .5", "", 0.6, 0.5),
        ("!= 'ok'", "", "failed", "ok"),
        ('== "it\'s"', "", "it's", "its"),
        ("!= true", "", False, True),
        ("== false", "", False, True),
        ("between 2 and 4", "", 4, 4.1),
        ("between 2 and 4", "", 2, 1.9),
        ("not between 200 and 299", "", 500, 299),
        ("> 80 %", "%", 80.1, 80),
        ("> 80 %", "ratio", 0.81, 0.8),
        ("> 0.8", "ratio", 0.81, 0.8),
        ("> 2s", "s", 2.1, 2),
        ("> 5 min", "s", 301, 300),
        ("> 5 m", "s", 301, 300),
        ("> 2 s", "ms", 2001, 2000),
        ("> 90 s", "min", 1.6, 1.5),
        ("> 10 GiB", "B", 10 * 2**30 + 1, 10 * 2**30),
        ("> 1 GB", "MB", 1001, 1000),
        ("> 5 jobs", "jobs", 6, 5),
        ("> 1 and < 5", "", 3, 5),
        ("> 9 or < 1", "", 0, 5),
        ("== 1 or == 3 and > 2", "", 1, 2),
        ("(== 1 or == 3) and > 2", "", 3, 1),
        (">90or<1", "", 0, 5),
        ("  >   90  ", "", 91, 90),
        ("> 0", "", True, False),
    ],
)
def test_an_expression_is_true_of_what_means_trouble_alone(text: str, unit: str, yes: Value, no: Value) -> None:
    assert true(text, yes, unit) is True
    assert true(text, no, unit) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("> 90", "many"),
        ("> 90", None),
        ("> 90", float("nan")),
        ("!= 'ok'", 3),
        ("== 'ok'", None),
        ("== true", 1),
        ("between 1 and 2", "x"),
        ("rises by 5 in 1h", "x"),
    ],
)
def test_a_value_of_another_kind_is_not_known(text: str, value: Value) -> None:
    assert true(text, value) is None


@pytest.mark.parametrize(
    ("text", "unit", "position"),
    [
        ("", "", 1),
        ("90", "", 1),
        ("> ", "", 3),
        ("> x", "", 3),
        ("> 90 foo", "", 6),
        ("> 90 %", "s", 6),
        ("> 5 min", "", 5),
        ("> 5 kb", "B", 5),
        ("> 'a'", "", 3),
        (">= true", "", 4),
        ("> 5 and", "", 8),
        ("> 5 or or > 6", "", 8),
        ("(> 5", "", 5),
        ("> 5)", "", 4),
        ("between 5 and 3", "", 9),
        ("between 5", "", 10),
        ("> 5 for", "", 8),
        ("> 5 for 10", "", 11),
        ("> 5 for 0s", "", 9),
        ("> 5 for 500d", "", 9),
        ("> 5 for 10x", "", 11),
        ("rises 5 in 1h", "", 7),
        ("rises by < 5 in 1h", "", 10),
        ("rises by 5", "", 11),
        ("> 5 > 6", "", 5),
        ("> 1.2.3", "", 3),
        ("> 5; DROP TABLE x", "", 4),
        ("__import__('os')", "", 1),
        ("> 5 # note", "", 5),
        ("== 'open", "", 4),
        ("> 1e400", "", 3),
        ("> 1" + " " * 600, "", 501),
        ("(" * 30 + "> 1" + ")" * 30, "", 22),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_position(text: str, unit: str, position: int) -> None:
    with pytest.raises(OpsError) as refused:
        parse_threshold(text, unit, option="check x: warning")
    assert refused.value.code == "bad_threshold"
    assert refused.value.details["position"] == position
    assert f"position {position}" in refused.value.cause
    assert "check x: warning" in refused.value.cause


def test_a_hold_that_cannot_be_read_is_refused() -> None:
    for hold in ("ten minutes", "10", "10m 5", "-5m"):
        with pytest.raises(OpsError, match="hold") as refused:
            parse_threshold("> 5", hold=hold)
        assert refused.value.code == "bad_threshold"


NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(str), st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: f"{number:.4f}")
)
DURATIONS = st.sampled_from(["1s", "90s", "10m", "1d12h", "2w", "1h30m", "10 min"])
QUANTITIES = st.tuples(NUMBERS, st.sampled_from(["", " s", "s", " min", " ms", " h"])).map("".join)
COMPARISONS = st.one_of(
    st.tuples(st.sampled_from([">", ">=", "<", "<=", "==", "!="]), QUANTITIES).map(" ".join),
    st.sampled_from(["!= 'ok'", '== "it\'s"', "!= true", "== false"]),
    st.tuples(st.integers(0, 9), st.integers(10, 99)).map(lambda ends: f"not between {ends[0]} and {ends[1]}"),
    st.tuples(st.sampled_from(["rises", "falls"]), st.sampled_from(["20 %", "> 5", ">= 3 min"]), DURATIONS).map(
        lambda parts: f"{parts[0]} by {parts[1]} in {parts[2]}"
    ),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        st.tuples(inner, DURATIONS).map(lambda parts: f"({parts[0]}) for {parts[1]}"),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_the_text_of_a_threshold_parses_to_the_same_threshold(text: str) -> None:
    # longer ones are refused
    assume(len(text) < 400)
    parsed: Threshold = parse_threshold(text, "s")
    assert parse_threshold(str(parsed), "s") == parsed
    assert str(parse_threshold(str(parsed), "s")) == str(parsed)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    refused = None
    try:
        parse_threshold(text, "s")
    except OpsError as error:
        refused = error.code
    assert refused in (None, "bad_threshold")


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_more_is_never_less_trouble_when_more_is_trouble(limit: int, value: int, other: int) -> None:
    low, high = sorted((value, other))
    for sign in (">", ">="):
        assert (true(f"{sign} {limit}", low), true(f"{sign} {limit}", high)) != (True, False)
    for sign in ("<", "<="):
        assert (true(f"{sign} {limit}", low), true(f"{sign} {limit}", high)) != (False, True)


@given(st.sampled_from(sorted(DIMENSIONS["time"])), st.sampled_from(sorted(DIMENSIONS["time"])), st.integers(1, 10**6))
def test_a_unit_changes_the_number_and_not_the_meaning(written: str, own: str, number: int) -> None:
    times = factor(written, own)
    assert times is not None
    limit = float(number * times)
    assert true(f"> {number} {written}", limit * 1.001, own) is True
    assert true(f"> {number} {written}", limit * 0.999, own) is False


def test_units_of_different_kinds_have_no_factor() -> None:
    assert factor("s", "B") is None
    assert factor("rows", "jobs") is None
    assert factor("rows", "rows") == 1


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (80.0001, "%", "80.0001 %"),
        (7200, "s", "7200 s (2 h)"),
        (90, "min", "90 min (1 h 30 min)"),
        (3, "", "3"),
        (True, "", "true"),
        ("a\x1b[2J", "", "'a\\x1b[2J'"),
        (None, "s", "no value"),
        (4_100_000_000, "B", "4100000000 B (4.1 GB)"),
        (33.333333, "%", "33.33 %"),
        (79.9999, "%", "79.9999 %"),
        (1234567.891, "", "1234568"),
        (1999.96, "ms", "1999.96 ms"),
        (float("inf"), "s", "inf s"),
    ],
)
def test_a_value_is_shown_so_that_it_can_be_held_against_its_threshold(value: Value, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_digits_without_an_exponent_where_they_fit() -> None:
    assert plain(10**20) == "1e+20"
    assert plain(1e16) == "1e+16"
    assert plain(0.1 + 0.2) == "0.3"
