# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a switch or an undo half-way, one whole database has the live name and clients get into it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import write_json
from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.acts import connection, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.demo import Parameters, create
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    content,
    databases,
    drop_family,
    fact,
    outcome,
    process,
    record,
    restore,
    swap,
    until,
)
from ansible_collections.saasops.runbook.tests.lab.stuck import Stuck, renaming
from ansible_collections.saasops.runbook.tests.lab.traffic import Prober, Writer

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def live(server: Server, demo_database: str, store: Path) -> Iterator[str]:
    """A live database with a verified restore beside it."""
    take_backup(server, store, demo_database)
    restore(server, store, demo_database)
    yield demo_database
    drop_family(server, demo_database)


def open_and_whole(server: Server, database: str, before: str) -> None:
    """Clients get in at once, without being superusers, and find what was there."""
    began = time.monotonic()
    with contextlib.closing(psycopg2.connect(server.dsn(database, "demo_app", "demo"), connect_timeout=5)):
        assert time.monotonic() - began < 3
    assert content(server, database) == before


def test_a_module_killed_in_the_middle_of_the_renames_changes_nothing(server: Server, live: str, store: Path) -> None:
    before, oid = content(server, live), databases(server)[live]
    with Stuck(server, live), process("pg_swap", parameters(server, store, live, {"state": "switched"})) as child:
        until(lambda: renaming(server))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        until(lambda: not renaming(server), seconds=20)
    assert record(store)["state"] == "switching"
    assert databases(server)[live] == oid
    open_and_whole(server, live, before)
    lines: list[str] = []
    switched = swap(server, store, live, "switched", lines=lines)
    assert any("interrupted before its commit" in line for line in lines)
    assert databases(server)[live] != oid
    assert fact(switched, "state") == "switched"


def test_a_module_killed_right_after_the_commit_is_concluded_by_the_next_run(
    server: Server, live: str, store: Path
) -> None:
    before, oid = content(server, live), databases(server)[live]
    with process("pg_swap", parameters(server, store, live, {"state": "switched"})) as child:
        until(lambda: databases(server).get(live) not in (oid, None), every=0)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    open_and_whole(server, live, before)
    again = swap(server, store, live, "switched")
    assert fact(again, "state") == "switched"
    aside = fact(again, "aside")
    assert databases(server)[aside] == oid
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{aside}'") == "f"
    swap(server, store, live, "undone")
    assert databases(server)[live] == oid


def test_a_commit_whose_record_was_not_written_is_found_in_the_catalog(server: Server, live: str, store: Path) -> None:
    """The moment between commit and record, planted: the state that a kill there leaves."""
    oid = databases(server)[live]
    swap(server, store, live, "switched")
    body = record(store)
    aside = str(body["aside"])
    server.psql(f'ALTER DATABASE "{aside}" ALLOW_CONNECTIONS true')
    write_json(PosixStore(str(store)), f"restores/{body['id']}.json", {**body, "state": "switching", "switched_at": ""})  # type: ignore[dict-item]
    found = swap(server, store, live, "switched")
    assert found.changed
    assert "had been committed" in str(found.evidence["cleaned"])
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{aside}'") == "f"
    assert databases(server)[aside] == oid
    assert record(store)["switched_at"]


def test_an_undo_killed_in_the_middle_changes_nothing_and_the_old_database_is_closed_again(
    server: Server, live: str, store: Path
) -> None:
    swap(server, store, live, "switched")
    before, oid = content(server, live), databases(server)[live]
    with Stuck(server, live), process("pg_swap", parameters(server, store, live, {"state": "undone"})) as child:
        until(lambda: renaming(server))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        until(lambda: not renaming(server), seconds=20)
    assert databases(server)[live] == oid
    open_and_whole(server, live, before)
    aside = str(record(store)["aside"])
    swap(server, store, live, "undone", check=True)
    assert not swap(server, store, live, "switched").plan.actions  # type: ignore[union-attr]
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{aside}'") == "f"
    assert record(store)["state"] == "switched"
    swap(server, store, live, "undone")
    assert databases(server)[aside.partition("_before_")[0]] != oid


def test_connections_that_cannot_be_held_off_are_named_and_clients_go_on(
    server: Server, live: str, store: Path
) -> None:
    before, oid = content(server, live), databases(server)[live]
    with Stuck(server, live), Prober(server.dsn(live)) as prober:
        with pytest.raises(OpsError) as refused:
            swap(server, store, live, "switched")
        time.sleep(0.2)
    assert refused.value.code == "connections_not_held_off"
    assert "pid" in refused.value.cause
    # each attempt is bounded, and clients work between them
    assert prober.largest_gap < 8
    assert prober.succeeded > 20
    assert databases(server)[live] == oid
    assert record(store)["state"] == "verified"
    open_and_whole(server, live, before)
    swap(server, store, live, "switched")
    assert databases(server)[live] != oid


def test_a_backend_that_lets_go_late_costs_an_attempt_and_no_more(server: Server, live: str, store: Path) -> None:
    oid = databases(server)[live]
    with Stuck(server, live) as backend:

        def let_go_after_the_first_attempt() -> None:
            until(lambda: renaming(server))
            until(lambda: not renaming(server))
            backend.let_go()

        watcher = threading.Thread(target=let_go_after_the_first_attempt)
        watcher.start()
        switched = swap(server, store, live, "switched")
        watcher.join()
    assert int(str(switched.evidence["attempts"])) > 1
    assert databases(server)[live] != oid


def test_ctrl_c_in_a_switch_changes_nothing(server: Server, live: str, store: Path) -> None:
    before, oid = content(server, live), databases(server)[live]
    with Stuck(server, live), process("pg_swap", parameters(server, store, live, {"state": "switched"})) as child:
        until(lambda: renaming(server))
        child.send_signal(signal.SIGINT)
        child.wait(20)
    until(lambda: not renaming(server), seconds=20)
    assert databases(server)[live] == oid
    open_and_whole(server, live, before)
    assert swap(server, store, live, "switched").changed


def test_the_terminating_session_that_is_ended_itself_changes_nothing(server: Server, live: str, store: Path) -> None:
    before, oid = content(server, live), databases(server)[live]
    with Stuck(server, live), process("pg_swap", parameters(server, store, live, {"state": "switched"})) as child:
        until(lambda: renaming(server))
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-restore-%'"
        )
        answer = outcome(child)
    assert answer["failed"]
    assert answer["code"] == "session_ended"
    assert databases(server)[live] == oid
    open_and_whole(server, live, before)


def test_a_lock_that_was_lost_stops_the_switch_before_the_renames(server: Server, live: str, store: Path) -> None:
    oid = databases(server)[live]
    own_locks = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-guard%'"
    with contextlib.closing(server.connect(live)) as blocker:
        # reading the sequences waits for this, after the lock was taken
        cursor = blocker.cursor()
        cursor.execute("BEGIN; LOCK TABLE pg_catalog.pg_sequence IN ACCESS EXCLUSIVE MODE")
        with process("pg_swap", parameters(server, store, live, {"state": "switched"})) as child:
            until(lambda: server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0")
            server.psql(own_locks)
            cursor.execute("ROLLBACK")
            answer = outcome(child)
    assert answer["failed"]
    assert databases(server)[live] == oid


def test_a_copy_that_was_dropped_and_made_again_is_not_switched(server: Server, live: str, store: Path) -> None:
    target = str(record(store)["target"])
    server.dropdb(target)
    server.createdb(target)
    with pytest.raises(OpsError) as refused:
        swap(server, store, live, "switched", restore=str(record(store)["id"]))
    assert refused.value.code == "no_verified_restore"


def test_the_dropped_old_database_makes_an_undo_impossible_and_says_so(server: Server, live: str, store: Path) -> None:
    swap(server, store, live, "switched")
    oid = databases(server)[live]
    aside = str(record(store)["aside"])
    server.dropdb(aside)
    with pytest.raises(OpsError) as refused:
        swap(server, store, live, "undone")
    assert refused.value.code == "old_database_missing"
    assert databases(server)[live] == oid


def test_a_server_killed_in_a_switch_has_its_live_database_whole(server: Server, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with postgres.running(18) as own:
        create(own, "demo", parameters=Parameters(3))
        take_backup(own, store, "demo")
        restore(own, store, "demo")
        before, oid = content(own, "demo"), databases(own)["demo"]
        with Stuck(own, "demo"), process("pg_swap", parameters(own, store, "demo", {"state": "switched"})) as child:
            until(lambda: renaming(own))
            own.kill()
            answer = outcome(child)
        assert answer["failed"]
        (own.data / "postmaster.pid").unlink(missing_ok=True)
        own.start()
        assert databases(own)["demo"] == oid
        open_and_whole(own, "demo", before)
        assert swap(own, store, "demo", "switched").changed


def test_a_crash_after_the_backup_makes_the_loss_a_lower_bound(server: Server, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with postgres.running(18) as own:
        create(own, "demo", parameters=Parameters(3))
        take_backup(own, store, "demo")
        restore(own, store, "demo")
        own.psql("INSERT INTO marker (writer) SELECT 'x' FROM generate_series(1, 5)", "demo")
        own.kill()
        (own.data / "postmaster.pid").unlink(missing_ok=True)
        own.start()
        # after a crash the counters begin at zero, and may well pass the ones of the backup
        own.psql("UPDATE marker SET writer = writer; UPDATE marker SET writer = writer", "demo")
        switched = swap(own, store, "demo", "switched")
        losses = switched.evidence["losses"]
        assert isinstance(losses, dict)
        assert (losses["rows"], losses["exact"]) == (5, False)


def test_a_store_that_is_gone_stops_a_switch_before_anything_is_renamed(server: Server, live: str, store: Path) -> None:
    oid = databases(server)[live]
    store.rename(store.with_name("elsewhere"))
    with pytest.raises(OpsError) as refused:
        swap(server, store, live, "switched")
    assert refused.value.code.startswith("store_")
    assert databases(server)[live] == oid


def test_a_writer_loses_no_row_without_the_switch_telling_it(server: Server, live: str, store: Path) -> None:
    with Writer(server.dsn(live)) as writer:
        time.sleep(0.2)
        swap(server, store, live, "switched")
        time.sleep(0.2)
        committed = {number for number, _at in writer.committed}
    aside = str(record(store)["aside"])
    server.psql(f'ALTER DATABASE "{aside}" ALLOW_CONNECTIONS true')
    kept = {int(n) for name in (live, aside) for n in server.psql("SELECT id FROM marker", name).split()}
    assert committed <= kept
    both = set(server.psql("SELECT id FROM marker WHERE writer = 'writer'", live).split()) & set(
        server.psql("SELECT id FROM marker WHERE writer = 'writer'", aside).split()
    )
    assert both == set()


def test_a_role_that_may_not_end_the_sessions_is_refused_beforehand(server: Server, live: str, store: Path) -> None:
    server.psql("CREATE ROLE switcher LOGIN CREATEDB PASSWORD 'demo' IN ROLE demo_owner, pg_read_all_stats")
    try:
        with contextlib.closing(server.connect(live)), pytest.raises(OpsError) as refused:
            swap(server, store, live, "switched", connection=connection(server, user="switcher", password="demo"))
    finally:
        server.psql("DROP ROLE switcher")
    assert refused.value.code == "connections_not_held_off"


def test_a_store_that_is_lost_during_the_renames_does_not_hide_that_they_happened(
    server: Server, live: str, store: Path
) -> None:
    oid = databases(server)[live]
    away = store.with_name("away")
    given = parameters(server, store, live, {"state": "switched"})
    with Stuck(server, live) as backend, process("pg_swap", given) as child:
        until(lambda: renaming(server))
        store.rename(away)
        backend.let_go()
        answer = outcome(child)
    away.rename(store)
    assert answer["code"] == "record_not_written", answer
    assert "was switched" in str(answer["msg"])
    assert databases(server)[live] != oid
    found = swap(server, store, live, "switched")
    assert fact(found, "state") == "switched"
    assert databases(server)[fact(found, "aside")] == oid


def test_a_database_that_only_reads_by_default_is_switched_too(server: Server, live: str, store: Path) -> None:
    server.psql("INSERT INTO marker (writer) VALUES ('x')", live)
    server.psql(f'ALTER DATABASE "{live}" SET default_transaction_read_only = on')
    assert swap(server, store, live, "switched").changed
    assert server.psql("SHOW default_transaction_read_only", live) == "on"
    assert swap(server, store, live, "undone").changed
