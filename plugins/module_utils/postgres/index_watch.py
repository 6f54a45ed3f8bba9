# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a second session sees of, and does to, a session that builds an index; and who would keep it waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import SESSION, older
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_progress import Progress
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.horizon import horizon
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

TRANSACTION_TIMEOUT_SINCE = 170000
IDLE_SESSION_TIMEOUT_SINCE = 140000

_PROGRESS = """
SELECT pid, coalesce(phase, '') AS phase, coalesce(lockers_total, 0) AS lockers_total,
       coalesce(lockers_done, 0) AS lockers_done, coalesce(current_locker_pid, 0) AS locker,
       coalesce(blocks_total, 0) AS blocks_total, coalesce(blocks_done, 0) AS blocks_done,
       coalesce(tuples_total, 0) AS tuples_total, coalesce(tuples_done, 0) AS tuples_done
  FROM pg_stat_progress_create_index WHERE pid = ANY ({pids})
"""

# CREATE INDEX CONCURRENTLY waits for every transaction that holds a lock on the table which keeps SHARE out, and DROP
# INDEX CONCURRENTLY for one with any lock, prepared ones too; autovacuum makes room unless it prevents a wraparound
_LOCKERS = """
SELECT coalesce(l.pid, 0) AS pid, l.mode, coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start,
       x.prepared))::float8, 0) AS seconds, coalesce(x.gid, '') AS gid,
       concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state) AS who
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_locks t ON l.pid IS NULL AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction
       AND t.locktype = 'transactionid'
  LEFT JOIN pg_prepared_xacts x ON x.transaction = t.transactionid
 WHERE l.locktype = 'relation' AND l.relation = {table}::oid AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND ({dropping} OR l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareLock'))
   AND NOT (coalesce(a.backend_type = 'autovacuum worker', false) AND a.query NOT LIKE '%wraparound%')
"""


def unbounded(session: Session) -> None:
    """No limit of the server ends this session's statements: ours are kept by a second session.

    With a lock_timeout, CREATE INDEX CONCURRENTLY would give up behind the first snapshot and leave an invalid index.
    """
    settings = {"lock_timeout": "0", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    if session.version >= IDLE_SESSION_TIMEOUT_SINCE:
        settings["idle_session_timeout"] = "0"
    if session.version >= TRANSACTION_TIMEOUT_SINCE:
        settings["transaction_timeout"] = "0"
    for name, value in settings.items():
        session.run(render("SET {name:raw} = {value}", name=name, value=value))
    session.run("SET default_tablespace = ''")
    # commits of a build would wait for a synchronous standby that is away for as long as it is; a cancel does not
    # end such a wait, it only goes on to the next one. Nobody's rows are in these commits
    session.value(
        "SELECT set_config('synchronous_commit', 'local', false)"
        " WHERE current_setting('synchronous_commit') NOT IN ('off', 'local')"
    )
    # the server notices within seconds that the module was killed, and ends the build; not every platform has it
    with contextlib.suppress(OpsError):
        session.value(
            "SELECT set_config(name, '2s', false) FROM pg_catalog.pg_settings"
            " WHERE name = 'client_connection_check_interval'"
        )


def progress(session: Session, pids: Sequence[int]) -> dict[int, Progress]:
    """How far builds are, by pid."""
    found = {}
    for row in session.rows(render(_PROGRESS, pids=list(pids) or [0])):
        values = {name: int(str(value)) for name, value in row.items() if name not in ("phase",)}
        found[values["pid"]] = Progress(
            pid=values["pid"],
            phase=str(row["phase"]),
            lockers_total=values["lockers_total"],
            lockers_done=values["lockers_done"],
            locker=values["locker"],
            blocks_total=values["blocks_total"],
            blocks_done=values["blocks_done"],
            tuples_total=values["tuples_total"],
            tuples_done=values["tuples_done"],
        )
    return found


def cancel(session: Session, pid: int, mark: str) -> None:
    """Cancel the statement of a session of ours; nobody else's, though it had been given the same pid."""
    session.value(
        render(
            "SELECT count(pg_cancel_backend(pid)) AS n FROM pg_stat_activity"
            " WHERE pid = {pid} AND application_name = {mark}",
            pid=pid,
            mark=mark,
        )
    )


def terminate(session: Session, pid: int, mark: str) -> bool:
    """End a session of ours whose connection is lost; whether it is gone."""
    session.value(
        render(
            "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity"
            " WHERE pid = {pid} AND application_name = {mark}",
            pid=pid,
            mark=mark,
        )
    )
    return not session.value(render("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})", pid=pid))


def in_the_way(
    session: Session, database: str, table: int, seconds: float, own: Sequence[int] = (), *, dropping: bool = False
) -> list[str]:
    """Who would keep a build on the table (or a drop) waiting, and has been there for longer than this; a phrase each.

    For a build, sessions with a snapshot in this database; for both, whoever holds the table, prepared transactions
    whatever their age. own: pids of ours.
    """
    known = {str(pid) for pid in own}
    said = []
    for holder in [] if dropping else older(horizon(session).of(database), seconds):
        if holder.kind == SESSION and holder.database and holder.name not in known:
            said.append(
                f"pid {holder.name} ({holder.detail}) with a transaction of {human_duration(holder.seconds or 0)}"
            )
    told = {text.split(" ")[1] for text in said}
    for row in session.rows(render(_LOCKERS, table=table, dropping=dropping)):
        pid, age = str(row["pid"]), float(str(row["seconds"]))
        if row["gid"]:
            said.append(f"the prepared transaction {row['gid']!r} of {human_duration(age)}, which holds the table")
        elif age > seconds and pid not in known and pid not in told:
            said.append(f"pid {pid} ({row['who']}), which holds the table ({row['mode']}) for {human_duration(age)}")
    return said


def sees_everybody(session: Session) -> bool:
    """Whether the role sees what other roles' sessions do."""
    return bool(session.value("SELECT pg_has_role('pg_read_all_stats', 'USAGE')"))
