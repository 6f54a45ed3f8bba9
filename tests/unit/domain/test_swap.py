# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch, an undo and a finish lose, refuse and do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import key_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, fitted, parse
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Blocker
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sequences import (
    HORIZON,
    LEAST,
    SequenceState,
    ahead,
    reserved,
    sequences_from_json,
    sequences_json,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import (
    Loss,
    Losses,
    ProvenSet,
    Scene,
    Sessions,
    aside_name,
    counted_since,
    decide_discard,
    decide_finish,
    decide_switch,
    decide_undo,
    written_since,
)

NOTHING = Losses((), True)
RECORD = Restoration(
    id="20261122T201747Z-1a2b3c4d",
    system="demo",
    set="20261122T200000Z-aaaaaaaa",
    database="live",
    target="live_restore_aaaaaaaa",
    building="saasops_building_x",
    server="7",
    state="verified",
    started="2026-11-22T20:17:47.000000Z",
    target_oid=20,
)
SWITCHED = replace(RECORD, state="switched", aside="live_before_x", aside_oid=10, switched_at="2026-11-22T21:00:00Z")


def scene(**changes: object) -> Scene:
    found = Scene(
        database="live",
        record=RECORD,
        live_oid=10,
        other_name=RECORD.target,
        other_oid=20,
        losses=NOTHING,
        blockers=(),
        sessions=Sessions(3, ()),
        may_rename=True,
        carried=(),
        maintenance="postgres",
        sequences=(),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def statistics(reset: str | None = None, **tables: tuple[int, int, int]) -> dict[str, Json]:
    return {
        "stats_reset": reset,
        "counters": {key_of("s", name): {"ins": i, "upd": u, "del": d} for name, (i, u, d) in tables.items()},
    }


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (statistics(t=(5, 0, 0)), statistics(t=(5, 0, 0)), ()),
        (statistics(t=(5, 1, 2)), statistics(t=(8, 1, 3)), (Loss("s.t", 3, 0, 1),)),
        (statistics(), statistics(new=(4, 2, 0)), (Loss("s.new", 4, 2, 0),)),
        (statistics(gone=(9, 0, 2)), statistics(), (Loss("s.gone", 0, 0, 7),)),
    ],
)
def test_what_was_written_is_the_difference_of_the_counters(
    before: dict[str, Json], now: dict[str, Json], lost: tuple[Loss, ...]
) -> None:
    assert written_since(before, now) == Losses(lost, True)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (statistics("yesterday", t=(5, 0, 0)), statistics("today", t=(9, 0, 0))),
        (statistics(t=(5, 0, 0)), statistics(t=(1, 0, 0))),
        ({}, statistics(t=(1, 0, 0))),
    ],
)
def test_counters_that_began_anew_say_nothing(before: dict[str, Json], now: dict[str, Json]) -> None:
    assert written_since(before, now) is None


def test_counted_rows_are_a_lower_bound() -> None:
    def rows(**tables: int) -> dict[str, Json]:
        return {"tables": {key_of("s", name): {"rows": count} for name, count in tables.items()}}

    found = counted_since(rows(a=5, b=5, c=1), rows(a=7, b=2, c=1, d=4))
    assert found == Losses((Loss("s.a", 2, 0, 0), Loss("s.b", 0, 0, 3), Loss("s.d", 4, 0, 0)), False)


def test_the_largest_losses_are_shown_first_and_the_rest_is_counted() -> None:
    losses = Losses(tuple(Loss(f"t{n}", n, 0, 0) for n in range(1, 31)), True)
    lines = losses.lines(3)
    assert lines == ["t30: 30 inserted", "t29: 29 inserted", "t28: 28 inserted", "and 27 more tables"]


def codes(error: pytest.ExceptionInfo[OpsError]) -> list[object]:
    found = error.value.details["codes"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"blockers": (Blocker("prepared_transaction", "gid"),)}, "prepared_transactions"),
        ({"blockers": (Blocker("logical_slot", "slot"),)}, "logical_slots"),
        ({"blockers": (Blocker("subscription", "sub"),)}, "subscriptions"),
        ({"blockers": (Blocker("tied_extension", "pg_cron"),)}, "tied_extensions"),
        ({"may_rename": False}, "not_permitted"),
        ({"sessions": Sessions(1, ("pid 4 of postgres",))}, "connections_not_held_off"),
        ({"maintenance": "live"}, "maintenance_database"),
        ({"record": replace(RECORD, partial=True)}, "partial_restore"),
        ({"other_oid": 21}, "restore_not_verified"),
        ({"other_oid": None}, "restore_not_verified"),
    ],
)
def test_a_switch_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as refused:
        decide_switch(scene(**change), "aside")
    assert codes(refused) == [code]


def test_all_refusals_come_at_once() -> None:
    with pytest.raises(OpsError) as refused:
        decide_switch(scene(may_rename=False, blockers=(Blocker("subscription", "s"),), other_oid=None), "aside")
    assert codes(refused) == ["subscriptions", "not_permitted", "restore_not_verified"]


def test_a_switch_renames_both_and_closes_the_old_one_last() -> None:
    plan = decide_switch(scene(carried=("a setting",)), "live_before_x")
    assert [(a.kind, a.object) for a in plan.actions] == [
        ("set", "live_restore_aaaaaaaa"),
        ("end sessions", "live"),
        ("rename", "live"),
        ("rename", "live_restore_aaaaaaaa"),
        ("close", "live_before_x"),
    ]


def test_without_a_live_database_a_switch_is_one_rename() -> None:
    plan = decide_switch(scene(live_oid=None), "aside")
    assert [(a.kind, a.object) for a in plan.actions] == [("rename", "live_restore_aaaaaaaa")]


def test_a_switch_shows_its_loss_and_is_not_refused_for_it() -> None:
    plan = decide_switch(scene(losses=Losses((Loss("s.t", 1200, 0, 1),), True)), "aside")
    assert "1,201 rows" in plan.warnings[0]
    assert "s.t: 1,200 inserted, 1 deleted" in plan.warnings[0]


def undo_scene(**changes: object) -> Scene:
    return scene(record=SWITCHED, live_oid=20, other_name="live_before_x", other_oid=10, **changes)


@pytest.mark.parametrize("acknowledged", [None, 0, 2, 4])
def test_an_undo_with_writes_is_refused_unless_exactly_they_are_acknowledged(acknowledged: int | None) -> None:
    with pytest.raises(OpsError) as refused:
        decide_undo(undo_scene(losses=Losses((Loss("s.t", 3, 0, 0),), True)), "aside", acknowledged)
    assert codes(refused) == ["writes_since_switch"]
    assert "acknowledge_loss=3" in refused.value.remedy


def test_an_undo_with_acknowledged_writes_keeps_the_newer_database() -> None:
    plan = decide_undo(undo_scene(losses=Losses((Loss("s.t", 3, 0, 0),), True)), "live_undone_x", 3)
    assert [(a.kind, a.object) for a in plan.actions] == [
        ("open", "live_before_x"),
        ("end sessions", "live"),
        ("rename", "live"),
        ("rename", "live_before_x"),
        ("close", "live_undone_x"),
    ]
    assert plan.ceilings["rows"] == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [({"live_oid": 99}, "live_database_changed"), ({"other_oid": None}, "old_database_missing")],
)
def test_an_undo_of_databases_that_are_not_the_recorded_ones_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as refused:
        decide_undo(replace(undo_scene(), **change), "aside", None)  # type: ignore[arg-type]
    assert codes(refused) == [code]


GOOD = ProvenSet("set", 100.0, "7", 20)


@pytest.mark.parametrize(
    ("proven", "allowed"),
    [
        ([], False),
        ([GOOD], True),
        ([replace(GOOD, snapshot_at=50.0)], False),
        ([replace(GOOD, snapshot_at=49.0)], False),
        ([replace(GOOD, system_identifier="8")], False),
        ([replace(GOOD, database_oid=10)], False),
        ([replace(GOOD, database_oid=10), GOOD], True),
    ],
)
def test_the_old_database_goes_only_for_a_proven_younger_backup_of_the_live_one(
    proven: list[ProvenSet], allowed: bool
) -> None:
    if allowed:
        assert [a.object for a in decide_finish(SWITCHED, 10, 20, 50.0, proven, []).actions] == ["live_before_x"]
        return
    with pytest.raises(OpsError) as refused:
        decide_finish(SWITCHED, 10, 20, 50.0, proven, [])
    assert codes(refused) == ["no_proven_backup"]


def test_a_finish_is_refused_for_slots_and_without_a_live_database() -> None:
    with pytest.raises(OpsError) as slots:
        decide_finish(SWITCHED, 10, 20, 50.0, [GOOD], ["a slot"])
    with pytest.raises(OpsError) as nobody:
        decide_finish(SWITCHED, 10, None, 50.0, [GOOD], [])
    assert (codes(slots), codes(nobody)) == (["logical_slots"], ["live_database_missing"])


@pytest.mark.parametrize("found", [None, 11])
def test_what_is_gone_or_is_another_database_is_not_dropped(found: int | None) -> None:
    assert decide_finish(SWITCHED, found, 20, 50.0, [], []).empty


def test_a_copy_is_dropped_without_a_backup_of_it_and_kept_with_slots() -> None:
    assert [a.object for a in decide_discard(RECORD, True, []).actions] == [RECORD.target]
    assert decide_discard(RECORD, False, []).empty
    with pytest.raises(OpsError) as refused:
        decide_discard(RECORD, True, ["slot"])
    assert codes(refused) == ["logical_slots"]


def state(value: int, increment: int = 1, called: bool = True, bound: int = 2**62) -> SequenceState:
    return SequenceState("s", value, increment, called, bound if increment > 0 else -bound)


@pytest.mark.parametrize(
    ("live", "other", "expected"),
    [
        (state(5), state(4), True),
        (state(5), state(5), False),
        (state(5), state(5, called=False), True),
        (state(5, called=False), state(5), False),
        (state(4), state(5), False),
        (state(-5, -1), state(-4, -1), True),
        (state(-4, -1), state(-5, -1), False),
    ],
)
def test_a_sequence_is_ahead_in_the_direction_of_its_step(
    live: SequenceState, other: SequenceState, expected: bool
) -> None:
    assert bool(ahead({"s": live}, {"s": other})) is expected


def test_a_sequence_of_one_side_only_is_left_alone() -> None:
    assert ahead({"s": state(5)}, {}) == []


def test_a_sequence_that_moves_gets_a_reserve_for_the_time_of_the_renames() -> None:
    (moved,) = reserved({"s": state(100)}, {"s": state(130)}, 0.3, {"s": state(1)})
    assert moved.last_value == 130 + LEAST + round(100 * HORIZON)
    (down,) = reserved({"s": state(-100, -5)}, {"s": state(-110, -5)}, 1.0, {"s": state(-1, -5)})
    assert down.last_value == -110 - 5 * (LEAST + round(2 * HORIZON))


def test_a_sequence_that_stands_still_is_taken_as_it_stands() -> None:
    assert reserved({"s": state(100)}, {"s": state(100)}, 0.3, {"s": state(1)}) == [state(100)]
    assert reserved({"s": state(100)}, {"s": state(100)}, 0.3, {"s": state(100)}) == []


@given(
    first=st.integers(1, 1000),
    moved=st.integers(0, 1000),
    step=st.sampled_from([1, 7, -1, -7]),
    seconds=st.floats(0.01, 5),
    bound=st.integers(20_000, 40_000),
)
def test_a_reserve_never_leaves_the_range_and_never_goes_back(
    first: int, moved: int, step: int, seconds: float, bound: int
) -> None:
    one, two = state(first * step, step, bound=bound), state((first + moved) * step, step, bound=bound)
    for item in reserved({"s": one}, {"s": two}, seconds, {"s": one}):
        assert item.position >= two.position
        assert abs(item.last_value) <= bound


def test_sequences_go_through_json_unchanged() -> None:
    found = {"s": state(5), "d": replace(state(-5, -2, called=False), name="d")}
    assert sequences_from_json(sequences_json(found)) == found


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63))
def test_a_made_name_fits_and_keeps_its_ending(database: str) -> None:
    name = aside_name(database, "before", "20261122t201747z")
    assert len(name.encode()) <= 63
    assert name.endswith("_before_20261122t201747z")
    assert fitted(database, "_x").encode().startswith(name.encode()[:1]) or len(database.encode()) > 20


def test_a_record_goes_through_json_unchanged() -> None:
    assert parse(SWITCHED.as_json()) == SWITCHED


@pytest.mark.parametrize("change", [{"state": "dancing"}, {"format": 99}, {"id": None, "format": "x"}])
def test_a_record_that_is_not_understood_is_refused(change: dict[str, Json]) -> None:
    with pytest.raises(OpsError) as refused:
        parse({**SWITCHED.as_json(), **change})
    assert refused.value.code == "record_unreadable"


def test_a_field_of_a_later_release_is_passed_over() -> None:
    assert parse({**SWITCHED.as_json(), "new_field": 1}) == SWITCHED
