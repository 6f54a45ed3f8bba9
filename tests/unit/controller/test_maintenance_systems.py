# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventories of the systems ask of maintenance, a bit below and a bit above each threshold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    VACUUM,
    Mark,
    Settings,
    Table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import needs
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_options import read_wishes
from ansible_collections.saasops.runbook.plugins.modules.pg_maintenance import SPEC

ROOT = Path(__file__).resolve().parents[3]
SYSTEMS = ("podcastflow", "content_pipeline", "podcast_analytics", "newsletter", "affiliate_empire")
DAY = 86400.0
TABLE = Table(
    "app", "org_a", "Campaign", 7, pages=1250, visible=1250, rows=10_000, bytes=10_240_000, live=10_000,
    counted=10_000, vacuumed=60.0, analyzed=60.0,
)  # fmt: skip


def options(system: str) -> dict[str, object]:
    path = ROOT / "inventories" / system / "group_vars" / "all" / "maintenance.yml"
    return cast("dict[str, object]", yaml.safe_load(path.read_text(encoding="utf-8"))["saasops_maintenance"])


def due(system: str, table: Table) -> list[str]:
    return [n.kind for n in needs(Settings(), table, [], read_wishes(options(system)).of(table), (), Mark())]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_word_is_an_option_of_the_module_and_of_the_role(system: str) -> None:
    known = yaml.safe_load((ROOT / "roles/database_maintenance/vars/main.yml").read_text(encoding="utf-8"))
    assert set(options(system)) <= set(known["database_maintenance_known"]) <= set(SPEC)
    read_wishes(options(system))


@pytest.mark.parametrize("name", ["Campaign", "CampaignApproval", "Order", "InventoryReservation"])
@pytest.mark.parametrize("schema", ["org_a", "org_podcastflow_pro"])
def test_the_four_workflow_tables_of_every_tenant_are_kept_tighter(schema: str, name: str) -> None:
    table = replace(TABLE, schema=schema, name=name)
    other = replace(TABLE, schema=schema, name="Show")
    # 50 + 5 % of 10,000 rows
    assert due("podcastflow", replace(table, dead=550)) == []
    assert due("podcastflow", replace(table, dead=551)) == [VACUUM]
    assert due("podcastflow", replace(other, dead=551)) == []
    assert due("podcastflow", replace(other, dead=1051)) == [VACUUM]
    assert due("podcastflow", replace(table, changed=551)) == [ANALYZE]
    old = replace(table, dead=1, changed=1, vacuumed=30 * DAY - 1, analyzed=30 * DAY - 1)
    assert due("podcastflow", old) == []
    assert due("podcastflow", replace(old, vacuumed=30 * DAY, analyzed=30 * DAY)) == [VACUUM, ANALYZE]


@pytest.mark.parametrize("name", ["content_jobs", "job_runs"])
def test_the_job_tables_are_analyzed_after_two_percent_or_a_month(name: str) -> None:
    table = replace(TABLE, schema="public", name=name)
    assert due("content_pipeline", replace(table, changed=250)) == []
    assert due("content_pipeline", replace(table, changed=251)) == [ANALYZE]
    assert due("content_pipeline", replace(table, changed=1, analyzed=30 * DAY - 1)) == []
    assert due("content_pipeline", replace(table, changed=1, analyzed=30 * DAY)) == [ANALYZE]


@pytest.mark.parametrize(("system", "days"), [("podcast_analytics", 7), ("affiliate_empire", 7), ("newsletter", 30)])
def test_what_changed_at_all_is_due_after_the_systems_interval(system: str, days: int) -> None:
    table = replace(TABLE, dead=1, changed=1)
    assert due(system, replace(table, vacuumed=days * DAY - 1, analyzed=days * DAY - 1)) == []
    assert due(system, replace(table, vacuumed=days * DAY, analyzed=days * DAY)) == [VACUUM, ANALYZE]


def test_every_database_of_podcast_analytics_is_asked_for_not_only_one() -> None:
    assert options("podcast_analytics")["databases"] == ["all"]


def test_newsletter_may_rewrite_and_has_a_window_for_it() -> None:
    path = ROOT / "inventories" / "newsletter" / "group_vars" / "all" / "maintenance.yml"
    (window,) = yaml.safe_load(path.read_text(encoding="utf-8"))["saasops_windows"]
    assert window["verbs"] == ["maintenance"]
    assert "rewrite" in cast("list[str]", options("newsletter")["measures"])
