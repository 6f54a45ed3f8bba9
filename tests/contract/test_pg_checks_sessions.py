# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of sessions, each with its condition made real on a server, and once without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg2
import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.pg_checks import level, look, measured, outcome, sessions, until

pytestmark = pytest.mark.parametrize("server", [15, 18], indirect=True)


@pytest.fixture
def table(server: postgres.Server, database: str) -> str:
    """A database with the table job and one row in it."""
    server.psql("CREATE TABLE job (id int PRIMARY KEY, state text); INSERT INTO job VALUES (1, 'new')", database)
    return database


@pytest.fixture
def role(server: postgres.Server) -> Iterator[str]:
    server.psql("CREATE ROLE worker LOGIN PASSWORD 'w' CONNECTION LIMIT 4")
    yield "worker"
    server.psql("DROP ROLE worker")


def test_connections_are_held_against_the_ordinary_slots_and_the_limits_of_database_and_role(
    server: postgres.Server, database: str, role: str
) -> None:
    server.psql(f'ALTER DATABASE "{database}" CONNECTION LIMIT 5')
    quiet = look(server)
    assert level(quiet, "connections") == "ok"
    assert measured(quiet, "connections")[f"role {role}"].value == 0
    with sessions(server, 4, dbname=database, user=role, password="w"):
        survey = look(server)
    found = measured(survey, "connections")
    assert found[f"role {role}"].value == 100.0
    assert found[f"database {database}"].value == 80.0
    slots = 60 - 3
    assert f"of {slots} ordinary slots" in found[""].detail[0]
    assert level(survey, "connections") == "critical"
    assert outcome(survey, "connections").scope == f"role {role}"


@pytest.mark.parametrize(("more", "found"), [(0, "ok"), (1, "warning")])
def test_the_server_is_full_from_its_threshold_on(server: postgres.Server, more: int, found: str) -> None:
    with sessions(server, 5 + more):
        survey = look(server)
    used = int(str(measured(survey, "connections")[""].detail[0]).partition(" ")[0])
    limit = 100.0 * (used - more) / 57 + 0.1
    assert level(survey, "connections", warning=f"> {limit} %", critical="") == found


def test_an_open_transaction_is_measured_and_its_session_named(server: postgres.Server, table: str) -> None:
    assert level(look(server, table), "idle_in_transaction", warning="> 0.2 s") == "ok"
    with sessions(server, 1, dbname=table) as (one,):
        one.autocommit = False  # type: ignore[attr-defined]
        one.cursor().execute("UPDATE job SET state = 'old'")  # type: ignore[attr-defined]
        pid = one.info.backend_pid  # type: ignore[attr-defined]
        assert until(lambda: level(look(server), "idle_in_transaction", warning="> 0.2 s") == "warning")
        survey = look(server)
        for name in ("idle_in_transaction", "longest_transaction"):
            its = outcome(survey, name, warning="> 0.2 s")
            assert (its.level.value, its.scope) == ("warning", f"pid {pid}")
            assert its.remedy is not None
            assert (its.remedy.verb, dict(its.remedy.variables)) == ("sessions", {"pid": pid})
        assert "UPDATE job" in measured(survey, "idle_in_transaction")[f"pid {pid}"].detail[0]


def test_a_long_statement_is_measured_and_no_value_in_it_is_shown(server: postgres.Server) -> None:
    assert level(look(server), "longest_query", warning="> 0.2 s") == "ok"
    with sessions(server, 1) as (one,):
        text = "SELECT pg_sleep(20) /* password 'hunter2hunter2' */ WHERE 'ada@example.com' <> ''"
        worker = threading.Thread(target=_swallow, args=(one, text))
        worker.start()
        try:
            assert until(lambda: level(look(server), "longest_query", warning="> 0.2 s") == "warning")
            survey = look(server)
        finally:
            server.psql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%'")
            worker.join()
    shown = str(outcome(survey, "longest_query", warning="> 0.2 s").as_dict())
    assert "pg_sleep" in shown
    assert "hunter2" not in shown
    assert "ada@example.com" not in shown


def _swallow(one: object, text: str) -> None:
    try:
        one.cursor().execute(text)  # type: ignore[attr-defined]
    except psycopg2.Error:
        return


def test_blocked_sessions_are_a_tree_whose_root_is_what_to_end(server: postgres.Server, table: str) -> None:
    assert level(look(server, table), "blocked_sessions") == "ok"
    with sessions(server, 3, dbname=table) as (root, middle, last):
        root.autocommit = False  # type: ignore[attr-defined]
        root.cursor().execute("LOCK TABLE job")  # type: ignore[attr-defined]
        workers = [
            threading.Thread(target=_swallow, args=(one, "UPDATE job SET state = 'x'")) for one in (middle, last)
        ]
        for worker in workers:
            worker.start()
        try:
            assert until(lambda: measured(look(server), "blocked_count")[""].value == 2)
            survey = look(server)
        finally:
            root.rollback()  # type: ignore[attr-defined]
            for worker in workers:
                worker.join()
        pid = root.info.backend_pid  # type: ignore[attr-defined]
    its = outcome(survey, "blocked_sessions", warning=">= 0 s", critical="")
    assert its.scope == f"pid {pid}"
    assert its.remedy is not None
    assert dict(its.remedy.variables) == {"pid": pid}
    assert any("blocks 2" in line for line in its.detail)
    assert level(survey, "blocked_count", warning="> 1") == "warning"
    assert level(survey, "blocked_count", warning="> 2") == "ok"


def test_a_prepared_transaction_is_found_by_its_age_and_as_a_root(server: postgres.Server, table: str) -> None:
    assert measured(look(server), "prepared_transactions")[""].value == 0
    server.psql("BEGIN; UPDATE job SET state = 'p'; PREPARE TRANSACTION 'order 7'", table)
    with sessions(server, 1, dbname=table) as (one,):
        worker = threading.Thread(target=_swallow, args=(one, "UPDATE job SET state = 'x'"))
        worker.start()
        try:
            assert until(lambda: measured(look(server), "blocked_count")[""].value == 1)
            survey = look(server)
        finally:
            server.psql("ROLLBACK PREPARED 'order 7'", table)
            worker.join()
    its = outcome(survey, "prepared_transactions", warning="> 0 s")
    assert (its.level.value, its.scope) == ("warning", "gid order 7")
    blocked = outcome(survey, "blocked_sessions", warning=">= 0 s", critical="")
    assert blocked.scope == "gid order 7"
    assert blocked.remedy is not None
    assert dict(blocked.remedy.variables) == {"gid": "order 7"}


def test_the_holder_of_the_removable_horizon_is_named(server: postgres.Server, table: str) -> None:
    assert level(look(server, table), "removable_horizon", warning="> 50") == "ok"
    with sessions(server, 1, dbname=table) as (one,):
        one.autocommit = False  # type: ignore[attr-defined]
        one.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")  # type: ignore[attr-defined]
        server.psql(
            "DO $$ BEGIN FOR i IN 1..100 LOOP BEGIN INSERT INTO job VALUES (i + 1, ''); EXCEPTION WHEN unique_violation"
            " THEN NULL; END; END LOOP; END $$",
            table,
        )
        survey = look(server, table)
        pid = one.info.backend_pid  # type: ignore[attr-defined]
    its = outcome(survey, "removable_horizon", warning="> 50")
    assert (its.level.value, its.scope) == ("warning", f"session {pid}")
    assert its.remedy is not None
    assert dict(its.remedy.variables) == {"pid": pid}


@pytest.fixture
def watcher(server: postgres.Server) -> Iterator[str]:
    server.psql("CREATE ROLE watcher LOGIN PASSWORD 'w' IN ROLE pg_monitor; CREATE ROLE nobody_much LOGIN PASSWORD 'n'")
    yield "watcher"
    server.psql("DROP ROLE watcher; DROP ROLE nobody_much")


def test_pg_monitor_alone_sees_sessions_and_what_it_may_not_see_names_the_grant(
    server: postgres.Server, table: str, watcher: str
) -> None:
    server.psql("CREATE TABLE big AS SELECT generate_series(1, 20000) AS n; CREATE SEQUENCE s; ANALYZE", table)
    survey = look(server, table, user=watcher, password="w")
    for name in (
        "connections",
        "idle_in_transaction",
        "longest_query",
        "blocked_sessions",
        "removable_horizon",
        "wal_archiving",
        "wal_archive_waiting",
        "replication_slots",
        "settings",
        "deadlocks",
        "invalid_indexes",
        "freeze_age",
    ):
        assert level(survey, name) != "inconclusive", name
    for name in ("table_bloat", "sequences"):
        its = outcome(survey, name)
        assert its.level.value == "inconclusive", name
        assert "needs GRANT pg_read_all_data TO watcher" in its.why
    server.psql("GRANT pg_read_all_data TO watcher")
    survey = look(server, table, user=watcher, password="w")
    assert level(survey, "table_bloat") == "ok"
    assert level(survey, "sequences") == "ok"


def test_a_role_without_pg_monitor_is_never_told_that_all_is_well(
    server: postgres.Server, table: str, watcher: str
) -> None:
    survey = look(server, table, user="nobody_much", password="n")
    for name in ("connections", "idle_in_transaction", "longest_query", "removable_horizon", "wal_archive_waiting"):
        its = outcome(survey, name)
        assert its.level.value == "inconclusive", name
        assert "GRANT pg_monitor TO nobody_much" in its.why, its.why
