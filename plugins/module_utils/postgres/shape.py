# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the shape of one schema (domain.shape) from the catalogs.

The session's search_path must be pg_catalog, so that every name in a text is qualified and texts of two databases
can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import (
    Column,
    Foreign,
    Shape,
    Table,
    Trait,
    Unique,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# tables that are merged as a whole: not the partitions of another table of the same schema, not an extension's own
_TOPS = """
tops AS (
  SELECT c.oid, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname::text = {schema} AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
     AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a JOIN pg_class p ON p.oid = a.relid
                      WHERE c.relispartition AND a.relid <> c.oid AND p.relnamespace = c.relnamespace)
)
"""
_COLUMNS = (
    "WITH "
    + _TOPS
    + """
SELECT t.relname::text AS "table", t.relkind = 'p' AS partitioned, a.attname::text AS name,
       a.attgenerated::text AS generated, a.attidentity::text AS identity,
       (a.atttypid = 'oid'::regtype OR (y.typname = 'lo' AND y.typbasetype = 'oid'::regtype)) AS large_object,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
         || CASE WHEN a.attcollation <> y.typcollation
                 THEN ' COLLATE ' || a.attcollation::regcollation::text ELSE '' END
         || CASE a.attidentity WHEN 'a' THEN ' IDENTITY ALWAYS' WHEN 'd' THEN ' IDENTITY' ELSE '' END
         || CASE WHEN a.attgenerated <> '' THEN ' GENERATED ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END AS text
  FROM tops t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 ORDER BY t.relname, a.attnum
"""
)
_TABLES = (
    "WITH "
    + _TOPS
    + """
SELECT t.relname::text AS "table", t.relkind = 'p' AS partitioned,
       CASE t.relkind WHEN 'r' THEN json_build_array(t.relname) ELSE
         (SELECT json_agg(c.relname ORDER BY c.relname) FROM pg_partition_tree(t.oid) p
            JOIN pg_class c ON c.oid = p.relid WHERE p.isleaf AND c.relkind = 'r') END AS parts
  FROM tops t ORDER BY t.relname
"""
)
# an index's own operator class says what it takes for equal: citext has another idea of it than text
_UNIQUES = (
    "WITH "
    + _TOPS
    + """
SELECT t.relname::text AS "table", c.relname::text AS name, i.indisprimary AS "primary",
       i.indisexclusion AS exclusion, i.indisunique AS "unique", i.indimmediate AS immediate,
       {nulls:raw} AS nulls_equal, coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
       i.indexprs IS NULL AS plain, i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
         SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(number)
           JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number WHERE NOT a.attnotnull) AS keyable,
       (SELECT json_agg(pg_get_indexdef(i.indexrelid, p, true) ORDER BY p) FROM generate_series(1, i.indnkeyatts) p)
         AS expressions,
       (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1])
          WITH ORDINALITY AS k(number, place)
          JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number) AS columns,
       (SELECT json_agg((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_opclass q
            JOIN pg_amop m ON m.amopfamily = q.opcfamily AND m.amoplefttype = q.opcintype
             AND m.amoprighttype = q.opcintype AND m.amopstrategy = 3 AND m.amoppurpose = 's'
            JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
           WHERE q.oid = k.class) ORDER BY k.place)
          FROM unnest(i.indclass::oid[]) WITH ORDINALITY AS k(class, place)) AS operators
  FROM tops t JOIN pg_index i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
  JOIN pg_class c ON c.oid = i.indexrelid
 ORDER BY t.relname, i.indisprimary DESC, i.indnkeyatts, c.relname
"""
)
# a foreign key is one for its partitioned table, however many parts repeat it; one of a part counts for the top
_TOP_NAME = """
coalesce((SELECT p.relname::text FROM pg_partition_ancestors({oid}) WITH ORDINALITY AS a(relid, place)
            JOIN pg_class p ON p.oid = a.relid
           WHERE p.relnamespace = {alias}.relnamespace ORDER BY a.place DESC LIMIT 1), {alias}.relname::text)
"""
_FOREIGN = """
SELECT k.conname::text AS name, n.nspname::text AS schema, {from_top:raw} AS "table",
       m.nspname::text AS to_schema, {to_top:raw} AS to_table, k.confdeltype::text AS on_delete,
       k.confupdtype::text AS on_update,
       (SELECT json_agg(a.attname ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY AS u(number, place)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number) AS columns,
       (SELECT json_agg(a.attname ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY AS u(number, place)
          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number) AS to_columns,
       (SELECT json_agg(format('OPERATOR(%I.%s)', p.nspname, o.oprname) ORDER BY u.place)
          FROM unnest(k.conpfeqop) WITH ORDINALITY AS u(operator, place)
          JOIN pg_operator o ON o.oid = u.operator JOIN pg_namespace p ON p.oid = o.oprnamespace) AS operators
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace m ON m.oid = r.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0 AND {schema} IN (n.nspname::text, m.nspname::text)
 ORDER BY n.nspname, c.relname, k.conname
"""
# 'n' of pg_constraint (18) repeats attnotnull; a constraint trigger is a trigger
_CONSTRAINTS = (
    "WITH "
    + _TOPS
    + """
SELECT 'constraint' AS kind, t.relname::text AS object, pg_get_constraintdef(k.oid) AS text
  FROM tops t
  JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype IN ('p', 'u', 'f', 'c', 'x') AND k.conparentid = 0
UNION ALL
SELECT 'unique index', t.relname::text, regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', '')
  FROM tops t JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique AND i.indisvalid
 WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = t.oid)
UNION ALL
SELECT 'table', t.relname::text, CASE t.relkind WHEN 'p' THEN 'partitioned by ' || pg_get_partkeydef(t.oid)
       ELSE 'ordinary' || CASE WHEN (SELECT relispartition FROM pg_class WHERE oid = t.oid)
                               THEN ' partition' ELSE '' END END
  FROM tops t
UNION ALL
SELECT 'partition', format('%s of %s', l.relname, t.relname), pg_get_expr(l.relpartbound, l.oid)
  FROM tops t CROSS JOIN LATERAL pg_partition_tree(t.oid) p JOIN pg_class l ON l.oid = p.relid
 WHERE t.relkind = 'p' AND p.relid <> t.oid
UNION ALL
SELECT 'type', y.typname::text, CASE y.typtype
       WHEN 'e' THEN 'enum ' || (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                                   FROM pg_enum e WHERE e.enumtypid = y.oid)
       WHEN 'd' THEN concat_ws(' ', 'domain', format_type(y.typbasetype, y.typtypmod),
                               CASE WHEN y.typnotnull THEN 'NOT NULL' END,
                               (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY pg_get_constraintdef(k.oid))
                                  FROM pg_constraint k WHERE k.contypid = y.oid AND k.contype = 'c'))
       WHEN 'c' THEN 'composite ' || coalesce((
         SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
           FROM pg_attribute a WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')
       ELSE 'range' END
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
 WHERE n.nspname::text = {schema} AND (y.typtype IN ('e', 'd', 'r')
       OR (y.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = y.typrelid AND c.relkind = 'c')))
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_type'::regclass AND d.objid = y.oid AND d.deptype = 'e')
UNION ALL
SELECT 'sequence', c.relname::text, concat('increment ', s.seqincrement, ', ', s.seqmin, ' to ', s.seqmax)
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema}
"""
)


def _names(value: Json) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("list[Json]", value or []))


def _uniques(rows: list[Row]) -> dict[str, list[tuple[Row, Unique]]]:
    found: dict[str, list[tuple[Row, Unique]]] = {}
    for row in rows:
        item = Unique(
            name=str(row["name"]),
            expressions=_names(row["expressions"]),
            operators=tuple(str(o or "") for o in cast("list[Json]", row["operators"])),
            columns=_names(row["columns"]) if row["plain"] else (),
            predicate=str(row["predicate"]),
            nulls_equal=bool(row["nulls_equal"]),
            exclusion=bool(row["exclusion"]),
        )
        found.setdefault(str(row["table"]), []).append((row, item))
    return found


def _key(candidates: list[tuple[Row, Unique]]) -> Unique | None:
    """The primary key, or the first unique index over columns that are never null."""
    for row, item in candidates:
        if row["unique"] and row["keyable"] and not item.exclusion and all(item.operators):
            return item
    return None


def read_shape(session: Session, schema: str) -> Shape:
    """The schema as the session sees it; its search_path is pg_catalog."""
    nulls = "i.indnullsnotdistinct" if session.version >= 150000 else "false"
    columns: dict[str, list[Column]] = {}
    kinds: dict[str, tuple[bool, tuple[str, ...]]] = {}
    traits = []
    for row in session.rows(render(_TABLES, schema=schema)):
        columns[str(row["table"])] = []
        kinds[str(row["table"])] = (bool(row["partitioned"]), _names(row["parts"]))
    for row in session.rows(render(_COLUMNS, schema=schema)):
        name = str(row["table"])
        columns[name].append(
            Column(str(row["name"]), str(row["generated"]), str(row["identity"]), bool(row["large_object"]))
        )
        traits.append(Trait("column", f"{name}.{row['name']}", str(row["text"])))
    uniques = _uniques(session.rows(render(_UNIQUES, schema=schema, nulls=nulls)))
    for row in session.rows(render(_CONSTRAINTS, schema=schema)):
        traits.append(Trait(str(row["kind"]), str(row["object"]), str(row["text"])))
    tables = []
    for name, own in columns.items():
        candidates = uniques.get(name, [])
        key = _key(candidates)
        others = tuple(item for _row, item in candidates if item is not key)
        partitioned, parts = kinds[name]
        tables.append(Table(name, partitioned, tuple(own), key, others, parts))
    return Shape(schema, tuple(tables), read_foreign(session, schema), tuple(traits))


def read_foreign(session: Session, schema: str) -> tuple[Foreign, ...]:
    """The foreign keys that begin or end in the schema."""
    from_top, to_top = (_TOP_NAME.format(oid=f"{alias}.oid", alias=alias) for alias in ("c", "r"))
    return tuple(
        _foreign(row) for row in session.rows(render(_FOREIGN, schema=schema, from_top=from_top, to_top=to_top))
    )


def _foreign(row: Mapping[str, Json]) -> Foreign:
    return Foreign(
        name=str(row["name"]),
        schema=str(row["schema"]),
        table=str(row["table"]),
        columns=_names(row["columns"]),
        to_schema=str(row["to_schema"]),
        to_table=str(row["to_table"]),
        to_columns=_names(row["to_columns"]),
        operators=_names(row["operators"]),
        on_delete=str(row["on_delete"]),
        on_update=str(row["on_update"]),
    )
