# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a run may act: every rule of a system, alone and together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import envelope_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import (
    BYPASSABLE,
    Approval,
    Policy,
    Request,
    decide,
    parse_approval,
    parse_policy,
    refusal,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import BACKUP, PRUNE, UNDO, VERBS, verb_of

NOW = 1_000.0
PLAN = Plan("prune", (Action("delete", "a", ""), Action("delete", "b", "")), {"sets": 2})
REQUEST = Request("run", PRUNE, "anna", ("db1",))
APPROVED = Approval("approvals/p/1", "p", envelope_of(PLAN), "berta", NOW + 60)
ASKS = Policy(approval=frozenset(["routine"]))
CLOSED = OpsError("window_closed", "It is day.", "Wait.")


def codes(policy: Policy, request: Request, plan: Plan = PLAN, approvals: tuple[Approval, ...] = ()) -> list[str]:
    return [item.code for item in decide(policy, request, plan, approvals, NOW).refusals]


@pytest.mark.parametrize(
    ("policy", "request_", "approvals", "expected"),
    [
        (Policy(), REQUEST, (), []),
        (Policy(), replace(REQUEST, window=CLOSED), (), ["window_closed"]),
        (Policy(), replace(REQUEST, failed=("db2",)), (), ["hosts_failed"]),
        (Policy(max_failed=1), replace(REQUEST, failed=("db2",)), (), []),
        (Policy(limits={"": {"sets": 2}}), REQUEST, (), []),
        (Policy(limits={"": {"sets": 1}}), REQUEST, (), ["blast_radius"]),
        (Policy(limits={"": {"sets": 1}, "prune": {"sets": 2}}), REQUEST, (), []),
        (Policy(limits={"backup": {"sets": 0}}), REQUEST, (), []),
        (Policy(limits={"": {"hosts": 0}}), REQUEST, (), ["blast_radius"]),
        (ASKS, REQUEST, (), ["approval_required"]),
        (ASKS, REQUEST, (APPROVED,), []),
        (ASKS, REQUEST, (replace(APPROVED, until=NOW),), ["approval_expired"]),
        (ASKS, REQUEST, (replace(APPROVED, by="anna"),), ["approval_required"]),
        (replace(ASKS, own_approval=True), REQUEST, (replace(APPROVED, by="anna"),), []),
        (Policy(approval=frozenset(["prune"])), REQUEST, (), ["approval_required"]),
        (Policy(approval=frozenset(["response"])), REQUEST, (), []),
        (
            ASKS,
            replace(REQUEST, window=CLOSED, failed=("x",)),
            (),
            ["window_closed", "hosts_failed", "approval_required"],
        ),
    ],
)
def test_each_rule_refuses_what_it_is_for(
    policy: Policy, request_: Request, approvals: tuple[Approval, ...], expected: list[str]
) -> None:
    assert codes(policy, request_, approvals=approvals) == expected


def test_a_plan_beyond_the_approved_one_is_refused_with_the_difference() -> None:
    more = Plan("prune", (*PLAN.actions, Action("delete", "c", "")), {"sets": 2})
    found = decide(ASKS, REQUEST, more, [APPROVED], NOW).refusals
    assert [item.code for item in found] == ["outside_envelope"]
    assert "delete c: one more object" in found[0].cause
    assert "berta" in found[0].cause


def test_the_approval_that_covers_the_plan_is_named() -> None:
    other = replace(APPROVED, id="approvals/q/1", envelope=envelope_of(Plan("prune", ())))
    assert decide(ASKS, REQUEST, PLAN, [other, APPROVED], NOW).approval == APPROVED.id


def test_nothing_to_do_needs_no_approval() -> None:
    assert codes(ASKS, REQUEST, Plan("prune", ())) == []


def test_break_glass_goes_past_window_and_approval_but_not_past_the_blast_radius_and_failed_hosts() -> None:
    request = replace(REQUEST, window=CLOSED, failed=("db2",), break_glass="the disk is full")
    verdict = decide(replace(ASKS, limits={"": {"sets": 1}}), request, PLAN, [], NOW)
    assert [item.code for item in verdict.bypassed] == ["window_closed", "approval_required"]
    assert [item.code for item in verdict.refusals] == ["hosts_failed", "blast_radius"]
    assert {item.code for item in verdict.bypassed} <= set(BYPASSABLE)


def test_all_refusals_are_told_at_once() -> None:
    error = refusal([CLOSED, OpsError("blast_radius", "Too many.", "Narrow it.")])
    assert error.code == "window_closed"
    assert "(2) [blast_radius] Too many. Narrow it." in error.cause
    assert error.details["codes"] == ["window_closed", "blast_radius"]
    assert refusal([CLOSED]).cause == "It is day."


@pytest.mark.parametrize(
    ("values", "variable"),
    [
        ({"saasops_approval": ["routine"]}, "saasops_approval"),
        ({"saasops_approval": {"class": ["routine"]}}, "saasops_approval"),
        ({"saasops_approval": {"verbs": ["purne"]}}, "saasops_approval"),
        ({"saasops_limits": 5}, "saasops_limits"),
        ({"saasops_limits": {"cats": 5}}, "saasops_limits"),
        ({"saasops_limits": {"sets": "many"}}, "saasops_limits"),
        ({"saasops_limits": {"purne": {"sets": 5}}}, "saasops_limits"),
        ({"saasops_journal": "maybe"}, "saasops_journal"),
        ({"saasops_max_failed": "-1"}, "saasops_max_failed"),
    ],
)
def test_a_rule_that_is_not_understood_is_no_free_pass(values: dict[str, object], variable: str) -> None:
    with pytest.raises(OpsError) as caught:
        parse_policy(values)
    assert caught.value.code == "guard_misconfigured"
    assert caught.value.details["variable"] == variable


def test_the_rules_of_an_inventory_are_read() -> None:
    policy = parse_policy(
        {
            "saasops_approval": {"classes": ["routine"], "verbs": ["undo"]},
            "saasops_limits": {"rows": 10, "prune": {"sets": "3"}},
            "saasops_max_failed": 1,
            "saasops_journal": "required",
            "saasops_lease_ttl": "30m",
        }
    )
    assert policy == Policy(
        frozenset(["routine", "undo"]), False, {"": {"rows": 10}, "prune": {"sets": 3}}, 1, "required", 1800.0
    )
    assert parse_policy({}) == Policy()


@pytest.mark.parametrize("body", [{}, {"plan": "p", "envelope": {}, "by": "x", "until_posix": 1}])
def test_an_approval_that_cannot_be_read_approves_nothing(body: dict[str, object]) -> None:
    assert parse_approval("k", body) is None


def test_an_approval_is_read() -> None:
    body = {"plan": "p", "envelope": envelope_of(PLAN).as_json(), "by": "berta", "until_posix": NOW + 60}
    assert parse_approval(APPROVED.id, body) == APPROVED


@pytest.mark.parametrize(
    ("module", "params", "part_of", "expected"),
    [
        ("pg_backup", {}, "", BACKUP),
        ("pg_swap", {"state": "undone"}, "", UNDO),
        ("pg_swap", {"state": "switched"}, "", VERBS["restore"]),
        ("pg_restore", {}, "restore_drill", VERBS["restore_drill"]),
        ("pg_restore", {}, "no such verb", VERBS["restore"]),
        ("pg_backup_info", {}, "backup", None),
    ],
)
def test_a_module_call_belongs_to_a_verb(
    module: str, params: dict[str, object], part_of: str, expected: object
) -> None:
    assert verb_of(module, params, part_of) == expected
