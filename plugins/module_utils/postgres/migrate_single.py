# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a script that is no single transaction: each statement by itself, and on from where a run stopped.

What a transaction takes runs in one together with its note in the ledger, so it runs exactly once. What none takes
(CREATE INDEX CONCURRENTLY, VACUUM) is noted as begun before: the next run looks what became of it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_locks import classify, look_at
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import ACCESS_EXCLUSIVE, Verdict
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import Statement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import migrate_debris as debris
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import (
    AGAIN,
    Hands,
    Limits,
    Work,
    in_transaction,
    milliseconds,
    pause_after,
    prepare,
    state_of,
    verify,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.watched import Watched

# the object is there, or gone, already
_ALREADY = ("42P07", "42710", "42P04", "42704", "42P01", "3D000")
_IN_NO_TRANSACTION, _COMMITS, _PENDING, _EXISTS = "25001", "2D000", "55000", "42P07"
# the answer is lost: what became of the statement is not known
_LOST = ("", "57P01", "57P02", "57P03", "08006", "08003")
_THROUGH = "it was through already"


@dataclass(frozen=True)
class Book:
    """Where it is kept how far a script is.

    own: an autocommit session. write(session, done, begun): so many statements are through, so many were begun.
    done(session): how many are through.
    """

    own: Session
    write: Callable[[Session, int, int], None]
    done: Callable[[Session], int]


@dataclass(frozen=True)
class _At:
    """One statement of a script, and what it is run with."""

    work: Work
    place: int
    given: Limits
    hands: Hands
    book: Book
    session: Watched

    @property
    def statement(self) -> Statement:
        return self.work.script.statements[self.place]

    @property
    def verdict(self) -> Verdict:
        return classify(self.statement)

    @property
    def limits(self) -> Limits:
        return self.work.limits(self.given)

    @property
    def resumed(self) -> bool:
        return self.work.begun == self.place + 1

    @property
    def heavy(self) -> bool:
        """Whether it keeps readers out."""
        touches = (*self.verdict.touches, *self.work.script.metadata.locks)
        return any(touch.mode == ACCESS_EXCLUSIVE for touch in touches) or self.verdict.kind == "VACUUM FULL"

    @property
    def alone(self) -> bool:
        """Whether it is known to run in no transaction."""
        commits = self.work.script.metadata.repeatable and self.verdict.kind in ("CALL", "DO")
        return commits or not self.verdict.in_transaction


def _run(at: _At) -> str:
    """One statement; a sentence when it was found done. Raises OpsError."""
    if at.alone:
        return _by_itself(at)
    try:
        _together(at)
    except OpsError as error:
        if state_of(error) == _COMMITS:
            raise OpsError(
                "commits_itself",
                f"{error.cause} It commits by itself, so the ledger cannot tell how far it came.",
                "Say -- saasops: repeatable=true in a file whose CALL and DO may run once more from their start.",
                error.details,
            ) from error
        if state_of(error) != _IN_NO_TRANSACTION:
            raise
        # the server refused before it did anything
        return _by_itself(at)
    return ""


def _together(at: _At) -> None:
    """In one transaction with its note, so that both are there or neither."""
    script, through = at.work.script, at.place + 1
    one = replace(script, statements=(at.statement,), look=look_at((at.statement,)))
    in_transaction(
        Work(one, None, at.work.schema, longest=0.0 if at.heavy else at.limits.limit),
        at.given,
        at.hands,
        lambda session, _seconds: at.book.write(session, through, through),
        lambda session: at.book.done(session) >= through,
        at.session,
    )


def _by_itself(at: _At) -> str:
    """Outside a transaction; what an error left is in its details. A sentence when it was found done."""
    try:
        return _alone(at)
    except OpsError as error:
        details = {**error.details, "remains": _remains(at, error)}
        raise OpsError(error.code, error.cause, error.remedy, details) from error


def _alone(at: _At) -> str:
    """Outside a transaction; a sentence when it was found done."""
    if at.resumed and _found_done(at):
        return _THROUGH
    if not at.resumed:
        _free(at)
    at.book.write(at.book.own, at.place, at.place + 1)
    session, limits, statement, verdict = at.session, at.limits, at.statement, at.verdict
    longest = limits.lock_limit if at.heavy else limits.limit
    # a concurrent build waits for old transactions and keeps nobody out; a lock_timeout would leave it invalid
    waits = "CONCURRENTLY" in verdict.kind
    text, end, tries = statement.text, time.monotonic() + limits.lock_wait, 0
    while True:
        tries += 1
        try:
            _bounded(session, text, longest, 0.0 if waits else limits.lock_timeout)
            break
        except OpsError as error:
            if at.resumed and state_of(error) in _ALREADY and verdict.kind != debris.CREATE:
                return _THROUGH
            second = re.sub(r"(?i)\bCONCURRENTLY\s*\Z", "FINALIZE", text)
            if at.resumed and state_of(error) == _PENDING and _detaches(statement) and second != text:
                # the run before came to its second half only
                text = second
                continue
            pause = pause_after(tries, limits, at.hands)
            if state_of(error) not in AGAIN or time.monotonic() + pause >= end:
                raise
        at.hands.sleep(pause)
        _clear(at)
    if verdict.kind == debris.CREATE:
        _valid(at)
    at.book.write(at.book.own, at.place + 1, at.place + 1)
    return ""


def _bounded(session: Watched, sql: str, longest: float, lock_timeout: float) -> None:
    session.run(f"SET statement_timeout = {milliseconds(longest)}")
    session.run(f"SET lock_timeout = {milliseconds(lock_timeout) if lock_timeout else 0}")
    session.bound(time.monotonic() + longest + 1, time.monotonic() + longest + 2)
    try:
        session.run(sql)
    finally:
        session.bound()


def _detaches(statement: Statement) -> bool:
    words = [token.upper for token in statement.tokens]
    return "DETACH" in words and words[-1:] == ["CONCURRENTLY"]


def _found_done(at: _At) -> bool:
    """Whether the statement that was begun by a run before came to its end; what it left otherwise is cleared away."""
    verdict, schema = at.verdict, at.work.schema
    if verdict.kind == debris.CREATE:
        found = debris.look(at.session, verdict)
        if any(one.state == debris.VALID for one in found):
            return True
    if verdict.kind == debris.DROP and schema and len(verdict.index) == 1:
        # behind the tenant's schema the search path has another, whose index is not meant
        return not debris.look(at.session, replace(verdict, index=(schema, *verdict.index)))
    _clear(at)
    return False


def _free(at: _At) -> None:
    """Before a build is noted as begun: what is there now is not of it. Raises OpsError index_exists."""
    contented = any(token.upper == "EXISTS" for token in at.statement.tokens)
    for one in debris.look(at.session, at.verdict) if at.verdict.kind == debris.CREATE else ():
        if not (contented and one.state == debris.VALID):
            raise OpsError("index_exists", f"The index {one.name} is there already.", "", {"sqlstate": _EXISTS})


def _clear(at: _At) -> None:
    """Drop the debris of a build that was begun here. Raises OpsError index_building."""
    if at.verdict.kind not in (debris.CREATE, debris.REINDEX):
        return
    found = debris.look(at.session, at.verdict)
    busy = debris.building(found)
    if busy is not None:
        raise busy
    for one in found:
        if one.state == debris.INVALID:
            _bounded(at.session, f"DROP INDEX CONCURRENTLY IF EXISTS {one.sql}", at.limits.limit, 0.0)


def _valid(at: _At) -> None:
    """IF NOT EXISTS is content with an index that is no good. Raises OpsError index_invalid."""
    for one in debris.look(at.session, at.verdict):
        if one.state != debris.VALID:
            raise OpsError("index_invalid", f"{one.name} is there already and not valid.", "", {"sqlstate": _EXISTS})


def by_statement(work: Work, given: Limits, hands: Hands, book: Book) -> list[str]:
    """Run what is left of a script, each statement by itself.

    Returns what was found done by the run that stopped. Raises OpsError migration_incomplete, verify_failed.
    """
    script = work.script
    said = []
    with contextlib.closing(Watched(hands.connect(), hands.hand)) as session:
        prepare(session, work.schema)
        for place, statement in enumerate(script.statements):
            if place < work.first:
                continue
            at = _At(work, place, given, hands, book, session)
            try:
                found = _run(at)
            except OpsError as error:
                raise _incomplete(at, error) from error
            finally:
                with contextlib.suppress(OpsError):
                    prepare(session, work.schema)
            if found:
                said.append(f"{script.file} line {statement.line}: {found}")
            hands.progress(f"{script.file}: statement {place + 1} of {len(script.statements)} is through")
        total = len(script.statements)
        book.write(book.own, total, total)
        verify(session, work.verify)
    return said


def _remains(at: _At, error: OpsError) -> list[str]:
    """What the statement left, and the note of it: only what left something is begun for the next run."""
    state = state_of(error)
    try:
        with contextlib.closing(at.hands.connect()) as other:
            prepare(other, at.work.schema)
            lines = debris.told(at.verdict, debris.look(other, at.verdict), state == _EXISTS)
    except OpsError as lost:
        return [f"what else it left could not be looked at ({lost.code})"]
    if _detaches(at.statement) and state not in _LOST:
        return [*lines, "perhaps a partition that is pending detach, which the next run finalizes"]
    if state not in _LOST and error.code != "index_building" and (state == _EXISTS or not lines):
        with contextlib.suppress(OpsError):
            at.book.write(at.book.own, at.place, at.place)
    return lines


def _incomplete(at: _At, error: OpsError) -> OpsError:
    script, done = at.work.script, at.place
    remains = [str(one) for one in cast(Sequence[object], error.details.get("remains") or [])]
    left = [f"line {one.line}: {' '.join(one.text.split())[:80]}" for one in script.statements[done:]]
    through = f"Statements 1 to {done} are through and stay" if done else "No statement is through"
    where = "" if "line" in error.details else f"{script.file} line {at.statement.line}: "
    debris_told = f" There remains: {'; '.join(remains)}." if remains else ""
    further = f" {error.remedy}" if error.code in ("commits_itself", "index_building", "lock_not_obtained") else ""
    return OpsError(
        "interrupted" if error.code == "interrupted" else "migration_incomplete",
        f"{where}{error.cause} {through}; left is: {'; '.join(left)}.{debris_told}",
        f"Run the verb again: it goes on at line {at.statement.line}. It and those behind it may be corrected "
        f"before.{further}",
        {**error.details, "code": error.code, "done": done, "left": left, "remains": remains},
    )
