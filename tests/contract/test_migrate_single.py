# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are no single transaction: each statement once, what a broken one leaves is named, and cleared away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import migrations
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import until

on_one = pytest.mark.parametrize("server", [15], indirect=True)
on_both = pytest.mark.parametrize("server", [15, 18], indirect=True)

ALONE = "-- saasops: transactional=false\n"
TWICE = "CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 1), (1, 2);"
UNIQUE = ALONE + "CREATE UNIQUE INDEX CONCURRENTLY i1 ON t (id);"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def fails(server: Server, store: Path, database: str, files: dict[str, str], **changes: object) -> OpsError:
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, files, **changes)
    return caught.value


def ledger(server: Server, database: str) -> str:
    sql = "SELECT string_agg(concat(version, ' ', state, ' ', done), ',' ORDER BY version) FROM saasops.migrations"
    return server.psql(sql, database)


def indexes(server: Server, database: str, table: str = "t") -> str:
    sql = "SELECT string_agg(c.relname || ' ' || indisvalid, ',' ORDER BY c.relname) FROM pg_index JOIN pg_class c"
    return server.psql(f"{sql} ON c.oid = indexrelid WHERE indrelid = '{table}'::regclass", database)


@contextlib.contextmanager
def holding(server: Server, database: str, sql: str) -> Iterator[psycopg2.extensions.connection]:
    """Another session's transaction that has done this and does not end."""
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as other:
        with other.cursor() as cursor:
            cursor.execute(sql)
        yield other


def cancelled(server: Server, store: Path, database: str, files: dict[str, str], state: Callable[[], bool]) -> OpsError:
    """The error of a run whose statement is cancelled once the database is in a state."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fails, server, store, database, files)
        until(state, seconds=30)
        server.psql(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND"
            " application_name LIKE 'saasops-migrate-%' AND application_name NOT LIKE 'saasops-migrate-guard-%'"
            f" AND datname = '{database}'"
        )
        return running.result(60)


@on_both
def test_the_invalid_index_that_a_broken_build_leaves_is_named(server: Server, database: str, store: Path) -> None:
    files = {"001_t.sql": TWICE, "002_i.sql": UNIQUE}
    error = fails(server, store, database, files)
    assert indexes(server, database) == "i1 false"
    assert error.details["remains"] == ["the invalid index public.i1, which the next run drops and builds again"]
    assert "There remains: the invalid index public.i1" in error.cause
    server.psql("DELETE FROM t WHERE n = 2", database)
    assert migrations.run(server, store, database, files).changed
    assert indexes(server, database) == "i1 true"


@on_both
def test_a_rebuild_that_is_ended_names_its_leftover_and_the_next_run_drops_it(
    server: Server, database: str, store: Path
) -> None:
    files = {"001_t.sql": TWICE + "CREATE INDEX i1 ON t (n);"}
    migrations.run(server, store, database, files)
    for kind in ("INDEX CONCURRENTLY i1", "TABLE CONCURRENTLY t"):
        files[f"00{len(files) + 1}_r.sql"] = ALONE + "REINDEX " + kind
        with holding(server, database, "UPDATE t SET n = n"):
            error = cancelled(server, store, database, files, lambda: "i1_ccnew" in indexes(server, database))
        assert error.details["remains"] == ["the invalid index public.i1_ccnew, which the next run drops"]
        assert indexes(server, database) == "i1 true,i1_ccnew false"
        assert migrations.run(server, store, database, files).changed
        assert indexes(server, database) == "i1 true"


@on_one
def test_an_index_that_somebody_else_builds_is_not_taken_for_ours(server: Server, database: str, store: Path) -> None:
    files = {"001_t.sql": TWICE, "002_i.sql": UNIQUE}
    fails(server, store, database, files)
    server.psql("DROP INDEX i1", database)
    with holding(server, database, "UPDATE t SET n = n") as old:
        builder = threading.Thread(target=server.psql, args=("CREATE INDEX CONCURRENTLY i1 ON t (n)", database))
        builder.start()
        until(lambda: server.psql("SELECT count(index_relid) FROM pg_stat_progress_create_index", database) == "1")
        until(lambda: indexes(server, database) == "i1 false")
        error = fails(server, store, database, files)
        old.rollback()
        builder.join(30)
    assert (error.code, error.details["code"]) == ("migration_incomplete", "index_building")
    assert indexes(server, database) == "i1 true"
    assert ledger(server, database) == "001 applied 2,002 applying 0"


@on_one
def test_an_index_that_was_there_before_is_never_taken_for_the_files_own(
    server: Server, database: str, store: Path
) -> None:
    server_files = {"001_t.sql": TWICE + "CREATE INDEX i1 ON t (n);", "002_i.sql": UNIQUE}
    for _again in range(2):
        error = fails(server, store, database, server_files)
        assert "the valid index public.i1 was there before and is not of this file" in error.cause
    # IF NOT EXISTS is content with one that is no good; this is not
    server.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i1'::regclass", database)
    server_files["002_i.sql"] = ALONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS i1 ON t (n);"
    for _again in range(2):
        error = fails(server, store, database, server_files)
        assert "the invalid index public.i1 was there before and is not of this file" in error.cause
    assert ledger(server, database) == "001 applied 3,002 applying 0"


@on_one
def test_an_index_of_another_schema_is_not_taken_for_the_tenants(server: Server, database: str, store: Path) -> None:
    server.psql("CREATE SCHEMA org_1; CREATE TABLE t (id int); CREATE INDEX i1 ON t (id);", database)
    server.psql("CREATE TABLE org_1.t (id int, n int); INSERT INTO org_1.t VALUES (1, 1), (1, 2)", database)
    files = {"001_i.sql": UNIQUE.replace("false\n", "false tenants=org_*\n")}
    migrations.run(server, store, database, files, baseline=0)
    error = fails(server, store, database, files)
    assert "the invalid index org_1.i1" in error.cause
    server.psql("DROP INDEX org_1.i1; DELETE FROM org_1.t WHERE n = 2", database)
    assert migrations.run(server, store, database, files).evidence["said"] == []
    assert indexes(server, database, "org_1.t") == "i1 true"


@on_both
def test_a_partition_whose_detachment_was_cut_is_named_and_finalized(
    server: Server, database: str, store: Path
) -> None:
    tables = "CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);"
    files = {"001_t.sql": tables}
    migrations.run(server, store, database, files)
    files["002_d.sql"] = ALONE + "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY"
    pending = "SELECT inhdetachpending FROM pg_inherits"
    with holding(server, database, "SELECT count(*) FROM t"):
        error = cancelled(server, store, database, files, lambda: server.psql(pending, database) == "t")
    assert "pending detach, which the next run finalizes" in error.cause
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT count(*) FROM pg_inherits", database) == "0"


@on_one
def test_what_fails_in_a_file_without_a_transaction_leaves_nothing_of_the_statement(
    server: Server, database: str, store: Path
) -> None:
    text = ALONE + "UPDATE t SET n = n + 1;\nINSERT INTO t SELECT 1, 1 / 0 FROM t;\nVACUUM t;"
    files = {"001_t.sql": TWICE, "002_u.sql": text}
    for _again in range(2):
        error = fails(server, store, database, files)
        assert "Statements 1 to 1 are through" in error.cause
        assert error.cause.count("002_u.sql line 3") == 1
    assert server.psql("SELECT sum(n) FROM t", database) == "5"
    files["002_u.sql"] = text.replace("1 / 0", "0")
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT sum(n) FROM t", database) == "5"
    assert ledger(server, database) == "001 applied 2,002 applied 3"


@on_one
def test_what_ran_before_a_file_that_hardly_began_is_undone_all_the_same(
    server: Server, database: str, store: Path
) -> None:
    files = {"001_t.sql": TWICE, "002_a.sql": "ALTER TABLE t ADD a int;", "002_a.undo.sql": "ALTER TABLE t DROP a;"}
    migrations.run(server, store, database, {"001_t.sql": TWICE})
    files["003_i.sql"] = UNIQUE
    error = fails(server, store, database, files)
    assert ledger(server, database) == "001 applied 2,002 applied 1,003 applying 0"
    run = str(error.details["run"])
    assert f"undo -e run={run}" in error.remedy
    undone = migrations.run(server, store, database, state="undone", run=run)
    assert undone.evidence["undone"] == ["002_a"]
    assert "003_i had begun and nothing of it is through" in undone.plan.warnings[0]
    assert ledger(server, database) == "001 applied 2,003 applying 0"
    again = migrations.run(server, store, database, state="undone", run=run)
    assert not again.changed
    assert "nothing to undo" in again.message
    server.psql("DELETE FROM t WHERE n = 2", database)
    assert migrations.run(server, store, database, files).changed
    assert ledger(server, database) == "001 applied 2,002 applied 1,003 applied 1"


@on_one
def test_a_file_that_is_half_through_is_to_be_finished_before_its_run_is_undone(
    server: Server, database: str, store: Path
) -> None:
    files = {
        "001_t.sql": TWICE,
        "002_a.sql": "ALTER TABLE t ADD a int;",
        "002_a.undo.sql": "ALTER TABLE t DROP a;",
        "003_i.sql": f"{ALONE}CREATE INDEX CONCURRENTLY i1 ON t (n);\nCREATE UNIQUE INDEX CONCURRENTLY i2 ON t (id);",
        "003_i.undo.sql": f"{ALONE}DROP INDEX CONCURRENTLY i2;\nDROP INDEX CONCURRENTLY i1;",
    }
    migrations.run(server, store, database, {"001_t.sql": TWICE})
    error = fails(server, store, database, files)
    first = str(error.details["run"])
    assert "finish this file first" in error.remedy
    with pytest.raises(OpsError) as caught:
        migrations.run(server, store, database, state="undone", run=first)
    assert caught.value.code == "apply_unfinished"
    assert "DELETE FROM saasops.migrations WHERE version = '003'" in caught.value.remedy
    assert indexes(server, database) == "i1 true,i2 false"
    server.psql("DELETE FROM t WHERE n = 2", database)
    second = str(migrations.run(server, store, database, files).evidence["run"])
    assert migrations.run(server, store, database, state="undone", run=second).evidence["undone"] == ["003_i"]
    assert migrations.run(server, store, database, state="undone", run=first).evidence["undone"] == ["002_a"]
    assert ledger(server, database) == "001 applied 2"


@on_one
def test_a_procedure_that_commits_by_itself_runs_only_where_it_may_run_twice(
    server: Server, database: str, store: Path
) -> None:
    batches = "DO $$ BEGIN UPDATE t SET n = 0 WHERE n = 1; COMMIT; UPDATE t SET n = 0; END $$;"
    files = {"001_t.sql": TWICE, "002_c.sql": ALONE + batches}
    error = fails(server, store, database, files)
    assert "repeatable=true" in error.remedy
    assert server.psql("SELECT sum(n) FROM t", database) == "3"
    files["002_c.sql"] = ALONE + "-- saasops: repeatable=true\n" + batches
    assert migrations.run(server, store, database, files).changed
    assert server.psql("SELECT sum(n) FROM t", database) == "0"


@on_one
def test_the_role_that_a_script_takes_on_needs_no_right_to_the_ledger(
    server: Server, database: str, store: Path
) -> None:
    server.psql("CREATE ROLE migrating_owner", database)
    try:
        files = {
            "001_t.sql": f"GRANT CREATE ON SCHEMA public TO migrating_owner; SET ROLE migrating_owner; {TWICE}",
            "002_r.sql": ALONE + "SET ROLE migrating_owner;\nVACUUM t;",
        }
        assert migrations.run(server, store, database, files).changed
        assert server.psql("SELECT tableowner FROM pg_tables WHERE tablename = 't'", database) == "migrating_owner"
    finally:
        server.psql("DROP OWNED BY migrating_owner; DROP ROLE migrating_owner", database)
