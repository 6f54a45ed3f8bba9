# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cleanup archives rows before it deletes them, and undo puts exactly these back: bit for bit, on real servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, rows
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.mark.essential
@ONE
def test_a_cleanup_is_planned_done_repeated_and_undone_by_its_run(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    rows.make(server, database, ["org_a", "org_b"])
    before = [rows.picture(server, database, schema) for schema in ("org_a", "org_b")]
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "cleaned",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_tenant_schemas": ["org_*"],
            "saasops_purge_rules": [rows.rule(schemas="tenants")],
        },
    )

    def run(verb: str, *arguments: str) -> Run:
        return play(verb, hosts, *arguments, timeout=120)

    checked = run("cleanup", "--check")
    assert checked.code == 0, checked.output
    assert f"{2 * rows.OLD} rows would be archived and deleted" in checked.output
    assert [rows.picture(server, database, schema) for schema in ("org_a", "org_b")] == before
    assert not (store / "archives").exists()
    done = run("cleanup", "-e", "rule=events")
    assert (done.code, done.changed) == (0, 1), done.output
    count = "SELECT count(*), min(at) > now() - interval '90 days' FROM"
    assert server.psql(f"{count} org_a.events", database) == f"{rows.ROWS - rows.OLD}|t"
    assert server.psql(f"{count} org_b.events", database) == f"{rows.ROWS - rows.OLD}|t"
    assert server.psql("SELECT count(*) FROM org_a.marks WHERE event IS NULL", database) == "1"
    again = run("cleanup")
    assert (again.code, again.changed) == (0, 0), again.output
    entries = [json.loads(entry.text) for entry in read_chain(PosixStore(str(store))).entries]
    (acted,) = [one["run"] for one in entries if isinstance(one.get("undo"), dict) and one["undo"]]
    undone = run("undo", "-e", f"run={acted}")
    assert (undone.code, undone.changed) == (0, 1), undone.output
    assert [rows.picture(server, database, schema) for schema in ("org_a", "org_b")] == before
