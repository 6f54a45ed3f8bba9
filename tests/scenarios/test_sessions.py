# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb sessions by its playbook: shown, checked, ended, repeated, looked at independently."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ROLE = "sessions_shop"
POLICY = {"name": "campaign_locks", "blocking": True, "relation": ["*.Campaign"], "transaction_over": "1s"}


class Waiting:
    """A statement in a thread of its own, whose end tells whether it came through."""

    def __init__(self, server: Server, database: str, sql: str) -> None:
        self.connection = server.connect(database, ROLE, ROLE)
        self.pid = self.connection.info.backend_pid
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(sql,), daemon=True)
        self._thread.start()

    def _run(self, sql: str) -> None:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql)
        except psycopg2.Error as error:
            self.error = error

    def done(self, seconds: float = 10.0) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


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
def test_a_root_blocker_is_shown_checked_and_ended_and_who_waited_goes_on(
    server: Server, database: str, hosts: Path
) -> None:
    root = server.connect(database, ROLE, ROLE)
    root.autocommit = False
    with root.cursor() as cursor:
        cursor.execute("""UPDATE "Campaign" SET name = 'secret value 4711' WHERE id = 1""")
    victim = Waiting(server, database, """UPDATE "Campaign" SET name = 'two' WHERE id = 1""")
    time.sleep(1.5)

    shown = play("sessions", hosts)
    assert (shown.code, shown.changed) == (0, 0), shown.output
    assert f"pid {root.info.backend_pid}" in shown.output
    assert "policy=campaign_locks would end 1" in shown.output

    checked = play("sessions", hosts, "--check", "-e", "policy=campaign_locks")
    assert checked.code == 0, checked.output
    assert "1 sessions would be ended" in checked.output
    assert not victim.done(0.0)

    run = play("sessions", hosts, "-e", "policy=campaign_locks")
    assert run.code == 0, run.output
    assert run.changed == 1
    assert f"pid {root.info.backend_pid}: terminated, gone" in run.output
    assert "blocked sessions 1 -> 0" in run.output
    assert "4711" not in run.output
    assert victim.done()
    assert victim.error is None
    assert server.psql('SELECT name FROM "Campaign"', database) == "two"

    again = play("sessions", hosts, "-e", "policy=campaign_locks")
    assert (again.code, again.changed) == (0, 0), again.output
