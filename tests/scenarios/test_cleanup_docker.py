# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cleanup and repair on a database in a container, through psql inside it, and their way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play

ROWS = "SELECT md5(string_agg(e::text, '|' ORDER BY id)) FROM events e"


@pytest.fixture
def events(docker_postgres: PostgresContainer) -> Iterator[str]:
    """A database in the container with 600 rows, 400 of them old."""
    name = "events ünïcode"
    docker_postgres.psql(f'CREATE DATABASE "{name}"')
    docker_postgres.psql(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz, note text, raw bytea);"
        "INSERT INTO events SELECT i, "
        "now() - i * interval '12 hours' + interval '6 hours', E'ä \\\\N :x \\\\. \\n' || i,"
        " decode(md5(i::text), 'hex') FROM generate_series(1, 600) i",
        name,
    )
    yield name
    docker_postgres.psql(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_rows_go_are_changed_and_come_back_through_exec(
    docker_postgres: PostgresContainer, events: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    rule = {"name": "events", "table": "events", "age_column": "at", "older_than": "100d", "batch_rows": 150}
    fix = {
        "name": "rename",
        "table": "events",
        "where": "t.id = :id",
        "set": {"note": ":note"},
        "parameters": [{"name": "id", "type": "integer"}, {"name": "note"}],
    }
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": events,
            "saasops_connection": docker_postgres.params(),
            "saasops_store": {"path": str(store), "create": True},
            "saasops_purge_rules": [rule],
            "saasops_repairs": [fix],
        },
    )

    def run(verb: str, *arguments: str) -> Run:
        done = play(verb, hosts, *arguments, timeout=180)
        assert done.code == 0, done.output
        assert docker_postgres.password not in done.output
        return done

    before = docker_postgres.psql(ROWS, events)
    run("cleanup")
    assert docker_postgres.psql("SELECT count(*) FROM events", events).strip() == "200"
    (archive,) = [path.name for path in (store / "archives").iterdir()]
    run("undo", "-e", f"archive={archive}")
    assert docker_postgres.psql(ROWS, events) == before
    note = "it's \\ :id; new"
    run("repair", "-e", json.dumps({"fix": "rename", "id": 5, "note": note, "reason": "test"}))
    assert docker_postgres.psql("SELECT note FROM events WHERE id = 5", events).strip() == note
    (repaired,) = [path.name for path in (store / "archives").iterdir() if path.name != archive]
    run("undo", "-e", "of=repair", "-e", f"archive={repaired}")
    assert docker_postgres.psql(ROWS, events) == before
