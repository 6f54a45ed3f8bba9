# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of runs, sets and drills."""

from __future__ import annotations

import json
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_drills import (
    Drill,
    chart,
    drills_view,
    parse_drill,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_runs import runs_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_store import CROSS, store_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_view import Proof, scrub, shown
from ansible_collections.saasops.runbook.tests.lab import reports
from ansible_collections.saasops.runbook.tests.lab.reports import DAY, NOW, Chain

Plain = dict[str, Json]


def runs(view: Plain) -> list[Plain]:
    return cast("list[Plain]", view["runs"])


def one(end: str) -> Plain:
    """The view of a journal with a single run."""
    chain = Chain()
    chain.run(NOW - 100, "backup", end=end)
    (found,) = runs(runs_view(chain.bodies, 10))
    return found


@pytest.mark.parametrize(
    ("end", "result", "took"),
    [
        ("changed", "changed", "1 min 12 s"),
        ("unchanged", "unchanged", "1 min 12 s"),
        ("refused", "refused", "1.0 s"),
        ("failed", "failed", "5.0 s"),
        ("open", "open", ""),
        ("bypassed", "changed", "1 min 12 s"),
    ],
)
def test_a_run_without_an_end_of_its_own_is_judged_by_its_steps(end: str, result: str, took: str) -> None:
    found = one(end)
    assert (found["result"], found["took"], found["bypassed"]) == (result, took, end == "bypassed")


def test_a_run_that_failed_on_one_host_and_was_refused_on_another_failed() -> None:
    chain = Chain()
    run = chain.run(NOW - 100, "backup", end="failed")
    chain.add("refusal", NOW - 90, run, host="db2", code="lease_held", cause="c", remedy="r", failed=True)
    found = runs(runs_view(chain.bodies, 10))[0]
    assert found["result"] == "failed"
    assert found["hosts"] == ["db1", "db2"]


def test_each_planned_action_is_held_against_the_outcome_and_what_goes_beyond_is_told() -> None:
    chain = Chain()
    run = chain.run(NOW - 100, "prune", end="open")
    done = Plan("prune", (Action("dump", f"public.{reports.SCRIPT}", "", {"rows": 5}), Action("drop", "x", "why")))
    action = "saasops.runbook.pg_prune"
    chain.add("outcome", NOW - 90, run, host="db1", action=action, changed=True, failed=False, plan=done.as_dict())
    (step,) = cast("list[Plain]", runs(runs_view(chain.bodies, 10))[0]["steps"])
    lines = [(line["kind"], line["met"], line["measured"]) for line in cast("list[Plain]", step["actions"])]
    assert lines == [("dump", "done", "rows 5"), ("write", "not done", ""), ("drop", "beyond the plan", "")]


@pytest.mark.parametrize(("end", "met"), [("failed", "stopped"), ("open", "no end on record"), ("changed", "done")])
def test_the_plan_of_a_run_that_did_not_end_well_is_not_called_done(end: str, met: str) -> None:
    (step,) = cast("list[Plain]", one(end)["steps"])
    assert {line["met"] for line in cast("list[Plain]", step["actions"])} == {met}


def test_a_refusal_has_code_cause_and_remedy() -> None:
    assert one("refused")["refusals"] == [
        {"host": "db1", "code": "window_closed", "cause": "Window nightly is closed.", "remedy": "Wait."}
    ]


def test_older_runs_are_counted_by_month_and_verb_and_their_bypasses_told_all_the_same() -> None:
    chain = reports.busy(100)
    view = runs_view(chain.bodies, 10)
    older = cast("Plain", view["older"])
    rows = cast("list[dict[str, int]]", older["rows"])
    assert len(runs(view)) == 10
    assert older["runs"] == sum(row["runs"] for row in rows) == 90
    bypasses = cast("list[Plain]", view["bypasses"])
    assert len(bypasses) == 12
    assert sum(row["bypassed"] for row in rows) + sum(bool(run["bypassed"]) for run in runs(view)) == 12
    assert [item["told"] for item in bypasses] == [True] + [False] * 11


def test_a_year_of_runs_stays_small() -> None:
    chain = reports.busy(1000, every=DAY / 3)
    whole = len(json.dumps(chain.bodies))
    told = len(json.dumps(reports.view(chain)))
    assert told < whole / 2
    assert told < 500_000


def test_an_approval_long_after_does_not_lengthen_its_run_nor_name_its_operator() -> None:
    chain = Chain()
    run = chain.run(NOW - 10 * DAY, "backup", end="refused")
    chain.add("approval", NOW - 9 * DAY, run, operator="carla", plan="plan-7")
    (found,) = runs(runs_view(chain.bodies, 10))
    assert (found["took"], found["operator"]) == ("1.0 s", "ann")
    (approval,) = cast("list[Plain]", found["others"])
    assert (approval["operator"], approval["text"]) == ("carla", "plan plan-7")


def test_records_without_a_run_are_told_apart_and_bad_ones_passed_over() -> None:
    chain = Chain()
    chain.add("unlock", NOW, operator="ann", reason="the controller lost its power")
    view = runs_view([*chain.bodies, {"kind": "intent", "run": "r", "at": "yesterday"}], 10)
    assert view["runs"] == []
    (other,) = cast("list[Plain]", view["others"])
    assert (other["kind"], other["operator"], other["text"]) == ("unlock", "ann", "the controller lost its power")


def test_other_failed_tasks_fail_the_run_unless_they_were_ignored() -> None:
    for ignored, result in ((True, "changed"), (False, "failed")):
        chain = Chain()
        run = chain.run(NOW - 100, "backup")
        chain.add("task", NOW - 20, run, host="db1", action="copy", task="Copy", failed=True, ignored=ignored)
        assert runs(runs_view(chain.bodies, 10))[0]["result"] == result


def calendar() -> tuple[list[Plain], Plain]:
    """(cells with sets by their day, newest month first; the view)."""
    items = reports.kept(reports.sets([*range(10), 14, 21, 40, 70]))
    view = store_view(items, [], reports.POLICY, DAY, NOW)
    months = cast("list[Plain]", view["months"])
    cells = [
        {**cell, "month": month["name"]}
        for month in months
        for week in cast("list[list[Plain]]", month["weeks"])
        for cell in week
        if cell and "sets" in cell
    ]
    return cells, view


def test_the_calendar_shows_the_slots_that_keep_a_day_and_its_pins() -> None:
    cells, _view = calendar()
    by_day = {(cell["month"], cell["day"]): cell for cell in cells}
    assert by_day["November 2026", 22]["marks"] == "D"
    pinned = by_day["October 2026", 13]
    assert str(pinned["marks"]).endswith("P")
    assert "1 pinned" in str(pinned["label"])
    # of a month with one set, that set stands for it
    assert by_day["September 2026", 13]["slot"] == "monthly"


def test_what_goes_next_is_marked_and_named() -> None:
    cells, view = calendar()
    following = cast("list[Plain]", view["next"])
    assert following[0]["when"] == "next prune"
    assert any(CROSS in str(cell["marks"]) for cell in cells)
    assert "7 daily, 4 weekly, 12 monthly" in str(view["policy"])


def test_without_a_retention_nothing_goes_and_the_page_says_so() -> None:
    view = store_view(reports.kept(reports.sets([0, 1]), None), [], None, None, NOW)
    assert view["next"] == []
    assert "nothing is ever deleted" in str(view["policy"])


def test_a_chart_stays_inside_its_frame_and_keeps_the_order_of_values() -> None:
    drawn = chart([(NOW - 2 * DAY, 60.0, True), (NOW - DAY, 130.0, False), (NOW, 90.0, True)], 180.0, "RTO")
    dots = cast("list[dict[str, float]]", drawn["dots"])
    assert [dot["x"] for dot in dots] == sorted(dot["x"] for dot in dots)
    assert dots[1]["y"] < dots[2]["y"] < dots[0]["y"]
    assert all(cast("int", drawn["left"]) <= dot["x"] <= cast("int", drawn["right"]) for dot in dots)
    assert all(0 < dot["y"] <= cast("int", drawn["bottom"]) for dot in dots)
    assert cast("float", drawn["target"]) < dots[1]["y"]
    assert [line["label"] for line in cast("list[Plain]", drawn["lines"])] == ["0", "1 min", "2 min", "3 min"]


@pytest.mark.parametrize(
    ("points", "target"),
    [([(NOW, 0.0, True)], None), ([(NOW, 0.0, True), (NOW, 0.0, False)], 3600.0), ([(NOW, 9e9, True)], 1.0)],
)
def test_a_chart_of_one_or_equal_or_huge_values_can_be_drawn(
    points: list[tuple[float, float, bool]], target: float | None
) -> None:
    assert cast("list[Plain]", chart(points, target, "RPO")["lines"])


def test_a_target_far_above_does_not_press_the_values_flat() -> None:
    drawn = chart([(NOW, 3.0, True)], DAY, "RPO")
    assert (drawn["target"], drawn["target_label"]) == (None, "target 24 h")
    assert cast("list[Plain]", drawn["lines"])[-1]["label"] == "3.0 s"


def test_a_drill_over_its_target_is_marked_and_what_is_no_drill_is_none() -> None:
    slow = Drill(NOW, "s", "app", "failed", 200.0, 1.0, ("too slow",), 0, "beside")
    (row,) = cast("list[Plain]", drills_view([slow], 1, 180.0, DAY, NOW)["rows"])
    assert (row["rto_met"], row["rpo_met"], row["passed"]) == (False, True, False)
    assert parse_drill({"at": "2026-11-22T20:00:00.000000Z"}) is None
    assert parse_drill({"at": "yesterday", "outcome": "passed"}) is None
    told = parse_drill({"at": "2026-11-22T20:00:00.000000Z", "outcome": "passed", "rto": "soon", "rpo": None})
    assert told is not None
    assert (told.rto, told.rpo) == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\nlines"),
        ("\ud800", "\\ud800"),
        ("postgresql://app:hunter2@db/x", "postgresql://app:<redacted>@db/x"),
    ],
)
def test_what_hides_turns_or_is_secret_is_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert scrub({"a": [text]}) == {"a": [expected]}


def test_a_secret_in_a_pin_which_no_journal_has_cleaned_is_not_in_the_report() -> None:
    told = json.dumps(reports.view(reports.busy(3)))
    assert "before version 2" in told
    assert "hunter2" not in told


def test_a_value_under_a_secret_name_is_taken_out() -> None:
    assert scrub({"db_password": "x1", "rows": 5}) == {"db_password": "<redacted>", "rows": 5}


@pytest.mark.parametrize(
    ("proof", "tone", "answer"),
    [
        (Proof([], "", 3, 3, "ab", 3, True), "good", "Whole"),
        (Proof([], "", 3, 3, "ab", None, False), "warn", "Whole"),
        (Proof([(2, "edited", "Record 2 was edited.")], "", 3, 3, "ab", None, True), "bad", "Damaged"),
        (Proof([], "", 0, 0, "", None, False), "plain", "Empty"),
    ],
)
def test_the_first_card_is_the_verdict_on_the_journal(proof: Proof, tone: str, answer: str) -> None:
    cards = cast("list[Plain]", reports.view(reports.busy(3), proof=proof)["glance"])
    assert (cards[0]["tone"], cards[0]["answer"]) == (tone, answer)
