# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source sql on real servers: once and in every tenant's schema, in sessions that can write nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options
from ansible_collections.saasops.runbook.plugins.module_utils.measure.sql import ask_all, read_query
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Row, Session
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.health import checks_of, measure, one
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

TENANTS = 500
WAITING = 'SELECT id, name FROM {schema}."Job" WHERE waits'


@pytest.fixture(scope="module")
def tenants(server15: Server) -> Iterator[str]:
    """A database with 500 tenants' schemas; job 1 of org_007 and of org_499 waits, org_013 has no table of jobs."""
    server15.createdb("health_tenants")
    with server15.connect("health_tenants") as session, session.cursor() as cursor:
        for number in range(TENANTS):
            cursor.execute(
                f'CREATE SCHEMA org_{number:03d}; CREATE TABLE org_{number:03d}."Job" (id int, name text, waits bool)'
            )
            cursor.execute(f"INSERT INTO org_{number:03d}.\"Job\" VALUES (1, 'first', {number in (7, 499)})")
        cursor.execute('DROP TABLE org_013."Job"')
        for name in ('"org_we""ird\\"', "orgx"):
            cursor.execute(f'CREATE SCHEMA {name}; CREATE TABLE {name}."Job" AS TABLE org_001."Job"')
        cursor.execute('UPDATE orgx."Job" SET waits = true')
    session.close()
    yield "health_tenants"
    server15.dropdb("health_tenants")


class Counting:
    """A session that counts its round trips."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self.trips = 0

    @property
    def pid(self) -> int:
        return self._inner.pid

    @property
    def version(self) -> int:
        return self._inner.version

    def rows(self, sql: str) -> list[Row]:
        self.trips += 1
        return self._inner.rows(sql)

    def value(self, sql: str) -> Json:
        self.trips += 1
        return self._inner.value(sql)

    def run(self, sql: str) -> None:
        self.trips += 1
        self._inner.run(sql)

    def close(self) -> None:
        self._inner.close()


def test_every_tenant_is_asked_not_one_and_those_that_cannot_be_are_named(server15: Server, tenants: str) -> None:
    given = {"name": "waiting", "sql": {"query": WAITING, "each_tenant": True, "count": True}, "critical": "> 0"}
    found = checks_of(measure(given, server=server15, database=tenants, tenant_schemas=["org_*"]))["waiting"]
    assert (found["level"], found["scopes"], found["not_ok"]) == ("critical", TENANTS + 1, 3)
    detail = "\n".join(map(str, found["detail"]))  # type: ignore[call-overload]
    assert "critical: org_007: 1, critical when > 0" in detail
    assert "critical: org_499" in detail
    assert "id=1 name=first" in detail
    assert "inconclusive: org_013" in detail
    assert "does not exist" in detail
    assert "orgx" not in detail


@pytest.mark.parametrize("session", ["psycopg", "psql"])
def test_five_hundred_tenants_take_few_round_trips(server15: Server, tenants: str, session: str) -> None:
    target = Target.from_params(connection(server15, session=session))
    counting = Counting(target.session(tenants))
    options = Options("x", {"query": WAITING, "each_tenant": True, "count": True}, 30)
    began = time.monotonic()
    ((_name, found),) = ask_all(counting, [read_query(Check("x", "sql"), options, ["org_[0-9]*", "org_*"])])
    taken = time.monotonic() - began
    counting.close()
    assert len(found) == TENANTS + 1
    # six unions; one of them is halved down to the broken schema
    assert counting.trips < 100
    assert taken < 60


def test_a_query_without_the_schema_or_without_tenants_is_refused(server15: Server) -> None:
    for sql, params in (
        ({"query": 'SELECT 1 FROM "Job"', "each_tenant": True}, {"tenant_schemas": ["org_*"]}),
        ({"query": WAITING, "each_tenant": True}, {"tenant_schemas": []}),
        ({"query": WAITING}, {"tenant_schemas": ["org_*"]}),
        ({"query": " ; "}, {}),
    ):
        with pytest.raises(OpsError) as refused:
            measure({"name": "x", "sql": sql}, server=server15, database="postgres", **params)
        assert refused.value.code == "bad_check"


@pytest.mark.parametrize("session", ["psycopg", "psql"])
@pytest.mark.parametrize(
    ("query", "changes", "level", "value", "scopes", "why"),
    [
        ("SELECT 3", {}, "ok", 3, 1, "3, critical when > 5"),
        ("SELECT 7;", {}, "critical", 7, 1, ""),
        ("SELECT 5.5::numeric -- half", {}, "critical", 5.5, 1, ""),
        ("SELECT NULL::int", {}, "inconclusive", None, 1, "NULL"),
        ("SELECT 1 WHERE false", {}, "inconclusive", None, 1, "no row"),
        ("SELECT 'NaN'::float8", {}, "inconclusive", "NaN", 1, "is no number"),
        ("SELECT 'x'", {}, "inconclusive", "x", 1, "is no number"),
        ("SELECT 1 AS a, 2 AS b", {}, "inconclusive", None, 1, "none is named value"),
        (
            "SELECT n AS value, 'job ' || n AS scope, n * 2 AS twice FROM generate_series(4, 6) n",
            {},
            "critical",
            6,
            3,
            "job 6",
        ),
        ("SELECT 9 AS value, 2 AS samples", {"minimum_samples": 3}, "inconclusive", 9, 1, "only 2 of at least 3"),
        ("SELECT 9 AS value, 3 AS samples", {"minimum_samples": 3}, "critical", 9, 1, ""),
        ("SELECT generate_series(1, 2000)", {}, "inconclusive", None, 1, "more than 1000 rows"),
        ("SELECT array[1]", {}, "inconclusive", None, 1, "not a single one"),
        ("SELECT 1 / 0", {}, "inconclusive", None, 1, "division by zero"),
        ("SELEKT 1", {}, "inconclusive", None, 1, "syntax error"),
        ("SELECT count(*) FROM nowhere", {}, "inconclusive", None, 1, "does not exist"),
        ("SELECT pg_sleep(20)", {"timeout": 0.5}, "inconclusive", None, 1, "statement timeout"),
    ],
)
def test_a_value_is_judged_and_what_is_none_says_why(
    server15: Server,
    session: str,
    query: str,
    changes: dict[str, object],
    level: str,
    value: object,
    scopes: int,
    why: str,
) -> None:
    result = measure(
        {"name": "x", "sql": {"query": query}, "critical": "> 5", **changes},
        {"name": "after", "sql": {"query": "SELECT 1"}, "critical": "> 5"},
        database="postgres",
        connection=connection(server15, session=session),
    )
    found = checks_of(result)
    assert (found["x"]["level"], found["x"]["value"], found["x"]["scopes"]) == (level, value, scopes)
    assert why in str(found["x"]["why"])
    assert found["after"]["level"] == "ok"


def test_counted_rows_are_shown_and_all_are_counted(server15: Server) -> None:
    sql = {"query": "SELECT n, repeat('long ', 50) AS text FROM generate_series(1, 5000) n", "count": True}
    found = one({"sql": sql, "critical": "> 0"}, server=server15, database="postgres")
    assert found["value"] == 5000
    assert str(found["detail"][0]).startswith("n=1 text=long long")  # type: ignore[index]
    assert len(str(found["detail"][0])) < 100  # type: ignore[index]


def test_a_check_cannot_write(server15: Server, database_of_health: str) -> None:
    for query in ("INSERT INTO t VALUES (1) RETURNING 1", "SELECT nextval('s')"):
        found = one({"sql": {"query": query}}, server=server15, database=database_of_health)
        assert found["level"] == "inconclusive", query
    # a large object gets past READ ONLY before PostgreSQL 16, and not past the rollback
    one({"sql": {"query": "SELECT lo_create(77)"}}, server=server15, database=database_of_health)
    with server15.connect(database_of_health) as session, session.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM t), is_called, (SELECT count(*) FROM pg_largeobject_metadata) FROM s"
        )
        assert cursor.fetchone() == (0, False, 0)
    session.close()


@pytest.fixture
def database_of_health(server15: Server) -> Iterator[str]:
    server15.createdb("health_rights")
    with server15.connect("health_rights") as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a int); CREATE SEQUENCE s; CREATE SCHEMA org_a; CREATE SCHEMA org_b")
        cursor.execute("CREATE TABLE org_a.t AS SELECT 1 AS a; CREATE TABLE org_b.t AS SELECT 1 AS a")
    session.close()
    yield "health_rights"
    server15.dropdb("health_rights")


def test_a_locked_table_makes_its_tenant_inconclusive_and_holds_nobody_up(
    server15: Server, database_of_health: str
) -> None:
    holder = server15.connect(database_of_health)
    holder.autocommit = False
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE org_b.t")
        began = time.monotonic()
        found = one(
            {"sql": {"query": "SELECT a FROM {schema}.t", "schemas": ["org_*"]}, "critical": "> 5"},
            server=server15,
            database=database_of_health,
        )
        taken = time.monotonic() - began
    holder.rollback()
    holder.close()
    assert (found["level"], found["scopes"], found["not_ok"]) == ("inconclusive", 2, 1)
    assert "org_b" in str(found["why"])
    assert "lock timeout" in str(found["why"])
    assert taken < 30


def test_a_missing_grant_is_named_and_a_missing_server_or_database_too(
    server15: Server, database_of_health: str
) -> None:
    with server15.connect(database_of_health) as session, session.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS health_reader; CREATE ROLE health_reader LOGIN PASSWORD 'h'")
    session.close()
    given = {"name": "x", "sql": {"query": "SELECT count(*) FROM t"}}
    reader = connection(server15, user="health_reader", password="h")
    missing = checks_of(measure(given, database=database_of_health, connection=reader))["x"]
    gone = checks_of(measure(given, database=database_of_health, connection=connection(server15, port=1)))["x"]
    unknown = checks_of(measure(given, database="no_such", connection=connection(server15)))["x"]
    nowhere = checks_of(measure(given, connection=connection(server15)))["x"]
    for found, why in (
        (missing, "permission denied for table t"),
        (gone, "server_unreachable"),
        (unknown, "unknown_database"),
        (nowhere, "not_configured"),
    ):
        assert found["level"] == "inconclusive"
        assert why in str(found["why"])


def test_a_session_that_is_ended_leaves_the_rest_inconclusive(server15: Server) -> None:
    result = measure(
        {"name": "end", "sql": {"query": "SELECT pg_terminate_backend(pg_backend_pid())"}},
        {"name": "next", "sql": {"query": "SELECT 1"}},
        {"name": "other", "command": {"argv": ["/bin/true"]}},
        server=server15,
        database="postgres",
    )
    assert {name: item["level"] for name, item in checks_of(result).items()} == {
        "end": "inconclusive",
        "next": "inconclusive",
        "other": "ok",
    }
