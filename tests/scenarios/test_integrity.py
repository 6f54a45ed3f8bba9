# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""AE-19: a damaged page is found, what would lose more is refused whatever is said, until somebody releases it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import acts, postgres, restores, rows, upkeep
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_set
from ansible_collections.saasops.runbook.tests.lab.damage import turn_bytes
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


@pytest.fixture
def damaged() -> Iterator[Server]:
    with postgres.running(18) as server:
        server.psql("CREATE EXTENSION amcheck; CREATE TABLE items AS SELECT i FROM generate_series(1, 5000) i")
        turn_bytes(server, "postgres", "items", page=2)
        yield server


@pytest.mark.essential
def test_prune_is_refused_from_the_suspicion_until_its_release(damaged: Server, tmp_path: Path) -> None:
    stores = [tmp_path / "store", tmp_path / "copy"]
    now = time.time()
    for store in stores:
        for age in (3 * DAY + HOUR, 3 * DAY, 2 * DAY, HOUR):
            make_set(store, now - age, size=10, system="empire")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "empire",
            "saasops_database": "postgres",
            "saasops_connection": connection(damaged),
            "saasops_store": {"path": str(stores[0])},
            "saasops_store_copies": [{"path": str(stores[1])}],
            "saasops_retention": {"daily": 1},
            "saasops_integrity_budget": "1m",
        },
    )

    def sets(store: Path) -> int:
        return len(list(store.glob("backups/*/manifest.json")))

    checked = play("integrity", hosts, "--check")
    assert "public.items page 2" in checked.output
    assert not list(stores[0].glob("open/*"))

    found = play("integrity", hosts)
    assert found.code != 0
    assert "[integrity_suspected]" in found.output
    assert "last proven set from before the suspicion" in found.output
    (evidence,) = stores[0].glob("integrity/*.json")
    assert json.loads(evidence.read_text(encoding="utf-8"))["findings"]

    for words in (("-e", "break_glass='room'", "-e", "saasops_guard=none"), ("-e", "copy=1")):
        refused = play("prune", hosts, *words)
        assert refused.code != 0, refused.output
        assert "[integrity_suspected]" in refused.output, refused.output
    assert [sets(store) for store in stores] == [4, 4]
    assert "would be refused: [integrity_suspected]" in play("prune", hosts, "--check").output

    again = play("integrity", hosts)
    assert again.changed == 0, again.output

    damaged.psql("DROP TABLE items")
    released = play("integrity", hosts, "-e", "state=released", "-e", "reason='restored from a set'")
    assert (released.code, released.changed) == (0, 1), released.output
    run = play("prune", hosts, "-e", "copy=1")
    assert (run.code, run.changed) == (0, 1), run.output
    assert evidence.exists()
    assert not list(tmp_path.glob("*/open/*"))


@pytest.mark.parametrize("server", [18], indirect=True)
def test_a_suspicion_holds_back_cleanup_restore_finish_and_a_rewrite(
    server: Server, database: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    rows.make(server, database, ["org_a"])
    server.psql(
        "CREATE TABLE fat AS SELECT i AS id, repeat('x', 100) AS note FROM generate_series(1, 5000) i", database
    )
    acts.take_backup(server, store, database)
    restores.restore(server, store, database)
    restores.swap(server, store, database, "switched")
    acts.take_backup(server, store, database)
    # in the copy, where a load leaves no waste
    upkeep.make_bloated(server, database, "fat")
    upkeep.vacuum(server, database)
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 3600))
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_tenant_schemas": ["org_*"],
            "saasops_purge_rules": [rows.rule(schemas="tenants")],
            "saasops_maintenance": {
                "space": str(server.data),
                "thresholds": {"table_waste": 10000, "table_bloat": 0.3},
            },
            "saasops_windows": [{"name": "now", "rule": "FREQ=DAILY", "start": start, "duration": "2h", "zone": "UTC"}],
        },
    )
    aside = sorted(restores.databases(server, database))
    size = upkeep.size(server, database, "fat")

    suspected = play("integrity", hosts, "-e", "suspected='sdb has read errors'", "-e", f"databases={database}")
    assert (suspected.code, suspected.changed) == (0, 1), suspected.output
    for verb, words in (
        ("cleanup", ("-e", "break_glass='room'")),
        ("restore_finish", ()),
        ("maintenance", ("-e", "measures=rewrite")),
    ):
        refused = play(verb, hosts, *words)
        assert refused.code != 0, refused.output
        assert f"[integrity_suspected] {verb} is held back" in refused.output, refused.output
    assert server.psql("SELECT count(*) FROM org_a.events", database) == str(rows.ROWS)
    assert sorted(restores.databases(server, database)) == aside
    assert upkeep.size(server, database, "fat") == size
    restores.drop_family(server, database)


def test_in_a_container_the_databases_are_read_through_exec(docker_postgres: PostgresContainer, tmp_path: Path) -> None:
    docker_postgres.psql("CREATE DATABASE sound")
    docker_postgres.psql("CREATE EXTENSION amcheck; CREATE TABLE items AS SELECT generate_series(1, 500) i", "sound")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "docked",
            "saasops_database": "sound",
            "saasops_connection": docker_postgres.params(),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
        },
    )
    looked = play("integrity", hosts, "-e", "databases=sound", "-e", "tables=public.*")
    assert (looked.code, looked.changed) == (0, 0), looked.output
    assert "No sign of corruption" in looked.output
    docker_postgres.psql("DROP DATABASE sound WITH (FORCE)")
