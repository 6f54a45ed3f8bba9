# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A suspicion: what is recorded when, which sets are from before it, and what it holds back."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.integrity import (
    HOLDS,
    Finding,
    Survey,
    decide,
    decide_release,
    item_id,
    lines,
    sets_before,
    since,
    to_pin,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem, line, over, parse
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import BackupSet, Group
from ansible_collections.saasops.runbook.plugins.module_utils.domain.withheld import HOLDABLE, refusals, unreadable

NOW = 1_000_000.0
GROUP = Group("shop", "shop", "database")
FOUND = Finding("shop", "public.orders", "heap", "invalid page in block 3", 3, "base/1/2")
ITEM = OpenItem(
    item_id("shop"),
    "shop",
    "db",
    "data corruption is suspected: disk",
    "integrity",
    "run",
    "ops",
    NOW,
    "pg_integrity",
    {"state": "released", "evidence": "integrity/x.json"},
    outlives=True,
    holds=HOLDS,
)


def plan(verb: str, *kinds: str) -> Plan:
    return Plan(verb, tuple(Action(kind, "thing", "why") for kind in kinds or ("delete",)))


def kinds(found: Plan) -> list[str]:
    return [action.kind for action in found.actions]


@pytest.mark.parametrize(
    ("survey", "suspected", "item", "evidence", "expected"),
    [
        (Survey(), "", None, None, []),
        (Survey((FOUND,)), "", None, None, ["suspect", "keep evidence"]),
        (Survey(), "the disk", None, None, ["suspect", "keep evidence"]),
        (Survey(), "the disk", ITEM, None, ["keep evidence"]),
        (Survey(), "", ITEM, None, ["keep evidence"]),
        (Survey(), "the disk", ITEM, {"findings": []}, []),
        (Survey((FOUND,)), "", ITEM, {"findings": [FOUND.as_json()]}, []),
        (Survey((FOUND,)), "", ITEM, {"findings": []}, ["keep evidence"]),
        (Survey((FOUND,)), "", ITEM, {"findings": "nonsense"}, ["keep evidence"]),
    ],
)
def test_what_is_recorded(
    survey: Survey, suspected: str, item: OpenItem | None, evidence: dict[str, Json] | None, expected: list[str]
) -> None:
    assert kinds(decide("shop", survey, suspected, item, evidence)) == expected


def test_a_release_needs_something_to_release() -> None:
    assert decide_release("shop", None, "why").empty
    assert kinds(decide_release("shop", ITEM, "why")) == ["release"]


def a_set(set_id: str, at: float, proof: str, state: str = "complete", group: Group = GROUP) -> BackupSet:
    return BackupSet(set_id, state, group, at, at, at, at, proof)


def test_the_last_proven_set_from_before_is_named_and_the_last_that_was_restored() -> None:
    sets = [
        a_set("1", 10, "restored"),
        a_set("2", 20, "stored"),
        a_set("3", 30, ""),
        a_set("4", 40, "stored", "damaged"),
        a_set("5", 60, "restored"),
        a_set("6", 10, "stored", group=Group("shop", "shop", "undo")),
    ]
    (found,) = sets_before(sets, 50)
    assert found.proven is not None
    assert found.restored is not None
    assert (found.proven.set_id, found.restored.set_id) == ("2", "1")
    assert to_pin([found]) == ["1", "2"]
    (none,) = sets_before(sets, 5)
    assert none.proven is None
    assert "NO proven set" in none.tell()


@pytest.mark.parametrize(("earliest", "expected"), [(None, NOW), (NOW - 1000, NOW - 1300), (NOW + 50, NOW - 300)])
def test_data_are_in_doubt_from_the_first_sign_on(earliest: float | None, expected: float) -> None:
    assert since(Survey(earliest=earliest), NOW) == expected


@pytest.mark.parametrize(
    ("found", "held"),
    [
        (plan("prune"), True),
        (plan("cleanup"), True),
        (plan("restart"), True),
        (plan("restore_finish"), True),
        (plan("maintenance", "vacuum"), False),
        (plan("maintenance", "vacuum", "rewrite"), True),
        (plan("backup"), False),
        (plan("restore"), False),
        (plan("sessions"), False),
    ],
)
def test_what_a_suspicion_holds_back(found: Plan, held: bool) -> None:
    told = refusals([ITEM], found.verb, found)
    assert [error.code for error in told] == (["integrity_suspected"] if held else [])
    assert all("state=released" in error.remedy for error in told)


def test_whatever_a_suspicion_holds_is_looked_for() -> None:
    assert {name.partition(":")[0] for name in HOLDS} <= HOLDABLE


def test_an_item_of_another_module_holds_back_what_it_names() -> None:
    other = OpenItem("x-1", "shop", "db", "why", "v", "run", "me", NOW, "other", {}, holds=("prune",))
    assert [error.code for error in refusals([other, ITEM], "prune", plan("prune"))] == [
        "held_back",
        "integrity_suspected",
    ]


def test_a_suspicion_that_cannot_be_read_holds_back_too_and_other_records_do_not() -> None:
    other = OpsError("item_unreadable", "x", "y", {"key": "open/hold-1.json"})
    mine = OpsError("item_unreadable", "x", "y", {"key": f"open/{item_id('shop')}.json"})
    assert unreadable([other]) is None
    found = unreadable([other, mine])
    assert found is not None
    assert found.code == "item_unreadable"


def test_the_record_keeps_what_it_holds_and_ends_by_nobody_but_a_person() -> None:
    assert parse(ITEM.as_json()) == ITEM
    assert over(ITEM, NOW + 10**9, ["run"]) == ""
    assert "until somebody ends it" in line(ITEM, NOW)


def test_lines_are_bounded() -> None:
    many = Survey((FOUND,) * 50, 5, tuple((f"t{n}", "locked") for n in range(50)))
    text = lines(many, 3.0, [])
    assert len(text) < 30
    assert "and 30 more" in "\n".join(text)
    assert "and 45 more: locked" in "\n".join(text)
