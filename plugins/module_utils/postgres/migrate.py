# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the script of a migration: in one transaction that no reader waits long for, or statement by statement.

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

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_locks import classify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import (
    ACCESS_EXCLUSIVE,
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
_AGAIN = ("55P03", "40P01", "40001")
# cancelled, transaction_timeout, idle_in_transaction_session_timeout, ended by an administrator (the second session)
_STOPPED = ("57014", "25P04", "25P03", "57P01")
# the object is there, or gone, already
_ALREADY = ("42P07", "42710", "42701", "42P06", "42723", "42704", "42P01", "42703")
# the soft end, by statement_timeout, comes before the hard one, which costs the session
_SOFT = 0.9
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
    that was begun last by a run that stopped."""

    script: Script
    verify: Script | None = None
    schema: str = ""
    first: int = 0
    begun: int = 0

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


def _state(error: OpsError) -> str:
    return str(error.details.get("sqlstate") or "")


def _sql(touch: Touch) -> str:
    return ".".join(ident(part) for part in touch.table)


def _milliseconds(value: float) -> int:
    return max(1, int(value * 1000))


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
        left = _milliseconds(end - time.monotonic())
        session.run(f"SET LOCAL lock_timeout = {left}")
        session.run(f"LOCK TABLE {_sql(touch)} IN {touch.mode} MODE")


def _verify(session: Session, verify: Script | None) -> None:
    """Raises OpsError verify_failed unless every value of every row of every statement is true."""
    for statement in verify.statements if verify else ():
        rows = session.rows(statement.text)
        if not rows or any(value is not True for row in rows for value in row.values()):
            raise OpsError(
                "verify_failed",
                f"{verify.file if verify else ''} line {statement.line} is not true.",
                "Look at what it asks for; the migration was not kept.",
                {"rows": rows[:5]},
            )


def _at(script: Script, statement: Statement, error: OpsError, consequence: str) -> OpsError:
    cause = f"{script.file} line {statement.line}: {error.cause}"
    return OpsError(error.code, cause, f"{error.remedy} {consequence}", {**error.details, "line": statement.line})


def _over(script: Script, limits: Limits, error: OpsError) -> OpsError:
    return OpsError(
        "over_lock_limit",
        f"{script.file} was not through after {limits.lock_limit:g} s, and was rolled back: readers would have waited.",
        "Split it, or do its long part outside a transaction. A file that keeps no reader out may ask for more: "
        "-- saasops: lock_limit=10m",
        {**error.details, "lock_limit": limits.lock_limit},
    )


def _attempt(session: Watched, work: Work, limits: Limits, record: Callable[[Session, float], None]) -> None:
    """One try. Raises OpsError; the transaction is open or broken then."""
    script, begun = work.script, time.monotonic()
    soft, session.until = begun + limits.lock_limit * _SOFT, begun + limits.lock_limit
    if session.version >= 170000:
        session.run(f"SET transaction_timeout = {_milliseconds(limits.lock_limit)}")
    session.run("BEGIN")

    def bound() -> None:
        left = _milliseconds(soft - time.monotonic())
        session.run(f"SET LOCAL statement_timeout = {left}")

    bound()
    session.run(f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(limits.lock_limit)}")
    _take(session, _locks(session, script), limits)
    lock_timeout = f"SET LOCAL lock_timeout = {_milliseconds(limits.lock_timeout)}"
    session.run(lock_timeout)
    for statement in script.statements:
        bound()
        try:
            session.run(statement.text)
        except OpsError as error:
            raise _at(script, statement, error, "It was rolled back: the database is as it was.") from error
        session.run(lock_timeout)
    bound()
    _verify(session, work.verify)
    record(session, time.monotonic() - begun)
    bound()


def _commit(session: Watched, hands: Hands, committed: Callable[[Session], bool]) -> None:
    """COMMIT; when the answer is lost, the ledger tells what became of it."""
    try:
        session.run("COMMIT")
    except OpsError as error:
        if _state(error) not in ("", "57P01", "57P02", "57P03", "25P04", "08006", "08003"):
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
) -> None:
    """Run a script and record() in one transaction.

    Raises OpsError lock_not_obtained, over_lock_limit, verify_failed, and the server's with file and line.
    """
    limits = work.limits(given)
    end = time.monotonic() + limits.lock_wait
    tries = 0
    while True:
        tries += 1
        session = Watched(hands.connect(), hands.hand)
        with contextlib.closing(session):
            prepare(session, work.schema)
            begun = time.monotonic()
            try:
                _attempt(session, work, limits, record)
                _commit(session, hands, committed)
                return
            except OpsError as error:
                late = time.monotonic() - begun >= limits.lock_limit * _SOFT
                session.until = None
                _roll_back(session)
                if _state(error) in _STOPPED and late:
                    raise _over(work.script, limits, error) from error
                if _state(error) not in _AGAIN:
                    raise
                pause = min(_LONGEST_PAUSE, limits.lock_timeout * 2 ** min(tries, 10)) * (0.5 + hands.jitter())
                if time.monotonic() + pause >= end:
                    raise _not_obtained(session, work, tries, error) from error
            except BaseException:
                session.until = None
                _roll_back(session)
                raise
        hands.progress(f"{work.script.file}: locks not free, try {tries}; again in {pause:.1f} s")
        hands.sleep(pause)


def _debris(session: Session, index: tuple[str, ...]) -> str:
    """What there is of an index that is built concurrently: "", valid, invalid or building."""
    name = ".".join(ident(part) for part in index)
    found = session.rows(
        render(
            "SELECT i.indisvalid AS valid, EXISTS (SELECT FROM pg_stat_progress_create_index p"
            " WHERE p.index_relid = i.indexrelid) AS building FROM pg_index i WHERE i.indexrelid = to_regclass({name})",
            name=name,
        )
    )
    if not found:
        return ""
    return "valid" if found[0]["valid"] else "building" if found[0]["building"] else "invalid"


def _single(session: Watched, statement: Statement, limits: Limits, hands: Hands, resumed: bool) -> str:
    """One statement outside a transaction; a sentence when it was found done. Raises OpsError."""
    verdict = classify(statement)
    heavy = any(touch.mode == ACCESS_EXCLUSIVE for touch in verdict.touches) or verdict.kind == "VACUUM FULL"
    longest = limits.lock_limit if heavy else limits.limit
    # a concurrent build waits for old transactions and keeps nobody out; a lock_timeout would leave it invalid
    waits = "CONCURRENTLY" in verdict.kind
    if resumed and verdict.kind == "CREATE INDEX CONCURRENTLY" and verdict.index:
        state = _debris(session, verdict.index)
        if state == "valid":
            return "it was through already"
        if state == "invalid":
            session.run(f"DROP INDEX CONCURRENTLY {'.'.join(ident(part) for part in verdict.index)}")
    end = time.monotonic() + limits.lock_wait
    tries = 0
    while True:
        tries += 1
        session.run(f"SET statement_timeout = {_milliseconds(longest)}")
        session.run(f"SET lock_timeout = {0 if waits else _milliseconds(limits.lock_timeout)}")
        session.until = time.monotonic() + longest + 1
        try:
            session.run(statement.text)
            return ""
        except OpsError as error:
            if resumed and _state(error) in _ALREADY:
                return "it was through already"
            pause = min(_LONGEST_PAUSE, limits.lock_timeout * 2 ** min(tries, 10)) * (0.5 + hands.jitter())
            if _state(error) not in _AGAIN or time.monotonic() + pause >= end:
                raise
        finally:
            session.until = None
        hands.sleep(pause)


def by_statement(
    work: Work, given: Limits, hands: Hands, record: Callable[[int, int], None]
) -> list[str]:
    """Run what is left of a script, each statement by itself; record(done, begun) before each and at the end.

    Returns what was found done by the run that stopped. Raises OpsError migration_incomplete, verify_failed.
    """
    limits, script = work.limits(given), work.script
    said = []
    with contextlib.closing(Watched(hands.connect(), hands.hand)) as session:
        prepare(session, work.schema)
        for place, statement in enumerate(script.statements):
            if place < work.first:
                continue
            record(place, place + 1)
            try:
                found = _single(session, statement, limits, hands, resumed=work.begun == place + 1)
            except OpsError as error:
                raise _incomplete(script, place, error) from error
            finally:
                with contextlib.suppress(OpsError):
                    prepare(session, work.schema)
            if found:
                said.append(f"{script.file} line {statement.line}: {found}")
            hands.progress(f"{script.file}: statement {place + 1} of {len(script.statements)} is through")
        total = len(script.statements)
        record(total, total)
        _verify(session, work.verify)
    return said


def _incomplete(script: Script, done: int, error: OpsError) -> OpsError:
    left = [f"line {one.line}: {' '.join(one.text.split())[:80]}" for one in script.statements[done:]]
    through = f"Statements 1 to {done} are through and stay" if done else "No statement is through"
    return OpsError(
        "interrupted" if error.code == "interrupted" else "migration_incomplete",
        f"{script.file} line {script.statements[done].line}: {error.cause} {through}; left is: {'; '.join(left)}.",
        f"Run the verb again: it goes on at line {script.statements[done].line}. That statement and those behind it may "
        "be corrected before.",
        {**error.details, "code": error.code, "done": done, "left": left},
    )
