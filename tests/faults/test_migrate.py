# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a migration half-way, the database is as it was or says what is left, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import Place
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import Hands
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab import acts, disk, migrations, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import outcome, process, until
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

on_one = pytest.mark.parametrize("server", [15], indirect=True)
# transaction_timeout exists from 17 on
on_both = pytest.mark.parametrize("server", [15, 18], indirect=True)

TABLE = {"001_t.sql": "CREATE TABLE t (id int, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g;"}
SLOW = {**TABLE, "002_slow.sql": "ALTER TABLE t ADD a int;\nSELECT pg_sleep(3);\nALTER TABLE t ADD b int;"}
INDEX = {
    **TABLE,
    "002_i.sql": "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY i1 ON t (n);\n"
    "CREATE INDEX CONCURRENTLY i2 ON t (id);",
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def given(server: Server, store: Path, database: str, files: dict[str, str]) -> dict[str, object]:
    body = {"files": files, "backup": "off", "staging": "off", "lock_limit": "10s"}
    return acts.parameters(server, store, database, body)


def columns(server: Server, database: str) -> str:
    sql = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass"
    return server.psql(f"{sql} AND attnum > 0 AND NOT attisdropped", database)


def ledger(server: Server, database: str) -> str:
    sql = "SELECT string_agg(concat(version, ' ', state, ' ', done), ',' ORDER BY version) FROM saasops.migrations"
    return server.psql(sql, database)


def asleep(server: Server) -> Callable[[], bool]:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3)' AND state = 'active'"
    return lambda: server.psql(sql) == "1"


def building(server: Server) -> Callable[[], bool]:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND wait_event_type = 'Lock'"
    return lambda: server.psql(sql) == "1"


@on_both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_module_that_is_killed_in_a_transaction_leaves_nothing_of_it(
    server: Server, database: str, store: Path, number: signal.Signals
) -> None:
    migrations.run(server, store, database, TABLE)
    with process("pg_migrate", given(server, store, database, SLOW)) as child:
        until(asleep(server))
        with Readers(server.dsn(database, password=server.password), "SELECT 1") as _others:
            child.send_signal(number)
            said = "" if number == signal.SIGKILL else str(outcome(child)["code"])
            child.wait(20)
    assert said in ("", "interrupted")
    result = migrations.run(server, store, database, SLOW, lock_limit="10s")
    assert result.changed
    if number == signal.SIGKILL:
        assert result.evidence["said"] == ["1 backends of an interrupted run ended"]
    assert columns(server, database) == "id n a b"
    assert ledger(server, database) == "001 applied 2,002 applied 3"


@on_both
def test_a_module_that_is_stopped_dead_keeps_no_reader_waiting_beyond_the_limit(
    server: Server, database: str, store: Path
) -> None:
    migrations.run(server, store, database, TABLE)
    files = {**TABLE, "002_slow.sql": "ALTER TABLE t ADD a int;\n" + "SELECT pg_sleep(0.05);\n" * 60}
    body = {**given(server, store, database, files), "lock_limit": "1500ms"}
    with Readers(server.dsn(database), "SELECT count(*) FROM t") as readers, process("pg_migrate", body) as child:
        until(
            lambda: (
                server.psql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(0.05)%'") == "1"
            )
        )
        processes.freeze(child.pid)
        gone = (
            "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock' AND granted"
        )
        until(lambda: server.psql(gone, database) == "0", seconds=20)
        os.kill(child.pid, signal.SIGCONT)
        assert outcome(child)["failed"]
    assert readers.longest < 15
    assert columns(server, database) == "id n"


@on_one
def test_a_build_whose_module_was_killed_is_ended_and_made_again(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as other, other.cursor() as cursor:
        cursor.execute("UPDATE t SET n = n WHERE id = 1")
        with process("pg_migrate", given(server, store, database, INDEX)) as child:
            until(building(server))
            child.send_signal(signal.SIGKILL)
            child.wait(10)
    result = migrations.run(server, store, database, INDEX)
    assert result.changed
    assert ledger(server, database) == "001 applied 2,002 applied 2"
    valid = (
        "SELECT string_agg(c.relname || indisvalid, ' ' ORDER BY 1) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
    )
    assert server.psql(f"{valid} WHERE indrelid = 't'::regclass", database) == "i1true i2true"


@on_one
def test_a_session_that_is_cut_is_rolled_back_and_named(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    with process("pg_migrate", given(server, store, database, SLOW)) as child:
        until(asleep(server))
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3)'")
        said = outcome(child)
    assert said["code"] == "session_ended"
    assert "002_slow.sql line 2" in str(said["cause"])
    assert columns(server, database) == "id n"


@on_one
def test_a_commit_whose_answer_is_lost_is_looked_up_in_the_ledger(
    server: Server, database: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut:
        """A session whose connection breaks right after its COMMIT was sent."""

        def __init__(self, session: Session) -> None:
            self._session = session

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def run(self, sql: str) -> None:
            self._session.run(sql)
            if sql == "COMMIT":
                self._session.close()
                raise OpsError("session_ended", "the answer is lost", "", {"sqlstate": "57P01"})

    whole = Place.hands

    def cut(place: Place) -> Hands:
        hands = whole(place)
        return replace(hands, connect=lambda: Cut(hands.connect()))  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(Place, "hands", cut)
    assert migrations.run(server, store, database, TABLE).changed
    assert ledger(server, database) == "001 applied 2"


@on_one
def test_a_server_that_dies_in_the_middle_leaves_all_or_nothing_of_a_file(store: Path, server: Server) -> None:
    assert server.is_running
    with postgres.running(15) as other:
        other.createdb("d")
        migrations.run(other, store, "d", TABLE)
        with process("pg_migrate", given(other, store, "d", SLOW)) as child:
            until(asleep(other))
            other.kill()
            assert outcome(child)["failed"]
        other.start()
        assert columns(other, "d") == "id n"
        assert migrations.run(other, store, "d", SLOW, lock_limit="10s").changed
        assert ledger(other, "d") == "001 applied 2,002 applied 3"


@on_one
def test_a_full_disk_rolls_back_and_leaves_the_database_as_it_was(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    text = (
        "ALTER TABLE t ADD a int;\nCREATE TABLE big (c text) TABLESPACE tiny;\n"
        "INSERT INTO big SELECT repeat(md5(g::text), 50) FROM generate_series(1, 100000) g;"
    )
    with disk.small(8) as point:
        owner = processes.unprivileged()
        (place := point / "tiny").mkdir()
        os.chown(place, owner.pw_uid, owner.pw_gid)
        server.psql(f"CREATE TABLESPACE tiny LOCATION '{place}'")
        try:
            with pytest.raises(OpsError) as caught:
                migrations.run(server, store, database, {**TABLE, "002_big.sql": text}, lock_limit="60s")
            assert caught.value.code == "server_disk_full"
            assert columns(server, database) == "id n"
            assert ledger(server, database) == "001 applied 2"
        finally:
            server.psql("DROP TABLESPACE tiny")
    assert migrations.run(server, store, database, {**TABLE, "002_big.sql": "ALTER TABLE t ADD a int;"}).changed


@on_one
def test_a_standby_that_is_away_keeps_no_reader_waiting_beyond_the_limit(store: Path, server: Server) -> None:
    assert server.is_running
    with postgres.running(15) as other:
        other.createdb("d")
        migrations.run(other, store, "d", TABLE)
        other.configure({"synchronous_standby_names": "nobody"})
        other.reload()
        until(lambda: other.psql("SHOW synchronous_standby_names") == "nobody")
        files = {**TABLE, "002_a.sql": "ALTER TABLE t ADD a int;"}
        with Readers(other.dsn("d"), "SELECT count(*) FROM t") as readers:
            assert migrations.run(other, store, "d", files, lock_limit="3s").changed
        assert 0.5 < readers.longest < 20
        assert ledger(other, "d") == "001 applied 2,002 applied 1"


@on_one
def test_two_runs_at_once_apply_each_file_once(server: Server, database: str, store: Path) -> None:
    files = {**TABLE, "002_s.sql": "ALTER TABLE t ADD a int; SELECT pg_sleep(0.5);"}
    ended: list[str] = []

    def one() -> None:
        try:
            ended.append(str(migrations.run(server, store, database, files).changed))
        except OpsError as error:
            ended.append(error.code)

    threads = [threading.Thread(target=one) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "True" in ended
    assert set(ended) <= {"True", "False", "changed_meanwhile", "database_busy"}
    assert columns(server, database) == "id n a"


@on_one
def test_a_controller_that_is_killed_leaves_what_the_next_run_goes_on_from(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    (folder := tmp_path / "migrations").mkdir()
    for name, text in {**TABLE, "002_slow.sql": SLOW["002_slow.sql"]}.items():
        (folder / name).write_text(text, encoding="utf-8")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "faults",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_migrations": {"folder": "migrations", "backup": "off", "staging": "off", "lock_limit": "10s"},
        },
    )
    with start("migrate", hosts) as controller:
        until(asleep(server), seconds=60)
        os.killpg(controller.pid, signal.SIGKILL)
    again = play("migrate", hosts, timeout=90)
    assert again.code == 0, again.output
    assert columns(server, database) == "id n a b"
    assert ledger(server, database) == "001 applied 2,002 applied 3"
