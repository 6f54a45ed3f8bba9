# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far transaction ids and multixacts are from where the server stops writing."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import (
    CLUSTER,
    DATABASE,
    OLDEST,
    Query,
)

_DATABASES = """
SELECT datname::text AS name, datallowconn AS connectable,
       age(datfrozenxid)::bigint AS xids, mxid_age(datminmxid)::bigint AS multis,
       current_setting('autovacuum_freeze_max_age')::bigint AS xid_limit,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint AS multi_limit
  FROM pg_database ORDER BY 1
"""

# a TOAST table is vacuumed with its table, whose name an operator knows
_TABLES = """
SELECT n.nspname::text AS schema, coalesce(owner.relname, c.relname)::text AS name,
       age(c.relfrozenxid)::bigint AS xids, mxid_age(c.relminmxid)::bigint AS multis,
       current_setting('autovacuum_freeze_max_age')::bigint AS xid_limit,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint AS multi_limit,
       c.relpages::bigint * current_setting('block_size')::bigint AS bytes
  FROM pg_class c
  LEFT JOIN pg_class owner ON c.relkind = 't' AND owner.reltoastrelid = c.oid
  JOIN pg_namespace n ON n.oid = coalesce(owner.relnamespace, c.relnamespace)
 WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> '0'
   AND c.relpersistence <> 't'
 ORDER BY greatest(age(c.relfrozenxid)::float8 / current_setting('autovacuum_freeze_max_age')::float8,
                   mxid_age(c.relminmxid)::float8 / current_setting('autovacuum_multixact_freeze_max_age')::float8)
          DESC, c.relpages DESC LIMIT {shown}
"""

QUERIES = (
    Query("freeze_databases", CLUSTER, ((OLDEST, _DATABASES),)),
    Query("freeze_tables", DATABASE, ((OLDEST, _TABLES),)),
)
