# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read who is connected and who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import PREPARED, Backend, Prepared
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

# Only those that wait for a lock are asked whom for: pg_blocking_pids() holds up the whole lock manager for a moment.
# pg_locks is readable by everybody, wait_event_type only with pg_read_all_stats.
_BACKENDS = """
WITH waiting AS MATERIALIZED (
     SELECT pid, pg_blocking_pids(pid) AS blockers FROM pg_locks WHERE NOT granted AND pid IS NOT NULL GROUP BY pid
), held AS MATERIALIZED (
     SELECT w.pid, array_agg(DISTINCT x.gid) AS gids
       FROM waiting w
       JOIN pg_locks wanted ON wanted.pid = w.pid AND NOT wanted.granted
       JOIN pg_locks got ON got.pid IS NULL AND got.granted AND got.locktype = wanted.locktype
            AND (got.database, got.relation, got.page, got.tuple, got.transactionid, got.classid, got.objid,
                 got.objsubid) IS NOT DISTINCT FROM (wanted.database, wanted.relation, wanted.page, wanted.tuple,
                 wanted.transactionid, wanted.classid, wanted.objid, wanted.objsubid)
       JOIN pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid'
            AND own.virtualtransaction = got.virtualtransaction
       JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
      WHERE 0 = ANY (w.blockers)
      GROUP BY w.pid
)
SELECT a.pid, coalesce(to_json(a.backend_start) #>> '{}', '') AS started,
       coalesce(a.usename, '') AS user, coalesce(a.datname, '') AS database,
       coalesce(a.application_name, '') AS application, coalesce(host(a.client_addr), '') AS client,
       coalesce(a.backend_type, '') AS kind, coalesce(a.state, '') AS state, coalesce(left(a.query, 1000), '') AS query,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_age,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS query_age,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_age,
       coalesce(to_json(a.xact_start) #>> '{}', '') AS transaction_start,
       coalesce(to_json(a.query_start) #>> '{}', '') AS query_start,
       coalesce(to_json(a.state_change) #>> '{}', '') AS state_change,
       coalesce(a.wait_event_type || ':' || a.wait_event, '') AS wait, a.leader_pid AS leader,
       coalesce(w.blockers, '{}') AS blockers, coalesce(h.gids, '{}') AS gids
  FROM pg_stat_activity a
  LEFT JOIN waiting w ON w.pid = a.pid
  LEFT JOIN held h ON h.pid = a.pid
 ORDER BY a.pid
"""

_PREPARED = """
SELECT gid, owner::text AS owner, database::text AS database,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS age
  FROM pg_prepared_xacts ORDER BY prepared, gid
"""


def _age(value: object) -> float | None:
    return None if value is None else max(0.0, float(str(value)))


def _backend(row: Mapping[str, object]) -> Backend:
    pids = tuple(dict.fromkeys(int(str(pid)) for pid in cast("list[object]", row["blockers"])))
    return Backend(
        pid=int(str(row["pid"])),
        started=str(row["started"]),
        user=str(row["user"]),
        database=str(row["database"]),
        application=str(row["application"]),
        client=str(row["client"]),
        kind=str(row["kind"]),
        state=str(row["state"]),
        query=str(row["query"]),
        transaction_age=_age(row["transaction_age"]),
        query_age=_age(row["query_age"]),
        state_age=_age(row["state_age"]),
        wait=str(row["wait"]),
        waits_for=pids,
        gids=tuple(str(gid) for gid in cast("list[object]", row["gids"])) if PREPARED in pids else (),
        leader=None if row["leader"] is None else int(str(row["leader"])),
        transaction_start=str(row["transaction_start"]),
        query_start=str(row["query_start"]),
        state_change=str(row["state_change"]),
    )


def backends(session: Session) -> list[Backend]:
    """All server processes in order of their pid, background ones and this session among them.

    Without pg_read_all_stats the state, query and ages of other roles' sessions are empty; who blocks whom is not.
    """
    return [_backend(row) for row in session.rows(_BACKENDS)]


def prepared(session: Session) -> list[Prepared]:
    """All prepared transactions of the server, the oldest first."""
    return [
        Prepared(str(row["gid"]), str(row["owner"]), str(row["database"]), float(str(row["age"])))
        for row in session.rows(_PREPARED)
    ]
