# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a script outside of a transaction: each statement by itself, and on from where a run stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_locks import classify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import ACCESS_EXCLUSIVE
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import Script
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import Statement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import (
    AGAIN,
    Hands,
    Limits,
    Work,
    milliseconds,
    pause_after,
    prepare,
    state_of,
    verify,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.watched import Watched

# the object is there, or gone, already
_ALREADY = ("42P07", "42710", "42701", "42P06", "42723", "42704", "42P01", "42703")


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
        session.run(f"SET statement_timeout = {milliseconds(longest)}")
        session.run(f"SET lock_timeout = {0 if waits else milliseconds(limits.lock_timeout)}")
        session.bound(time.monotonic() + longest + 1, time.monotonic() + longest + 2)
        try:
            session.run(statement.text)
            return ""
        except OpsError as error:
            if resumed and state_of(error) in _ALREADY:
                return "it was through already"
            pause = pause_after(tries, limits, hands)
            if state_of(error) not in AGAIN or time.monotonic() + pause >= end:
                raise
        finally:
            session.bound()
        hands.sleep(pause)


def by_statement(work: Work, given: Limits, hands: Hands, record: Callable[[int, int], None]) -> list[str]:
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
        verify(session, work.verify)
    return said


def _incomplete(script: Script, done: int, error: OpsError) -> OpsError:
    left = [f"line {one.line}: {' '.join(one.text.split())[:80]}" for one in script.statements[done:]]
    through = f"Statements 1 to {done} are through and stay" if done else "No statement is through"
    return OpsError(
        "interrupted" if error.code == "interrupted" else "migration_incomplete",
        f"{script.file} line {script.statements[done].line}: {error.cause} {through}; left is: {'; '.join(left)}.",
        f"Run the verb again: it goes on at line {script.statements[done].line}. It and those behind it may "
        "be corrected before.",
        {**error.details, "code": error.code, "done": done, "left": left},
    )
