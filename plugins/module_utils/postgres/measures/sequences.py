# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences, and the columns that they number."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import DATABASE, OLDEST, Query

# A sequence ends where it says, or where its column does: an integer column fed by a bigint sequence fails at 2^31.
# The column is found by ownership (serial, identity) and by defaults that name the sequence.
_SEQUENCES = """
WITH fed AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_depend d
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
     AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
), narrow AS (
  SELECT DISTINCT ON (fed.sequence) fed.sequence, fed.relation::regclass::text AS relation, a.attname::text AS attname,
         CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END::bigint AS most
    FROM fed JOIN pg_attribute a ON a.attrelid = fed.relation AND a.attnum = fed.number
   ORDER BY fed.sequence, 4 NULLS LAST, 2, 3
), found AS (
  SELECT n.nspname::text AS schema, c.relname::text AS name, q.seqcycle AS cycles,
         CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') THEN pg_sequence_last_value(c.oid) END AS last,
         has_sequence_privilege(c.oid, 'SELECT,USAGE') AS readable, q.seqincrement > 0 AS rises,
         q.seqstart AS start,
         CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, coalesce(w.most, q.seqmax))
              ELSE greatest(q.seqmin, coalesce(-w.most - 1, q.seqmin)) END AS bound,
         CASE WHEN q.seqincrement > 0 THEN q.seqmin ELSE q.seqmax END AS first,
         w.relation, w.attname AS column, coalesce(w.most < q.seqmax, false) AS narrower
    FROM pg_sequence q
    JOIN pg_class c ON c.oid = q.seqrelid AND c.relpersistence <> 't'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN narrow w ON w.sequence = c.oid
)
SELECT schema, name, readable, last, bound, relation, "column", narrower,
       CASE WHEN readable THEN coalesce(100.0 * (last::numeric - first) / nullif(bound::numeric - first, 0), 0)
       END::float8 AS percent,
       count(*) FILTER (WHERE NOT readable) OVER () AS hidden, count(*) OVER () AS sequences
  FROM found WHERE NOT cycles
 ORDER BY readable DESC, 9 DESC NULLS LAST, 1, 2 LIMIT {shown}
"""

QUERIES = (Query("sequences", DATABASE, ((OLDEST, _SEQUENCES),)),)
