# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of one tenant on lab servers, and a tenant that has one of everything that makes this hard."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.execute import tenant as execute_tenant
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab.acts import context, parameters
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

DEFAULTS: Mapping[str, object] = {"set": "latest"}
SQL = Path(__file__).parent / "demo_sql"


def restore_tenant(
    server: Server,
    store: Path,
    database: str,
    tenant: str,
    *,
    check: bool = False,
    lines: list[str] | None = None,
    **changes: object,
) -> Result:
    """pg_restore_tenant in this process."""
    return execute_tenant.execute(
        parameters(server, store, database, {**DEFAULTS, "staging": str(store.parent), "tenant": tenant, **changes}),
        context(check, lines),
    )


def make_hard(server: Server, database: str) -> None:
    """Fill an empty database with public, org_a (the hard tenant) and org_b."""
    server.psql((SQL / "hard_tenant.sql").read_text(encoding="utf-8"), database)


def change_hard(server: Server, database: str) -> None:
    """Every kind of change in org_a, and one in org_b, as if the application had gone on."""
    server.psql((SQL / "hard_changes.sql").read_text(encoding="utf-8"), database)


_ROWS = """
SELECT c.relname,
       format('SELECT coalesce(string_agg(t::text, chr(10) ORDER BY t::text), %L) FROM ONLY %I.%I t',
              '', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {schema} AND c.relkind IN ('r', 'm') AND c.relispopulated ORDER BY 1
"""


def rows_of(server: Server, database: str, schema: str) -> dict[str, str]:
    """Every table and materialized view of a schema and its rows as text, asked for without the code under test."""
    with contextlib.closing(server.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SET row_security = off")
        cursor.execute(_ROWS.replace("{schema}", "$quoted$" + schema + "$quoted$"))
        found = {}
        for name, statement in cursor.fetchall():
            cursor.execute(statement)
            row = cursor.fetchone()
            assert row is not None
            found[str(name)] = str(row[0])
        return found


def changes_of(result: Result) -> dict[str, tuple[int, int, int, int]]:
    """Table -> rows inserted, updated, deleted, unchanged."""
    tables = result.evidence["tables"]
    assert isinstance(tables, list)
    return {t["table"]: (t["inserted"], t["updated"], t["deleted"], t["unchanged"]) for t in tables}


def undo_of(result: Result) -> Mapping[str, str]:
    """The way back."""
    found = result.evidence["undo"]
    assert isinstance(found, dict)
    return found


def leftovers(server: Server, database: str, store: Path) -> list[str]:
    """What a restore of a tenant makes and must remove: databases, schemas, sessions, folders."""
    found = server.psql(
        "SELECT datname FROM pg_database WHERE datname LIKE 'saasops_tenant%'"
        " UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'saasops%'"
        " UNION ALL SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'saasops-%'",
        database,
    ).split()
    return found + [str(path) for path in store.parent.glob("saasops-tenant-*")]
