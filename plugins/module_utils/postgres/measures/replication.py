# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication in both directions, slots, WAL archiving."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import CLUSTER, OLDEST, Query

_HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"

# replay_lag tells of the last record that was replayed while it moved: of a standby that stands still only bytes tell
_SENDERS = f"""
SELECT coalesce(nullif(application_name, ''), host(client_addr), pid::text) AS name, state, sync_state,
       coalesce(host(client_addr), '') AS client,
       pg_wal_lsn_diff({_HERE}, sent_lsn)::bigint AS unsent,
       pg_wal_lsn_diff({_HERE}, replay_lsn)::bigint AS behind,
       extract(epoch FROM replay_lag)::float8 AS seconds,
       extract(epoch FROM clock_timestamp() - reply_time)::float8 AS silent
  FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY 1
"""

_RECEIVER = """
SELECT pg_is_in_recovery() AS standby, pg_is_in_recovery() AND pg_is_wal_replay_paused() AS paused,
       CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint
       END AS behind,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS since_last,
       (SELECT coalesce(status, '?') FROM pg_stat_wal_receiver) AS receiver,
       (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 FROM pg_stat_wal_receiver)
         AS silent,
       coalesce(current_setting('primary_conninfo', true), '') <> '' AS streams
"""


def _slots(lost: str, inactive: str) -> str:
    """lost: why the slot is of no use any more, or NULL; inactive: seconds since it was used, or NULL."""
    return f"""
SELECT slot_name::text AS name, slot_type AS type, coalesce(database::text, '') AS database, active,
       coalesce(wal_status, '') AS wal_status, safe_wal_size::bigint AS safe,
       pg_wal_lsn_diff({_HERE}, restart_lsn)::bigint AS retained, {lost} AS lost, {inactive} AS inactive
  FROM pg_replication_slots WHERE NOT temporary ORDER BY 1
"""


# server_version_num -> what pg_replication_slots tells: conflicting since 16; invalidation_reason, inactive_since 17
SLOTS = (
    (OLDEST, _slots("CASE WHEN wal_status = 'lost' THEN 'WAL removed' END", "NULL::float8")),
    (
        160000,
        _slots(
            "CASE WHEN wal_status = 'lost' THEN 'WAL removed' WHEN conflicting THEN 'conflicts with recovery' END",
            "NULL::float8",
        ),
    ),
    (
        170000,
        _slots(
            "coalesce(invalidation_reason, CASE WHEN wal_status = 'lost' THEN 'WAL removed' END)",
            "extract(epoch FROM clock_timestamp() - inactive_since)::float8",
        ),
    ),
)

# archive_library came with 15. pg_ls_archive_statusdir() is granted to pg_monitor.
_ARCHIVER = """
SELECT current_setting('archive_mode') AS mode,
       coalesce(current_setting('archive_command', true), '') AS command,
       coalesce(current_setting('archive_library', true), '') AS library,
       current_setting('wal_level') AS wal_level,
       (SELECT setting::float8 FROM pg_settings WHERE name = 'archive_timeout') AS timeout,
       pg_is_in_recovery() AS standby, archived_count::bigint AS archived, failed_count::bigint AS failed,
       coalesce(last_failed_wal, '') AS failed_wal,
       extract(epoch FROM clock_timestamp() - last_archived_time)::float8 AS archived_ago,
       extract(epoch FROM clock_timestamp() - last_failed_time)::float8 AS failed_ago
  FROM pg_stat_archiver
"""

_WAITING = """
SELECT count(*) AS segments, extract(epoch FROM clock_timestamp() - min(modification))::float8 AS oldest
  FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
"""

QUERIES = (
    Query("senders", CLUSTER, ((OLDEST, _SENDERS),)),
    Query("receiver", CLUSTER, ((OLDEST, _RECEIVER),)),
    Query("slots", CLUSTER, SLOTS),
    Query("archiver", CLUSTER, ((OLDEST, _ARCHIVER),)),
    Query("archive_waiting", CLUSTER, ((OLDEST, _WAITING),)),
)
