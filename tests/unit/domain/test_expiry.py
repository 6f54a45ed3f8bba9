# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.expiry import expiries
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    BackupSet,
    Group,
    Pin,
    Policy,
    Rule,
    decide_retention,
)

HOUR = 3600.0
DAY = 86400.0
APP = Group("demo", "app", "database")
NOW = datetime(2026, 11, 22, 20, 0, tzinfo=timezone.utc).timestamp()


def a_set(name: str, started: float, proof: str = "stored") -> BackupSet:
    return BackupSet(name, "complete", APP, started, started, snapshot_at=started, finished=started, proof=proof)


DAYS = [a_set(f"d{age}", NOW - age * DAY) for age in (3, 2, 1, 0)]


def days_from_now(sets: list[BackupSet], wanted: Policy, interval: float | None) -> dict[str, float | None]:
    found = expiries(sets, wanted, NOW, interval)
    return {set_id: None if end is None else (end - NOW) / DAY for set_id, end in found.items()}


@pytest.mark.parametrize(
    ("wanted", "interval", "expected"),
    [
        # three days are kept: each set goes when the third backup after it is made
        (Policy({"daily": Rule(3)}, minimum_proven=1), DAY, {"d3": 0, "d2": 1, "d1": 2, "d0": 3}),
        (Policy({"daily": Rule(3)}, minimum_proven=1), 2 * DAY, {"d3": 0, "d2": 2, "d1": 4, "d0": 6}),
        # a second backup on the same day stands for no new one
        (Policy({"daily": Rule(3)}, minimum_proven=1), DAY / 4, {"d3": 0, "d2": 0.25, "d1": 1.25, "d0": 2.25}),
        # nothing new comes: what stays now stays
        (Policy({"daily": Rule(3)}, minimum_proven=1), None, {"d3": 0, "d2": None, "d1": None, "d0": None}),
        (Policy({"daily": Rule(None, 2.5 * DAY)}, minimum_proven=1), None, {"d3": 0, "d2": 0.5, "d1": 1.5, "d0": None}),
        (Policy(keep_all_within=2 * DAY), None, {"d3": 0, "d2": 0, "d1": None, "d0": None}),
        (Policy(keep_all_within=2 * DAY), DAY, {"d3": 0, "d2": 0, "d1": 1, "d0": 2}),
        (Policy({"daily": Rule(1)}, minimum_proven=3), DAY, {"d3": 0, "d2": 1, "d1": 2, "d0": 3}),
    ],
)
def test_the_next_expiry_is_when_prune_would_delete_the_set(
    wanted: Policy, interval: float | None, expected: dict[str, float | None]
) -> None:
    assert days_from_now(DAYS, wanted, interval) == pytest.approx(expected)


def test_an_unproven_set_goes_when_a_proven_one_takes_its_slot() -> None:
    sets = [a_set("good", NOW - 23 * HOUR), a_set("doubtful", NOW - HOUR, proof="")]
    found = expiries(sets, Policy({"daily": Rule(3)}, minimum_proven=1), NOW, DAY)
    assert found["doubtful"] == NOW + HOUR


def test_a_pin_moves_the_expiry_and_one_without_end_takes_it_away() -> None:
    sets = [replace(DAYS[0], pin=Pin("a", NOW + 9 * DAY)), replace(DAYS[1], pin=Pin("b")), *DAYS[2:]]
    found = days_from_now(sets, Policy({"daily": Rule(1)}, minimum_proven=1), DAY)
    assert found == pytest.approx({"d3": 9, "d2": None, "d1": 0, "d0": 1})


def test_a_partial_set_expires_with_its_grace_and_a_damaged_one_never() -> None:
    sets = [
        BackupSet("p", "partial", None, NOW - DAY, NOW - HOUR),
        BackupSet("h", "partial", None, NOW - DAY, NOW - HOUR, half_deleted=True),
        BackupSet("x", "damaged", None, NOW - DAY, NOW - HOUR),
        a_set("f", NOW + DAY),
        replace(a_set("u", NOW - 9 * DAY), in_use="restore r (building)"),
    ]
    found = expiries(sets, Policy({"daily": Rule(1)}), NOW, DAY)
    assert found == {"p": NOW + 23 * HOUR, "h": NOW, "x": None, "f": None, "u": None}


def test_years_of_hourly_backups_are_foretold_at_once() -> None:
    sets = [a_set("first", NOW - HOUR)]
    found = expiries(sets, Policy({"monthly": Rule(240)}, minimum_proven=1), NOW, HOUR)["first"]
    assert found is not None
    assert (found - NOW) / (365.25 * DAY) == pytest.approx(20, abs=0.1)


minutes = st.integers(min_value=-60 * 24 * 20, max_value=0).map(lambda value: NOW + value * 60.0)
some_sets = st.lists(
    st.builds(
        lambda started, proof, pin: replace(a_set("", started, proof), pin=pin),
        minutes,
        st.sampled_from(["stored", "stored", "restored", "", "failed"]),
        st.none() | st.builds(Pin, st.just("why"), minutes.map(lambda moment: moment + 10 * DAY)),
    ),
    min_size=1,
    max_size=8,
).map(lambda items: [replace(item, set_id=f"s{number}") for number, item in enumerate(items)])
some_rules = st.builds(Rule, st.none() | st.integers(0, 3), st.none() | st.integers(0, 20).map(lambda days: days * DAY))
some_policies = st.builds(
    Policy,
    st.dictionaries(st.sampled_from(["hourly", "daily", "weekly", "monthly"]), some_rules),
    st.sampled_from([0.0, HOUR, 3 * DAY]),
    st.integers(1, 3),
    st.sampled_from(["stored", "restored"]),
)


@settings(max_examples=150)
@given(some_sets, some_policies, st.sampled_from([None, 5 * HOUR, DAY, 36 * HOUR]))
def test_prune_keeps_each_set_until_its_expiry_and_deletes_it_then(
    sets: list[BackupSet], wanted: Policy, interval: float | None
) -> None:
    proven = [item.started for item in sets if wanted.proves(item)]
    anchor = NOW
    if proven and interval and max(proven) + interval > NOW:
        anchor = max(proven)

    def deletes(set_id: str, now: float) -> bool:
        coming: list[BackupSet] = []
        while interval and anchor + (len(coming) + 1) * interval <= now:
            started = anchor + (len(coming) + 1) * interval
            coming.append(a_set(f"t{len(coming):05d}", started, "restored"))
        return any(d.set_id == set_id and not d.keeps for d in decide_retention([*sets, *coming], wanted, now))

    for set_id, end in expiries(sets, wanted, NOW, interval).items():
        if end is None:
            assert not deletes(set_id, NOW + 200 * DAY)
            continue
        assert deletes(set_id, end)
        if end > NOW:
            assert not deletes(set_id, end - 0.001)
