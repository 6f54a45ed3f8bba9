# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange the names of databases in one transaction, while a second session ends whoever is connected.

A RENAME takes the lock on the database and then waits until nobody is in it. Newcomers queue on that lock, so those
that are ended do not come back before the names have changed; a kill of ours at any moment rolls everything back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import unbound
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import database_oid
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

ATTEMPTS = 4
# how long clients wait in vain when an attempt does not succeed, in seconds
ATTEMPT_SECONDS = 2.0
PAUSE_SECONDS = 1.0
TERMINATE_EVERY = 0.005
# busy, cancelled by our own limit, lock not available: worth another attempt
RETRIED = ("55006", "57014", "55P03")


@dataclass(frozen=True)
class Rename:
    """One database: its oid, its name now, its name afterwards."""

    oid: int
    old: str
    new: str


@dataclass(frozen=True)
class Swapped:
    """How it went: attempts needed, sessions ended, seconds from the first lock to the commit of the last attempt."""

    attempts: int
    ended: int
    seconds: float


def renames_for(live: tuple[int, str] | None, other: tuple[int, str], database: str, aside: str) -> list[Rename]:
    """The renames that give `other` (oid, name) the name of `live`, which becomes `aside`.

    The other one is moved to a passing name first: whatever keeps it busy is waited for while clients still work.
    """
    if live is None:
        return [Rename(other[0], other[1], database)]
    passing = f"saasops_passing_{other[0]}"
    return [
        Rename(other[0], other[1], passing),
        Rename(live[0], live[1], aside),
        Rename(other[0], passing, database),
    ]


def end_sessions(session: Session, oids: Collection[int], own: Collection[int]) -> int:
    """End every client session of these databases but our own, and return how many were signalled.

    Receivers of a physical stream are in no database and are not touched. Pid and database are looked at and
    signalled in one statement, so that a pid that was given to somebody else is not hit.
    """
    return int(
        str(
            session.value(
                render(
                    "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity"
                    " WHERE datid::bigint = ANY ({oids}) AND pid <> ALL ({own}) AND pid <> pg_backend_pid()"
                    # an autovacuum worker has no user; its type is shown to privileged roles only
                    " AND usesysid IS NOT NULL) AS signalled WHERE ended",
                    oids=list(oids) or [0],
                    own=list(own) or [0],
                )
            )
        )
    )


class _Terminator:
    """Ends, every few milliseconds, the sessions of each database that the mover has locked against newcomers.

    Not before: a client that is ended while the door is open comes straight back in.
    """

    def __init__(self, session: Session, mover: int) -> None:
        self._session = session
        self._sql = render(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(a.pid) AS ended FROM pg_stat_activity a JOIN pg_locks l"
            " ON l.pid = {mover} AND l.locktype = 'object' AND l.classid = 'pg_database'::regclass"
            " AND l.objid = a.datid AND l.mode = 'AccessExclusiveLock' AND l.granted"
            " WHERE a.pid <> {mover} AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL"
            ") AS signalled WHERE ended",
            mover=mover,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ended = 0
        self.error: OpsError | None = None

    def _run(self) -> None:
        try:
            while not self._stop.wait(TERMINATE_EVERY):
                self.ended += int(str(self._session.value(self._sql)))
        except OpsError as error:
            self.error = error

    def __enter__(self) -> _Terminator:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()


def exchange(
    target: Target,
    renames: Sequence[Rename],
    after: Sequence[str] = (),
    before_commit: Callable[[Session], None] = lambda session: None,
) -> Swapped:
    """Carry all renames out in one transaction, in the order given; a database may be renamed more than once.

    after: further statements of the same transaction. before_commit(session) may raise to roll everything back;
    nobody is connected to the databases at that moment, and nobody can.
    Raises OpsError connections_not_held_off, database_changed, what before_commit raises, or the server's error.
    """
    oids = [item.oid for item in renames]
    ended = 0
    with contextlib.ExitStack() as stack:
        mover, second = target.session(), target.session()
        stack.callback(mover.close)
        stack.callback(second.close)
        unbound(mover)
        unbound(second)
        # should we be killed, the server lets go of the locks at once, and not when it has waited long enough
        with contextlib.suppress(OpsError):
            mover.rows(
                "SELECT set_config(name, '100ms', false) FROM pg_catalog.pg_settings"
                " WHERE name = 'client_connection_check_interval'"
            )
        for attempt in range(1, ATTEMPTS + 1):
            started = time.monotonic()
            terminator = _Terminator(second, mover.pid)
            try:
                with terminator:
                    _attempt(mover, renames, after, before_commit)
                return Swapped(attempt, ended + terminator.ended, time.monotonic() - started)
            except OpsError as error:
                with contextlib.suppress(OpsError):
                    mover.run("ROLLBACK")
                ended += terminator.ended
                if terminator.error is not None:
                    raise terminator.error from error
                if error.details.get("sqlstate") not in RETRIED:
                    raise
                if attempt == ATTEMPTS:
                    raise _not_held_off(second, oids, error) from error
            # let clients work between attempts
            time.sleep(PAUSE_SECONDS * attempt)
    raise AssertionError("unreachable")


def _attempt(
    mover: Session, renames: Sequence[Rename], after: Sequence[str], before_commit: Callable[[Session], None]
) -> None:
    milliseconds = literal(f"{int(ATTEMPT_SECONDS * 1000)}ms")
    mover.run("BEGIN")
    mover.run(f"SET LOCAL lock_timeout = {milliseconds}")
    mover.run(f"SET LOCAL statement_timeout = {milliseconds}")
    # the commit makes the rows that were loaded without waiting for the disk durable too
    mover.run("SET LOCAL synchronous_commit = on")
    for item in renames:
        mover.run(f"ALTER DATABASE {ident(item.old)} RENAME TO {ident(item.new)}")
    for statement in after:
        mover.run(statement)
    for oid, name in {item.oid: item.new for item in renames}.items():
        if database_oid(mover, name) != oid:
            raise OpsError(
                "database_changed",
                f"The database that was to become {name!r} was replaced by another one meanwhile.",
                "Nothing was changed; look at the databases with psql -l and run the verb again.",
            )
    before_commit(mover)
    mover.run("COMMIT")


def _not_held_off(session: Session, oids: Collection[int], error: OpsError) -> OpsError:
    left = session.rows(
        render(
            "SELECT pid, usename::text AS user, application_name AS application, coalesce(state, '') AS state"
            " FROM pg_stat_activity WHERE datid::bigint = ANY ({oids}) ORDER BY backend_start LIMIT 20",
            oids=list(oids) or [0],
        )
    )
    names = [f"pid {r['pid']} of {r['user']} ({r['application'] or 'no name'}, {r['state']})" for r in left]
    return OpsError(
        "connections_not_held_off",
        f"In {ATTEMPTS} attempts the sessions of the databases could not all be ended: "
        + ("; ".join(names) or error.cause),
        "Nothing was changed. Stop what holds on (a pooler, a stuck backend), then run the verb again.",
        {"sessions": names},
    )


def close_database(session: Session, name: str, oid: int) -> int:
    """Let nobody connect to a database any more and end who is in it; returns how many were ended."""
    session.run(f"ALTER DATABASE {ident(name)} ALLOW_CONNECTIONS false")
    return end_sessions(session, [oid], [session.pid])


def open_database(session: Session, name: str) -> None:
    """Let clients connect again."""
    session.run(f"ALTER DATABASE {ident(name)} ALLOW_CONNECTIONS true")


def rows_written(session: Session, oid: int) -> int:
    """Rows that were ever written in a database, by the server's own count; seen from any database.

    It counts the system catalogs too, so a change means "look closely", and no change means that nothing happened.
    """
    return int(
        str(
            session.value(
                render(
                    "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datid = {oid}::oid",
                    oid=oid,
                )
            )
            or 0
        )
    )
