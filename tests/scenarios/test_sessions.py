# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb sessions by its playbook: shown, checked, ended, repeated, looked at independently."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.clients import Client
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ROLE = "sessions_shop"
POLICY = {"name": "campaign_locks", "blocking": True, "relation": ["*.Campaign"], "transaction_over": "1s"}


@pytest.fixture
def hosts(server: Server, database: str, tmp_path: Path) -> Iterator[Path]:
    server.psql(f"DROP ROLE IF EXISTS {ROLE}")
    server.psql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
    server.psql('CREATE TABLE "Campaign" (id int PRIMARY KEY, name text)', database)
    server.psql("""INSERT INTO "Campaign" VALUES (1, 'one')""", database)
    server.psql(f'GRANT ALL ON "Campaign" TO {ROLE}', database)
    yield inventory(
        tmp_path,
        {
            "saasops_system": f"sessions-{database}",
            "saasops_database": database,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_session_policies": [POLICY],
        },
    )
    server.psql(f"DROP OWNED BY {ROLE}", database)
    server.psql(f"DROP ROLE {ROLE}")


@pytest.mark.essential
@pytest.mark.parametrize("server", [18], indirect=True)
def test_a_root_blocker_is_shown_checked_and_ended_and_who_waited_goes_on(
    server: Server, database: str, hosts: Path
) -> None:
    root = Client(server, database, ROLE)
    root.run("BEGIN", """UPDATE "Campaign" SET name = 'secret value 4711' WHERE id = 1""")
    victim = Client(server, database, ROLE).start("""UPDATE "Campaign" SET name = 'two' WHERE id = 1""")
    time.sleep(1.5)

    shown = play("sessions", hosts)
    assert (shown.code, shown.changed) == (0, 0), shown.output
    assert f"pid {root.pid}" in shown.output
    assert "policy=campaign_locks would end 1" in shown.output

    checked = play("sessions", hosts, "--check", "-e", "policy=campaign_locks")
    assert checked.code == 0, checked.output
    assert "1 sessions would be ended" in checked.output
    assert not victim.done(0.0)

    run = play("sessions", hosts, "-e", "policy=campaign_locks")
    assert run.code == 0, run.output
    assert run.changed == 1
    assert f"pid {root.pid}: terminated, gone" in run.output
    assert "blocked sessions 1 -> 0" in run.output
    assert "4711" not in run.output
    assert victim.done()
    assert victim.error is None
    victim.close()
    assert server.psql('SELECT name FROM "Campaign"', database) == "two"

    again = play("sessions", hosts, "-e", "policy=campaign_locks")
    assert (again.code, again.changed) == (0, 0), again.output


def test_in_a_container_the_session_is_ended_through_exec(docker_postgres: PostgresContainer, tmp_path: Path) -> None:
    docker_postgres.psql("CREATE ROLE clerk LOGIN; CREATE DATABASE sessions")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "docked",
            "saasops_database": "sessions",
            "saasops_connection": docker_postgres.params(),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_session_policies": [{"name": "long", "state": "active", "query_over": "0s", "user": "clerk"}],
        },
    )
    count = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)' AND state = 'active'"
    asleep = threading.Thread(
        target=lambda: docker_postgres.run(
            "sh", "-c", "psql -XAtqc 'SET ROLE clerk' -c 'SELECT pg_sleep(61)' -U clerk sessions || true"
        ),
        daemon=True,
    )
    asleep.start()
    deadline = time.monotonic() + 10
    while docker_postgres.psql(count).strip() != "1":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run = play("sessions", hosts, "-e", "policy=long")
    assert run.code == 0, run.output
    assert "cancelled" in run.output
    assert docker_postgres.psql(count).strip() == "0"
    again = play("sessions", hosts, "-e", "policy=long")
    assert (again.code, again.changed) == (0, 0), again.output
    docker_postgres.psql("DROP DATABASE sessions WITH (FORCE)")
    docker_postgres.psql("DROP ROLE clerk")
