# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with tables that need maintenance, and what an independent look says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

if TYPE_CHECKING:
    from psycopg2.extensions import connection

TABLES = ("orders", "events", "campaigns", "approvals")


def tenants(server: Server, database: str, *, count: int, rows: int) -> None:
    """Schemas org_1 ... org_<count> with four tables each, vacuumed and analyzed; autovacuum is off for them."""
    names = ", ".join(f"'{name}'" for name in TABLES)
    server.psql(
        f"""
        DO $$ DECLARE t text; k text; BEGIN
          FOR t IN SELECT 'org_' || n FROM generate_series(1, {count}) n LOOP
            EXECUTE format('CREATE SCHEMA %I', t);
            FOREACH k IN ARRAY ARRAY[{names}] LOOP
              EXECUTE format('CREATE TABLE %I.%I (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)',
                             t, k);
              EXECUTE format('INSERT INTO %I.%I SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, {rows}) g',
                             t, k);
            END LOOP;
            COMMIT;
          END LOOP;
        END $$
        """,
        db=database,
    )
    vacuum(server, database)


def vacuum(server: Server, database: str) -> None:
    """VACUUM ANALYZE of everything, in a session of its own: counters of the writing session must be there before."""
    server.psql("VACUUM ANALYZE", db=database)


def delete_a_third(server: Server, database: str, tables: Sequence[str]) -> None:
    server.psql("".join(f"DELETE FROM {name} WHERE id % 3 = 0;" for name in tables), db=database)


def make_bloated(server: Server, database: str, table: str) -> None:
    """Four fifths of the rows go, spread over all pages, so that none of them can be cut off."""
    server.psql(f"DELETE FROM {table} WHERE id % 5 <> 0", db=database)


def dead(server: Server, database: str) -> dict[str, int]:
    """Tables with dead rows of the tenants' schemas, by the statistics."""
    found = server.psql(
        "SELECT schemaname || '.' || relname, n_dead_tup FROM pg_stat_user_tables"
        " WHERE n_dead_tup > 0 AND schemaname LIKE 'org%' ORDER BY 1",
        db=database,
    )
    return {name: int(count) for name, count in (line.split("|") for line in found.splitlines())}


def size(server: Server, database: str, relation: str) -> int:
    return int(server.psql(f"SELECT pg_relation_size('{relation}')", db=database))


def maintain(
    server: Server,
    store: Path,
    database: str,
    *,
    check: bool = False,
    lines: list[str] | None = None,
    windows: tuple[str, ...] = (),
    **options: object,
) -> Result:
    """pg_maintenance of a database of a lab server; lines gets what it shows and warns of."""
    context = replace(acts.context(check, lines), windows=windows)
    return maintenance.execute(acts.parameters(server, store, database, options), context)


def inventory_of(server: Server, store: Path, database: str, options: Mapping[str, object], **more: object) -> Path:
    """An inventory of one host for the playbook maintenance, beside the store; options are saasops_maintenance."""
    folder = store.parent / "run"
    folder.mkdir(exist_ok=True)
    return inventory(
        folder,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_maintenance": dict(options),
            **more,
        },
    )


def bloat(server: Server, database: str) -> None:
    """A table of 20,000 rows of which one in ten is left, vacuumed: table and index are nine tenths air."""
    server.psql(
        "CREATE TABLE orders (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off);"
        "INSERT INTO orders SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, 20000) g",
        db=database,
    )
    server.psql("DELETE FROM orders WHERE id % 10 <> 0", db=database)
    vacuum(server, database)


def outcomes(result: Result) -> list[tuple[str, str]]:
    """(kind, outcome) of every act that was begun, in the order of their ends."""
    found = cast("list[Mapping[str, object]]", result.evidence["acts"])
    return [(str(item["kind"]), str(item["outcome"])) for item in found]


def done(result: Result) -> dict[tuple[str, str], Mapping[str, object]]:
    """What was done, by (kind, table)."""
    found = cast("list[Mapping[str, object]]", result.evidence["acts"])
    return {(str(item["kind"]), str(item["table"])): item for item in found if item["outcome"] == "done"}


def planned(result: Result) -> list[tuple[str, str]]:
    """(kind, table) of every act of a plan, in its order."""
    return [] if result.plan is None else [(action.kind, action.object) for action in result.plan.actions]


@contextmanager
def transaction(server: Server, database: str, *statements: str) -> Iterator[connection]:
    """A session with an open transaction that has run these statements."""
    opened = server.connect(database)
    opened.autocommit = False
    try:
        with opened.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield opened
    finally:
        opened.close()


@contextmanager
def at_work(server: Server, database: str, *statements: str) -> Iterator[threading.Thread]:
    """A session of somebody else that works through statements beside us; it is cancelled at the end."""
    import psycopg2

    with closing(server.connect(database)) as opened, opened.cursor() as cursor:

        def work() -> None:
            with suppress(psycopg2.Error):
                for statement in statements:
                    cursor.execute(statement)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            opened.cancel()
            thread.join(10)


def wait_until(server: Server, sql: str, database: str = "postgres", seconds: float = 10.0) -> None:
    """Until a query gives true. Raises AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while server.psql(sql, db=database) != "t":
        assert time.monotonic() < deadline, sql
        time.sleep(0.02)


def break_rebuild(server: Server, database: str, table: str, index: str) -> None:
    """Leave an invalid index behind: REINDEX CONCURRENTLY that is cancelled while it waits for a writer."""
    with (
        transaction(server, database, f"INSERT INTO {table} VALUES (-99)"),
        at_work(server, database, f"REINDEX INDEX CONCURRENTLY {index}"),
    ):
        wait_until(server, "SELECT count(*) = 1 FROM pg_stat_progress_create_index")
        wait_until(server, "SELECT count(*) = 1 FROM pg_index WHERE NOT indisvalid", database)
    wait_until(server, "SELECT count(*) = 0 FROM pg_stat_progress_create_index")
