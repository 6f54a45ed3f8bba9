# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits for whom, and who holds dead rows back, read from real servers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend, Prepared, lines, trees
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import older
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.blocking import backends, prepared
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.databases import databases
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.horizon import horizon
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab.places import of_server
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

LOCK = "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    place = of_server(server, "psycopg")
    with contextlib.closing(place):
        yield place.open()


@pytest.fixture
def table(server: Server, database: str) -> str:
    server.psql("CREATE TABLE t AS SELECT 1 AS id", database)
    return database


@pytest.fixture
def waiter(server: Server, table: str) -> Iterator[Callable[[str], None]]:
    """Start a session that runs a statement and waits for its lock; all are ended with the test."""
    threads: list[threading.Thread] = []

    def wait(sql: str) -> None:
        def run() -> None:
            with contextlib.suppress(psycopg2.Error), contextlib.closing(server.connect(table)) as own:
                own.cursor().execute(sql)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield wait
    server.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{table}'")
    for thread in threads:
        thread.join(10)


def until(session: Session, waiting: int) -> list[Backend]:
    deadline = time.monotonic() + 10
    while True:
        found = backends(session)
        if sum(bool(b.waits_for) for b in found) == waiting:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_a_chain_of_waiting_sessions_has_one_root(
    server: Server, session: Session, table: str, waiter: Callable[[str], None]
) -> None:
    with contextlib.closing(server.connect(table)) as root:
        root.cursor().execute("BEGIN; SELECT * FROM t")
        waiter(LOCK)
        until(session, 1)
        waiter("SELECT 'a reader behind the queue' FROM t")
        (tree,) = trees(until(session, 2))
        assert isinstance(tree.root, Backend)
        assert tree.root.pid == root.info.backend_pid
        assert tree.root.state == "idle in transaction"
        assert [(depth, b.query) for depth, b in tree.waiting] == [
            (1, LOCK),
            (2, "SELECT 'a reader behind the queue' FROM t"),
        ]
        assert tree.waiting[0][1].wait == "Lock:relation"
        assert lines([tree])[0].startswith(f"pid {tree.root.pid} ")


@pytest.mark.parametrize("statement", ["UPDATE t SET id = 3", "ALTER TABLE t ADD COLUMN x int"])
def test_a_prepared_transaction_is_named_as_the_root(
    server: Server, session: Session, table: str, waiter: Callable[[str], None], statement: str
) -> None:
    server.psql("BEGIN; UPDATE t SET id = 2; PREPARE TRANSACTION 'forgotten one'", table)
    server.psql("BEGIN; CREATE TABLE other (); PREPARE TRANSACTION 'innocent'", table)
    try:
        waiter(statement)
        (tree,) = trees(until(session, 1), prepared(session))
        assert isinstance(tree.root, Prepared)
        assert (tree.root.gid, tree.root.database, tree.blocked) == ("forgotten one", table, 1)
        kept = {holder.name: holder for holder in horizon(session).of(table)}
        assert kept["forgotten one"].kind == "prepared transaction"
        assert kept["forgotten one"].age > 0
    finally:
        server.psql("ROLLBACK PREPARED 'forgotten one'", table)
        server.psql("ROLLBACK PREPARED 'innocent'", table)


def test_a_snapshot_holds_its_own_database_back_and_a_running_vacuum_nobody(
    server: Server, session: Session, table: str
) -> None:
    with contextlib.closing(server.connect(table)) as reader:
        reader.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        server.psql("INSERT INTO t VALUES (2)", table)
        found = horizon(session)
        assert found.complete
        (holder,) = [h for h in found.of(table) if h.name == str(reader.info.backend_pid)]
        assert (holder.kind, holder.database) == ("session", table)
        assert holder.age >= 1
        assert found.age(table) >= 1
        assert holder not in found.of("postgres")
        assert older([holder], 3600) == []
        assert older([holder], -1) == [holder]


def test_an_inactive_slot_holds_catalogs_back(server: Server, session: Session, table: str) -> None:
    server.psql("SELECT pg_create_logical_replication_slot('left', 'test_decoding')", table)
    try:
        found = horizon(session)
        assert [h for h in found.of("postgres") if h.kind == "replication slot"] == []
        (slot,) = [h for h in found.of("postgres", catalogs=True) if h.kind == "replication slot"]
        assert (slot.name, slot.catalogs, slot.detail) == ("left", True, "logical, inactive")
    finally:
        server.psql("SELECT pg_drop_replication_slot('left')", table)


def test_without_the_right_to_see_others_it_is_said_to_be_incomplete(server: Server, table: str) -> None:
    server.psql("CREATE ROLE plain LOGIN PASSWORD 'plain'", table)
    try:
        place = of_server(server, "psycopg")
        with contextlib.closing(place):
            assert not horizon(place.open(table, user="plain", password="plain")).complete
    finally:
        server.psql("DROP ROLE plain")


def test_databases_are_listed_with_what_may_be_done_there(server: Server, session: Session, table: str) -> None:
    found = {entry.name: entry for entry in databases(session)}
    assert "template0" not in found
    assert found["template1"].template
    assert found[table].may_connect
    assert (found[table].bytes or 0) > 1_000_000
