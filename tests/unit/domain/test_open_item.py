# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is open, when it is over, and how a timer's unit is written."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.hold import (
    Database,
    decide_hold,
    decide_release,
    limit_before,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import (
    GRACE,
    OpenItem,
    closed,
    over,
    parse,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import without_end
from ansible_collections.saasops.runbook.plugins.module_utils.domain.timer_unit import (
    Expiry,
    command,
    moment,
    refuse_bad,
    service,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.undo_run import INSTEAD, way_back
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import VERBS

ITEM = OpenItem(
    "hold-1", "shop", "db", "held", "hold", "r1", "anna", 100.0, "pg_hold", {"limit": 17, "database": "app"}
)
APP = Database("app", 5, "77", -1, clients=3)


def test_an_item_comes_back_as_it_was_recorded_and_not_at_all_when_closed() -> None:
    item = replace(ITEM, expiry=160.0, outlives=True, actor="x.timer", process={"pid": 4})
    assert parse(item.as_json()) == item
    assert parse(closed(item, "r2", "released", 170.0)) is None


def test_an_item_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(OpsError) as caught:
        parse({**ITEM.as_json(), "undo": "rm"})
    assert caught.value.code == "item_unreadable"


@pytest.mark.parametrize(
    ("item", "now", "dead", "is_over"),
    [
        (ITEM, 1e9, [], False),
        (ITEM, 1e9, ["r1"], True),
        (replace(ITEM, outlives=True), 1e9, ["r1"], False),
        (replace(ITEM, expiry=200.0), 199.9, [], False),
        (replace(ITEM, expiry=200.0), 200.0, [], True),
        (replace(ITEM, expiry=200.0, actor="timer"), 200.0 + GRACE - 0.1, [], False),
        (replace(ITEM, expiry=200.0, actor="timer"), 200.0 + GRACE, [], True),
    ],
)
def test_an_item_is_over_with_its_run_or_at_its_end(item: OpenItem, now: float, dead: list[str], is_over: bool) -> None:
    assert bool(over(item, now, dead)) is is_over


def test_a_hold_remembers_the_limit_of_before() -> None:
    assert [a.kind for a in decide_hold(APP, None, "repair", None).actions] == ["hold"]
    assert limit_before(APP, None, None) == -1
    held = replace(APP, limit=0, clients=0)
    assert limit_before(held, ITEM, None) == 17
    assert decide_hold(held, ITEM, "repair", None).empty
    assert [a.kind for a in decide_hold(held, ITEM, "repair", 500.0).actions] == ["prolong"]
    assert [a.kind for a in decide_release(held, ITEM).actions] == ["release"]
    assert [a.kind for a in decide_release(APP, ITEM).actions] == ["close record"]
    assert decide_release(APP, None).empty


def test_a_limit_of_zero_that_nobody_recorded_is_not_guessed() -> None:
    with pytest.raises(OpsError) as caught:
        decide_release(replace(APP, limit=0), None)
    assert caught.value.code == "hold_unknown"
    assert not decide_release(replace(APP, limit=0), None, -1).empty


def test_a_command_line_of_a_unit_keeps_every_character() -> None:
    assert command(["/bin/a", 'b "c" $d %e \\ f\n']) == '"/bin/a" "b \\"c\\" $$d %%e \\\\ f\\n"'
    assert shlex.split(command(["/bin/a", "b c"])) == ["/bin/a", "b c"]


@pytest.mark.parametrize(
    "bad",
    [
        Expiry("hold-1", 1.0, ("psql",)),
        Expiry("hold-1", 1.0, ()),
        Expiry("../x", 1.0, ("/bin/a",)),
        Expiry("hold-1", 1.0, ("/bin/a",), user="a b"),
        Expiry("hold-1", 1.0, ("/bin/a",), environment={"A B": "1"}),
    ],
)
def test_a_unit_that_would_be_read_differently_is_refused(bad: Expiry) -> None:
    with pytest.raises(OpsError):
        refuse_bad(bad)


def test_a_unit_removes_itself_only_after_the_act_succeeded() -> None:
    lines = service(Expiry("hold-1", 1.0, ("/bin/a",)), "/bin/systemctl", "/bin/rm", ["/x"]).splitlines()
    acts = [line for line in lines if line.startswith("ExecStart=")]
    assert acts[0] == 'ExecStart="/bin/a"'
    assert acts[-1] == 'ExecStart=+"/bin/rm" "-f" "/x"'
    assert moment(0.2) == "1970-01-01 00:00:01 UTC"


def record(kind: str, run: str = "r1", **more: object) -> dict[str, object]:
    return {"kind": kind, "run": run, "host": "db", "action": "a", "verb": "backup", "at": "t", **more}


def test_an_intent_without_an_outcome_is_interrupted_until_somebody_said_so() -> None:
    bodies = [record("intent"), record("outcome"), record("intent", "r2")]
    assert [one.run for one in without_end(bodies)] == ["r2"]  # type: ignore[arg-type]
    bodies.append(record("note", "r3", code="interrupted", of="r2"))
    assert without_end(bodies) == []  # type: ignore[arg-type]


def test_the_way_back_is_what_the_run_wrote() -> None:
    undo = {"verb": "undo", "restore": "x"}
    bodies = [record("intent"), record("outcome", changed=True, undo=undo)]
    assert way_back(bodies, "r1", "db") == undo  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bodies", "code"),
    [
        ([], "run_unknown"),
        ([record("intent")], "run_interrupted"),
        ([record("intent"), record("outcome", changed=False)], "no_way_back"),
        ([record("intent"), record("outcome", changed=True)], "no_way_back"),
        ([record("outcome", undo={"verb": "undo"}), record("outcome", undo={"verb": "hold"})], "undo_ambiguous"),
    ],
)
def test_a_run_without_a_way_back_is_refused_with_the_reason(bodies: list[dict[str, object]], code: str) -> None:
    with pytest.raises(OpsError) as caught:
        way_back(bodies, "r1", "db")  # type: ignore[arg-type]
    assert caught.value.code == code


def test_every_verb_says_what_to_do_instead() -> None:
    assert set(INSTEAD) == set(VERBS)
