# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order triage tells what to do, and how it reads."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain import triage
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Level, Outcome, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ladder import GIVEN, UP, Attempt, Rung
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

PRIORITY = {item.check.name: item.check.priority for item in PG_CHECKS}


def found(name: str, level: str, *remedies: Remedy) -> Outcome:
    check = Check(name, "builtin", priority=PRIORITY.get(name, 50))
    return Outcome(check, Level(level), 1, "", f"{name} is {level}", remedies=remedies)


def end(pid: int) -> Remedy:
    return Remedy("sessions", {"pid": pid}, f"pid {pid}")


IDLE = Remedy("sessions", {"policy": "idle_in_transaction"}, "idle")
VACUUM = Remedy("maintenance", {"measures": "vacuum"}, "old")


@pytest.mark.parametrize(
    ("outcomes", "first"),
    [
        ([found("connections", "critical", IDLE), found("blocked_sessions", "warning", end(1))], end(1)),
        ([found("idle_in_transaction", "critical", end(2)), found("blocked_sessions", "critical", end(1))], end(1)),
        ([found("blocked_sessions", "critical", end(1)), found("wraparound", "warning", VACUUM)], VACUUM),
        ([found("wraparound", "critical", VACUUM), found("checksum_failures", "critical", end(3))], end(3)),
        ([found("longest_query", "critical", end(2)), found("idle_in_transaction", "warning", end(1))], end(1)),
        ([found("connections", "warning", IDLE), found("longest_transaction", "critical", end(1))], IDLE),
    ],
)
def test_what_does_more_harm_comes_first_in_whatever_order_it_was_found(outcomes: list[Outcome], first: Remedy) -> None:
    for order in itertools.permutations(outcomes):
        assert triage.rank(order)[0][1] == first


def test_at_most_three_commands_each_once_and_each_check_before_any_twice() -> None:
    outcomes = [
        found("blocked_sessions", "critical", end(1), end(2)),
        found("connections", "critical", IDLE),
        found("idle_in_transaction", "warning", end(1)),
        found("longest_query", "ok", end(9)),
        found("removable_horizon", "inconclusive", end(8)),
    ]
    assert [remedy for _of, remedy in triage.rank(outcomes)] == [end(1), IDLE, end(2)]


def test_advice_is_no_command() -> None:
    outcomes = [found("server", "critical", Remedy("", {}, "read its log"))]
    assert triage.rank(outcomes) == []
    assert triage.advice(outcomes) == ["read its log"]


def test_it_reads_worst_first_and_ends_with_lines_to_paste() -> None:
    outcomes = [
        found("longest_query", "ok"),
        found("connections", "warning", IDLE),
        found("blocked_sessions", "critical", end(4711)),
    ]
    attempts = [Attempt(Rung(GIVEN, "saasops_connection"))]
    lines, commands = triage.render("shop", Level.CRITICAL, outcomes, attempts, ["inv"], "db1", 0.25)
    assert lines[0] == "shop: CRITICAL, looked through saasops_connection in 0.2 s"
    assert [line.split(" ")[0] for line in lines[1:4]] == ["critical", "warning", "ok"]
    assert commands[0] == "ansible-playbook saasops.runbook.sessions -i inv -l db1 -e pid=4711"
    assert commands[1].endswith("-e policy=idle_in_transaction")
    assert any(commands[0] in line for line in lines)


def test_what_led_nowhere_is_told() -> None:
    attempts = [
        Attempt(Rung(GIVEN, "saasops_connection"), "no_free_connection", "sorry, too many clients."),
        Attempt(Rung("rescue", "saasops_rescue_connection", closed="not set")),
        Attempt(Rung("socket", "the socket")),
    ]
    lines, _commands = triage.render("shop", Level.OK, [found("server", "ok")], attempts, [], "", 1.0)
    assert "looked through the socket" in lines[0]
    assert lines[1:4] == [
        "  tried saasops_connection: sorry, too many clients",
        "  tried saasops_rescue_connection: not set",
        "  tried the socket: connected",
    ]


@pytest.mark.parametrize(("free", "level"), [(15, "ok"), (14.9, "warning"), (5, "warning"), (4.9, "critical")])
def test_a_disk_is_judged_by_what_is_taken_of_it(free: float, level: str) -> None:
    its = triage.disk_measured("/data", int(free * 10**9), 100 * 10**9)
    assert judge(triage.DISK, [its], None, 0.0).level.value == level


def test_a_server_that_is_up_is_ok_and_every_other_state_is_critical_with_advice() -> None:
    assert judge(triage.SERVER, [triage.server_measured(UP, [])], None, 0.0).level is Level.OK
    for state in ("full", "starting", "refuses the login", "hangs", "down", "unreachable"):
        outcome = judge(triage.SERVER, [triage.server_measured(state, ["seen"])], None, 0.0)
        assert outcome.level is Level.CRITICAL
        assert state in triage.advice([outcome])[0]


def test_every_name_of_the_first_look_is_a_check() -> None:
    assert set(triage.NAMES) <= set(PRIORITY)
