# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections and what they are doing."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import CLUSTER, OLDEST, Query

# Only ordinary sessions take slots of max_connections: walsenders, workers and autovacuum have their own (since 12).
# CONNECTION LIMIT does not bind superusers; 0 keeps everybody out on purpose and is no shortage.
_CONNECTIONS = """
SELECT 'server' AS kind, '' AS name, count(a.pid) AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
         - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int AS lim,
       count(*) FILTER (WHERE a.state = 'idle') AS idle,
       count(*) FILTER (WHERE a.state LIKE 'idle in transaction%') AS idle_in_transaction,
       count(*) FILTER (WHERE a.state = 'active') AS active,
       (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM (
          SELECT coalesce(nullif(application_name, ''), '-') AS application, coalesce(usename::text, '-') AS role,
                 count(*) AS sessions, count(*) FILTER (WHERE state = 'idle') AS idle
            FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 5) t
       ) AS top,
       (SELECT json_agg(rolname) FROM pg_roles WHERE rolsuper) AS superusers
  FROM pg_stat_activity a WHERE a.backend_type = 'client backend'
UNION ALL
SELECT 'database', d.datname::text, count(a.pid), d.datconnlimit, NULL, NULL, NULL, NULL, NULL
  FROM pg_database d LEFT JOIN pg_stat_activity a ON a.datid = d.oid AND a.backend_type = 'client backend'
 WHERE d.datconnlimit > 0 GROUP BY d.datname, d.datconnlimit
UNION ALL
SELECT 'role', r.rolname::text, count(a.pid), r.rolconnlimit, NULL, NULL, NULL, NULL, NULL
  FROM pg_roles r LEFT JOIN pg_stat_activity a ON a.usesysid = r.oid AND a.backend_type = 'client backend'
 WHERE r.rolconnlimit > 0 AND NOT r.rolsuper AND r.rolcanlogin GROUP BY r.rolname, r.rolconnlimit
"""

_PREPARED = """
SELECT gid, owner::text AS owner, database::text AS database,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds, age(transaction)::bigint AS xids
  FROM pg_prepared_xacts ORDER BY prepared
"""

QUERIES = (
    Query("connections", CLUSTER, ((OLDEST, _CONNECTIONS),)),
    Query("prepared", CLUSTER, ((OLDEST, _PREPARED),)),
)
