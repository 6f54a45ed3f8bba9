# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks must know of server and login role before they can judge anything."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Facts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

# pg_read_all_data came with 14, pg_use_reserved_connections with 16
_FACTS = """
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
       current_user::text AS role, current_database()::text AS database,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       (SELECT coalesce(array_agg(rolname::text ORDER BY rolname), '{}') FROM pg_roles
         WHERE rolname IN ('pg_monitor', 'pg_read_all_stats', 'pg_read_all_settings', 'pg_read_all_data',
                           'pg_use_reserved_connections')
           AND pg_has_role(oid, 'USAGE')) AS member_of,
       extract(epoch FROM clock_timestamp())::float8 AS now,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       (SELECT count(*) FROM pg_stat_replication) AS standbys,
       current_setting('block_size')::int AS block,
       -- counters begin anew after a crash: then the archiver's are as young as all others (pgstat_reset_after_failure)
       (SELECT extract(epoch FROM greatest(d.stats_reset, a.stats_reset))::float8
          FROM pg_stat_archiver a LEFT JOIN pg_stat_database d ON d.datname = current_database()) AS counting_since,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'pg_stat_statements') AS statements_version,
       (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_stat_statements') AS statements_schema
"""


def read_facts(session: Session) -> Facts:
    """One round trip."""
    row = session.rows(_FACTS)[0]
    members = row["member_of"]
    since = row["counting_since"]
    return Facts(
        version=int(str(row["version"])),
        standby=bool(row["standby"]),
        role=str(row["role"]),
        database=str(row["database"]),
        superuser=bool(row["superuser"]),
        member_of=frozenset(str(name) for name in members) if isinstance(members, list) else frozenset(),
        now=float(str(row["now"])),
        started=float(str(row["started"])),
        standbys=int(str(row["standbys"])),
        block=int(str(row["block"])),
        counting_since=None if since is None else float(str(since)),
        statements_version=str(row["statements_version"] or ""),
        statements_schema=str(row["statements_schema"] or ""),
    )
