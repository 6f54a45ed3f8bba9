# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables, materialized views and sequences a backup speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render


@dataclass(frozen=True, order=True)
class Relation:
    """A relation: kind r (ordinary table or leaf partition), p (partitioned parent), m (materialized view), S.

    condition is the WHERE clause of an extension's configuration table, '' when all rows count.
    bytes is the size on disk without indexes.
    """

    schema: str
    name: str
    oid: int
    kind: str
    populated: bool
    bytes: int
    condition: str

    @property
    def sql(self) -> str:
        """The qualified, quoted name."""
        return f"{ident(self.schema)}.{ident(self.name)}"


# A member of an extension is re-created by CREATE EXTENSION; only what pg_extension_config_dump named is dumped.
_RELATIONS = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relispopulated AS populated,
       CASE WHEN c.relkind = 'S' THEN 0 ELSE pg_table_size(c.oid) END AS bytes,
       coalesce(config.condition, '') AS condition
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  LEFT JOIN LATERAL (
       SELECT e.extcondition[array_position(e.extconfig, c.oid)] AS condition
         FROM pg_extension e
        WHERE e.oid = d.refobjid AND c.oid = ANY (e.extconfig)
  ) config ON true
 WHERE c.relkind::text = ANY ({kinds})
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (d.objid IS NULL OR config.condition IS NOT NULL)
   AND ({all_schemas} OR n.nspname::text = ANY ({schemas}))
 ORDER BY n.nspname, c.relname
"""


def relations(session: Session, kinds: str, schemas: Sequence[str] = ()) -> list[Relation]:
    """All relations of these kinds ("rpm", "S"), of all schemas or of the named ones."""
    sql = render(_RELATIONS, kinds=list(kinds), all_schemas=not schemas, schemas=list(schemas) or [""])
    return [
        Relation(
            schema=str(row["schema"]),
            name=str(row["name"]),
            oid=int(str(row["oid"])),
            kind=str(row["kind"]),
            populated=bool(row["populated"]),
            bytes=int(str(row["bytes"])),
            condition=str(row["condition"]),
        )
        for row in session.rows(sql)
    ]


def missing_schemas(session: Session, schemas: Sequence[str]) -> list[str]:
    """The names among schemas that do not exist."""
    if not schemas:
        return []
    sql = render(
        "SELECT wanted FROM unnest({schemas}) AS wanted"
        " WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname::text = wanted)",
        schemas=list(schemas),
    )
    return [str(row["wanted"]) for row in session.rows(sql)]


def matching_schemas(session: Session, patterns: Sequence[str]) -> list[str]:
    """The existing schemas that match shell-like patterns ("org_*"), sorted; system schemas never."""
    sql = render(
        "SELECT nspname::text AS name FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        " AND EXISTS (SELECT FROM unnest({likes}) AS p WHERE nspname LIKE p) ORDER BY nspname",
        likes=[
            p.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
            for p in patterns
        ]
        or [""],
    )
    return [str(row["name"]) for row in session.rows(sql)]
