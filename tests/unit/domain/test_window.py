# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import (
    Around,
    Closing,
    Freeze,
    Interval,
    Opening,
    Scope,
    Window,
    WindowVerdict,
    decide,
    free,
    merge,
    settled,
    subtract,
)

HORIZON = 100.0
NIGHT, WEEKEND = Window("night", zone="Berlin"), Window("weekend", zone="Tokyo")
XMAS, AUDIT = Freeze("xmas", "nobody is here", zone="Berlin"), Freeze("audit", "the auditors look", zone="Paris")


def show(moment: float, zone: str) -> str:
    return f"<{moment:g} {zone}>"


def around(
    openings: list[tuple[Window, float, float]],
    closings: list[tuple[Freeze, float, float]] | None = None,
    windows: tuple[Window, ...] = (NIGHT, WEEKEND),
) -> Around:
    return Around(
        windows,
        tuple(Opening(window, Interval(start, end)) for window, start, end in openings),
        tuple(Closing(freeze, Interval(start, end)) for freeze, start, end in closings or []),
        HORIZON,
    )


def verdict(
    openings: list[tuple[Window, float, float]],
    closings: list[tuple[Freeze, float, float]] | None = None,
    now: float = 10,
    expected: float | None = None,
) -> WindowVerdict:
    return decide(around(openings, closings), now, show, expected)


@pytest.mark.parametrize(
    ("openings", "closings", "now", "allowed", "code", "until", "opening"),
    [
        ([(NIGHT, 10, 20)], [], 10, True, "", 20, 10),
        ([(NIGHT, 10, 20)], [], 19.5, True, "", 20, 19.5),
        ([(NIGHT, 10, 20)], [], 20, False, "window_closed", None, None),
        ([(NIGHT, 10, 20)], [], 9.9, False, "window_closed", None, 10),
        ([(NIGHT, 0, 5), (NIGHT, 20, 25)], [], 10, False, "window_closed", None, 20),
        ([(NIGHT, 0, 15), (WEEKEND, 12, 30)], [], 10, True, "", 30, 10),
        ([(NIGHT, 0, 15), (WEEKEND, 15, 30)], [], 10, True, "", 30, 10),
        ([(NIGHT, 0, 15), (WEEKEND, 16, 30)], [], 10, True, "", 15, 10),
        ([(NIGHT, 0, 50)], [(XMAS, 20, 30)], 10, True, "", 20, 10),
        ([(NIGHT, 0, 50)], [(XMAS, 5, 30)], 10, False, "frozen", None, 30),
        ([(NIGHT, 0, 50)], [(XMAS, 5, 30)], 30, True, "", 50, 30),
        ([(NIGHT, 0, 20), (NIGHT, 40, 50)], [(XMAS, 5, 30)], 10, False, "frozen", None, 40),
        ([(NIGHT, 20, 30)], [(XMAS, 20, 25)], 10, False, "window_closed", None, 25),
        ([(NIGHT, 20, 30), (NIGHT, 40, 50)], [(XMAS, 15, 35)], 10, False, "window_closed", None, 40),
        ([(NIGHT, 0, 50)], [(XMAS, 5, 20), (AUDIT, 20, 30)], 10, False, "frozen", None, 30),
        ([(NIGHT, 0, 50)], [(XMAS, 5, 500)], 10, False, "frozen", None, None),
        ([(NIGHT, 0, 500)], [], 10, True, "", None, 10),
        ([(NIGHT, 0, 500)], [(XMAS, 200, 300)], 10, True, "", None, 10),
        ([], [], 10, False, "window_closed", None, None),
    ],
)
def test_a_verdict_says_whether_until_when_and_from_when(
    openings: list[tuple[Window, float, float]],
    closings: list[tuple[Freeze, float, float]],
    now: float,
    allowed: bool,
    code: str,
    until: float | None,
    opening: float | None,
) -> None:
    got = verdict(openings, closings, now)
    assert (got.allowed, got.code, got.until, got.next_opening) == (allowed, code, until, opening)
    assert bool(got.remedy) != allowed


@pytest.mark.parametrize(
    ("windows", "closings", "allowed", "until"),
    [
        ((), [], True, None),
        ((), [(XMAS, 20, 30)], True, 20),
        ((), [(XMAS, 5, 30)], False, None),
        ((NIGHT,), [], False, None),
    ],
)
def test_without_any_window_a_verb_is_open_but_for_freezes(
    windows: tuple[Window, ...], closings: list[tuple[Freeze, float, float]], allowed: bool, until: float | None
) -> None:
    got = decide(around([], closings, windows), 10, show)
    assert (got.allowed, got.until) == (allowed, until)


@pytest.mark.parametrize(
    ("scope", "verb", "verb_class", "bound"),
    [
        (Scope(), "backup", "routine", True),
        (Scope(), "restart", "response", False),
        (Scope(), "health", "read", False),
        (Scope(("response",)), "restart", "response", True),
        (Scope(("response",)), "backup", "routine", False),
        (Scope(("read", "routine")), "health", "read", True),
        (Scope(verbs=("backup",)), "backup", "routine", True),
        (Scope(verbs=("backup",)), "prune", "routine", False),
        (Scope(verbs=("restart",)), "restart", "response", False),
        (Scope(except_verbs=("backup",)), "backup", "routine", False),
        (Scope(except_verbs=("backup",)), "prune", "routine", True),
    ],
)
def test_only_the_named_classes_and_verbs_are_bound(scope: Scope, verb: str, verb_class: str, bound: bool) -> None:
    assert scope.binds(verb, verb_class) is bound


@pytest.mark.parametrize(
    ("expected", "fits"), [(None, None), (9, True), (10, True), (10.5, False)], ids=["not asked", "less", "all", "more"]
)
def test_an_expected_duration_fits_up_to_the_very_end(expected: float | None, fits: bool | None) -> None:
    got = verdict([(NIGHT, 0, 20)], expected=expected)
    assert got.allowed
    assert got.fits is fits
    assert ("do not fit" in got.sentence) is (fits is False)


def test_anything_fits_where_no_end_is_in_sight() -> None:
    assert verdict([(NIGHT, 0, 500)], expected=1e9).fits is True


def test_the_sentence_of_a_closed_window_says_now_and_the_next_opening_in_its_zone() -> None:
    got = verdict([(NIGHT, 0, 5), (NIGHT, 20, 25)])
    assert got.windows == ("night",)
    assert got.sentence == (
        "Now, <10 Berlin>, windows night, weekend are closed; "
        "it may run again from <20 Berlin> (window night), in 10 s."
    )


def test_the_sentence_of_a_freeze_says_its_end_its_reason_and_the_opening_after_it() -> None:
    got = verdict([(WEEKEND, 0, 50)], [(AUDIT, 5, 15), (XMAS, 5, 30)])
    assert got.freeze == "xmas"
    assert got.sentence == (
        "Freeze xmas holds until <30 Berlin>: nobody is here; "
        "it may run again from <30 Tokyo> (window weekend), in 20 s."
    )


def test_the_sentence_of_what_never_opens_says_how_far_was_looked_and_where_to_look() -> None:
    got = verdict([(NIGHT, 0, 5)])
    assert got.sentence.endswith("; nothing opens again before <100 Berlin>.")
    assert "UNTIL" in got.remedy


def test_the_sentence_of_an_open_window_says_which_freeze_ends_it() -> None:
    got = verdict([(NIGHT, 0, 50)], [(AUDIT, 20, 30)])
    assert got.sentence == (
        "Inside window night: it may run until <20 Paris>, when freeze audit begins (the auditors look), 10 s from now."
    )


def test_touching_intervals_become_one_and_empty_ones_vanish() -> None:
    got = merge([Interval(5, 7), Interval(1, 3), Interval(3, 4), Interval(6, 9), Interval(11, 11)])
    assert got == [Interval(1, 4), Interval(5, 9)]


def test_what_is_taken_away_leaves_the_parts_around_it() -> None:
    taken = [Interval(2, 3), Interval(5, 12), Interval(14, 15)]
    got = subtract([Interval(0, 10), Interval(11, 20)], taken)
    assert got == [Interval(0, 2), Interval(3, 5), Interval(12, 14), Interval(15, 20)]


@pytest.mark.parametrize(
    ("openings", "closings", "is_settled"),
    [
        ([(NIGHT, 0, 100)], [], True),
        ([(NIGHT, 0, 101)], [], False),
        ([(NIGHT, 0, 101)], [(XMAS, 60, 70)], True),
        ([(NIGHT, 100, 101)], [], True),
        ([(NIGHT, 0, 200)], [(XMAS, 5, 101)], False),
        ([(NIGHT, 0, 5)], [], False),
    ],
)
def test_a_verdict_is_settled_when_nothing_past_the_horizon_could_change_it(
    openings: list[tuple[Window, float, float]], closings: list[tuple[Freeze, float, float]], is_settled: bool
) -> None:
    assert settled(around(openings, closings), 10) is is_settled


spans = st.tuples(st.integers(-20, 100), st.integers(1, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
calendars = st.tuples(st.lists(spans, max_size=8), st.lists(spans, max_size=5), st.booleans())


def truly_open(moment: int, opened: list[tuple[int, int]], frozen: list[tuple[int, int]], bound: bool) -> bool:
    """Counted second by second, without a word of the code under test."""
    if any(start <= moment < end for start, end in frozen):
        return False
    return not bound or any(start <= moment < end for start, end in opened)


@given(calendars, st.integers(0, 100))
def test_a_verdict_agrees_with_a_count_of_every_second(
    calendar: tuple[list[tuple[int, int]], list[tuple[int, int]], bool], now: int
) -> None:
    opened, frozen, bound = calendar
    scene = around(
        [(NIGHT, start, end) for start, end in opened],
        [(XMAS, start, end) for start, end in frozen],
        (NIGHT,) if bound else (),
    )
    got = decide(scene, now, show)
    openness = {moment: truly_open(moment, opened, frozen, bound) for moment in range(now, 101)}
    assert got.allowed is openness[now]
    assert got.next_opening == next((moment for moment, is_open in openness.items() if is_open), None)
    if got.allowed:
        assert got.until == next((moment for moment, is_open in openness.items() if not is_open), None)
    if any(start <= now < end for start, end in frozen):
        assert got.code == "frozen"
    assert all(
        not truly_open(int(one.start) - 1, opened, frozen, bound) for one in free(scene) if one.start > -math.inf
    )
