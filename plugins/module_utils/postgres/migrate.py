# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the script of a migration in one transaction that no reader waits long for.

A transaction first takes the locks that its script needs, all tries together within a short time; a try that does not
get them lets go of everything, so that whoever queued behind it gets through, and comes back after a pause of random
length. From its first lock on the transaction has a limit, and the server itself ends it there: by statement_timeout
before each statement, by idle_in_transaction_session_timeout between them, from 17 on by transaction_timeout too, and
from a second session (watched.py) in case a script changed those settings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import (
    LEVELS,
    SHARE_UPDATE_EXCLUSIVE,
    Touch,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import Script
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import Statement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.ledger import existing
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.watched import Watched

# lock not available, deadlock, serialization failure: the transaction may be tried again
AGAIN = ("55P03", "40P01", "40001")
# cancelled, transaction_timeout, idle_in_transaction_session_timeout, ended by an administrator (the second session)
_STOPPED = ("57014", "25P04", "25P03", "57P01")
# what of the limit is kept back, as shares of at most 10 s: the soft end is statement_timeout's, then a cancel from the
# second session; the hard end, which costs the session, is the limit itself
_SOFT, _HARDER = 0.1, 0.05
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Limits:
    """All in seconds.

    lock_limit: how long a transaction may last, and so how long a reader may wait behind it. lock_timeout: how long
    one try may queue for locks, all tables together. lock_wait: how long tries are repeated. limit: how long one
    statement outside a transaction may last.
    """

    lock_limit: float = 5.0
    lock_timeout: float = 0.5
    lock_wait: float = 60.0
    limit: float = 3600.0


@dataclass(frozen=True)
class Work:
    """What to run. schema: of the tenant, "" for none. first: statements that are through already; begun: the one
    that was begun last by a run that stopped. longest: seconds that its transaction may last, 0 for lock_limit."""

    script: Script
    verify: Script | None = None
    schema: str = ""
    first: int = 0
    begun: int = 0
    longest: float = 0.0

    def limits(self, given: Limits) -> Limits:
        own = self.script.metadata
        return replace(given, lock_limit=own.lock_limit or given.lock_limit, limit=own.limit or given.limit)


@dataclass(frozen=True)
class Hands:
    """Where work is done and how time passes. connect: a new session of the database; hand: of the same server.

    jitter: a number between 0 and 1, new each time.
    """

    connect: Callable[[], Session]
    hand: Session
    jitter: Callable[[], float]
    progress: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep


def state_of(error: OpsError) -> str:
    return str(error.details.get("sqlstate") or "")


def _sql(touch: Touch) -> str:
    return ".".join(ident(part) for part in touch.table)


def milliseconds(value: float) -> int:
    return max(1, int(value * 1000))


def _kept_back(longest: float, share: float) -> float:
    """Seconds from the beginning until shortly before the end."""
    return longest - min(longest, 10.0) * share


def pause_after(tries: int, limits: Limits, hands: Hands) -> float:
    """Seconds until the next try: longer each time, and never the same, so that two runs do not meet for ever."""
    return min(_LONGEST_PAUSE, limits.lock_timeout * 2.0 ** min(tries, 10)) * (0.5 + hands.jitter())


def prepare(session: Session, schema: str) -> None:
    """A session as new, whatever the script before set, and in the tenant's schema."""
    session.run("RESET ROLE")
    session.run("RESET ALL")
    session.run("SET standard_conforming_strings = on")
    if schema:
        session.run(render("SET search_path TO {schema:I}, public", schema=schema))


def _locks(session: Session, script: Script) -> list[Touch]:
    """What is to be locked first: tables that are there, from a level on that keeps others out."""
    wanted = [
        touch
        for touch in dict.fromkeys([*script.metadata.locks, *script.look.touches])
        if touch.table and LEVELS.index(touch.mode) >= LEVELS.index(SHARE_UPDATE_EXCLUSIVE)
    ]
    kinds = existing(session, [_sql(touch) for touch in wanted])
    return [touch for touch in wanted if kinds.get(_sql(touch)) in ("r", "p")]


def _take(session: Session, touches: Sequence[Touch], limits: Limits) -> None:
    """All locks within lock_timeout together: what one waited for is not there any more for the next."""
    end = time.monotonic() + limits.lock_timeout
    for touch in touches:
        left = milliseconds(end - time.monotonic())
        session.run(f"SET LOCAL lock_timeout = {left}")
        session.run(f"LOCK TABLE {_sql(touch)} IN {touch.mode} MODE")


def verify(session: Session, script: Script | None) -> None:
    """Raises OpsError verify_failed unless every value of every row of every statement is true."""
    for statement in script.statements if script else ():
        rows = session.rows(statement.text)
        if not rows or any(value is not True for row in rows for value in row.values()):
            raise OpsError(
                "verify_failed",
                f"{script.file if script else ''} line {statement.line} is not true.",
                "Look at what it asks for; the migration was not kept.",
                {"rows": rows[:5]},
            )


def _at(script: Script, statement: Statement, error: OpsError, consequence: str) -> OpsError:
    cause = f"{script.file} line {statement.line}: {error.cause}"
    return OpsError(error.code, cause, f"{error.remedy} {consequence}", {**error.details, "line": statement.line})


def _over(work: Work, limits: Limits, error: OpsError) -> OpsError:
    script = work.script
    if work.longest:
        return OpsError(
            "over_limit",
            f"{script.file} line {script.statements[0].line}: it was not through after {work.longest:g} s, and was "
            "rolled back.",
            "Let it do less at a time; one that keeps no reader out may ask for more: -- saasops: limit=4h",
            {**error.details, "line": script.statements[0].line, "limit": work.longest},
        )
    return OpsError(
        "over_lock_limit",
        f"{script.file} was not through after {limits.lock_limit:g} s, and was rolled back: readers would have waited.",
        "Split it, or do its long part outside a transaction. A file that keeps no reader out may ask for more: "
        "-- saasops: lock_limit=10m",
        {**error.details, "lock_limit": limits.lock_limit},
    )


def _attempt(session: Watched, work: Work, limits: Limits, record: Callable[[Session, float], None]) -> None:
    """One try. Raises OpsError; the transaction is open or broken then."""
    script, begun, longest = work.script, time.monotonic(), work.longest or limits.lock_limit
    soft = begun + _kept_back(longest, _SOFT)
    session.bound(begun + _kept_back(longest, _HARDER), begun + longest)
    if session.version >= 170000:
        session.run(f"SET transaction_timeout = {milliseconds(longest)}")
    session.run("BEGIN")

    def bound() -> None:
        left = milliseconds(soft - time.monotonic())
        session.run(f"SET LOCAL statement_timeout = {left}")

    bound()
    session.run(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds(limits.lock_limit)}")
    _take(session, _locks(session, script), limits)
    lock_timeout = f"SET LOCAL lock_timeout = {milliseconds(limits.lock_timeout)}"
    session.run(lock_timeout)
    for statement in script.statements:
        bound()
        try:
            session.run(statement.text)
        except OpsError as error:
            raise _at(script, statement, error, "It was rolled back: the database is as it was.") from error
        session.run(lock_timeout)
    bound()
    verify(session, work.verify)
    # the script may have taken another role; the ledger is ours
    session.run("RESET ROLE")
    record(session, time.monotonic() - begun)
    bound()
    # a commit may wait for a standby that is away, and keeps its locks meanwhile
    now = time.monotonic()
    session.bound(
        min(begun + _kept_back(longest, _HARDER), now + limits.lock_limit),
        min(begun + longest, now + limits.lock_limit + 1.0),
    )


def _commit(session: Watched, hands: Hands, committed: Callable[[Session], bool]) -> None:
    """COMMIT; when the answer is lost, the ledger tells what became of it."""
    try:
        session.run("COMMIT")
    except OpsError as error:
        if state_of(error) not in ("", "57P01", "57P02", "57P03", "25P04", "08006", "08003"):
            raise
        with contextlib.closing(_again(hands)) as other:
            # while the old backend lives, its commit may still come
            gone = render("SELECT count(*) AS n FROM pg_stat_activity WHERE pid = {pid}", pid=session.pid)
            deadline = time.monotonic() + 10
            while other.value(gone) and time.monotonic() < deadline:
                hands.sleep(0.1)
            if not committed(other):
                raise


def _again(hands: Hands, patience: float = 20.0) -> Session:
    """A new session, also while the server comes back."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return hands.connect()
        except OpsError:
            if time.monotonic() >= deadline:
                raise
            hands.sleep(0.5)


def _roll_back(session: Session) -> None:
    with contextlib.suppress(OpsError):
        session.run("ROLLBACK")


def blockers(session: Session, touches: Sequence[Touch]) -> list[Row]:
    """Who holds locks on these tables, oldest transaction first."""
    if not touches:
        return []
    return session.rows(
        render(
            "SELECT DISTINCT ON (a.xact_start, l.pid) l.pid, coalesce(a.application_name, '') AS application,"
            " coalesce(a.usename::text, '') AS user, coalesce(a.state, '') AS state,"
            " coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, 0) AS age"
            " FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.relation = ANY (SELECT to_regclass(given)::oid FROM unnest({names}) AS given)"
            " AND l.granted AND l.pid <> pg_backend_pid() ORDER BY a.xact_start, l.pid",
            names=[_sql(touch) for touch in touches],
        )
    )


def _not_obtained(session: Session, work: Work, tries: int, error: OpsError) -> OpsError:
    found: list[Row] = []
    with contextlib.suppress(OpsError):
        found = blockers(session, [*work.script.metadata.locks, *work.script.look.touches])
    who = "; ".join(f"pid {one['pid']} ({one['application'] or one['user']}, for {one['age']} s)" for one in found[:3])
    remedy = "Run it when less is going on, or end who holds them"
    remedy += f": sessions -e pid={found[0]['pid']}" if found else " (verb sessions)"
    return OpsError(
        "lock_not_obtained",
        f"{work.script.file} did not get its locks in {tries} tries" + (f"; they are held by {who}." if who else "."),
        f"{remedy}. The database is as it was.",
        {**error.details, "tries": tries, "blockers": found},
    )


def in_transaction(
    work: Work,
    given: Limits,
    hands: Hands,
    record: Callable[[Session, float], None],
    committed: Callable[[Session], bool],
    own: Watched | None = None,
) -> None:
    """Run a script and record() in one transaction; own: the session to do it in, a new one for each try without.

    Raises OpsError lock_not_obtained, over_lock_limit, over_limit, verify_failed, and the server's with file and line.
    """
    limits = work.limits(given)
    end = time.monotonic() + limits.lock_wait
    tries = 0
    while True:
        tries += 1
        opened: contextlib.AbstractContextManager[Watched] = (
            contextlib.nullcontext(own) if own else contextlib.closing(Watched(hands.connect(), hands.hand))
        )
        with opened as session:
            prepare(session, work.schema)
            begun = time.monotonic()
            try:
                _attempt(session, work, limits, record)
                _commit(session, hands, committed)
                return
            except OpsError as error:
                late = time.monotonic() - begun >= _kept_back(work.longest or limits.lock_limit, _SOFT)
                session.bound()
                _roll_back(session)
                if state_of(error) in _STOPPED and late:
                    raise _over(work, limits, error) from error
                if state_of(error) not in AGAIN:
                    raise
                pause = pause_after(tries, limits, hands)
                if time.monotonic() + pause >= end:
                    raise _not_obtained(session, work, tries, error) from error
            except BaseException:
                session.bound()
                _roll_back(session)
                raise
        hands.progress(f"{work.script.file}: locks not free, try {tries}; again in {pause:.1f} s")
        hands.sleep(pause)
