# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on a database in a container: client tools run inside, nothing is installed there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play


@pytest.fixture
def shop(docker_postgres: PostgresContainer) -> Iterator[str]:
    """A small database in the container."""
    name = "shop ünïcode"
    # every distribution's image has it; the lab's has what PostgreSQL needs and no more
    docker_postgres.run("mkdir", "-p", "-m", "1777", "/var/tmp", user="root")
    docker_postgres.psql(f'CREATE DATABASE "{name}"')
    docker_postgres.psql(
        "CREATE SCHEMA org_a; CREATE TABLE org_a.orders (id serial PRIMARY KEY, note text);"
        "INSERT INTO org_a.orders (note) SELECT repeat(md5(i::text), 8) FROM generate_series(1, 5000) i;"
        "SELECT lo_from_bytea(0, 'large')",
        name,
    )
    yield name
    for row in docker_postgres.psql(
        "SELECT quote_ident(datname) FROM pg_database WHERE datname LIKE 'shop%'"
    ).splitlines():
        docker_postgres.psql(f"ALTER DATABASE {row} ALLOW_CONNECTIONS true")
        docker_postgres.psql(f"DROP DATABASE {row} WITH (FORCE)")


def variables(container: PostgresContainer, store: Path, database: str, staging: str) -> dict[str, object]:
    return {
        "saasops_system": "test",
        "saasops_database": database,
        "saasops_connection": container.params(),
        "saasops_store": {"path": str(store), "create": True},
        "saasops_staging": staging,
    }


def orders(container: PostgresContainer, database: str) -> str:
    return container.psql("SELECT count(*) FROM org_a.orders", database).strip()


@pytest.mark.parametrize("staging", ["", "/dev/shm"], ids=["stream", "directory"])
def test_back_up_restore_switch_and_undo_through_exec(
    docker_postgres: PostgresContainer, shop: str, tmp_path: Path, staging: str
) -> None:
    store = tmp_path / "store"
    hosts = inventory(tmp_path, variables(docker_postgres, store, shop, staging))

    def run(verb: str, *arguments: str) -> Run:
        done = play(verb, hosts, *arguments, timeout=180)
        assert done.code == 0, done.output
        assert docker_postgres.password not in done.output
        return done

    run("backup", "--check")
    assert not list(store.rglob("manifest.json"))
    run("backup")
    (entry,) = sets.entries(PosixStore(str(store)), "test")
    assert entry.manifest is not None
    assert (entry.state, entry.manifest.rows) == ("complete", 5000)
    assert entry.manifest.pipeline == ("directory" if staging else "stream")
    docker_postgres.psql("DELETE FROM org_a.orders WHERE id > 10", shop)
    run("restore", "-e", "switch=true")
    assert orders(docker_postgres, shop) == "5000"
    run("undo")
    assert orders(docker_postgres, shop) == "10"
    # nothing of ours runs on or lies about in the container
    processes = docker_postgres.run("sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert "PGAPPNAME=saasops" not in processes
    assert "saasops" not in docker_postgres.run("ls", "/tmp", "/dev/shm")


def test_health_asks_a_database_in_a_container(docker_postgres: PostgresContainer, shop: str, tmp_path: Path) -> None:
    check = {
        "name": "orders",
        "sql": {"query": "SELECT id FROM {schema}.orders", "schemas": ["org_*"], "count": True},
        "critical": "> 4999",
    }
    given = variables(docker_postgres, tmp_path / "store", shop, "")
    run = play("health", inventory(tmp_path, {**given, "saasops_checks": [check], "health_builtin": False}))
    assert run.code == 2
    assert "org_a: 5000, critical when > 4999" in run.output
