# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb migrate by its playbook: check mode, run, repeat, an independent look, undo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

FILES = {
    "018_before.sql": "CREATE TABLE campaigns (id int PRIMARY KEY, name text);",
    "019_new_feature.sql": "-- saasops: compatible_with_previous=true\n"
    "ALTER TABLE campaigns ADD COLUMN budget numeric;\n"
    "CREATE TABLE new_table (id int, note text DEFAULT '{{ 6 * 7 }} %s');\n",
    "019_new_feature.undo.sql": "DROP TABLE new_table;\nALTER TABLE campaigns DROP COLUMN budget;\n",
    "019_new_feature.verify.sql": "SELECT to_regclass('new_table') IS NOT NULL;\n",
    "020_index.sql": "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY campaigns_name ON campaigns (name);\n",
    "020_index.undo.sql": "-- saasops: transactional=false\nDROP INDEX CONCURRENTLY campaigns_name;\n",
}


@pytest.fixture
def migrated(server: Server, database: str, tmp_path: Path) -> Callable[..., Run]:
    """Run a verb on a database that had its first migration by hand."""
    (tmp_path / "store").mkdir()
    (folder := tmp_path / "migrations").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    server.psql(FILES["018_before.sql"] + "INSERT INTO campaigns SELECT g FROM generate_series(1, 100) g", database)
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "analytics",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store")},
            "saasops_migrations": {"folder": "migrations"},
        },
    )

    def run(verb: str, *arguments: str) -> Run:
        return play(verb, hosts, *arguments, timeout=120)

    return run


def newest_run(store: Path, verb: str) -> str:
    entries = [json.loads(entry.text) for entry in read_chain(PosixStore(str(store))).entries]
    return str([one["run"] for one in entries if one.get("verb") == verb and one.get("changed")][-1])


def ledger(server: Server, database: str) -> str:
    return server.psql("SELECT string_agg(version || state, ' ' ORDER BY version) FROM saasops.migrations", database)


@pytest.mark.essential
def test_a_migration_is_backed_up_rehearsed_applied_once_and_undone(
    server: Server, database: str, migrated: Callable[..., Run], tmp_path: Path
) -> None:
    refused = migrated("migrate")
    assert refused.code != 0
    assert "[baseline_needed]" in refused.output
    based = migrated("migrate", "-e", "baseline=018")
    assert based.code == 0, based.output
    checked = migrated("migrate", "--check")
    assert checked.code == 0, checked.output
    assert "ACCESS EXCLUSIVE on campaigns" in checked.output
    assert ledger(server, database) == "018baseline"
    run = migrated("migrate")
    assert run.code == 0, run.output
    assert "2 were undone there and ran again" in run.output
    assert ledger(server, database) == "018baseline 019applied 020applied"
    assert server.psql("SELECT count(*) FROM campaigns WHERE budget IS NULL", database) == "100"
    default = "SELECT column_default FROM information_schema.columns WHERE column_name = 'note'"
    assert server.psql(default, database) == "'{{ 6 * 7 }} %s'::text"
    assert server.psql("SELECT count(*) FROM pg_database WHERE datname LIKE '%rehearsal'") == "0"
    again = migrated("migrate")
    assert (again.code, again.changed) == (0, 0), again.output
    undone = migrated("undo", "-e", f"run={newest_run(tmp_path / 'store', 'migrate')}")
    assert undone.code == 0, undone.output
    assert ledger(server, database) == "018baseline"
    assert server.psql("SELECT to_regclass('new_table') IS NULL", database) == "t"
