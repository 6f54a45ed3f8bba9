# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do one act of maintenance and prove that it was done.

VACUUM and ANALYZE of a table that is not ours, or that somebody holds, warn and succeed. The proof that they worked is
the table's own counter of vacuums or analyzes; what the server said instead is what went wrong. SKIP_LOCKED keeps us
out of every queue, and keeps autovacuum alive: it ends itself when somebody waits for its table.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import ANALYZE, FREEZE, Act
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

DONE, LOCKED, FORBIDDEN, LATE, GONE = "done", "locked", "not permitted", "out of time", "gone"
CANCELLED, LOCK_TIMEOUT = "57014", "55P03"
# server_version_num from which a session's counters can be had at once, partitioned parents have counters, and
# ANALYZE can leave a parent's partitions alone
FLUSHABLE, PARENTS_COUNTED, ANALYZE_ONLY = 150000, 140000, 180000
# before 15 counters reach the statistics through a process of their own
SETTLING = 2.0


@dataclass(frozen=True)
class Manner:
    """How acts are done. lock_timeout in seconds; delay: vacuum_cost_delay in milliseconds; limit: its cost limit."""

    lock_timeout: float = 5.0
    delay: float = 0.0
    limit: int = 200
    memory: str = ""


@dataclass(frozen=True)
class Seen:
    """A table's counters. bytes: None while somebody holds it against readers; blocks: read for it so far."""

    dead: int
    live: int
    bytes: int | None
    blocks: int
    vacuums: int
    analyzes: int
    activity: int
    others: int
    autovacuum: bool


# others: sessions that hold or await any lock on it
_SEEN = """
SELECT pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_live_tuples(c.oid) AS live,
       CASE WHEN c.relkind <> 'p' AND NOT EXISTS (
            SELECT FROM pg_locks l WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock'
               AND l.pid IS DISTINCT FROM pg_backend_pid())
            THEN pg_total_relation_size(c.oid) END AS bytes,
       coalesce(pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid), 0)
       + coalesce((SELECT sum(pg_stat_get_blocks_fetched(i.indexrelid) - pg_stat_get_blocks_hit(i.indexrelid))
                     FROM pg_index i WHERE i.indrelid = c.oid), 0)
       + coalesce(pg_stat_get_blocks_fetched(c.reltoastrelid) - pg_stat_get_blocks_hit(c.reltoastrelid), 0) AS blocks,
       pg_stat_get_vacuum_count(c.oid) AS vacuums, pg_stat_get_analyze_count(c.oid) AS analyzes,
       pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
       + pg_stat_get_numscans(c.oid)
       + coalesce((SELECT sum(pg_stat_get_numscans(i.indexrelid)) FROM pg_index i WHERE i.indrelid = c.oid), 0)
         AS activity,
       (SELECT count(DISTINCT coalesce(l.pid, 0)) FROM pg_locks l
         WHERE l.relation = c.oid AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS others,
       EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.relid = c.oid AND p.pid <> pg_backend_pid()) AS autovacuum
  FROM pg_class c WHERE c.oid = {oid}
"""


def prepare(session: Session, manner: Manner) -> None:
    """Settings of a session that maintains: none of the role's or database's own may cut it short."""
    session.run("SET statement_timeout = 0")
    session.run(f"SET lock_timeout = {int(manner.lock_timeout * 1000)}")
    session.run("SET client_min_messages = warning")
    session.run("SET default_transaction_read_only = off")
    session.run(f"SET vacuum_cost_delay = {manner.delay!r}")
    session.run(f"SET vacuum_cost_limit = {manner.limit}")
    if session.version >= 140000:
        session.run("SET idle_session_timeout = 0")
        # a killed module's VACUUM ends by itself; not every platform has it
        with contextlib.suppress(OpsError):
            session.run("SET client_connection_check_interval = '5s'")
    if session.version >= 170000:
        session.run("SET transaction_timeout = 0")
    if manner.memory:
        session.run(render("SET maintenance_work_mem = {memory}", memory=manner.memory))


def see(session: Session, act: Act) -> Seen | None:
    """The counters of an act's table; None when it is gone."""
    for row in session.rows(render(_SEEN, oid=act.table)):
        return _seen(row)
    return None


def _seen(row: Row) -> Seen:
    def number(name: str) -> int:
        return int(float(str(row[name] or 0)))

    return Seen(
        dead=number("dead"),
        live=number("live"),
        bytes=None if row["bytes"] is None else number("bytes"),
        blocks=number("blocks"),
        vacuums=number("vacuums"),
        analyzes=number("analyzes"),
        activity=number("activity"),
        others=number("others"),
        autovacuum=bool(row["autovacuum"]),
    )


def settle(session: Session) -> None:
    """Have this session's own counters reach the statistics, so that the next look shows them."""
    if session.version >= FLUSHABLE:
        session.value("SELECT pg_stat_force_next_flush()::text")
        session.value("SELECT 1")


def statement(version: int, act: Act, *, busy: bool, truncate: str) -> str:
    """VACUUM or ANALYZE of an act, for a server of this server_version_num.

    A busy table is not truncated: that takes a lock that stops readers of standbys.
    """
    name = render("{name:I}", name=(act.schema, act.name))
    if act.kind == ANALYZE:
        only = "ONLY " if version >= ANALYZE_ONLY and act.measured.get("partitions") is not None else ""
        return f"ANALYZE (SKIP_LOCKED) {only}{name}"
    options = ["SKIP_LOCKED", *act.options]
    if act.kind == FREEZE:
        options.append("FREEZE")
    if "TRUNCATE off" not in options and (truncate == "off" or (truncate == "auto" and busy)):
        options.append("TRUNCATE off")
    return f"VACUUM ({', '.join(options)}) {name}"


def run(session: Session, sql: str, seconds: float | None) -> tuple[str, list[str]]:
    """(outcome, what the server said): DONE means only that the server took it.

    seconds: the server ends the statement then. Raises OpsError for what is none of the outcomes.
    """
    session.run(f"SET statement_timeout = {0 if seconds is None else max(1000, int(seconds * 1000))}")
    try:
        session.run(sql)
    except OpsError as error:
        state = error.details.get("sqlstate")
        if state == CANCELLED:
            return LATE, [error.cause]
        if state == LOCK_TIMEOUT:
            return LOCKED, [error.cause]
        if state == "42P01":
            return GONE, [error.cause]
        if state == "42501":
            return FORBIDDEN, [error.cause]
        raise
    return DONE, session.notices()


def proven(session: Session, act: Act, before: Seen, said: Sequence[str]) -> tuple[str, Seen | None]:
    """(outcome, the counters afterwards) of a VACUUM or ANALYZE that the server took.

    SKIP_LOCKED and a missing right both warn; which of the two it was shows in whether somebody has a lock.
    """
    settle(session)
    deadline = time.monotonic() + (0 if session.version >= FLUSHABLE else SETTLING)
    while True:
        after = see(session, act)
        if after is None:
            return GONE, None
        worked = after.analyzes > before.analyzes if act.kind == ANALYZE else after.vacuums > before.vacuums
        if worked:
            return DONE, after
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    if act.kind == ANALYZE and act.measured.get("partitions") is not None and session.version < PARENTS_COUNTED:
        # parents have counters from 14 on
        return (FORBIDDEN if said else DONE), after
    return (LOCKED if after.others or before.others or after.autovacuum or not said else FORBIDDEN), after
