# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which migrations are to run, from the files, the ledger and the schemas of the tenants; and every reason not to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import shown
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import (
    Migration,
    Script,
    checksum,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

APPLIED, APPLYING, UNDOING, BASELINE = "applied", "applying", "undoing", "baseline"
VERB = "migrate"


@dataclass(frozen=True)
class Row:
    """A row of the ledger.

    schema: the tenant's, "" for the whole database. state: applied, baseline, applying or undoing (a file outside a
    transaction that did not end). done: statements that are through; begun: the one that was begun last; done_checksum:
    of the text of those that are through. undo: the undo script's text, None without one.
    """

    version: str
    schema: str
    name: str
    checksum: str
    state: str
    run: str
    undo: str | None = None
    done: int = 0
    begun: int = 0
    total: int = 0
    done_checksum: str = ""
    compatible: bool | None = None

    @property
    def number(self) -> int:
        return int(self.version)

    @property
    def title(self) -> str:
        return f"{self.version}_{self.name}"

    @property
    def place(self) -> str:
        return f"{self.title} in {self.schema}" if self.schema else self.title

    @property
    def hardly_begun(self) -> bool:
        """Whether it stopped before any statement of it was through: there is nothing to go back from."""
        return self.state == APPLYING and not self.done


@dataclass(frozen=True)
class Step:
    """One file in one schema: what to run, and where a run that stopped had come to."""

    migration: Migration
    schema: str = ""
    row: Row | None = None

    @property
    def place(self) -> str:
        return f"{self.migration.title} in {self.schema}" if self.schema else self.migration.title

    @property
    def done(self) -> int:
        return self.row.done if self.row else 0


@dataclass(frozen=True)
class Situation:
    """What was read: files, rows, the schemas that match each pattern, and whether others made tables there."""

    migrations: Sequence[Migration]
    rows: Sequence[Row]
    tenants: Mapping[tuple[str, ...], Sequence[str]]
    ledger: bool
    tables: int


def statements_checksum(script: Script, done: int) -> str:
    """Of the first statements of a script."""
    return checksum("".join(one.text + ";\n" for one in script.statements[:done]))


def schemas_of(migration: Migration, tenants: Mapping[tuple[str, ...], Sequence[str]]) -> Sequence[str]:
    """Where it is run: [""] for the whole database, or the schemas of its tenants."""
    patterns = migration.script.metadata.tenants
    return tenants[patterns] if patterns else [""]


def _refuse(code: str, cause: str, remedy: str, **details: object) -> OpsError:
    return OpsError(code, cause, remedy, details)


def _row_against(row: Row, migration: Migration | None) -> OpsError | None:
    """What is wrong with the file of a row."""
    if migration is None and row.state == APPLYING:
        remedy = "Put the file back, and run the verb again: it goes on where it stopped."
        return _refuse("file_missing", f"{row.title} stopped half-way and its file is gone.", remedy)
    if migration is None:
        remedy = f"Put the file back; to go back to before it, undo -e run={row.run or '<id>'}."
        return _refuse("file_missing", f"{row.title} is applied and its file is gone.", remedy)
    if row.state == UNDOING:
        remedy = f"Finish the undo first: undo -e run={row.run}."
        return _refuse("undo_unfinished", f"The undo of {row.title} stopped half-way.", remedy)
    if row.state == APPLYING:
        if statements_checksum(migration.script, row.done) == row.done_checksum:
            return None
        remedy = f"Leave its first {row.done} statements as they were; those behind them may be corrected."
        return _refuse("file_edited", f"{row.title}: statements that ran already were edited.", remedy)
    if row.checksum != migration.script.checksum:
        remedy = "Put the file back as it was applied, and write what is to change into a new file."
        return _refuse("file_edited", f"{row.title} was edited after it was applied.", remedy)
    return None


def _against(situation: Situation, to: int | None) -> list[OpsError]:
    """What speaks against running anything: edited, missing and out-of-order files, an unfinished undo."""
    by_number = {one.number: one for one in situation.migrations}
    found: list[OpsError] = []
    said: set[tuple[str, int]] = set()

    def once(error: OpsError, number: int) -> None:
        if (error.code, number) not in said:
            said.add((error.code, number))
            found.append(error)

    for row in situation.rows:
        error = _row_against(row, by_number.get(row.number))
        if error is not None:
            once(error, row.number)
    for migration in situation.migrations:
        if to is not None and migration.number > to:
            continue
        for schema in schemas_of(migration, situation.tenants):
            rows = [row for row in situation.rows if row.schema == schema]
            later = [row for row in rows if row.number > migration.number and row.state != APPLYING]
            if later and not any(row.number == migration.number for row in rows):
                place = f" in {schema}" if schema else ""
                cause = f"{migration.title} is not applied{place}, and {later[-1].title} is."
                remedy = "Give the file a number behind all applied ones."
                once(_refuse("out_of_order", cause, remedy), migration.number)
    return found


def decide(
    situation: Situation, errors: Sequence[OpsError], to: int | None = None
) -> tuple[list[Step], list[OpsError]]:
    """The steps in their order, and every reason not to take them (errors of the files among them)."""
    found = [*errors, *_against(situation, to)]
    if to is not None and not any(one.number == to for one in situation.migrations):
        found.append(_refuse("version_unknown", f"There is no migration {to}.", "Name the number of a file: to=NNN."))
    if not situation.rows and situation.tables and situation.migrations and not situation.ledger:
        found.append(
            _refuse(
                "baseline_needed",
                f"The database has {situation.tables} tables and no ledger: what ran there already is not known.",
                "Say which number was the last that ran: migrate -e baseline=NNN (baseline=0 for none).",
            )
        )
    rows = {(row.number, row.schema): row for row in situation.rows}
    steps = []
    for migration in situation.migrations:
        if to is not None and migration.number > to:
            continue
        for schema in schemas_of(migration, situation.tenants):
            row = rows.get((migration.number, schema))
            if row is None or row.state == APPLYING:
                steps.append(Step(migration, schema, row))
    return steps, found


def decide_baseline(situation: Situation, errors: Sequence[OpsError], number: int) -> tuple[list[Step], list[OpsError]]:
    """The rows to write for an existing system: every file up to a number, in each schema that has no row yet."""
    found = list(errors)
    if number and not any(one.number == number for one in situation.migrations):
        found.append(_refuse("version_unknown", f"There is no migration {number}.", "Name the number of a file."))
    steps = []
    for migration in situation.migrations:
        if migration.number > number:
            continue
        for schema in schemas_of(migration, situation.tenants):
            rows = [row for row in situation.rows if row.schema == schema]
            if any(row.number == migration.number for row in rows):
                continue
            if any(row.state != BASELINE for row in rows):
                cause = f"{shown((schema,)) if schema else 'The database'} has a ledger with migrations that ran."
                found.append(_refuse("ledger_exists", cause, "A baseline is for what has none; leave it out."))
                return [], found
            steps.append(Step(migration, schema))
    return steps, found


def decide_undo(rows: Sequence[Row], run: str, ledger: str = "") -> tuple[list[Row], list[OpsError]]:
    """The rows of a run, newest first, and every reason not to undo them; ledger: its name, for a person.

    A file that stopped before its first statement was through is left alone: the next run of the verb begins it anew.
    """
    rows = [row for row in rows if not row.hardly_begun]
    own = sorted((row for row in rows if row.run == run), key=lambda row: (row.number, row.schema), reverse=True)
    if not own:
        return [], []
    found = []
    for row in own:
        later = [one for one in rows if one.schema == row.schema and one.number > row.number and one.run != run]
        if row.state == APPLYING:
            found.append(_unfinished(row, ledger))
        elif later and later[-1].state == APPLYING:
            found.append(_unfinished(later[-1], ledger))
        elif later:
            remedy = f"Undo that first: undo -e run={later[-1].run}."
            found.append(_refuse("later_applied", f"{later[-1].title} was applied after {row.place}.", remedy))
        elif row.state == BASELINE:
            found.append(_refuse("undo_of_baseline", f"{row.place} is a baseline: it was not run here.", "Leave it."))
        elif row.undo is None:
            remedy = (
                "Write a migration that puts right what is wrong; or restore the set of before the run "
                "(restore, then restore -e switch=true), whose plan shows what was written since and would be lost."
            )
            found.append(_refuse("undo_missing", f"{row.place} has no undo script.", remedy))
    return own, list({(one.code, one.cause): one for one in found}.values())


def _unfinished(row: Row, ledger: str) -> OpsError:
    """An undo script takes back a whole file, not the half of one."""
    way = (
        "then undo that run (its id is in what it says), then this one"
        if row.undo is not None
        else "it has no undo script, so add one before; then undo both runs"
    )
    return _refuse(
        "apply_unfinished",
        f"{row.place} stopped half-way: {row.done} of {row.total} statements are through, and an undo script takes "
        "back a whole file.",
        f"Finish it first: migrate goes on at statement {row.done + 1}, which may be corrected before; {way}. Or take "
        f"its first {row.done} statements back by hand, and then its row out of the ledger: DELETE FROM {ledger} WHERE "
        f"version = '{row.version}' AND schema = '{row.schema}' AND state = 'applying'",
        version=row.version,
        done=row.done,
    )


def left_alone(rows: Sequence[Row], run: str) -> list[str]:
    """Sentences on what an undo of a run does not touch."""
    return [
        f"{row.place} had begun and nothing of it is through: it stays as it is, and the next migrate begins it anew."
        for row in rows
        if row.run == run and row.hardly_begun
    ]


def _measured(script: Script, schemas: int, undo: bool) -> dict[str, object]:
    locks = ", ".join(f"{touch.mode} on {shown(touch.table)}" for touch in script.look.touches)
    facts: dict[str, object] = {"statements": len(script.statements)}
    if schemas > 1:
        facts["schemas"] = schemas
    if locks:
        facts["locks"] = locks
    if script.look.unknown:
        facts["locks not known of"] = ", ".join(script.look.unknown)
    if script.metadata.compatible is not None:
        facts["compatible with the release before"] = "yes" if script.metadata.compatible else "no"
    facts["undo"] = "yes" if undo else "no"
    return facts


def plan_of(steps: Sequence[Step], kind: str = "apply") -> Plan:
    """One action a file; its object carries the checksum, so that an edited file is not the one that was agreed to."""
    by_version: dict[str, list[Step]] = {}
    for step in steps:
        by_version.setdefault(step.migration.version, []).append(step)
    actions, warnings = [], []
    for group in by_version.values():
        migration, script = group[0].migration, group[0].migration.script
        reason = "in one transaction" if script.metadata.transactional else "statement by statement"
        if kind == BASELINE:
            reason = "written down as applied, not run"
        elif group[0].done:
            reason += f", from statement {group[0].done + 1} of {len(script.statements)}"
        if script.metadata.tenants:
            reason += f", in {len(group)} schemas"
        measured = {} if kind == BASELINE else _measured(script, len(group), migration.undo is not None)
        actions.append(Action(kind, f"{migration.title} {script.checksum[:12]}", reason, measured))
        if kind != BASELINE:
            warnings += [f"{script.file} {line}" for line in script.look.warnings]
    ceilings = {"files": len(by_version), "schemas": max((len(group) for group in by_version.values()), default=0)}
    return Plan(VERB, tuple(actions), ceilings if actions else {}, tuple(warnings))


def plan_undo(rows: Sequence[Row]) -> Plan:
    """One action a version, newest first."""
    by_version: dict[str, list[Row]] = {}
    for row in rows:
        by_version.setdefault(row.title, []).append(row)
    actions = tuple(
        Action(
            "undo",
            f"{title} {checksum(group[0].undo or '')[:12]}",
            f"by its undo script, in {len(group)} schemas" if group[0].schema else "by its undo script",
        )
        for title, group in by_version.items()
    )
    return Plan(
        VERB,
        actions,
        {"files": len(actions), "schemas": max(map(len, by_version.values()), default=0)} if actions else {},
    )


def plan_empty_ledger(name: str) -> Plan:
    """A baseline of 0: nothing ran yet, and the ledger says so."""
    return Plan(VERB, (Action(BASELINE, name, "an empty ledger: nothing is applied yet"),), {"files": 0, "schemas": 0})
