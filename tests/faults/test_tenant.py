# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore of one tenant that is killed, cut or starved changes nothing, and the next run cleans up and finishes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import broken_tools, disk, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import outcome, process, until
from ansible_collections.saasops.runbook.tests.lab.tenants import (
    change_hard,
    leftovers,
    make_hard,
    restore_tenant,
    rows_of,
)

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REFRESH MATERIALIZED%totals%' AND wait_event_type = 'Lock'"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


class Tenant:
    """The hard tenant after a backup and after the changes: good is what the set has, bad what is live."""

    def __init__(self, server: Server, database: str, store: Path) -> None:
        self.server, self.database, self.store = server, database, store
        make_hard(server, database)
        self.good = rows_of(server, database, "org_a")
        take_backup(server, store, database)
        change_hard(server, database)
        self.bad, self.others = rows_of(server, database, "org_a"), rows_of(server, database, "org_b")

    def given(self, **changes: object) -> dict[str, object]:
        more = {"tenant": "org_a", "staging": str(self.store.parent), **changes}
        return parameters(self.server, self.store, self.database, more)

    def unchanged(self) -> None:
        assert rows_of(self.server, self.database, "org_a") == self.bad
        assert rows_of(self.server, self.database, "org_b") == self.others

    def recovers(self) -> list[str]:
        """The next run restores everything and leaves nothing; returns what it says it cleaned."""
        result = restore_tenant(self.server, self.store, self.database, "org_a")
        assert rows_of(self.server, self.database, "org_a") == self.good
        assert rows_of(self.server, self.database, "org_b") == self.others
        assert leftovers(self.server, self.database, self.store) == []
        assert {e.state for e in sets.entries(PosixStore(str(self.store)), "test")} == {"complete"}
        cleaned = result.evidence["cleaned"]
        assert isinstance(cleaned, list)
        return [str(line) for line in cleaned]


@pytest.fixture
def tenant(server: Server, database: str, store: Path) -> Tenant:
    return Tenant(server, database, store)


@contextlib.contextmanager
def refreshing(tenant: Tenant) -> Iterator[None]:
    """Hold the transaction up after its changes, before its commit: a reader of a view that is to be refreshed."""
    with contextlib.closing(tenant.server.connect(tenant.database)) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT count(*) FROM org_a.totals")
        yield


def hang(tmp_path: Path, server: Server, program: str) -> Path:
    return broken_tools.make(tmp_path / "bin", server.bin, program, "hang")


def test_a_module_killed_while_it_restores_beside_changes_nothing(tenant: Tenant, tmp_path: Path) -> None:
    tools = hang(tmp_path, tenant.server, "pg_restore")
    with process(
        "pg_restore_tenant", tenant.given(connection=connection(tenant.server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists, 60)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    tenant.unchanged()
    assert leftovers(tenant.server, tenant.database, tenant.store) != []
    said = "\n".join(tenant.recovers())
    assert "processes of an interrupted run ended" in said
    assert "scratch database" in said


def test_a_module_killed_while_it_keeps_the_way_back_changes_nothing(tenant: Tenant, tmp_path: Path) -> None:
    tools = hang(tmp_path, tenant.server, "pg_dump")
    with process(
        "pg_restore_tenant", tenant.given(connection=connection(tenant.server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists, 60)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    tenant.unchanged()
    said = "\n".join(tenant.recovers())
    for what in ("processes", "scratch database", "staging schema", "partial set"):
        assert what in said


def test_a_module_killed_between_the_changes_and_the_commit_changes_nothing(tenant: Tenant) -> None:
    with refreshing(tenant), process("pg_restore_tenant", tenant.given(lock_wait=60.0)) as child:
        until(lambda: tenant.server.psql(WAITING, tenant.database) == "1", 60)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    until(lambda: tenant.server.psql(WAITING, tenant.database) == "0", 30)
    tenant.unchanged()
    said = "\n".join(tenant.recovers())
    assert "staging schema" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_module_that_is_told_to_stop_changes_nothing_and_cleans_up(tenant: Tenant, number: signal.Signals) -> None:
    with refreshing(tenant), process("pg_restore_tenant", tenant.given(lock_wait=5.0)) as child:
        until(lambda: tenant.server.psql(WAITING, tenant.database) == "1", 60)
        child.send_signal(number)
        # a statement that is under way is not left before the server answers
        said = outcome(child)
    assert said["code"] == "interrupted"
    until(lambda: leftovers(tenant.server, tenant.database, tenant.store) == [])
    tenant.unchanged()
    assert tenant.recovers() == []


def test_a_server_that_dies_in_the_middle_has_the_old_rows(tenant: Tenant) -> None:
    caught: list[OpsError] = []

    def work() -> None:
        try:
            restore_tenant(tenant.server, tenant.store, tenant.database, "org_a", lock_wait=60.0)
        except OpsError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    with contextlib.suppress(Exception), refreshing(tenant):
        thread.start()
        until(lambda: tenant.server.psql(WAITING, tenant.database) == "1", 60)
        tenant.server.kill()
    thread.join(60)
    tenant.server.start()
    assert len(caught) == 1
    tenant.unchanged()
    tenant.recovers()


@pytest.mark.parametrize(
    ("program", "fault"),
    [("psql", "cut"), ("psql", "fail"), ("pg_dump", "cut"), ("pg_dump", "fail"), ("pg_restore", "fail")],
)
def test_a_tool_that_cuts_or_fails_changes_nothing(tenant: Tenant, tmp_path: Path, program: str, fault: str) -> None:
    tools = broken_tools.make(tmp_path / "bin", tenant.server.bin, program, fault)
    with pytest.raises(OpsError) as caught:
        restore_tenant(
            tenant.server,
            tenant.store,
            tenant.database,
            "org_a",
            connection=connection(tenant.server, client_bin=str(tools)),
        )
    assert caught.value.code in ("tool_failed", "stream_cut", "dump_incomplete", "restore_differs")
    tenant.unchanged()
    assert leftovers(tenant.server, tenant.database, tenant.store) == []
    assert tenant.recovers() == []


def test_a_killed_client_tool_fails_the_run_and_changes_nothing(tenant: Tenant, tmp_path: Path) -> None:
    tools = hang(tmp_path, tenant.server, "pg_restore")
    caught: list[OpsError] = []

    def work() -> None:
        try:
            given = connection(tenant.server, client_bin=str(tools))
            restore_tenant(tenant.server, tenant.store, tenant.database, "org_a", connection=given)
        except OpsError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until((tools / "hanging").exists, 60)
    for pid in processes.descendants(os.getpid()):
        if any(str(tools / "pg_restore") in part for part in processes.command_line(pid)):
            os.kill(pid, signal.SIGKILL)
    thread.join(60)
    assert [error.code for error in caught] == ["tool_killed"]
    tenant.unchanged()
    assert tenant.recovers() == []


def flip(folder: Path) -> None:
    victim = max(folder.glob("objects/*"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))


def remove(folder: Path) -> None:
    max(folder.glob("objects/*"), key=lambda path: path.stat().st_size).unlink()


def edit(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"database"', '"databasE"', 1))


@pytest.mark.parametrize(
    ("damage", "code"), [(flip, "object_damaged"), (remove, "set_incomplete"), (edit, "manifest_damaged")]
)
def test_a_damaged_set_changes_nothing(tenant: Tenant, damage: Callable[[Path], None], code: str) -> None:
    (folder,) = (tenant.store / "backups").iterdir()
    damage(folder)
    with pytest.raises(OpsError) as caught:
        restore_tenant(tenant.server, tenant.store, tenant.database, "org_a", set=folder.name)
    assert caught.value.code == code
    tenant.unchanged()
    assert leftovers(tenant.server, tenant.database, tenant.store) == []


def test_a_full_staging_volume_changes_nothing(tenant: Tenant) -> None:
    with disk.small(1) as small:
        disk.fill(small, leave=4096)
        with pytest.raises(OpsError) as caught:
            restore_tenant(tenant.server, tenant.store, tenant.database, "org_a", staging=str(small))
    assert caught.value.code in ("disk_too_small", "staging_full")
    tenant.unchanged()
    assert tenant.recovers() == []


def test_a_store_that_takes_no_more_changes_nothing(server: Server, database: str) -> None:
    # without a way back nothing is changed
    with disk.small(4) as small:
        store = small / "store"
        store.mkdir()
        tenant = Tenant(server, database, store)
        filler = disk.fill(small, leave=8192)
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, database, "org_a", staging="/var/tmp")
        assert caught.value.code == "store_full"
        tenant.unchanged()
        filler.unlink()
        assert tenant.recovers() == []


def test_a_module_killed_while_it_creates_a_lost_schema_leaves_none_or_all(tenant: Tenant, tmp_path: Path) -> None:
    tenant.server.psql("DROP SCHEMA org_a CASCADE", tenant.database)
    tools = hang(tmp_path, tenant.server, "psql")
    with process(
        "pg_restore_tenant", tenant.given(connection=connection(tenant.server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists, 60)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert rows_of(tenant.server, tenant.database, "org_a") == {}
    assert any("processes" in line for line in tenant.recovers())


def test_no_password_is_seen_in_processes_results_or_staging(tenant: Tenant, tmp_path: Path) -> None:
    tools = hang(tmp_path, tenant.server, "pg_dump")
    secret = tenant.server.password
    with process(
        "pg_restore_tenant", tenant.given(connection=connection(tenant.server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists, 60)
        lines = [part for pid in processes.descendants(child.pid) for part in processes.command_line(pid)]
        environments = [(Path("/proc") / str(pid) / "environ").read_bytes() for pid in processes.descendants(child.pid)]
        child.send_signal(signal.SIGTERM)
        said = outcome(child)
    assert not any(secret in line for line in lines)
    assert not any(secret.encode() in text for text in environments)
    assert secret not in str(said)
