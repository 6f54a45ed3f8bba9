# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slowest statements, by pg_stat_statements of whichever version the database has."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Facts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import DATABASE, OLDEST, Query

# Version of the extension, not of the server: pg_upgrade keeps the old one until ALTER EXTENSION ... UPDATE.
# 1.8 (PostgreSQL 13) renamed total_time and mean_time.
COLUMNS = (((1, 0), ("total_time", "mean_time")), ((1, 8), ("total_exec_time", "mean_exec_time")))

_TEXT = """
SELECT s.queryid::text AS id, left(s.query, 500) AS query, s.calls, s.{mean}::float8 AS mean,
       s.{total}::float8 AS total,
       r.rolname::text AS role, (s.query = '<insufficient privilege>') AS hidden
  FROM {schema}.pg_stat_statements s
  JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
  LEFT JOIN pg_roles r ON r.oid = s.userid
 WHERE s.calls >= {{least_calls}} ORDER BY s.{mean} DESC, s.queryid LIMIT 5
"""


def query_for(facts: Facts) -> Query | None:
    """The statement for the extension that this database has; None without it."""
    if not facts.statements_version:
        return None
    version = tuple(int(part) for part in facts.statements_version.split("."))
    total, mean = next(names for start, names in reversed(COLUMNS) if version >= start)
    text = _TEXT.format(total=total, mean=mean, schema=facts.statements_schema)
    return Query("statements", DATABASE, ((OLDEST, text),))
