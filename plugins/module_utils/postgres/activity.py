# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else is to be known before a session is ended, and the one statement that ends exactly those."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import (
    QUERY,
    TRANSACTION,
    Chosen,
    Scene,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sessions import Ground, Login
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.blocking import backends, prepared
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import (
    REPAIR,
    lock_key,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# first server_version_num with pg_signal_autovacuum_worker
_AUTOVACUUM_ROLE = 180000
# first server_version_num with reserved_connections
_RESERVED = 160000

_LOGIN = """
SELECT current_user::text AS name, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super,
       (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles WHERE rolsuper) AS superusers,
       (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles
         WHERE NOT rolsuper AND (pg_has_role(oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) AS reaches,
       {autovacuum:raw} AS autovacuum
"""
_ADVISORY = """
SELECT pid, classid::bigint AS high, objid::bigint AS low FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND pid IS NOT NULL AND objsubid = 1
"""
# What a session waits for: the relation of the lock that it wants; that of the row which it queues for; or, when it
# waits for the end of a transaction only, what it writes.
_WANTED = """
WITH waiting AS MATERIALIZED (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted AND pid IS NOT NULL),
ranked AS (
  SELECT l.pid, l.relation,
         CASE WHEN NOT l.granted THEN 1 WHEN l.locktype = 'tuple' THEN 2 ELSE 3 END AS rank
    FROM pg_locks l JOIN waiting w USING (pid)
   WHERE l.relation IS NOT NULL AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND (NOT l.granted OR l.locktype = 'tuple' OR l.mode IN ('RowExclusiveLock', 'RowShareLock'))
)
SELECT r.pid, n.nspname || '.' || c.relname AS name
  FROM ranked r JOIN pg_class c ON c.oid = r.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE r.rank = (SELECT min(o.rank) FROM ranked o WHERE o.pid = r.pid)
   AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_SLOTS = """
SELECT current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int + {reserved:raw} AS reserved,
       (SELECT count(*) FROM pg_stat_activity
         WHERE usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend') AS used
"""
# fact 20: one statement, so that a pid which somebody else got meanwhile is not signalled; and only as long as the
# statement, transaction or idleness that it was chosen for goes on
_SIGNAL = """
WITH meant (pid, started, goal, stamp) AS (VALUES {rows:raw})
SELECT a.pid, {function:raw}(a.pid) AS told
  FROM pg_stat_activity a JOIN meant m ON m.pid = a.pid AND a.backend_start = m.started::timestamptz
 WHERE a.pid <> pg_backend_pid() AND a.backend_type IN ('client backend', 'autovacuum worker')
   AND (m.stamp = '' OR CASE m.goal WHEN {query} THEN a.query_start WHEN {transaction} THEN a.xact_start
        ELSE a.state_change END = nullif(m.stamp, '')::timestamptz)
"""


@dataclass(frozen=True)
class Slots:
    """Connection slots: most (max_connections), those that ordinary roles do not get, and those in use."""

    most: int
    reserved: int
    used: int

    @property
    def free(self) -> int:
        """How many ordinary connections could still be made."""
        return max(0, self.most - self.reserved - self.used)


def _login(session: Session) -> Login:
    role = "pg_has_role('pg_signal_autovacuum_worker', 'USAGE')" if session.version >= _AUTOVACUUM_ROLE else "false"
    row = session.rows(render(_LOGIN, autovacuum=role))[0]
    return Login(
        str(row["name"]),
        bool(row["super"]),
        frozenset(str(name) for name in cast("list[object]", row["reaches"])),
        frozenset(str(name) for name in cast("list[object]", row["superusers"])),
        bool(row["autovacuum"]),
    )


def _unsigned(key: int) -> tuple[int, int]:
    return (key & 0xFFFFFFFFFFFFFFFF) >> 32, key & 0xFFFFFFFF


def _wanted(session: Session) -> dict[int, list[str]]:
    """pid -> the tables of this database that it waits for; none when somebody has locked the catalog of names."""
    found: dict[int, list[str]] = {}
    try:
        rows = session.rows(_WANTED)
    except OpsError as error:
        if error.code != "lock_timeout":
            raise
        return found
    for row in rows:
        found.setdefault(int(str(row["pid"])), []).append(str(row["name"]))
    return found


def read_ground(session: Session, system: str, pool_applications: Sequence[str], pool_users: Sequence[str]) -> Ground:
    """What is known beside the list of sessions."""
    names = session.rows("SELECT datname::text AS name FROM pg_database")
    keys = {_unsigned(lock_key(system, str(row["name"]), part)) for row in names for part in ("", REPAIR)}
    advisory = session.rows(_ADVISORY)
    locked = (int(str(row["pid"])) for row in advisory if (int(str(row["high"])), int(str(row["low"]))) in keys)
    wanted = _wanted(session)
    backing = session.rows("SELECT pid FROM pg_stat_progress_basebackup")
    return Ground(
        _login(session),
        frozenset({session.pid}),
        frozenset(locked),
        frozenset(int(str(row["pid"])) for row in backing),
        tuple(pool_applications),
        tuple(pool_users),
        wanted,
    )


def read_scene(session: Session, ground: Ground) -> Scene:
    """Who is there and who waits for whom."""
    return Scene(tuple(backends(session)), tuple(prepared(session)), ground)


def slots(session: Session) -> Slots:
    """The server's connection slots."""
    reserved = "current_setting('reserved_connections')::int" if session.version >= _RESERVED else "0"
    row = session.rows(render(_SLOTS, reserved=reserved))[0]
    return Slots(int(str(row["most"])), int(str(row["reserved"])), int(str(row["used"])))


def _signal(session: Session, function: str, items: Collection[Chosen]) -> set[int]:
    if not items:
        return set()
    rows = ", ".join(
        render(
            "({pid}, {started}, {goal}, {stamp})",
            pid=item.backend.pid,
            started=item.backend.started,
            goal=item.goal,
            stamp=item.stamp,
        )
        for item in items
    )
    sql = render(_SIGNAL, rows=rows, function=function, query=QUERY, transaction=TRANSACTION)
    return {int(str(row["pid"])) for row in session.rows(sql) if row["told"]}


def cancel(session: Session, items: Collection[Chosen]) -> set[int]:
    """End the statements of these sessions, where they are still the ones that were chosen; pids that were told."""
    return _signal(session, "pg_cancel_backend", items)


def terminate(session: Session, items: Collection[Chosen]) -> set[int]:
    """End these sessions, where they are still the ones that were chosen; pids that were told."""
    return _signal(session, "pg_terminate_backend", items)
