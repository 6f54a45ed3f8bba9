# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that decide whether data survives, and what was promised for roles and databases."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import (
    CLUSTER,
    DATABASE,
    OLDEST,
    Query,
)

# reset_val, because our own session is given timeouts. All of them: the inventory may ask for any; but no password.
_SETTINGS = """
SELECT name, reset_val AS setting, coalesce(unit, '') AS unit, pending_restart
  FROM pg_settings WHERE name <> 'primary_conninfo' ORDER BY name
"""

# what ALTER ROLE, ALTER DATABASE and ALTER ROLE ... IN DATABASE say of timeouts
_GIVEN = """
SELECT coalesce(r.rolname::text, '') AS role, coalesce(d.datname::text, '') AS database,
       split_part(c.item, '=', 1) AS name, substr(c.item, strpos(c.item, '=') + 1) AS setting
  FROM pg_db_role_setting s
  CROSS JOIN LATERAL unnest(s.setconfig) AS c(item)
  LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase
 WHERE split_part(c.item, '=', 1) LIKE '%timeout'
 ORDER BY 1, 2, 3
"""

# the version that indexes were sorted by, and the one of today's library; databases have one since 15
_DATABASE_COLLATIONS = """
SELECT d.datname::text AS name, d.datcollversion AS kept, pg_database_collation_actual_version(d.oid) AS actual
  FROM pg_database d WHERE d.datallowconn AND d.datcollversion IS NOT NULL ORDER BY 1
"""

_COLLATIONS = """
SELECT n.nspname::text AS schema, c.collname::text AS name, c.collversion AS kept,
       pg_collation_actual_version(c.oid) AS actual,
       (SELECT count(*) FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
         WHERE a.attcollation = c.oid AND t.relkind = 'i') AS indexed
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collversion IS NOT NULL AND c.collencoding IN (-1, (SELECT encoding FROM pg_database
       WHERE datname = current_database()))
   AND c.collversion IS DISTINCT FROM pg_collation_actual_version(c.oid)
 ORDER BY 5 DESC, 1, 2 LIMIT {shown}
"""

QUERIES = (
    Query("settings", CLUSTER, ((OLDEST, _SETTINGS),)),
    Query("given_settings", CLUSTER, ((OLDEST, _GIVEN),)),
    Query(
        "database_collations",
        CLUSTER,
        (
            (OLDEST, "SELECT NULL::text AS name, NULL::text AS kept, NULL::text AS actual WHERE false"),
            (150000, _DATABASE_COLLATIONS),
        ),
    ),
    Query("collations", DATABASE, ((OLDEST, _COLLATIONS),)),
)
