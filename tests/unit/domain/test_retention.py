# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import read_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    CLOCK_TOLERANCE,
    BackupSet,
    Decision,
    Group,
    Pin,
    Policy,
    Rule,
    decide_retention,
    in_future,
)

HOUR = 3600.0
DAY = 86400.0
APP = Group("demo", "app", "database")
OTHER = Group("demo", "other", "database")
TENANT = Group("demo", "app", "tenant", ("org_a",), "org_a")


def at(text: str) -> float:
    """POSIX seconds of "2026-11-22 14:05", UTC."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc).timestamp()


NOW = at("2026-11-22 20:00")


def a_set(name: str, started: str | float, proof: str = "stored", group: Group = APP) -> BackupSet:
    moment = started if isinstance(started, float) else at(started)
    return BackupSet(name, "complete", group, moment, moment, snapshot_at=moment, finished=moment, proof=proof)


def partial(name: str, newest_change: float, started: float = NOW - 10 * DAY) -> BackupSet:
    return BackupSet(name, "partial", None, started, newest_change)


def policy(**rules: int | Rule) -> Policy:
    """A policy with these rules and one proven set that always stays, so that the rules are what is seen."""
    return Policy(
        {period: rule if isinstance(rule, Rule) else Rule(rule) for period, rule in rules.items()}, minimum_proven=1
    )


def kept(decisions: Sequence[Decision]) -> str:
    return " ".join(decision.set_id for decision in decisions if decision.keeps)


def of(decisions: Sequence[Decision], set_id: str) -> Decision:
    return next(decision for decision in decisions if decision.set_id == set_id)


def left_over(sets: Sequence[BackupSet], decisions: Sequence[Decision]) -> list[BackupSet]:
    stays = {decision.set_id for decision in decisions if decision.keeps}
    return [item for item in sets if item.set_id in stays]


DAYS = [a_set(f"d{day}", f"2026-11-{day} 02:00") for day in range(10, 23)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"daily": 1}, "d22"),
        ({"daily": 3}, "d20 d21 d22"),
        ({"hourly": 3}, "d20 d21 d22"),
        # ISO weeks begin on Monday: 16 November and 9 November 2026; the first set in a week stands for it
        ({"weekly": 1}, "d16 d22"),
        ({"weekly": 2}, "d10 d16 d22"),
        ({"monthly": 1}, "d10 d22"),
        ({"daily": 2, "weekly": 2}, "d10 d16 d21 d22"),
        ({"daily": Rule(None, 3 * DAY)}, "d20 d21 d22"),
        ({"daily": Rule(2, 10 * DAY)}, "d21 d22"),
        ({"daily": Rule(10, 2 * DAY)}, "d21 d22"),
        ({"daily": 0}, "d22"),
    ],
)
def test_each_rule_keeps_the_first_set_of_its_newest_slots(rules: dict[str, int | Rule], expected: str) -> None:
    assert kept(decide_retention(DAYS, policy(**rules), NOW)) == expected


def test_every_decision_says_all_its_reasons() -> None:
    decisions = decide_retention(DAYS, policy(daily=2, weekly=2), NOW)
    assert of(decisions, "d16").sentence == "kept: weekly 2026-W47"
    assert of(decisions, "d22").sentence == "kept: daily 2026-11-22, the newest proven set"
    assert of(decisions, "d17").sentence == (
        "goes: superseded by proven d22; daily: 2026-11-17 is older than the 2 kept; weekly: d16 stands for 2026-W47"
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2026-11-22 10:00", "2026-11-22 10:59", True),
        ("2026-11-22 10:59", "2026-11-22 11:00", False),
    ],
)
def test_hours_are_cut_at_the_full_hour(first: str, second: str, same: bool) -> None:
    sets = [a_set("a", first), a_set("b", second), a_set("new", "2026-11-22 19:00")]
    assert ("b" not in kept(decide_retention(sets, policy(hourly=9), NOW)).split()) is same


@pytest.mark.parametrize(
    ("period", "first", "second", "same"),
    [
        ("daily", "2026-11-20 00:00", "2026-11-20 23:59", True),
        ("daily", "2026-11-19 23:59", "2026-11-20 00:00", False),
        ("weekly", "2026-11-15 23:59", "2026-11-16 00:00", False),
        # the turn of the year lies in one ISO week, 2025-W01
        ("weekly", "2024-12-30 00:00", "2025-01-05 23:59", True),
        ("monthly", "2026-10-31 23:59", "2026-11-01 00:00", False),
        ("monthly", "2024-02-29 12:00", "2024-02-01 00:00", True),
    ],
)
def test_slots_are_cut_in_utc_by_iso_week(period: str, first: str, second: str, same: bool) -> None:
    early, late = sorted((at(first), at(second)))
    sets = [a_set("a", early), a_set("b", late), a_set("new", NOW - HOUR)]
    assert ("b" not in kept(decide_retention(sets, policy(**{period: 9}), NOW)).split()) is same


def test_a_pause_in_backups_pushes_no_old_set_out() -> None:
    sets = [a_set("jan", "2026-01-05 02:00"), a_set("feb", "2026-02-05 02:00"), a_set("nov", "2026-11-22 02:00")]
    assert kept(decide_retention(sets, policy(monthly=3), NOW)) == "jan feb nov"


def test_the_set_that_stands_for_a_month_is_kept_from_its_first_day_on() -> None:
    rules = policy(daily=1, monthly=2)
    sets = [a_set(f"d{day}", f"2026-10-{day:02d} 02:00") for day in range(1, 31)]
    for day in range(2, 31):
        now = at(f"2026-10-{day:02d} 03:00")
        left = [item for item in sets if item.started <= now]
        assert of(decide_retention(left, rules, now), "d1").keeps


def test_an_unproven_set_takes_no_slot_from_a_proven_one() -> None:
    sets = [a_set("early", "2026-11-20 01:00", proof=""), a_set("later", "2026-11-20 09:00"), *DAYS[-2:]]
    decisions = decide_retention(sets, policy(daily=3), NOW)
    assert kept(decisions) == "later d21 d22"
    assert of(decisions, "early").reasons[0] == "superseded by proven d22"


def test_slots_with_unproven_sets_only_are_not_counted() -> None:
    sets = [*DAYS[:3], *(replace(item, proof="") for item in DAYS[3:])]
    assert kept(decide_retention(sets, policy(daily=2), NOW)).split()[:2] == ["d11", "d12"]


@pytest.mark.parametrize("proof", ["", "failed", "unknown"])
def test_sets_newer_than_the_newest_proven_one_stay_and_replace_nothing(proof: str) -> None:
    sets = [a_set("good", "2026-01-01 02:00"), *(replace(item, proof=proof) for item in DAYS)]
    decisions = decide_retention(sets, policy(daily=1), NOW)
    assert all(decision.keeps for decision in decisions)
    assert "no newer set is proven" in of(decisions, "d22").reasons
    assert "the newest proven set" in of(decisions, "good").reasons


def test_without_any_proven_set_nothing_goes() -> None:
    sets = [replace(item, proof="") for item in DAYS]
    assert all(decision.keeps for decision in decide_retention(sets, policy(daily=1), NOW))


def test_a_policy_can_ask_for_restored_sets() -> None:
    sets = [replace(item, proof="restored") if item.set_id == "d12" else item for item in DAYS]
    strict = replace(policy(daily=1), proof="restored")
    assert of(decide_retention(sets, strict, NOW), "d12").keeps
    assert kept(decide_retention(sets, strict, NOW)).split()[-10:] == [f"d{day}" for day in range(13, 23)]
    assert kept(decide_retention(sets, policy(daily=1), NOW)) == "d22"


@pytest.mark.parametrize(("minimum", "expected"), [(1, "d22"), (2, "d21 d22"), (5, "d18 d19 d20 d21 d22")])
def test_the_newest_proven_sets_stay_whatever_the_rules_say(minimum: int, expected: str) -> None:
    assert kept(decide_retention(DAYS, Policy({"daily": Rule(1)}, minimum_proven=minimum), NOW)) == expected


def test_groups_do_not_speak_for_each_other() -> None:
    sets = [*DAYS, a_set("other", "2026-01-01 02:00", group=OTHER), a_set("org", "2026-01-02 02:00", group=TENANT)]
    assert kept(decide_retention(sets, policy(daily=1), NOW)) == "other org d22"


@pytest.mark.parametrize(("age", "stays"), [(2 * DAY - 1, True), (2 * DAY, False)])
def test_keep_all_within_keeps_what_is_younger(age: float, stays: bool) -> None:
    sets = [a_set("edge", NOW - age), a_set("one", NOW - HOUR), a_set("two", NOW - HOUR + 60)]
    decisions = decide_retention(sets, replace(policy(hourly=1), keep_all_within=2 * DAY), NOW)
    assert of(decisions, "edge").keeps is stays


@pytest.mark.parametrize(
    ("pin", "stays", "reason"),
    [
        (Pin("before version 2"), True, "pinned (before version 2)"),
        (Pin("audit", NOW + 1), True, "pinned until 2026-11-22 20:00 UTC (audit)"),
        (Pin("audit", NOW), False, "pin expired 2026-11-22 20:00 UTC"),
    ],
)
def test_a_pin_holds_until_it_expires(pin: Pin, stays: bool, reason: str) -> None:
    sets = [replace(DAYS[0], pin=pin), *DAYS[1:]]
    decision = of(decide_retention(sets, policy(daily=1), NOW), "d10")
    assert decision.keeps is stays
    assert reason in decision.reasons


def test_a_set_that_an_open_restore_needs_stays() -> None:
    sets = [replace(DAYS[0], in_use="restore r1 (verified)"), *DAYS[1:]]
    assert of(decide_retention(sets, policy(daily=1), NOW), "d10").reasons == ("in use by restore r1 (verified)",)


@pytest.mark.parametrize(
    ("quiet", "decision"),
    [(DAY, "delete"), (DAY - 1, "keep"), (-HOUR, "keep")],
)
def test_a_partial_set_goes_only_after_its_grace(quiet: float, decision: str) -> None:
    assert decide_retention([partial("p", NOW - quiet)], policy(daily=1), NOW)[0].decision == decision


def test_a_partial_set_of_an_interrupted_prune_goes_at_once() -> None:
    half = replace(partial("p", NOW - 1), half_deleted=True)
    assert decide_retention([half], policy(daily=1), NOW)[0].decision == "delete"


def test_a_pinned_partial_set_stays() -> None:
    item = replace(partial("p", NOW - 9 * DAY), pin=Pin("evidence"))
    assert decide_retention([item], policy(daily=1), NOW)[0].keeps


def test_a_partial_set_justifies_no_deletion() -> None:
    decisions = decide_retention([a_set("old", "2026-01-01 02:00"), partial("p", NOW - 1)], policy(daily=1), NOW)
    assert all(decision.keeps for decision in decisions)


@pytest.mark.parametrize("state", ["damaged", "foreign"])
def test_damaged_and_foreign_sets_go_only_when_named(state: str) -> None:
    item = BackupSet("x", state, None, NOW - 900 * DAY, NOW - 900 * DAY, problem="it is odd")
    left = decide_retention([item, *DAYS], policy(daily=1), NOW)[0]
    assert left.sentence == f"kept: {state}: it is odd"
    named = replace(policy(daily=1), also_delete=frozenset({"x"}))
    gone = decide_retention([item, *DAYS], named, NOW)[0]
    assert gone.sentence == f"goes: {state}, and named in also_delete; it is odd"
    pinned = replace(item, pin=Pin("evidence"))
    assert decide_retention([pinned, *DAYS], named, NOW)[0].keeps


def test_naming_a_sound_set_deletes_nothing() -> None:
    named = replace(policy(daily=1), also_delete=frozenset({"d22", "p"}))
    decisions = decide_retention([*DAYS, partial("p", NOW - 1)], named, NOW)
    assert of(decisions, "d22").keeps
    assert of(decisions, "p").keeps


@pytest.mark.parametrize(("ahead", "trusted"), [(CLOCK_TOLERANCE, True), (CLOCK_TOLERANCE + 1, False)])
def test_a_set_from_the_future_stays_and_replaces_nothing(ahead: float, trusted: bool) -> None:
    sets = [a_set("old", "2026-01-01 02:00"), a_set("future", NOW + ahead)]
    decisions = decide_retention(sets, policy(daily=1), NOW)
    assert of(decisions, "old").keeps is not trusted
    assert of(decisions, "future").keeps
    if not trusted:
        assert "in the future" in of(decisions, "future").sentence


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "bad_retention"),
        ({"daily": 0}, "bad_retention"),
        ({"minimum_proven": 5}, "bad_retention"),
        ({"daily": -1}, "bad_retention"),
        ({"daily": 3, "minimum_proven": 0}, "bad_retention"),
        ({"daily": 0, "daily_max_age": "7d"}, "bad_retention"),
        ({"daily_max_age": "7"}, "bad_duration"),
        ({"daily": 3, "keep_all_within": "a week"}, "bad_duration"),
        ({"daily": 3, "partial_grace": ""}, "bad_duration"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(options: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as refusal:
        read_policy(options)
    assert refusal.value.code == code


def test_a_policy_is_read_with_its_defaults() -> None:
    assert read_policy({"hourly": 24, "daily_max_age": "30d", "keep_all_within": "2h"}, ["x"]) == Policy(
        rules={"hourly": Rule(24), "daily": Rule(None, 30 * DAY), "weekly": Rule(), "monthly": Rule()},
        keep_all_within=2 * HOUR,
        minimum_proven=2,
        proof="stored",
        partial_grace=DAY,
        also_delete=frozenset({"x"}),
    )


def after_a_year(every: float, options: dict[str, object]) -> list[float]:
    """Ages in days of what is left, newest first, when a year of proven backups was pruned each day."""
    wanted = read_policy(options)
    left: list[BackupSet] = []
    made = 0
    for day in range(400):
        morning = at("2025-10-20 02:00") + day * DAY
        while at("2025-10-20 02:00") + made * every <= morning:
            started = at("2025-10-20 02:00") + made * every
            left.append(a_set(f"b{made:05d}", started))
            made += 1
        left = left_over(left, decide_retention(left, wanted, morning))
    return [(at("2025-10-20 02:00") + 399 * DAY - item.started) / DAY for item in reversed(left)]


def test_hourly_for_a_day_daily_for_30_weekly_for_12_monthly_for_12_is_kept_so() -> None:
    ages = after_a_year(HOUR, {"hourly_max_age": "24h", "daily_max_age": "30d", "weekly_max_age": "12w", "monthly": 12})
    assert sum(age < 1 for age in ages) == 24
    # 23 November, 02:00: the first set of each of the last thirty days, of the twelve weeks, of the twelve months
    assert [age for age in ages if 1 <= age <= 30] == [pytest.approx(day + 2 / 24) for day in range(1, 30)]
    weeks = [age for age in ages if 31 < age <= 12 * 7]
    assert len([age for age in weeks if (age - 2 / 24) % 7 == pytest.approx(0)]) == 7
    assert len(ages) - len([age for age in ages if age <= 12 * 7]) == 9
    assert max(ages) == pytest.approx((at("2026-11-23 02:00") - at("2025-12-01 00:00")) / DAY)


def test_seven_days_four_weeks_twelve_months_is_kept_so() -> None:
    ages = after_a_year(DAY, {"daily": 7, "weekly": 4, "monthly": 12})
    # 23 November 2026 is a Monday; the months go back to December, each by its first day
    days, weeks = [0, 1, 2, 3, 4, 5, 6], [7, 14, 21]
    months = [22, 53, 83, 114, 145, 175, 206, 236, 267, 295, 326, 357]
    assert [round(age) for age in ages] == days + weeks + months


moments = st.integers(min_value=-60 * 24 * 40, max_value=60).map(lambda minutes: NOW + minutes * 60.0)
pins = st.none() | st.builds(Pin, st.just("why"), st.none() | moments)
complete_sets = st.builds(
    lambda started, proof, group, pin, in_use: replace(
        a_set("", started, proof, group), pin=pin, in_use="restore r" if in_use else ""
    ),
    moments,
    st.sampled_from(["stored", "stored", "restored", "", "failed"]),
    st.sampled_from([APP, APP, APP, TENANT]),
    pins,
    st.sampled_from([False, False, False, True]),
)
other_sets = st.builds(
    lambda state, started, change, half: BackupSet("", state, None, started, change, half_deleted=half),
    st.sampled_from(["partial", "damaged", "foreign"]),
    moments,
    moments,
    st.booleans(),
)
stores = st.lists(complete_sets | complete_sets | complete_sets | other_sets, max_size=30).map(
    lambda items: [replace(item, set_id=f"s{number:02d}") for number, item in enumerate(items)]
)
rules = st.builds(Rule, st.none() | st.integers(0, 5), st.none() | st.integers(0, 40).map(lambda days: days * DAY))
policies = st.builds(
    Policy,
    st.dictionaries(st.sampled_from(["hourly", "daily", "weekly", "monthly"]), rules),
    st.sampled_from([0.0, HOUR, 3 * DAY]),
    st.integers(1, 4),
    st.sampled_from(["stored", "restored"]),
)


@given(stores, policies)
def test_never_fewer_than_the_proven_minimum_remain_in_a_group(sets: list[BackupSet], wanted: Policy) -> None:
    remaining = left_over(sets, decide_retention(sets, wanted, NOW))
    for group in (APP, TENANT):
        before = sum(item.group == group and wanted.proves(item) for item in sets)
        after = sum(item.group == group and wanted.proves(item) for item in remaining)
        assert after >= min(before, wanted.minimum_proven)


@given(stores, policies)
def test_nothing_younger_than_keep_all_within_pinned_in_use_damaged_or_future_goes(
    sets: list[BackupSet], wanted: Policy
) -> None:
    stays = {decision.set_id for decision in decide_retention(sets, wanted, NOW) if decision.keeps}
    for item in sets:
        young = item.state == "complete" and NOW - item.started < wanted.keep_all_within
        pinned = item.pin is not None and (item.pin.until is None or item.pin.until > NOW)
        if young or pinned or item.in_use or item.state in ("damaged", "foreign") or in_future(item, NOW):
            assert item.set_id in stays


@given(stores, policies)
def test_a_second_run_right_after_deletes_nothing(sets: list[BackupSet], wanted: Policy) -> None:
    remaining = left_over(sets, decide_retention(sets, wanted, NOW))
    assert all(decision.keeps for decision in decide_retention(remaining, wanted, NOW))


@given(stores, policies)
def test_a_complete_set_goes_only_when_a_newer_proven_one_of_its_group_stays(
    sets: list[BackupSet], wanted: Policy
) -> None:
    decisions = decide_retention(sets, wanted, NOW)
    remaining = left_over(sets, decisions)
    gone = [item for item in sets if item.state == "complete" and item not in remaining]
    for item in gone:
        assert any(
            other.group == item.group
            and wanted.proves(other)
            and not in_future(other, NOW)
            and (other.started, other.set_id) > (item.started, item.set_id)
            for other in remaining
        )


@given(stores, policies, st.sampled_from(["", "failed"]))
def test_unproven_sets_cause_no_deletion(sets: list[BackupSet], wanted: Policy, proof: str) -> None:
    new = a_set("zz", NOW - 60, proof)
    before = {decision.set_id for decision in decide_retention(sets, wanted, NOW) if not decision.keeps}
    after = {decision.set_id for decision in decide_retention([*sets, new], wanted, NOW) if not decision.keeps}
    assert after - {"zz"} <= before


@given(stores, policies, st.integers(0, 60 * 24 * 60))
def test_with_the_same_sets_a_later_clock_never_brings_a_set_back(
    sets: list[BackupSet], wanted: Policy, minutes: int
) -> None:
    before = {decision.set_id for decision in decide_retention(sets, wanted, NOW) if not decision.keeps}
    later = NOW + minutes * 60.0
    after = {decision.set_id for decision in decide_retention(sets, wanted, later) if not decision.keeps}
    assert before <= after


@given(stores, policies, st.randoms(use_true_random=False))
def test_the_order_in_which_a_store_lists_its_sets_does_not_matter(
    sets: list[BackupSet], wanted: Policy, random: object
) -> None:
    shuffled = list(sets)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide_retention(shuffled, wanted, NOW) == decide_retention(sets, wanted, NOW)
