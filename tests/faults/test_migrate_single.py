# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that is no single transaction, cut in the middle: after the next run each statement ran exactly once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import Place
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import Hands
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab import acts, migrations
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import process, until

on_one = pytest.mark.parametrize("server", [15], indirect=True)
on_both = pytest.mark.parametrize("server", [15, 18], indirect=True)

ALONE = "-- saasops: transactional=false\n"
TABLE = {"001_t.sql": "CREATE TABLE t (id int, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 9) g;"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def given(server: Server, store: Path, database: str, **body: object) -> dict[str, object]:
    return acts.parameters(server, store, database, {"backup": "off", "staging": "off", **body})


def ledger(server: Server, database: str) -> str:
    sql = "SELECT string_agg(concat(version, ' ', state, ' ', done), ',' ORDER BY version) FROM saasops.migrations"
    return server.psql(sql, database)


def at_work(server: Server, database: str, query: str, count: str) -> Callable[[], bool]:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '{query}' AND datname = '{database}'"
    return lambda: server.psql(f"{sql} AND state = 'active'") == count


@on_both
def test_an_update_whose_module_was_killed_is_applied_exactly_once(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    update = "UPDATE t SET n = n + 1 FROM (SELECT pg_sleep(1)) AS slow"
    files = {**TABLE, "002_u.sql": f"{ALONE}VACUUM t;\n{update};\nVACUUM t;"}
    with process("pg_migrate", given(server, store, database, files=files)) as child:
        until(at_work(server, database, "UPDATE t%", "1"))
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    # the server ends the statement although nobody waits for it any more
    until(at_work(server, database, "UPDATE t%", "0"))
    until(lambda: server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-%'") == "0")
    assert ledger(server, database) == "001 applied 2,002 applying 1"
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT DISTINCT n FROM t", database) == "1"
    assert ledger(server, database) == "001 applied 2,002 applied 3"


@on_one
def test_an_update_whose_answer_was_lost_is_not_run_again(
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

    migrations.run(server, store, database, TABLE)
    whole = Place.hands

    def cut(place: Place) -> Hands:
        hands = whole(place)
        return replace(hands, connect=lambda: Cut(hands.connect()))  # type: ignore[arg-type,return-value]

    files = {**TABLE, "002_u.sql": f"{ALONE}UPDATE t SET n = n + 1;\nUPDATE t SET n = n + 10;"}
    monkeypatch.setattr(Place, "hands", cut)
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    monkeypatch.undo()
    assert "Statements 1 to 1 are through" in caught.value.cause
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT DISTINCT n FROM t", database) == "11"


@on_one
def test_an_undo_whose_module_was_killed_goes_on_where_it_was(server: Server, database: str, store: Path) -> None:
    files = {
        **TABLE,
        "001_t.undo.sql": "DROP TABLE t;",
        "002_i.sql": f"{ALONE}CREATE INDEX CONCURRENTLY i1 ON t (n);\nCREATE TABLE u (i int);",
        "002_i.undo.sql": f"{ALONE}UPDATE t SET n = n + 1;\nDROP INDEX CONCURRENTLY i1;\nDROP TABLE u;",
    }
    migrations.run(server, store, database, TABLE)
    run = str(migrations.run(server, store, database, files).evidence["run"])
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as other, other.cursor() as cursor:
        cursor.execute("SELECT n FROM t WHERE id = 1")
        with process("pg_migrate", given(server, store, database, state="undone", run=run)) as child:
            until(at_work(server, database, "DROP INDEX CONC%", "1"))
            until(lambda: ledger(server, database) == "001 applied 2,002 undoing 1")
            child.send_signal(signal.SIGKILL)
            child.wait(20)
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert caught.value.code == "undo_unfinished"
    assert migrations.run(server, store, database, state="undone", run=run).evidence["undone"] == ["002_i"]
    assert ledger(server, database) == "001 applied 2"
    assert server.psql("SELECT DISTINCT n FROM t", database) == "1"
    assert server.psql("SELECT to_regclass('i1') IS NULL AND to_regclass('u') IS NULL", database) == "t"
