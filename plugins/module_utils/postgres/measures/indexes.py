# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that are broken, idle, twice there, missing or bloated."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import DATABASE, OLDEST, Query

_OWN = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"

# What is being built is invalid too: pg_stat_progress_create_index shows its table (and, while it is at it, the index).
# A partitioned index is invalid until each partition has its part: nothing to throw away.
_INVALID = """
SELECT n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS table, c.relkind = 'I' AS partitioned,
       i.indisready AS ready, c.relpages::bigint * current_setting('block_size')::bigint AS bytes,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid OR p.index_relid = i.indexrelid)
         AS building,
       (SELECT count(*) FROM pg_stat_progress_create_index p
         WHERE p.relid IS NULL AND p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS hidden
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_(toast|temp)'
 ORDER BY 1, 2
"""


def _unused(last: str) -> str:
    """last: seconds since the last scan, or NULL where the server does not keep it."""
    return f"""
SELECT n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS table,
       c.relpages::bigint * current_setting('block_size')::bigint AS bytes, i.indexprs IS NOT NULL AS expression,
       {last} AS last_scan
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_stat_all_indexes s ON s.indexrelid = i.indexrelid
 WHERE s.idx_scan = 0 AND i.indisvalid AND NOT i.indisunique AND NOT i.indisprimary AND NOT i.indisreplident
   AND NOT i.indisexclusion AND {_OWN}
   AND c.relpages >= {{least_bytes}} / current_setting('block_size')::bigint
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
   -- deletes and updates of the parent look a foreign key up, which may be rare and is slow without
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = i.indrelid
                   AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
 ORDER BY c.relpages DESC, 1, 2 LIMIT {{shown}}
"""


# The stored trees hold where in the statement something stood, which is no part of what an index is.
_SHAPE = """
SELECT i.indexrelid, i.indrelid, n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS table,
       c.relam, i.indnkeyatts AS keys, i.indnatts AS columns, i.indkey::int2[] AS key, i.indclass::oid[] AS classes,
       i.indcollation::oid[] AS collations, i.indoption::int2[] AS options, i.indisunique AS is_unique,
       coalesce(regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g'), '') AS expressions,
       coalesce(regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g'), '') AS predicate,
       i.indisprimary OR i.indisreplident OR i.indisexclusion
         OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS needed,
       coalesce(c.reloptions::text, '') AS storage,
       c.relpages::bigint * current_setting('block_size')::bigint AS bytes
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indisvalid AND """

# One of the two is spare: the one that no constraint needs, that is not unique, and then the younger one. The table is
# the only equality that a join can use, so that the planner, which knows nothing of shapes, joins by that.
_DUPLICATES = f"""
WITH shapes AS MATERIALIZED ({_SHAPE}{_OWN}), spares AS (
  SELECT DISTINCT ON (spare.indexrelid) spare.schema, spare.name, spare.table, spare.bytes, kept.name AS kept
    FROM shapes spare
    JOIN shapes kept ON kept.indrelid = spare.indrelid AND kept.indexrelid <> spare.indexrelid
         AND (kept.relam, kept.keys, kept.key, kept.classes, kept.collations, kept.options, kept.expressions,
              kept.predicate) IS NOT DISTINCT FROM (spare.relam, spare.keys, spare.key, spare.classes,
              spare.collations, spare.options, spare.expressions, spare.predicate)
         AND (kept.is_unique OR NOT spare.is_unique)
         AND (kept.needed, kept.is_unique, -kept.indexrelid::bigint)
             > (spare.needed, spare.is_unique, -spare.indexrelid::bigint)
   WHERE NOT spare.needed
   ORDER BY spare.indexrelid, kept.needed DESC, kept.is_unique DESC, kept.indexrelid
)
SELECT * FROM spares ORDER BY bytes DESC, 1, 2 LIMIT {{shown}}
"""

# The first columns of a longer btree: it answers the same questions, a little slower.
_PREFIXES = f"""
WITH shapes AS MATERIALIZED ({_SHAPE}{_OWN}), spares AS (
  SELECT DISTINCT ON (spare.indexrelid) spare.schema, spare.name, spare.table, spare.bytes, kept.name AS kept
    FROM shapes spare
    JOIN shapes kept ON kept.indrelid = spare.indrelid AND kept.keys > spare.keys
         -- a slice counts from 1 and the whole from 0, which makes them different arrays: slices on both sides
         AND (kept.relam, kept.expressions, kept.predicate, kept.key[0:spare.keys - 1],
              kept.classes[0:spare.keys - 1], kept.collations[0:spare.keys - 1], kept.options[0:spare.keys - 1])
             IS NOT DISTINCT FROM (spare.relam, spare.expressions, spare.predicate, spare.key[0:spare.keys - 1],
              spare.classes[0:spare.keys - 1], spare.collations[0:spare.keys - 1], spare.options[0:spare.keys - 1])
    JOIN pg_am ON pg_am.oid = spare.relam AND pg_am.amname = 'btree'
   WHERE NOT spare.needed AND NOT spare.is_unique AND spare.columns = spare.keys AND spare.expressions = ''
   ORDER BY spare.indexrelid, kept.keys, kept.indexrelid
)
SELECT * FROM spares ORDER BY bytes DESC, 1, 2 LIMIT {{shown}}
"""

# Any order of the key's columns will do, as long as they come first and the index holds all rows.
_FOREIGN_KEYS = f"""
SELECT n.nspname::text AS schema, t.relname::text AS name, k.conname::text AS constraint,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY o.at)
          FROM unnest(k.conkey) WITH ORDINALITY AS o(number, at)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.number) AS columns,
       k.confrelid::regclass::text AS parent,
       (CASE WHEN t.relkind = 'p'
             THEN (SELECT coalesce(sum(l.relpages), 0) FROM pg_partition_tree(t.oid) p
                     JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf)
             ELSE t.relpages END)::bigint * current_setting('block_size')::bigint AS bytes,
       parent.relpages::bigint * current_setting('block_size')::bigint AS parent_bytes,
       k.confdeltype::text AS on_delete
  FROM pg_constraint k
  JOIN pg_class t ON t.oid = k.conrelid
  JOIN pg_class parent ON parent.oid = k.confrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0 AND {_OWN}
   AND NOT EXISTS (
     SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
      WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')
        AND i.indnkeyatts >= cardinality(k.conkey)
        AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
 ORDER BY 6 DESC, 1, 2, 3 LIMIT {{shown}}
"""

# Estimated leaf pages of a btree: 8 bytes of item header (12 with NULLs), the columns' average widths aligned, 4 of
# line pointer, pages of 8192 - 24 - 16 at the fill factor, one meta page. Source: ioguix, pgsql-bloat-estimation,
# btree_bloat.sql (BSD). Duplicates share their key since PostgreSQL 13, so this errs on the side of "not bloated".
_BLOAT = f"""
WITH big AS (
  SELECT c.oid, n.nspname AS schema, c.relname AS name, t.relname AS table, i.indrelid, i.indkey::int2[] AS key,
         greatest(c.reltuples, 0) AS reltuples, c.relpages, t.reltuples AS table_rows,
         has_table_privilege(t.oid, 'SELECT') AS readable,
         coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                    WHERE option_name = 'fillfactor'), 90) AS fillfactor
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE {_OWN} AND i.indisvalid AND c.relpages >= {{least_bytes}} / current_setting('block_size')::bigint
), widths AS (
  SELECT b.oid, count(*) AS columns, count(s.avg_width) AS known, bool_or(coalesce(s.null_frac, 0) > 0) AS nulls,
         sum((1 - coalesce(s.null_frac, 0)) * coalesce(s.avg_width, 0)) AS data
    FROM big b
   CROSS JOIN LATERAL unnest(b.key) WITH ORDINALITY AS k(number, at)
    JOIN pg_attribute a ON a.attrelid = CASE WHEN k.number = 0 THEN b.oid ELSE b.indrelid END
         AND a.attnum = CASE WHEN k.number = 0 THEN k.at ELSE k.number END
    LEFT JOIN pg_stats s ON s.schemaname = b.schema AND s.attname = a.attname AND NOT s.inherited
         AND s.tablename = CASE WHEN k.number = 0 THEN b.name ELSE b.table END
   GROUP BY b.oid
), estimated AS (
  SELECT b.*, w.known = w.columns AND b.table_rows >= 0 AS estimable,
         1 + ceil(b.reltuples / greatest(1, floor(
           (current_setting('block_size')::bigint - 40) * b.fillfactor / 100
           / (4 + CASE WHEN w.nulls THEN 16 ELSE 8 END + 8 * ceil(w.data / 8.0))))) AS pages
    FROM big b JOIN widths w USING (oid)
)
SELECT schema::text AS schema, name::text AS name, "table"::text AS "table",
       relpages::bigint * current_setting('block_size')::bigint AS bytes, estimable, readable,
       CASE WHEN estimable THEN greatest(0, 100.0 * (relpages - pages) / greatest(relpages, 1)) END AS percent,
       CASE WHEN estimable THEN (greatest(0, relpages - pages) * current_setting('block_size')::bigint)::bigint
       END AS wasted,
       count(*) FILTER (WHERE NOT estimable) OVER () AS unknown_tables,
       bool_and(readable) FILTER (WHERE NOT estimable) OVER () AS unknown_readable
  FROM estimated
 ORDER BY estimable DESC, greatest(0, relpages - pages) DESC, 1, 2 LIMIT {{shown}}
"""

QUERIES = (
    Query("invalid_indexes", DATABASE, ((OLDEST, _INVALID),)),
    Query(
        "unused_indexes",
        DATABASE,
        (
            (OLDEST, _unused("NULL::float8")),
            (160000, _unused("extract(epoch FROM clock_timestamp() - s.last_idx_scan)::float8")),
        ),
    ),
    Query("duplicate_indexes", DATABASE, ((OLDEST, _DUPLICATES),)),
    Query("prefix_indexes", DATABASE, ((OLDEST, _PREFIXES),)),
    Query("foreign_keys", DATABASE, ((OLDEST, _FOREIGN_KEYS),)),
    Query("index_bloat", DATABASE, ((OLDEST, _BLOAT),)),
)
