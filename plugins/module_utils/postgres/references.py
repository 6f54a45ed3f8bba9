# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a database looks at one schema or hangs on it: views, publications, triggers, rules, large objects."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Shape, Surroundings, Trigger
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render

# internal ones keep foreign keys; a partition's clone of a trigger has a state of its own
_TRIGGERS = """
SELECT c.relname::text AS "table", t.tgname::text AS name, t.tgenabled::text AS state
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND NOT t.tgisinternal AND c.relkind IN ('r', 'p')
 ORDER BY c.relname, t.tgname
"""
_READERS = """
WITH RECURSIVE seen AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname::text = {schema} AND c.relkind IN ('r', 'p', 'v', 'm')
  UNION
  SELECT w.ev_class FROM seen s JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
    AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite w ON w.oid = d.objid
)
SELECT format('%s.%s', n.nspname, c.relname) AS name, c.relkind = 'm' AS stored
  FROM seen s JOIN pg_class c ON c.oid = s.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND n.nspname::text <> {schema} ORDER BY 1
"""
# depth: a materialized view may read another one, which must be refreshed before it
_OWN_VIEWS = """
WITH RECURSIVE reads AS (
  SELECT w.ev_class AS reader, d.refobjid AS source FROM pg_rewrite w
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
   WHERE d.refobjid <> w.ev_class
), deep AS (
  SELECT c.oid, 0 AS depth FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname::text = {schema} AND c.relkind IN ('v', 'm')
  UNION
  SELECT r.reader, deep.depth + 1 FROM deep JOIN reads r ON r.source = deep.oid WHERE deep.depth < 100
)
SELECT c.relname::text AS name, max(deep.depth) AS depth,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
                  AND i.indpred IS NULL AND i.indexprs IS NULL) AS concurrent
  FROM deep JOIN pg_class c ON c.oid = deep.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'm' AND c.relispopulated AND n.nspname::text = {schema}
 GROUP BY c.oid, c.relname ORDER BY max(deep.depth), c.relname
"""
_PUBLICATIONS = """
SELECT DISTINCT t.pubname::text AS name FROM pg_publication_tables t WHERE t.schemaname::text = {schema} ORDER BY 1
"""
_RULES = """
SELECT format('%s on %s', r.rulename, c.relname) AS name
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND c.relkind IN ('r', 'p') AND r.ev_enabled <> 'D' ORDER BY 1
"""
_ELSEWHERE = """
SELECT format('%s.%s of %s', m.nspname, l.relname, c.relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
  JOIN pg_namespace m ON m.oid = l.relnamespace
 WHERE n.nspname::text = {schema} AND c.relkind = 'p' AND (m.oid <> n.oid OR l.relkind = 'f') ORDER BY 1
"""
_FOREIGN_TABLES = """
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND c.relkind = 'f' ORDER BY 1
"""
# every schema that objects of this one need, however indirectly: types, functions, sequences, referenced tables
_NEEDED = """
WITH RECURSIVE own AS (
  SELECT d.classid, d.objid FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
   WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname::text = {schema}
), needed AS (
  SELECT classid, objid FROM own
  UNION
  SELECT next.classid, next.objid FROM needed x CROSS JOIN LATERAL (
    SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d
     WHERE d.classid = x.classid AND d.objid = x.objid AND d.refobjid >= 16384
    UNION ALL
    SELECT d.classid, d.objid FROM pg_depend d
     WHERE d.refclassid = x.classid AND d.refobjid = x.objid AND d.deptype IN ('a', 'i')
       AND x.classid IN ('pg_class'::regclass, 'pg_type'::regclass)
       AND d.classid IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass)
  ) next
)
SELECT DISTINCT n.nspname::text AS name
  FROM needed x LEFT JOIN pg_class c ON x.classid = 'pg_class'::regclass AND c.oid = x.objid
  LEFT JOIN pg_type t ON x.classid = 'pg_type'::regclass AND t.oid = x.objid
  LEFT JOIN pg_proc p ON x.classid = 'pg_proc'::regclass AND p.oid = x.objid
  LEFT JOIN pg_collation o ON x.classid = 'pg_collation'::regclass AND o.oid = x.objid
  LEFT JOIN pg_operator r ON x.classid = 'pg_operator'::regclass AND r.oid = x.objid
  LEFT JOIN pg_opclass q ON x.classid = 'pg_opclass'::regclass AND q.oid = x.objid
  LEFT JOIN pg_ts_config f ON x.classid = 'pg_ts_config'::regclass AND f.oid = x.objid
  JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace, p.pronamespace, o.collnamespace,
       r.oprnamespace, q.opcnamespace, f.cfgnamespace, CASE WHEN x.classid = 'pg_namespace'::regclass THEN x.objid END)
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname::text <> {schema}
UNION
SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname::text <> {schema}
"""


def read_surroundings(session: Session, schema: str) -> Surroundings:
    """What looks at the schema's tables, and what of it cannot be merged."""

    def names(sql: str) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in session.rows(render(sql, schema=schema)))

    readers = session.rows(render(_READERS, schema=schema))
    return Surroundings(
        triggers=read_triggers(session, schema),
        readers=tuple(str(row["name"]) for row in readers if not row["stored"]),
        stale=tuple(str(row["name"]) for row in readers if row["stored"]),
        own_views=tuple(
            (str(row["name"]), bool(row["concurrent"])) for row in session.rows(render(_OWN_VIEWS, schema=schema))
        ),
        publications=names(_PUBLICATIONS),
        rules=names(_RULES),
        elsewhere=names(_ELSEWHERE),
        foreign_tables=names(_FOREIGN_TABLES),
    )


def read_triggers(session: Session, schema: str) -> tuple[Trigger, ...]:
    """The users' triggers on the schema's tables, with their state."""
    return tuple(
        Trigger(str(row["table"]), str(row["name"]), str(row["state"]))
        for row in session.rows(render(_TRIGGERS, schema=schema))
    )


def needed_schemas(session: Session, schema: str) -> list[str]:
    """The other schemas without which the tables of this one cannot be created."""
    return [str(row["name"]) for row in session.rows(render(_NEEDED, schema=schema))]


def referenced_large_objects(session: Session, sources: list[tuple[str, str]]) -> list[int]:
    """Oids in the columns given as (table SQL, column) for which no large object exists; at most 1,000."""
    if not sources:
        return []
    union = " UNION ".join(
        f"SELECT {ident(column)}::oid AS oid FROM {table} WHERE {ident(column)}::oid <> 0" for table, column in sources
    )
    rows = session.rows(
        f"SELECT DISTINCT u.oid::bigint AS oid FROM ({union}) u"
        " WHERE NOT EXISTS (SELECT FROM pg_largeobject_metadata m WHERE m.oid = u.oid) ORDER BY 1 LIMIT 1000"
    )
    return [int(str(row["oid"])) for row in rows]


def tables_of(shape: Shape) -> list[tuple[str, str]]:
    """(table SQL, column) of every large-object column of a shape."""
    return [
        (f"{ident(shape.schema)}.{ident(table.name)}", column)
        for table in shape.tables
        for column in table.large_objects
    ]
