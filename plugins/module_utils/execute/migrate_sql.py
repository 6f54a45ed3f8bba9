# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine sql: read files and ledger, decide, run each file with its row, or say what is left."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain import migrate as domain
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import refusal
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate import (
    APPLIED,
    APPLYING,
    BASELINE,
    Row,
    Step,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import Migration, read_folder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan, preview
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import (
    Place,
    against_backup,
    against_rehearsal,
    record_of,
    tell_switched_off,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_undo import undo_rows
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.ledger import own_tables
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate import Work, in_transaction
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.migrate_single import Book, by_statement
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas
from ansible_collections.saasops.runbook.plugins.module_utils.store import rehearsals

# a migration is text that people wrote; what is larger is something else
_LARGEST = 8 << 20
_LEASE_SECONDS = 2.0


def read_files(params: Mapping[str, object]) -> dict[str, str]:
    """Name -> text, as handed in, or from a folder of this host. Raises OpsError folder_unreadable, no_files."""
    given = params.get("files")
    if given:
        return {str(name): str(text) for name, text in cast("Mapping[str, object]", given).items()}
    path = str(params.get("path") or "")
    found = {}
    try:
        for name in sorted(os.listdir(path)) if path else []:
            if name.endswith(".sql"):
                with open(os.path.join(path, name), encoding="utf-8", newline="") as stream:
                    found[name] = stream.read(_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(
            "folder_unreadable",
            f"{path}: {error}.",
            "Check the folder's name, owner and mode; files are UTF-8 text.",
        ) from error
    if not found:
        raise OpsError(
            "no_files",
            f"There is no migration in {path or 'what was handed in'}.",
            "Set saasops_migrations.folder to the folder with the NNN_name.sql files.",
        )
    return found


def situation_of(place: Place, migrations: Sequence[Migration]) -> domain.Situation:
    """What the database says."""
    there = place.ledger.exists(place.reader)
    patterns = {one.script.metadata.tenants for one in migrations if one.script.metadata.tenants}
    return domain.Situation(
        migrations=migrations,
        rows=place.ledger.rows(place.reader) if there else [],
        tenants={one: matching_schemas(place.reader, _patterns(place, one)) for one in patterns},
        ledger=there,
        tables=own_tables(place.reader, place.ledger.name.rpartition(".")[0]),
    )


def _patterns(place: Place, said: Sequence[str]) -> Sequence[str]:
    """The patterns of a file; tenants=true stands for those of the inventory. Raises OpsError tenants_unknown."""
    known = [str(one) for one in cast("Sequence[object]", place.params.get("tenants") or [])]
    if tuple(said) != ("true",):
        return said
    if not known:
        raise OpsError(
            "tenants_unknown",
            "A file says tenants=true, and no pattern of the tenants' schemas is given.",
            "Set saasops_tenant_schemas in the inventory, for instance [org_*].",
        )
    return known


def _pending(steps: Sequence[Step]) -> list[dict[str, object]]:
    by_version: dict[str, dict[str, object]] = {}
    for step in steps:
        script = step.migration.script
        entry = by_version.setdefault(
            step.migration.version,
            {
                "version": step.migration.version,
                "name": step.migration.name,
                "checksum": script.checksum,
                "schemas": [],
                "transactional": script.metadata.transactional,
                "compatible_with_previous": script.metadata.compatible,
                "undo": step.migration.undo is not None,
                "statements": len(script.statements),
                "locks": {".".join(touch.table): touch.mode for touch in script.look.touches},
                "unknown_locks": list(script.look.unknown),
                "warnings": list(script.look.warnings),
                "notes": list(script.look.notes),
            },
        )
        cast("list[str]", entry["schemas"]).append(step.schema)
    return list(by_version.values())


def row_of(place: Place, step: Step, **changes: object) -> Row:
    """The ledger's row of a step."""
    migration = step.migration
    total = len(migration.script.statements)
    row = Row(
        version=migration.version,
        schema=step.schema,
        name=migration.name,
        checksum=migration.script.checksum,
        state=APPLIED,
        run=place.run,
        undo=migration.undo.text if migration.undo else None,
        done=total,
        begun=total,
        total=total,
        compatible=migration.script.metadata.compatible,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def apply_step(place: Place, step: Step, *, lease: bool = True) -> list[str]:
    """Run one file in one schema, its row with it. Raises OpsError."""
    place.confirm(lease=lease)
    hands, script = place.hands(), step.migration.script
    row = step.row
    work = Work(script, step.migration.verify, step.schema, row.done if row else 0, row.begun if row else 0)
    version = step.migration.version
    if script.metadata.transactional:
        in_transaction(
            work,
            place.limits,
            hands,
            lambda session, seconds: place.ledger.write(session, row_of(place, step), seconds),
            lambda session: place.ledger.has(session, version, step.schema),
        )
        return []

    began = time.monotonic()

    def write(session: Session, done: int, begun: int) -> None:
        through = domain.statements_checksum(script, done)
        current = row_of(place, step, state=APPLYING, done=done, begun=begun, done_checksum=through)
        place.ledger.write(session, current, time.monotonic() - began)

    def done(session: Session) -> int:
        state, through = place.ledger.progress(session, version, step.schema)
        return through if state == APPLYING else 0

    said = by_statement(work, place.limits, hands, Book(place.reader, write, done))
    place.ledger.write(place.reader, row_of(place, step), time.monotonic() - began)
    return said


def _run(place: Place, steps: Sequence[Step]) -> tuple[list[str], list[str]]:
    """What was applied, and remarks. Raises OpsError with what was applied before in its details."""
    applied: list[str] = []
    said: list[str] = []
    looked, version = 0.0, ""
    for number, step in enumerate(steps, 1):
        place.context.progress(f"{step.place}: {number} of {len(steps)}")
        # the lease lies in a store that may be far away: among 500 tenants it is looked at every few seconds
        lease = version != step.migration.version or time.monotonic() - looked > _LEASE_SECONDS
        looked, version = (time.monotonic() if lease else looked), step.migration.version
        try:
            said += apply_step(place, step, lease=lease)
        except OpsError as error:
            if applied and not place.rehearsing:
                # a run that failed has no outcome with a way back, and what it applied has one
                place.context.admission.says("note", {"code": "applied_before_failure", "undo": way_back(place)})
            before = f" {len(applied)} of {len(steps)} were applied before and stay." if applied else ""
            raise OpsError(
                error.code,
                f"{step.place}: {error.cause}{before}",
                error.remedy + (_back(place, error) if applied else ""),
                {**error.details, "applied": applied, "failed": step.place, "run": place.run},
            ) from error
        applied.append(step.place)
    return applied, said


def _back(place: Place, error: OpsError) -> str:
    """How to go back from what was applied before a failure."""
    if error.details.get("done"):
        return f" To go back, finish this file first; then undo the run that finishes it, then -e run={place.run}."
    return f" To go back from those: undo -e run={place.run}."


def migrate(place: Place) -> Result:
    """States applied and rehearsed."""
    params, context = place.params, place.context
    to = None if params.get("to") is None else int(str(params["to"]))
    migrations, errors = read_folder(read_files(params))
    steps, found = domain.decide(situation_of(place, migrations), errors, to)
    if found:
        raise refusal(found)
    plan = domain.plan_of(steps)
    records = {step.migration.title: record_of(place, step.migration) for step in steps}
    missing: list[OpsError] = []
    if steps and not place.rehearsing:
        missing = [*against_backup(place), *against_rehearsal(place, records, "this file")]
    evidence: dict[str, object] = {
        "pending": _pending(steps),
        "applied": [],
        "run": place.run,
        "lines": [*preview(plan), *(f"warning: {line}" for line in plan.warnings)],
    }
    if context.check_mode:
        lacks = tuple(f"[{one.code}] {one.cause}" for one in missing)
        evidence["lacks"] = [one.code for one in missing]
        plan = replace(plan, warnings=(*plan.warnings, *lacks))
        return Result(plan, bool(steps), _foretold(place, steps), evidence)
    if missing:
        raise refusal(missing)
    if not steps and not place.rehearsing:
        return Result(plan, False, f"Nothing is pending in {place.database}.", evidence)
    said: list[str] = []
    if steps:
        context.authorise(plan)
        said += place.begin()
        place.ledger.create(place.reader)
        if not place.rehearsing:
            tell_switched_off(place)
        steps = _again(place, migrations, to, plan)
        evidence["applied"], more = _run(place, steps)
        said += more
    if place.rehearsing:
        evidence["undone"] = _rehearse_undo(place, steps)
        _keep(place, migrations)
    for line in said:
        context.progress(line)
    evidence["said"] = said
    undo = way_back(place) if steps and not place.rehearsing else {}
    return Result(plan, bool(steps), _done(place, steps, evidence), evidence, undo=undo)


def way_back(place: Place) -> dict[str, Json]:
    """For the journal: undo -e run=<id> reads it."""
    return {"verb": "migrate", "migrated_by": place.run, "database": place.database}


def _again(place: Place, migrations: Sequence[Migration], to: int | None, plan: Plan) -> list[Step]:
    """Decide once more under the fence: somebody may have migrated meanwhile."""
    steps, found = domain.decide(situation_of(place, migrations), [], to)
    found = [one for one in found if one.code != "baseline_needed"]
    if found:
        raise refusal(found)
    known = {action.object for action in plan.actions}
    if not {action.object for action in domain.plan_of(steps).actions} <= known:
        raise OpsError("changed_meanwhile", "The ledger changed since the plan was made.", "Run the verb again.")
    return steps


def _rehearse_undo(place: Place, steps: Sequence[Step]) -> list[str]:
    """On a copy, undo what has an undo, newest first, and apply it again: so the way back is proven, too."""
    if not place.params.get("rehearse_undo"):
        return []
    own = {(step.migration.version, step.schema) for step in steps}
    rows = [row for row in place.ledger.rows(place.reader) if (row.version, row.schema) in own]
    back = list(takewhile(lambda row: row.undo is not None, reversed(rows)))
    undo_rows(place, back)
    gone = {(row.version, row.schema) for row in back}
    for step in steps:
        if (step.migration.version, step.schema) in gone:
            apply_step(place, replace(step, row=None))
    return [row.title for row in back]


def _keep(place: Place, migrations: Sequence[Migration]) -> None:
    """Put on record which files, as they are now, stand applied in the rehearsal's database."""
    there = {(row.version, row.checksum) for row in place.ledger.rows(place.reader) if row.state == APPLIED}
    expected = {str(one) for one in cast("Sequence[object]", place.params.get("expect") or [])}
    for migration in migrations:
        if (migration.version, migration.script.checksum) not in there:
            continue
        if expected and migration.version not in expected:
            continue
        body: dict[str, Json] = {
            "system": place.system,
            "database": place.live,
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.script.checksum,
            "in": place.database,
            "run": place.run,
            "at": place.context.now,
        }
        rehearsals.save(place.store, record_of(place, migration), body)


def _foretold(place: Place, steps: Sequence[Step]) -> str:
    if not steps:
        return f"Nothing is pending in {place.database}."
    return f"{len({step.migration.version for step in steps})} migrations would run in {place.database}."


def _done(place: Place, steps: Sequence[Step], evidence: Mapping[str, object]) -> str:
    count = len({step.migration.version for step in steps})
    if place.rehearsing:
        undone = len(cast("Sequence[str]", evidence.get("undone") or []))
        return f"{count} migrations ran in {place.database}, {undone} were undone there and ran again."
    return f"{count} migrations are applied in {place.database}. To go back: undo -e run={place.run}"


def baseline(place: Place, number: int) -> Result:
    """Write down what ran before there was a ledger; nothing is run."""
    migrations, errors = read_folder(read_files(place.params))
    situation = situation_of(place, migrations)
    steps, found = domain.decide_baseline(situation, errors, number)
    if found:
        raise refusal(found)
    plan = domain.plan_of(steps, BASELINE)
    if not steps and not situation.ledger and not number:
        plan = domain.plan_empty_ledger(place.ledger.name)
    evidence: dict[str, object] = {
        "pending": _pending(steps),
        "applied": [],
        "run": place.run,
        "lines": preview(plan),
    }
    if plan.empty:
        return Result(plan, False, "The ledger has this baseline.", evidence)
    if place.context.check_mode:
        return Result(plan, True, f"{len(steps)} rows would be written into {place.ledger.name}.", evidence)
    place.context.authorise(plan)
    place.begin()
    place.ledger.create(place.reader)
    place.confirm()
    place.reader.run("BEGIN")
    for step in steps:
        place.ledger.write(place.reader, row_of(place, step, state=BASELINE, undo=None), 0.0)
    place.reader.run("COMMIT")
    return Result(plan, True, f"{len(steps)} migrations are written down as applied.", evidence)
