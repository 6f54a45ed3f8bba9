# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogs say of tables whose rows are to be deleted or changed, for hundreds of tables in two questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Column
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import Reference, TableFacts, Trigger
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# the types are written with their schemas, so that they mean the same under every search_path
_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       coalesce((SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                   'generated', a.attgenerated <> '', 'not_null', a.attnotnull,
                   'defaulted', a.atthasdef OR a.attidentity <> '') ORDER BY a.attnum)
                   FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]') AS columns,
       coalesce((SELECT json_agg(json_build_object('primary', i.indisprimary, 'columns', k.names) ORDER BY i.indexrelid)
                   FROM pg_index i
                   CROSS JOIN LATERAL (SELECT json_agg(a.attname ORDER BY x.n) AS names, bool_and(a.attnotnull) AS sure
                     FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS x (attnum, n)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = x.attnum
                    WHERE x.n <= i.indnkeyatts) k
                  WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND k.sure
                    AND i.indpred IS NULL AND i.indexprs IS NULL), '[]') AS uniques,
       coalesce((SELECT json_agg(DISTINCT jsonb_build_object('name', t.tgname, 'type', t.tgtype))
                   FROM pg_trigger t
                  WHERE (t.tgrelid = c.oid OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) p))
                    AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')), '[]') AS triggers,
       coalesce((SELECT json_agg(w.rulename) FROM pg_rewrite w
                  WHERE w.ev_class = c.oid AND w.ev_enabled IN ('O', 'A') AND w.ev_type <> '1'), '[]') AS rules,
       row_security_active(c.oid) AS row_security,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS inherited,
       (SELECT json_agg(r) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r
         WHERE NOT has_table_privilege(c.oid, r)) AS lacks
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN unnest({schemas}::text[], {tables}::text[]) AS w (schema, name)
    ON n.nspname::text = w.schema AND c.relname::text = w.name
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
# a foreign key may point to a partition, or to the parent of one; a clone on a partition is its root's
_REFERENCES = """
WITH wanted AS (SELECT unnest({oids}::bigint[])::oid AS oid),
tree AS (
  SELECT oid AS wanted, oid AS relid FROM wanted
  UNION SELECT w.oid, p.relid FROM wanted w CROSS JOIN LATERAL pg_partition_tree(w.oid) p WHERE p.relid IS NOT NULL
  UNION SELECT w.oid, p.relid FROM wanted w CROSS JOIN LATERAL pg_partition_ancestors(w.oid) p WHERE p.relid IS NOT NULL
)
SELECT DISTINCT t.wanted::bigint AS wanted, f.conname::text AS name, n.nspname::text AS schema,
       c.relname::text AS "table",
       f.confdeltype::text AS action, f.conrelid = t.wanted AS own,
       (SELECT jsonb_agg(a.attname ORDER BY x.n) FROM unnest(f.conkey) WITH ORDINALITY AS x (attnum, n)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = x.attnum) AS columns,
       (SELECT jsonb_agg(a.attname ORDER BY x.n) FROM unnest(f.confkey) WITH ORDINALITY AS x (attnum, n)
          JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = x.attnum) AS parent_columns,
       EXISTS (SELECT FROM pg_index i CROSS JOIN LATERAL (
                 SELECT array_agg(x.attnum) AS leading FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS x (attnum, n)
                  WHERE x.n <= cardinality(f.conkey)) k
                WHERE i.indrelid = f.conrelid AND i.indisvalid AND k.leading @> f.conkey
                  AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ '^\\(\\S+ IS NOT NULL\\)$')) AS indexed
  FROM tree t JOIN pg_constraint f ON f.confrelid = t.relid AND f.contype = 'f' AND f.conparentid = 0
  JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 3, 4, 2
"""


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("list[Json]", value or []))


def _facts(row: Row, references: Sequence[Reference]) -> TableFacts:
    columns = cast("list[dict[str, Json]]", row["columns"])
    uniques = cast("list[dict[str, Json]]", row["uniques"])
    plain = [column for column in columns if not column["generated"]]
    return TableFacts(
        schema=str(row["schema"]),
        name=str(row["name"]),
        oid=int(str(row["oid"])),
        kind=str(row["kind"]),
        persistence=str(row["persistence"]),
        columns=tuple(Column(str(column["name"]), str(column["type"])) for column in plain),
        generated=tuple(str(column["name"]) for column in columns if column["generated"]),
        not_null=frozenset(str(column["name"]) for column in columns if column["not_null"]),
        required=tuple(str(column["name"]) for column in plain if column["not_null"] and not column["defaulted"]),
        key=next((_texts(item["columns"]) for item in uniques if item["primary"]), ()),
        uniques=tuple(_texts(item["columns"]) for item in uniques if not item["primary"]),
        triggers=tuple(
            Trigger(str(item["name"]), int(str(item["type"])))
            for item in cast("list[dict[str, Json]]", row["triggers"])
        ),
        rules=_texts(row["rules"]),
        row_security=bool(row["row_security"]),
        inherited=bool(row["inherited"]),
        lacks=_texts(row["lacks"]),
        references=tuple(references),
    )


def read_tables(session: Session, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], TableFacts]:
    """Facts by (schema, table); what does not exist is left out."""
    if not wanted:
        return {}
    # pg_catalog alone: every type is then written with its schema
    session.run("SET search_path = pg_catalog")
    rows = session.rows(render(_TABLES, schemas=[item[0] for item in wanted], tables=[item[1] for item in wanted]))
    if not rows:
        return {}
    by_oid: dict[int, list[Reference]] = {}
    for row in session.rows(render(_REFERENCES, oids=[int(str(row["oid"])) for row in rows])):
        by_oid.setdefault(int(str(row["wanted"])), []).append(
            Reference(
                name=str(row["name"]),
                schema=str(row["schema"]),
                table=str(row["table"]),
                columns=_texts(row["columns"]),
                parent_columns=_texts(row["parent_columns"]),
                action=str(row["action"]),
                indexed=bool(row["indexed"]),
                own=bool(row["own"]),
            )
        )
    return {(str(row["schema"]), str(row["name"])): _facts(row, by_oid.get(int(str(row["oid"])), [])) for row in rows}
