# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two servers whose systems and databases are named alike share one host, one staging folder and one store."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.tests.lab import broken_tools, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import until

NAME = "twin"
DUMPING = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-backup-%'"


@pytest.fixture
def twins(server18: Server) -> Iterator[tuple[Server, Server]]:
    """Two servers; the second is a copy of the first one's cluster, so that only its port tells it apart."""
    with postgres.running(18) as other:
        for one in (server18, other):
            one.createdb(NAME)
            one.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i", NAME)
        identifier = "SELECT system_identifier FROM pg_control_system()"
        assert server18.psql(identifier) == other.psql(identifier)
        yield server18, other
        server18.dropdb(NAME)


def test_a_backup_ends_what_is_left_of_its_own_server_and_nothing_of_the_other_one(
    twins: tuple[Server, Server], tmp_path: Path
) -> None:
    one, other = twins
    store, staging = tmp_path / "store", tmp_path / "staging"
    store.mkdir()
    staging.mkdir()
    hanging = broken_tools.make(tmp_path / "bin", one.bin, "pg_dump", "hang")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": NAME,
            "saasops_connection": connection(one, client_bin=str(hanging)),
            "saasops_store": {"path": str(store)},
            "saasops_staging": str(staging),
        },
    )
    with start("backup", hosts) as run:
        until((hanging / "hanging").exists, 60)
        below = [p for p in processes.descendants(run.pid) if str(hanging / "pg_dump") in processes.command_line(p)]
        backends, folders = one.psql(DUMPING), sorted(staging.iterdir())
        partial = [path.parent for path in store.glob("backups/*/begun.json")]
        assert below
        assert folders
        assert len(partial) == 1
        made = take_backup(other, store, NAME, staging=str(staging))
        assert made.evidence["cleaned"] == []
        assert all(processes.command_line(pid) for pid in below), "the other server's pg_dump runs on"
        assert one.psql(DUMPING) == backends, "the other server's sessions are there"
        assert sorted(staging.iterdir()) == folders
        assert (partial[0] / "begun.json").exists()
        victims = processes.modules(run.pid)
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        run.communicate(timeout=60)
    again = take_backup(one, store, NAME, staging=str(staging))
    cleaned = " ".join(cast("list[str]", again.evidence["cleaned"]))
    assert "processes of an interrupted run ended" in cleaned
    assert partial[0].name in cleaned
    assert not any(processes.command_line(pid) for pid in below)
    assert list(staging.iterdir()) == []
