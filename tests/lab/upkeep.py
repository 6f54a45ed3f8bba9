# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with tables that need maintenance, and what an independent look says of them."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.tests.lab.postgres import Server

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
              EXECUTE format('CREATE TABLE %I.%I (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)', t, k);
              EXECUTE format('INSERT INTO %I.%I SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, {rows}) g',
                             t, k);
            END LOOP;
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
