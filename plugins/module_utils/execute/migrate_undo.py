# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from migrations: the undo scripts that the ledger keeps, newest first, with the same care."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain import migrate as domain
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import refusal
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate import UNDOING, Row
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import Script, read_script
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import preview
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import (
    Place,
    against_backup,
    tell_switched_off,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import Work, in_transaction
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate_single import Book, by_statement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session


def _script(row: Row) -> Script:
    return read_script(f"{row.title}.undo.sql", row.undo or "")


def undo_row(place: Place, row: Row) -> list[str]:
    """Run one undo script, and take its row away with it. Raises OpsError."""
    place.confirm()
    script = _script(row)
    undoing = row.state == UNDOING
    work = Work(script, None, row.schema, row.done if undoing else 0, row.begun if undoing else 0)
    if script.metadata.transactional:
        in_transaction(
            work,
            place.limits,
            place.hands(),
            lambda session, _seconds: place.ledger.remove(session, row.version, row.schema),
            lambda session: not place.ledger.has(session, row.version, row.schema),
        )
        return []

    def write(session: Session, done: int, begun: int) -> None:
        through = domain.statements_checksum(script, done)
        current = replace(row, state=UNDOING, done=done, begun=begun, done_checksum=through)
        place.ledger.write(session, current, 0.0)

    def done(session: Session) -> int:
        state, through = place.ledger.progress(session, row.version, row.schema)
        return through if state == UNDOING else 0

    said = by_statement(work, place.limits, place.hands(), Book(place.reader, write, done))
    place.ledger.remove(place.reader, row.version, row.schema)
    return said


def undo_rows(place: Place, rows: Sequence[Row]) -> list[str]:
    """Run the undo scripts of rows in this order. Raises OpsError with what was undone before in its details."""
    undone: list[str] = []
    for row in rows:
        place.context.progress(f"undo of {row.place}: {len(undone) + 1} of {len(rows)}")
        try:
            undo_row(place, row)
        except OpsError as error:
            before = f" {len(undone)} of {len(rows)} were undone before." if undone else ""
            details = {**error.details, "undone": undone, "failed": row.place}
            raise OpsError(error.code, f"undo of {row.place}: {error.cause}{before}", error.remedy, details) from error
        undone.append(row.place)
    return undone


def undo(place: Place, run: str) -> Result:
    """State undone: go back from what one run applied."""
    if not run:
        raise OpsError("run_missing", "An undo needs the run that it goes back from.", "Say undo -e run=<id>.")
    rows = place.ledger.rows(place.reader) if place.ledger.exists(place.reader) else []
    own, found = domain.decide_undo(rows, run, place.ledger.name)
    if found:
        raise refusal(found)
    plan = replace(domain.plan_undo(own), warnings=tuple(domain.left_alone(rows, run)))
    evidence: dict[str, object] = {"pending": [], "undone": [], "run": place.run, "lines": preview(plan)}
    if not own and plan.warnings:
        return Result(plan, False, f"There is nothing to undo of run {run}. {' '.join(plan.warnings)}", evidence)
    if not own:
        return Result(plan, False, f"The ledger of {place.database} knows nothing of run {run} (any more).", evidence)
    missing = against_backup(place)
    if place.context.check_mode:
        evidence["lacks"] = [one.code for one in missing]
        plan = replace(plan, warnings=(*plan.warnings, *(f"[{one.code}] {one.cause}" for one in missing)))
        return Result(plan, True, f"{len(own)} undo scripts would run in {place.database}.", evidence)
    if missing:
        raise refusal(missing)
    for row in own:
        _script(row)
    place.context.authorise(plan)
    place.begin()
    tell_switched_off(place)
    evidence["undone"] = undo_rows(place, own)
    return Result(plan, True, f"{len(own)} migrations of run {run} are undone in {place.database}.", evidence)
