# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations on real servers: what locks they take, how long readers wait, what stands in the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import LEVELS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.undo_run import way_back
from ansible_collections.saasops.runbook.plugins.module_utils.module import Unguarded
from ansible_collections.saasops.runbook.tests.lab import acts, migrations
from ansible_collections.saasops.runbook.tests.lab.ddl import LOCKS, SCENE
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

pytestmark = pytest.mark.parametrize("server", [15, 18], indirect=True)

TABLE = {
    "001_table.sql": "CREATE TABLE t (id int PRIMARY KEY, n int);"
    " INSERT INTO t SELECT g, g FROM generate_series(1, 9) g;",
}
SLOW = {
    **TABLE,
    "002_slow.sql": "ALTER TABLE t ADD a int;\nALTER TABLE t ADD b int;\nSELECT pg_sleep(30);",
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def state(server: Server, database: str) -> str:
    sql = (
        "SELECT coalesce(string_agg(concat(version, schema, ' ', state, ' ', done), ',' ORDER BY version, schema), '')"
    )
    return server.psql(f"{sql} FROM saasops.migrations", database)


def columns(server: Server, database: str, table: str = "t") -> str:
    sql = f"SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass"
    return server.psql(f"{sql} AND attnum > 0 AND NOT attisdropped", database)


@contextmanager
def holding(server: Server, database: str, sql: str) -> Iterator[None]:
    """Another session's transaction that has done this and does not end."""
    other = psycopg2.connect(server.dsn(database))
    try:
        with other.cursor() as cursor:
            cursor.execute(sql)
        yield
    finally:
        other.close()


def test_the_locks_that_are_told_from_the_text_are_those_that_the_server_takes(server: Server, database: str) -> None:
    server.psql(SCENE, database)
    wrong = []
    with server.connect(database) as other, other.cursor() as cursor:
        for sql, told in LOCKS:
            cursor.execute("BEGIN")
            names = "SELECT c.oid, c.relname FROM pg_class c WHERE c.relname IN ('t', 'o', 'p', 'c', 'c2')"
            cursor.execute(names)
            known = dict(cursor.fetchall())
            cursor.execute(sql)
            cursor.execute(
                "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = ANY (%s::oid[])",
                (list(known),),
            )
            found: dict[str, str] = {}
            for oid, mode in cursor.fetchall():
                level = "".join(f" {one}" if one.isupper() else one for one in mode[:-4]).strip().upper()
                before = found.get(known[oid], level)
                found[known[oid]] = max(before, level, key=LEVELS.index)
            cursor.execute("ROLLBACK")
            if any(found.get(name) != mode for name, mode in told.items()):
                wrong.append((sql, told, found))
    assert wrong == []


def test_a_file_and_its_row_commit_together_and_are_not_run_again(server: Server, database: str, store: Path) -> None:
    checked = migrations.run(server, store, database, TABLE, check=True)
    assert checked.changed
    assert server.psql("SELECT to_regnamespace('saasops') IS NULL", database) == "t"
    assert migrations.run(server, store, database, TABLE).changed
    assert state(server, database) == "001 applied 2"
    assert not migrations.run(server, store, database, TABLE).changed
    bad = {**TABLE, "002_bad.sql": "CREATE TABLE u (i int);\n\nINSERT INTO t VALUES (1, 1);"}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, bad)
    assert "002_bad.sql line 3" in caught.value.cause
    assert server.psql("SELECT to_regclass('u') IS NULL", database) == "t"
    assert state(server, database) == "001 applied 2"


def test_a_verify_script_that_is_not_true_rolls_back(server: Server, database: str, store: Path) -> None:
    files = {
        **TABLE,
        "002_n.sql": "UPDATE t SET n = 0 WHERE id < 9;",
        "002_n.verify.sql": "SELECT bool_and(n = 0) FROM t",
    }
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert caught.value.code == "verify_failed"
    assert server.psql("SELECT sum(n) FROM t", database) == "45"
    files["002_n.verify.sql"] = "SELECT n = 0 FROM t WHERE id < 9"
    assert migrations.run(server, store, database, files).changed


def test_a_transaction_that_lasts_longer_than_its_limit_is_rolled_back_and_readers_wait_no_longer(
    server: Server, database: str, store: Path
) -> None:
    migrations.run(server, store, database, TABLE)
    with Readers(server.dsn(database), "SELECT count(*) FROM t") as readers, pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, SLOW, lock_limit="1s")
    assert caught.value.code == "over_lock_limit"
    assert columns(server, database) == "id n"
    # they did queue behind it, and were let through at the limit
    assert 0.3 < readers.longest < 10, "without a limit it is 30 s"


@pytest.mark.parametrize("kind", ["psycopg", "psql"])
def test_the_limit_holds_even_when_the_script_catches_every_cancel(
    server: Server, database: str, store: Path, kind: str
) -> None:
    deaf = "BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN NULL; END;"
    files = {**TABLE, "002_deaf.sql": f"ALTER TABLE t ADD a int;\nDO $$ BEGIN {deaf * 9} END $$;"}
    connection = acts.connection(server, session=kind)
    migrations.run(server, store, database, TABLE, connection=connection)
    with Readers(server.dsn(database), "SELECT count(*) FROM t") as readers, pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files, lock_limit="1s", connection=connection)
    assert caught.value.code == "over_lock_limit"
    assert columns(server, database) == "id n"
    assert 0.3 < readers.longest < 10, "without a limit it is 30 s"


def test_readers_behind_tries_for_locks_wait_no_longer_than_one_try(server: Server, database: str, store: Path) -> None:
    tables = "".join(f"CREATE TABLE t{n} (id int);" for n in range(4))
    migrations.run(server, store, database, {"001_t.sql": tables})
    # the last table is what is held; whoever began before having all locks would hold the first one meanwhile
    text = "ALTER TABLE t0 ADD a int; SELECT pg_sleep(4);" + "".join(f"ALTER TABLE t{n} ADD a int;" for n in (1, 2, 3))
    files = {"001_t.sql": tables, "002_a.sql": text}
    with holding(server, database, "SELECT count(*) FROM t3"):
        question = "SELECT count(*) FROM t0, t1, t2, t3"
        with Readers(server.dsn(database), question) as readers, pytest.raises(OpsError) as caught:
            migrations.run(server, store, database, files, lock_timeout="300ms", lock_wait="3s", lock_limit="30s")
        assert caught.value.code == "lock_not_obtained"
        assert caught.value.details["blockers"]
        assert readers.longest < 3
        assert int(str(caught.value.details["tries"])) > 1
    assert columns(server, database, "t0") == "id"
    assert migrations.run(server, store, database, files).changed


def test_locks_that_become_free_while_it_is_tried_are_taken(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    other = psycopg2.connect(server.dsn(database))
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
    timer = threading.Timer(1.5, other.close)
    timer.start()
    lines: list[str] = []
    files = {**TABLE, "002_a.sql": "ALTER TABLE t ADD a int;"}
    assert migrations.run(server, store, database, files, lock_timeout="200ms", lines=lines).changed
    timer.join()
    assert any("locks not free" in line for line in lines)


def test_statements_outside_a_transaction_go_on_where_they_failed(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    text = (
        "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY i1 ON t (n);\n"
        "CREATE INDEX CONCURRENTLY i2 ON t (m);\nVACUUM t;"
    )
    files = {**TABLE, "002_i.sql": text}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert caught.value.code == "migration_incomplete"
    assert "line 3" in caught.value.cause
    assert "VACUUM t" in caught.value.cause
    assert "Statements 1 to 1 are through" in caught.value.cause
    assert state(server, database) == "001 applied 2,002 applying 1"
    edited = {**files, "002_i.sql": text.replace("i1", "i9")}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, edited)
    assert caught.value.code == "file_edited"
    files["002_i.sql"] = text.replace("(m)", "(id, n)")
    assert migrations.run(server, store, database, files).changed
    assert state(server, database) == "001 applied 2,002 applied 3"


def test_an_invalid_index_of_a_build_that_failed_is_dropped_and_built_again(
    server: Server, database: str, store: Path
) -> None:
    server.psql("CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 1), (1, 2)", database)
    migrations.run(server, store, database, {"001_t.sql": "SELECT 1"}, baseline=0)
    text = "-- saasops: transactional=false\nCREATE UNIQUE INDEX CONCURRENTLY i1 ON t (id);"
    files = {"001_t.sql": "SELECT 1", "002_i.sql": text}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert caught.value.code == "migration_incomplete"
    assert server.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i1'::regclass", database) == "f"
    server.psql("DELETE FROM t WHERE n = 2", database)
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i1'::regclass", database) == "t"


def test_an_index_that_was_through_when_the_run_died_is_not_built_again(
    server: Server, database: str, store: Path
) -> None:
    migrations.run(server, store, database, TABLE)
    text = "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY i1 ON t (n);"
    files = {**TABLE, "002_i.sql": text}
    migrations.run(server, store, database, files)
    server.psql(
        "UPDATE saasops.migrations SET state = 'applying', done = 0, done_checksum = "
        f"'{migrations.EMPTY}' WHERE version = '002'",
        database,
    )
    result = migrations.run(server, store, database, files)
    assert result.evidence["said"] == ["002_i.sql line 2: it was through already"]
    assert state(server, database) == "001 applied 2,002 applied 1"


def test_undo_takes_back_what_one_run_did_newest_first(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    files = {
        **TABLE,
        "002_a.sql": "ALTER TABLE t ADD a int;",
        "002_a.undo.sql": "ALTER TABLE t DROP a;",
        "003_b.sql": "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY t_a ON t (a);",
        "003_b.undo.sql": "-- saasops: transactional=false\nDROP INDEX CONCURRENTLY t_a;",
    }
    run = str(migrations.run(server, store, database, files).evidence["run"])
    assert migrations.run(server, store, database, state="undone", run=run, check=True).changed
    assert columns(server, database) == "id n a"
    # the scripts are the ledger's: no file is needed
    result = migrations.run(server, store, database, state="undone", run=run)
    assert result.evidence["undone"] == ["003_b", "002_a"]
    assert columns(server, database) == "id n"
    assert state(server, database) == "001 applied 2"
    assert not migrations.run(server, store, database, state="undone", run=run).changed


def test_an_undo_is_refused_without_a_script_or_behind_a_later_migration(
    server: Server, database: str, store: Path
) -> None:
    first = str(migrations.run(server, store, database, TABLE).evidence["run"])
    migrations.run(server, store, database, {**TABLE, "002_a.sql": "ALTER TABLE t ADD a int;"})
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, state="undone", run=first)
    assert caught.value.details["codes"] == ["later_applied"]
    last = server.psql("SELECT run FROM saasops.migrations WHERE version = '002'", database)
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, state="undone", run=last)
    assert caught.value.code == "undo_missing"
    assert "restore" in caught.value.remedy


def test_each_tenant_has_its_own_row_and_a_failure_leaves_the_others_applied(
    server: Server, database: str, store: Path
) -> None:
    server.psql("".join(f"CREATE SCHEMA org_{n}; CREATE TABLE org_{n}.t (i int);" for n in range(5)), database)
    server.psql("CREATE VIEW org_3.v AS SELECT i FROM org_3.t", database)
    migrations.run(server, store, database, {"001_x.sql": "SELECT 1"}, baseline=0)
    files = {
        "001_x.sql": "-- saasops: tenants=org_*\nALTER TABLE t ALTER i TYPE bigint;",
        "001_x.undo.sql": "ALTER TABLE t ALTER i TYPE int;",
    }
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert "001_x in org_3" in caught.value.cause
    assert caught.value.details["applied"] == ["001_x in org_0", "001_x in org_1", "001_x in org_2"]
    server.psql("DROP VIEW org_3.v", database)
    assert migrations.run(server, store, database, files).changed
    types = "SELECT string_agg(DISTINCT format_type(atttypid, -1), ',') FROM pg_attribute WHERE attname = 'i'"
    assert server.psql(types, database) == "bigint"
    assert server.psql("SELECT count(*) FROM saasops.migrations WHERE version = '001'", database) == "5"


def test_nothing_is_begun_without_backup_and_rehearsal(server: Server, database: str, store: Path) -> None:
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, TABLE, backup="required", staging="required")
    assert caught.value.details["codes"] == ["backup_too_old", "not_rehearsed"]
    acts.take_backup(server, store, database)
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, TABLE, backup="required", staging="required")
    assert caught.value.code == "not_rehearsed"
    server.createdb(f"{database}_copy")
    files = {**TABLE, "001_table.undo.sql": "DROP TABLE t;"}
    try:
        rehearsed = migrations.run(server, store, f"{database}_copy", files, state="rehearsed", rehearses=database)
        assert rehearsed.evidence["undone"] == ["001_table"]
    finally:
        server.dropdb(f"{database}_copy")
    edited = {**files, "001_table.sql": files["001_table.sql"] + "\nSELECT 1;"}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, edited, backup="required", staging="required")
    assert caught.value.code == "not_rehearsed"
    assert migrations.run(server, store, database, files, backup="required", staging="required").changed


def test_a_role_without_rights_changes_nothing(server: Server, database: str, store: Path) -> None:
    migrations.run(server, store, database, TABLE)
    server.psql("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN PASSWORD 'plain'", database)
    server.psql(
        "GRANT USAGE ON SCHEMA saasops TO plain; GRANT SELECT, INSERT, UPDATE ON saasops.migrations TO plain", database
    )
    connection = acts.connection(server, user="plain", password="plain")
    try:
        with pytest.raises(OpsError) as caught:
            migrations.run(
                server, store, database, {**TABLE, "002_a.sql": "ALTER TABLE t ADD a int;"}, connection=connection
            )
        assert caught.value.code == "not_permitted"
        assert state(server, database) == "001 applied 2"
    finally:
        server.psql("DROP OWNED BY plain; DROP ROLE plain", database)


def test_a_role_that_has_timeouts_of_its_own_migrates_all_the_same(server: Server, database: str, store: Path) -> None:
    server.psql(f"ALTER ROLE postgres IN DATABASE {database} SET statement_timeout = '400ms'")
    try:
        files = {"001_s.sql": "SELECT pg_sleep(1); CREATE TABLE t (i int);"}
        began = time.monotonic()
        assert migrations.run(server, store, database, files).changed
        assert time.monotonic() - began < 10
    finally:
        server.psql(f"ALTER ROLE postgres IN DATABASE {database} RESET ALL")


def test_what_was_applied_before_a_failure_has_its_way_back_on_record(
    server: Server, database: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, Mapping[str, object]]] = []
    monkeypatch.setattr(Unguarded, "says", lambda _self, kind, facts: said.append((kind, facts)))
    files = {**TABLE, "001_table.undo.sql": "DROP TABLE t;", "002_bad.sql": "SELECT nowhere;"}
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files)
    assert caught.value.details["applied"] == ["001_table"]
    # what was switched off goes on record as well
    assert [facts["code"] for kind, facts in said if kind == "bypass"] == ["backup_off", "staging_off"]
    ((kind, facts),) = [one for one in said if one[0] == "note"]
    record = {"kind": kind, "run": "r", "host": "h", "verb": "migrate", **facts}
    ended = {"kind": "outcome", "run": "r", "host": "h", "verb": "migrate", "failed": True, "changed": False}
    undo = way_back([record, ended], "r", "h")  # type: ignore[list-item]
    result = migrations.run(server, store, database, state="undone", run=undo["migrated_by"])
    assert result.evidence["undone"] == ["001_table"]
