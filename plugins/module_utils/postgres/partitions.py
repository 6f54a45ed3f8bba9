# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions that hold nothing but old rows, and how one goes as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import TableFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import table_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

# ordinary leaves right below a table that is partitioned by the range of one column, whose upper bound is past;
# ours: what the owner alone may do; alone: nothing but the table itself hangs on it
_OLD = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, b.bounds,
       pg_has_role(c.relowner, 'USAGE') AND pg_has_role(p.relowner, 'USAGE') AS ours,
       NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                      AND d.classid = 'pg_rewrite'::regclass)
         AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f') AS alone
  FROM pg_class p JOIN pg_partitioned_table k ON k.partrelid = p.oid
  JOIN pg_attribute a ON a.attrelid = p.oid AND a.attname::text = {column}
  JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bounds) b
 WHERE p.oid = {oid} AND k.partstrat = 'r' AND k.partnatts = 1 AND k.partattrs[0] = a.attnum AND c.relkind = 'r'
   AND CASE WHEN b.bounds ~ $re$ TO \\('[^']*'\\)$$re$
            THEN (regexp_match(b.bounds, $re$ TO \\('([^']*)'\\)$$re$))[1]::{kind:raw} <= {cutoff:raw} END
 ORDER BY b.bounds
"""


@dataclass(frozen=True)
class Partition:
    """A leaf with bounds as pg_get_expr writes them. ours: we may drop it; alone: no view or foreign key uses it."""

    schema: str
    name: str
    bounds: str
    ours: bool
    alone: bool

    @property
    def sql(self) -> str:
        return table_sql(self.schema, self.name)


def old_partitions(session: Session, facts: TableFacts, column: str, cutoff: float, zone: str) -> list[Partition]:
    """The partitions that end at or before the cut-off."""
    if facts.kind != "p" or not facts.has(column):
        return []
    kind = facts.type_of(column)
    moment = f"{literal(iso(cutoff))}::timestamptz"
    if not kind.endswith("with time zone") or kind.endswith("without time zone"):
        moment = f"({moment} AT TIME ZONE {literal(zone)})"
    if kind == "date":
        moment = f"{moment}::date"
    rows = session.rows(render(_OLD, oid=facts.oid, column=column, kind=kind, cutoff=moment))
    return [
        Partition(str(row["schema"]), str(row["name"]), str(row["bounds"]), bool(row["ours"]), bool(row["alone"]))
        for row in rows
    ]


def digest_sql(partition: Partition, key: Sequence[str]) -> str:
    """Number and checksum of all rows by key and version; the order of rows plays no part."""
    named = " || '|' || ".join(f"t.{ident(name)}::text" for name in key)
    return (
        "SELECT count(*) AS rows, coalesce(sum(hashtextextended("
        f"{named} || '|' || t.xmin::text, 0)::numeric), 0)::text AS sum FROM {partition.sql} AS t"
    )


def exists_sql(partition: Sequence[str]) -> str:
    """Whether a relation has the name of a partition. partition: schema, name, bounds."""
    return render(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname::text = {schema} AND c.relname::text = {name}) AS there",
        schema=partition[0],
        name=partition[1],
    )


def attach_sql(root: TableFacts, partition: Sequence[str], version: int) -> tuple[str, str]:
    """Make a dropped partition anew, empty. partition: schema, name, bounds.

    Not by CREATE TABLE ... PARTITION OF, which locks the partitioned table against everybody. Indexes, row triggers,
    foreign keys and (from 17 on) identity come with ATTACH.
    """
    schema, name, bounds = partition
    table, above = table_sql(schema, name), table_sql(root.schema, root.name)
    kinds = ["DEFAULTS", "CONSTRAINTS", "GENERATED", "STORAGE"] + (["COMPRESSION"] if version >= 140000 else [])
    like = f"LIKE {above} " + " ".join(f"INCLUDING {kind}" for kind in kinds)
    return f"CREATE TABLE {table} ({like})", f"ALTER TABLE {above} ATTACH PARTITION {table} {bounds}"
