# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import (
    recovery_points,
    schedule_problem,
    worst,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import BackupSet, Group, Policy

HOUR = 3600.0
DAY = 86400.0
NOW = 1795378667.0
APP = Group("demo", "app", "database")
TENANT = Group("demo", "app", "tenant", ("org_a",), "org_a")


def a_set(name: str, age: float, group: Group = APP, proof: str = "stored", state: str = "complete") -> BackupSet:
    moment = NOW - age
    return BackupSet(name, state, group, moment, moment, snapshot_at=moment, finished=moment + HOUR, proof=proof)


@pytest.mark.parametrize(
    ("age", "rpo", "verdict"),
    [
        (0.8 * DAY, DAY, "ok"),
        (0.8 * DAY + 1, DAY, "warning"),
        (DAY, DAY, "warning"),
        (DAY + 1, DAY, "critical"),
        (9 * DAY, None, "unknown"),
    ],
)
def test_the_age_of_the_newest_proven_recovery_point_is_judged(age: float, rpo: float | None, verdict: str) -> None:
    points = recovery_points([a_set("old", 99 * DAY), a_set("new", age)], Policy(), NOW, rpo, "demo", None)
    assert [(point.set_id, point.verdict, point.age) for point in points] == [("new", verdict, pytest.approx(age))]


@pytest.mark.parametrize(
    "newer",
    [
        a_set("x", HOUR, proof=""),
        a_set("x", HOUR, proof="failed"),
        a_set("x", HOUR, state="damaged"),
        a_set("x", HOUR, state="partial"),
        a_set("x", -DAY),
    ],
)
def test_what_is_unproven_damaged_partial_or_from_the_future_is_no_recovery_point(newer: BackupSet) -> None:
    points = recovery_points([a_set("old", 3 * DAY), newer], Policy(), NOW, DAY, "demo", None)
    assert [(point.set_id, point.verdict) for point in points] == [("old", "critical")]


@pytest.mark.parametrize("database", [None, "app"])
def test_no_backup_at_all_is_critical(database: str | None) -> None:
    points = recovery_points([], Policy(), NOW, None, "demo", database)
    assert [(point.set_id, point.verdict) for point in points] == [(None, "critical")]
    assert "no proven backup at all" in points[0].sentence


def test_a_database_that_was_never_backed_up_is_critical_beside_one_that_was() -> None:
    points = recovery_points([a_set("new", HOUR)], Policy(), NOW, DAY, "demo", "other")
    assert [(point.database, point.verdict) for point in points] == [("other", "critical")]


def test_a_set_of_the_whole_database_covers_its_tenants() -> None:
    points = recovery_points([a_set("org", 30 * DAY, TENANT), a_set("new", HOUR)], Policy(), NOW, DAY, "demo", None)
    assert [(point.tenant, point.set_id, point.verdict) for point in points] == [
        (None, "new", "ok"),
        ("org_a", "new", "ok"),
    ]


def test_a_tenant_does_not_cover_its_database() -> None:
    points = recovery_points([a_set("org", HOUR, TENANT), a_set("old", 30 * DAY)], Policy(), NOW, DAY, "demo", None)
    assert [(point.tenant, point.set_id, point.verdict) for point in points] == [
        (None, "old", "critical"),
        ("org_a", "org", "ok"),
    ]


def test_the_gravest_verdict_counts() -> None:
    assert worst(["ok", "critical", "warning"]) == "critical"
    assert worst(["unknown", "ok"]) == "unknown"
    assert worst([]) == "ok"


@pytest.mark.parametrize(
    ("interval", "rpo", "possible"),
    [
        (23 * HOUR, DAY, True),
        (23 * HOUR + 1, DAY, False),  # one hour of backup on top
        (DAY, HOUR, False),
        (None, HOUR, True),
        (DAY, None, True),
    ],
)
def test_a_schedule_that_cannot_meet_the_rpo_is_said(interval: float | None, rpo: float | None, possible: bool) -> None:
    problem = schedule_problem([a_set("new", HOUR)], interval, rpo)
    assert (problem == "") is possible
    if not possible:
        assert "cannot meet an RPO" in problem


def test_what_a_restore_kept_to_go_back_to_is_no_recovery_point() -> None:
    undo = Group("demo", "app", "undo", ("org_a",), "org_a")
    kept = a_set("kept", HOUR, undo)
    points = recovery_points([a_set("old", 3 * DAY, TENANT), kept], Policy(), NOW, DAY, "demo", "app")
    assert [(point.set_id, point.verdict) for point in points] == [("old", "critical")]
    alone = recovery_points([kept], Policy(), NOW, DAY, "demo", "app")
    assert [(point.set_id, point.verdict) for point in alone] == [(None, "critical")]
    assert schedule_problem([kept], 23.5 * HOUR, DAY) == "", "its length says nothing of a backup's"
