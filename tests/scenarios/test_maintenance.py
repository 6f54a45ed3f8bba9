# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb maintenance as an operator runs it: check, run, repeat, an independent look, another database, a window."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import acts, upkeep
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

Runs = Callable[..., Run]


@pytest.fixture
def shop(server: Server, database: str) -> str:
    upkeep.tenants(server, database, count=6, rows=2000)
    return database


def runs(server: Server, database: str, folder: Path, **variables: object) -> Runs:
    hosts = inventory(
        folder,
        {
            "saasops_system": "shop",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(folder / "store"), "create": True},
            **variables,
        },
    )

    def run(*arguments: str) -> Run:
        return play("maintenance", hosts, *arguments)

    return run


@pytest.mark.essential
@pytest.mark.parametrize("server", [15, 18], indirect=True)
def test_what_needs_it_is_vacuumed_once_and_check_mode_says_so_before(
    server: Server, shop: str, tmp_path: Path
) -> None:
    upkeep.delete_a_third(server, shop, ["org_2.orders", "org_5.events"])
    run = runs(server, shop, tmp_path)
    checked = run("--check")
    assert checked.code == 0, checked.output
    assert "Would do 2 vacuum, 2 analyze" in checked.output, checked.output
    assert upkeep.dead(server, shop) == {"org_2.orders": 666, "org_5.events": 666}
    done = run()
    assert done.code == 0, done.output
    assert "4 acts done: 1,332 dead rows removed" in done.output
    assert upkeep.dead(server, shop) == {}
    again = run()
    assert (again.code, again.changed) == (0, 0), again.output
    assert "Nothing to do" in again.output


@pytest.mark.parametrize("server", [18], indirect=True)
def test_every_database_of_the_server_is_maintained_not_only_the_one_that_psql_would_take(
    server: Server, shop: str, tmp_path: Path
) -> None:
    other = f"{shop}_other"
    server.createdb(other)
    try:
        upkeep.tenants(server, other, count=1, rows=2000)
        upkeep.delete_a_third(server, other, ["org_1.orders"])
        upkeep.delete_a_third(server, shop, ["org_1.orders"])
        run = runs(server, shop, tmp_path, saasops_maintenance={"measures": ["vacuum", "analyze"]})
        done = run("-e", "databases=all", "-e", "tables=org_*.*")
        assert done.code == 0, done.output
        assert upkeep.dead(server, shop) == upkeep.dead(server, other) == {}
    finally:
        server.dropdb(other)


@pytest.mark.parametrize("server", [18], indirect=True)
def test_a_table_is_rewritten_while_a_window_of_the_inventory_is_open(
    server: Server, shop: str, tmp_path: Path
) -> None:
    upkeep.make_bloated(server, shop, "org_1.orders")
    upkeep.vacuum(server, shop)
    before = upkeep.size(server, shop, "org_1.orders")
    wishes = {
        "measures": ["rewrite"],
        "space": str(server.data),
        "thresholds": {"table_waste": 10000, "table_bloat": 0.3},
    }
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 3600))
    window = [{"name": "night", "rule": "FREQ=DAILY", "start": start, "duration": "2h", "zone": "UTC"}]
    run = runs(server, shop, tmp_path, saasops_maintenance=wishes, saasops_windows=window)
    done = run()
    assert done.code == 0, done.output
    assert "1 acts done" in done.output
    assert upkeep.size(server, shop, "org_1.orders") < before / 2


@pytest.mark.parametrize("server", [18], indirect=True)
def test_a_word_that_means_nothing_is_refused(server: Server, database: str, tmp_path: Path) -> None:
    refused = runs(server, database, tmp_path, saasops_maintenance={"bugdet": "1h"})()
    assert refused.code != 0
    assert "does not know bugdet" in refused.output


def test_a_database_in_a_container_is_maintained_through_exec(
    docker_postgres: PostgresContainer, tmp_path: Path
) -> None:
    name = "shop ünïcode"
    docker_postgres.psql(f'CREATE DATABASE "{name}"')
    try:
        docker_postgres.psql(
            'CREATE TABLE "odd.na""me" (id int PRIMARY KEY) WITH (autovacuum_enabled = off);'
            'INSERT INTO "odd.na""me" SELECT generate_series(1, 3000)',
            name,
        )
        docker_postgres.psql("VACUUM ANALYZE", name)
        docker_postgres.psql('DELETE FROM "odd.na""me" WHERE id % 3 = 0', name)
        hosts = inventory(
            tmp_path,
            {
                "saasops_system": "shop",
                "saasops_database": name,
                "saasops_connection": docker_postgres.params(),
                "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            },
        )
        done = play("maintenance", hosts)
        assert done.code == 0, done.output
        assert "1,000 dead rows removed" in done.output
        counters = "SELECT n_dead_tup, vacuum_count FROM pg_stat_user_tables WHERE relname LIKE 'odd%'"
        assert docker_postgres.psql(counters, name).strip() == "0|2"
        assert play("maintenance", hosts).changed == 0
    finally:
        docker_postgres.psql(f'DROP DATABASE "{name}" WITH (FORCE)')
