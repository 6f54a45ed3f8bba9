# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read tables, their indexes and who builds some.

Under search_path = pg_catalog (fix_names), so that every name is written whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition, Key
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import (
    Builder,
    ForeignKey,
    Index,
    Table,
    TableColumn,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# pg_index has this column from 15 on; before, NULLs were always distinct
NULLS_NOT_DISTINCT_SINCE = 150000

_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.reltuples::float8 AS rows, pg_table_size(c.oid) AS bytes,
       pg_has_role(c.relowner, 'USAGE') AS owned, pg_get_userbyid(c.relowner)::text AS owner,
       (EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid)
        OR EXISTS (SELECT FROM pg_operator o WHERE o.oprnamespace = n.oid)
        OR EXISTS (SELECT FROM pg_collation k WHERE k.collnamespace = n.oid)
        OR EXISTS (SELECT FROM pg_opclass k WHERE k.opcnamespace = n.oid)
        OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typrelid = 0 AND t.typelem = 0)
       ) AS own_words,
       (SELECT json_agg(json_build_object(
                   'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'generated', a.attgenerated,
                   'schema', coalesce(kn.nspname, ''), 'collation', coalesce(k.collname, '')) ORDER BY a.attnum)
          FROM pg_attribute a
          LEFT JOIN pg_collation k ON k.oid = a.attcollation
          LEFT JOIN pg_namespace kn ON kn.oid = k.collnamespace
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT json_agg(coalesce(a.attname, '') ORDER BY k.place)
          FROM pg_partitioned_table p
          CROSS JOIN unnest(p.partattrs::int2[]) WITH ORDINALITY AS k (number, place)
          LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number > 0
         WHERE p.partrelid = c.oid) AS partition_key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'f') AND {which}
 ORDER BY n.nspname, c.relname
"""

_INDEXES = """
SELECT i.indexrelid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, i.indrelid::bigint AS table,
       am.amname::text AS method, i.indisunique AS unique, i.indisvalid AS valid, i.indisready AS ready,
       i.indislive AS live, i.indisreplident AS replica_identity, i.indisclustered AS clustered,
       c.relkind = 'I' AS partitioned, {nulls} AS nulls_not_distinct,
       coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
       coalesce((SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace), '') AS tablespace,
       coalesce((SELECT json_agg(o ORDER BY o) FROM unnest(c.reloptions) AS o), '[]'::json) AS options,
       pg_get_indexdef(i.indexrelid) AS text,
       CASE WHEN c.relkind = 'i' THEN pg_relation_size(i.indexrelid) ELSE 0 END AS bytes,
       coalesce(con.conname, '') AS constraint_name, coalesce(con.contype::text, '') AS constraint_type,
       coalesce((SELECT inhparent::bigint FROM pg_inherits h WHERE h.inhrelid = i.indexrelid LIMIT 1), 0) AS parent,
       coalesce((SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.deptype = 'e'), '')
           AS extension,
       (SELECT coalesce(json_agg(f.conname || ' of ' || f.conrelid::regclass::text ORDER BY f.conname), '[]'::json)
          FROM pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f') AS rests,
       (SELECT u.idx_scan FROM pg_stat_all_indexes u WHERE u.indexrelid = i.indexrelid) AS scans,
       (SELECT json_agg(json_build_object(
                   'text', pg_get_indexdef(i.indexrelid, k.place, false),
                   'column', coalesce(a.attname, ''), 'key', k.place <= i.indnkeyatts,
                   'opclass', o.opcname, 'opclass_schema', onsp.nspname,
                   'collation', coalesce(co.collname, ''), 'collation_schema', coalesce(cn.nspname, ''),
                   'option', coalesce(i.indoption[k.place - 1], 0),
                   'parameters', coalesce(to_json(ia.attoptions), '[]'::json)) ORDER BY k.place)
          FROM generate_series(1, i.indnatts) AS k (place)
          JOIN pg_attribute ia ON ia.attrelid = i.indexrelid AND ia.attnum = k.place
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place - 1] AND a.attnum <> 0
          LEFT JOIN pg_opclass o ON k.place <= i.indnkeyatts AND o.oid = i.indclass[k.place - 1]
          LEFT JOIN pg_namespace onsp ON onsp.oid = o.opcnamespace
          LEFT JOIN pg_collation co ON k.place <= i.indnkeyatts AND co.oid = i.indcollation[k.place - 1]
          LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace) AS keys
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am am ON am.oid = c.relam
  LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
       AND con.contype IN ('p', 'u', 'x')
 WHERE {which}
 ORDER BY n.nspname, c.relname
"""

_LEAVES = """
SELECT t.relid::oid::bigint AS oid, coalesce(t.parentrelid::oid::bigint, 0) AS parent, t.isleaf AS leaf, t.level
  FROM pg_partition_tree({oid}::oid::regclass) t ORDER BY t.level, t.relid
"""

_FOREIGN_KEYS = """
SELECT f.conrelid::bigint AS oid, f.conname::text AS name, f.confrelid::regclass::text AS table,
       (SELECT json_agg(a.attname ORDER BY k.place)
          FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number) AS columns
  FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = ANY ({tables}::oid[])
 ORDER BY f.conname
"""

# a role without pg_read_all_stats sees the pid alone; the lock that every builder holds is shown to everybody
_BUILDERS = """
SELECT p.pid, coalesce(p.relid::bigint, 0) AS table, coalesce(p.index_relid::bigint, 0) AS index,
       coalesce(p.phase, '') AS phase, concat_ws(', ', a.usename, nullif(a.application_name, '')) AS who,
       (SELECT coalesce(json_agg(DISTINCT l.relation::bigint), '[]'::json) FROM pg_locks l
         WHERE l.pid = p.pid AND l.locktype = 'relation' AND l.granted
           AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock')) AS locked
  FROM pg_stat_progress_create_index p
  LEFT JOIN pg_stat_activity a ON a.pid = p.pid
 WHERE p.datname = current_database() AND p.pid <> ALL ({own})
   AND coalesce(a.application_name, '') <> {mark}
"""


def fix_names(session: Session) -> None:
    """From here on the server writes every name with its schema."""
    session.run("SET search_path = pg_catalog")


def _pairs(found: object) -> Sequence[Mapping[str, object]]:
    return cast("Sequence[Mapping[str, object]]", found or [])


def _strings(found: object) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("Sequence[object]", found or []))


def _table(row: Row) -> Table:
    return Table(
        oid=int(str(row["oid"])),
        schema=str(row["schema"]),
        name=str(row["name"]),
        kind=str(row["kind"]),
        rows=float(str(row["rows"])),
        bytes=int(str(row["bytes"] or 0)),
        columns=tuple(
            TableColumn(
                str(one["name"]),
                str(one["type"]),
                (str(one["schema"]), str(one["collation"])),
                str(one["generated"]).strip(),
            )
            for one in _pairs(row["columns"])
        ),
        partition_key=_strings(row["partition_key"]),
        own_words=bool(row["own_words"]),
        owned=bool(row["owned"]),
        owner=str(row["owner"]),
    )


def _definition(row: Row) -> Definition:
    keys = [one for one in _pairs(row["keys"]) if one["key"]]
    return Definition(
        method=str(row["method"]),
        keys=tuple(
            Key(
                text=str(one["text"]),
                column=str(one["column"]),
                opclass=(str(one["opclass_schema"]), str(one["opclass"])),
                collation=(str(one["collation_schema"]), str(one["collation"])),
                parameters=tuple(sorted(_strings(one["parameters"]))),
                option=int(str(one["option"])),
            )
            for one in keys
        ),
        include=tuple(str(one["column"]) for one in _pairs(row["keys"]) if not one["key"]),
        predicate=str(row["predicate"]),
        unique=bool(row["unique"]),
        nulls_not_distinct=bool(row["nulls_not_distinct"]),
        options=_strings(row["options"]),
        tablespace=str(row["tablespace"]),
    )


def _index(row: Row) -> Index:
    return Index(
        oid=int(str(row["oid"])),
        schema=str(row["schema"]),
        name=str(row["name"]),
        table=int(str(row["table"])),
        definition=_definition(row),
        text=str(row["text"]),
        valid=bool(row["valid"]),
        ready=bool(row["ready"]),
        live=bool(row["live"]),
        bytes=int(str(row["bytes"] or 0)),
        constraint=(str(row["constraint_name"]), str(row["constraint_type"])),
        replica_identity=bool(row["replica_identity"]),
        clustered=bool(row["clustered"]),
        partitioned=bool(row["partitioned"]),
        parent=int(str(row["parent"])),
        extension=str(row["extension"]),
        rests=_strings(row["rests"]),
        scans=None if row["scans"] is None else int(str(row["scans"])),
    )


def tables_named(session: Session, pairs: Sequence[tuple[str, str]]) -> list[Table]:
    """Tables, materialized views and foreign tables by (schema, name); those that do not exist are left out."""
    if not pairs:
        return []
    which = render(
        "(n.nspname::text, c.relname::text) IN (SELECT * FROM unnest({schemas}::text[], {names}::text[]))",
        schemas=[schema for schema, _name in pairs],
        names=[name for _schema, name in pairs],
    )
    return [_table(row) for row in session.rows(_TABLES.replace("{which}", which))]


def tables_by_oid(session: Session, oids: Sequence[int]) -> list[Table]:
    """The same by oid."""
    if not oids:
        return []
    which = render("c.oid = ANY ({oids}::oid[])", oids=list(oids))
    return [_table(row) for row in session.rows(_TABLES.replace("{which}", which))]


def _indexes(session: Session, which: str) -> list[Index]:
    nulls = "i.indnullsnotdistinct" if session.version >= NULLS_NOT_DISTINCT_SINCE else "false"
    return [_index(row) for row in session.rows(_INDEXES.replace("{nulls}", nulls).replace("{which}", which))]


def indexes_of(session: Session, tables: Sequence[int]) -> list[Index]:
    """All indexes of these tables (oids), invalid ones too."""
    if not tables:
        return []
    return _indexes(session, render("i.indrelid = ANY ({tables}::oid[])", tables=list(tables)))


def indexes_named(session: Session, pairs: Sequence[tuple[str, str]]) -> list[Index]:
    """Indexes by (schema, name)."""
    if not pairs:
        return []
    which = render(
        "(n.nspname::text, c.relname::text) IN (SELECT * FROM unnest({schemas}::text[], {names}::text[]))",
        schemas=[schema for schema, _name in pairs],
        names=[name for _schema, name in pairs],
    )
    return _indexes(session, which)


def other_relations(session: Session, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these names belong to something that is no index."""
    if not pairs:
        return set()
    sql = render(
        "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind NOT IN ('i', 'I')"
        " AND (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest({schemas}::text[], {names}::text[]))",
        schemas=[schema for schema, _name in pairs],
        names=[name for _schema, name in pairs],
    )
    return {(str(row["schema"]), str(row["name"])) for row in session.rows(sql)}


def partitions(session: Session, table: int) -> list[tuple[int, int, bool]]:
    """(oid, oid of its parent, whether it is a leaf) of everything below a partitioned table, from the top down."""
    return [
        (int(str(row["oid"])), int(str(row["parent"])), bool(row["leaf"]))
        for row in session.rows(render(_LEAVES, oid=table))
        if int(str(row["level"])) > 0
    ]


def foreign_keys(session: Session, tables: Sequence[int]) -> dict[int, list[ForeignKey]]:
    """The foreign keys that tables (oids) have, by table."""
    found: dict[int, list[ForeignKey]] = {}
    if tables:
        for row in session.rows(render(_FOREIGN_KEYS, tables=list(tables))):
            key = ForeignKey(str(row["name"]), str(row["table"]), _strings(row["columns"]))
            found.setdefault(int(str(row["oid"])), []).append(key)
    return found


def builders(session: Session, own: Sequence[int] = (), mark: str = "-") -> list[Builder]:
    """Who else builds an index in this database. A builder whose table may not be seen is told by its locks.

    own: pids, mark: application_name of those that are not told.
    """
    found = []
    for row in session.rows(render(_BUILDERS, own=list(own) or [0], mark=mark)):
        known = int(str(row["table"]))
        tables = [known] if known else [int(item) for item in _strings(row["locked"])]
        found += [
            Builder(int(str(row["pid"])), table, int(str(row["index"])), str(row["phase"]), str(row["who"]))
            for table in tables
        ]
    return found
