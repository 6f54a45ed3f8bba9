# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead rows and bloat of tables."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import DATABASE, OLDEST, Query

# After a crash the counters begin at 0 and nothing is remembered of vacuums: a table that pg_class knows to have more
# rows than were counted since is unknown, not clean. VACUUM and ANALYZE set the counters right.
_DEAD = """
WITH counted AS (
  SELECT s.schemaname::text AS schema, s.relname::text AS name, s.n_dead_tup AS dead, s.n_live_tup AS live,
         c.relpages::bigint * current_setting('block_size')::bigint AS bytes,
         s.last_vacuum IS NULL AND s.last_autovacuum IS NULL AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL
           AND s.schemaname <> 'pg_catalog' AND (c.relpages > 0 OR c.reltuples > 0)
           AND s.n_live_tup + s.n_dead_tup < greatest(c.reltuples, 1) * 0.9 AS unknown,
         extract(epoch FROM clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8 AS vacuumed_ago
    FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
   WHERE c.relkind IN ('r', 'm') AND s.schemaname <> 'information_schema' AND s.schemaname !~ '^pg_toast'
     AND c.relpersistence <> 't'
)
SELECT schema, name, dead, live, bytes, unknown, vacuumed_ago,
       100.0 * dead / greatest(dead + live, 1) AS percent, count(*) FILTER (WHERE unknown) OVER () AS unknown_tables,
       count(*) OVER () AS tables
  FROM counted WHERE unknown OR dead >= {least_dead}
 ORDER BY unknown, 100.0 * dead / greatest(dead + live, 1) DESC, dead DESC, schema, name LIMIT {shown}
"""

# Estimated pages = rows / rows a page; a row = line pointer 4 + header 23 (with a bitmap of NULLs) + average widths of
# its columns, each part aligned to 8. Source: ioguix, pgsql-bloat-estimation, table_bloat.sql (BSD), which goes back
# to check_postgres; the layout is that of "Database Page Layout" in PostgreSQL's documentation. pg_stats shows only
# columns that the role may read, and nothing of a table that was never analyzed.
_BLOAT = """
WITH big AS (
  SELECT c.oid, n.nspname AS schema, c.relname AS name, c.reltuples, c.relpages,
         has_table_privilege(c.oid, 'SELECT') AS readable,
         coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                    WHERE option_name = 'fillfactor'), 100) AS fillfactor
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     AND n.nspname !~ '^pg_toast' AND c.relpersistence <> 't'
     AND c.relpages >= {least_bytes} / current_setting('block_size')::bigint
), widths AS (
  SELECT b.oid, count(*) AS columns, count(s.attname) AS known,
         bool_or(coalesce(s.null_frac, 0) > 0) AS nulls,
         sum((1 - coalesce(s.null_frac, 0)) * coalesce(s.avg_width, 0)) AS data
    FROM big b
    JOIN pg_attribute a ON a.attrelid = b.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_stats s ON s.schemaname = b.schema AND s.tablename = b.name AND s.attname = a.attname
         AND NOT s.inherited
   GROUP BY b.oid
), sized AS (
  SELECT b.*, w.known = w.columns AND b.reltuples >= 0 AS estimable,
         4 + 8 * ceil((23 + CASE WHEN w.nulls THEN ceil(w.columns / 8.0) ELSE 0 END) / 8.0)
           + 8 * ceil(w.data / 8.0) AS row_bytes
    FROM big b JOIN widths w USING (oid)
), estimated AS (
  SELECT s.*, current_setting('block_size')::bigint * s.relpages AS bytes,
         ceil(greatest(s.reltuples, 0)
              / greatest(floor((current_setting('block_size')::bigint - 24) * s.fillfactor / 100 / s.row_bytes), 1))
           AS pages
    FROM sized s
)
SELECT schema::text AS schema, name::text AS name, bytes, estimable, readable,
       CASE WHEN estimable THEN greatest(0, 100.0 * (relpages - pages) / greatest(relpages, 1)) END AS percent,
       CASE WHEN estimable THEN (greatest(0, relpages - pages) * current_setting('block_size')::bigint)::bigint
       END AS wasted,
       count(*) FILTER (WHERE NOT estimable) OVER () AS unknown_tables,
       bool_and(readable) FILTER (WHERE NOT estimable) OVER () AS unknown_readable
  FROM estimated
 ORDER BY estimable DESC, greatest(0, relpages - pages) DESC, schema, name LIMIT {shown}
"""

QUERIES = (
    Query("dead_rows", DATABASE, ((OLDEST, _DEAD),)),
    Query("table_bloat", DATABASE, ((OLDEST, _BLOAT),)),
)
