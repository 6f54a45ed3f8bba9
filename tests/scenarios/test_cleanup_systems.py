# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that inventories ship take rows just past their age, leave those just below, and archive them first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.tests.lab import rows
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.mark.parametrize("server", [15], indirect=True)
@pytest.mark.parametrize(
    ("system", "table", "column", "days"),
    [("content_pipeline", "job_runs", "execution_time", 90), ("newsletter", "email_events", "created_at", 730)],
)
def test_a_shipped_rule_takes_what_is_just_too_old_and_it_comes_back(
    server: Server, database: str, store: Path, system: str, table: str, column: str, days: int
) -> None:
    server.psql(
        f"CREATE TABLE {table} (id int PRIMARY KEY, {column} timestamptz NOT NULL, note text);"
        f"INSERT INTO {table} SELECT i, now() - interval '{days} days' + i * interval '1 minute', 'n' || i"
        "  FROM generate_series(-5, 5) i WHERE i <> 0",
        database,
    )
    before = rows.picture(server, database, "public", [table])
    body = yaml.safe_load((INVENTORIES / system / "group_vars" / "all" / "cleanup.yml").read_text(encoding="utf-8"))
    rules = body["saasops_purge_rules"]
    foretold = rows.clean(server, store, database, check=True, rules=rules)
    assert rows.picture(server, database, "public", [table]) == before
    done = rows.clean(server, store, database, rules=rules)
    assert foretold.plan is not None
    assert [action.measured["rows"] for action in foretold.plan.actions] == [5]
    assert server.psql(f"SELECT min(id) FROM {table}", database) == "1"
    assert not rows.clean(server, store, database, rules=rules).changed
    rows.put_back(server, store, database, done.evidence["archives"])
    assert rows.picture(server, database, "public", [table]) == before
