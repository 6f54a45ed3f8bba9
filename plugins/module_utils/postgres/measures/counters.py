# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server has counted since its statistics began: temporary files, deadlocks, checksum failures."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import CLUSTER, OLDEST, Query

# shared catalogs have no name here. Counters begin anew after a crash, which the archiver's moment tells of.
_COUNTERS = """
SELECT coalesce(d.datname::text, 'shared catalogs') AS name, d.temp_files, d.temp_bytes, d.deadlocks,
       d.checksum_failures, extract(epoch FROM clock_timestamp() - d.checksum_last_failure)::float8 AS failure_ago,
       current_setting('data_checksums') AS checksums,
       extract(epoch FROM clock_timestamp() - greatest(d.stats_reset, a.stats_reset))::float8 AS seconds
  FROM pg_stat_database d CROSS JOIN pg_stat_archiver a
 WHERE d.datname IS NULL OR NOT d.datname IN ('template0') ORDER BY 1
"""

QUERIES = (Query("counters", CLUSTER, ((OLDEST, _COUNTERS),)),)
