# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put rows of archives back: by their keys, so a second time changes nothing; parents before children; proven after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Batch, Entry, Outcome, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import texts
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import INSERT, TableFacts, refuse_table
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Pace, Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.execute.put_back_batch import present_rows, put_batch
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import resolve
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_fence import fenced
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import prepare
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.synchronous import standby_warning
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_SHOWN = 20
_LOCK_LIMIT = 1000  # milliseconds, for archives that do not say what their rule allows


@dataclass
class Found:
    """What putting back would meet: rows to put in, rows that are there already, keys that others have taken."""

    missing: int = 0
    present: int = 0
    conflicts: int = 0
    examples: list[str] | None = None


def open_archive(session: Session, store: Store, archive: str, params: Mapping[str, object], verb: str) -> Outcome:
    """What an archive stands for; one without a manifest by the server's commit log. Raises OpsError."""
    found = archives.read(store, archive)
    begun = found.begun
    if (begun.system, begun.database, begun.verb) != (str(params["system"]), str(params["database"]), verb):
        raise OpsError(
            "archive_foreign",
            f"Archive {archive} was made by {begun.verb} of database {begun.database} of system {begun.system}.",
            "Name an archive of this system and database.",
        )
    if found.outcome is not None:
        return found.outcome
    return resolve(session, store, found, read_server(session), begun.started)


def batches(store: Store, outcome: Outcome) -> Iterator[tuple[Entry, Batch]]:
    """The batches of an archive, the last one first: what was deleted last may be what earlier rows referred to."""
    for entry in sorted(outcome.batches, key=lambda item: -item.number):
        yield entry, archives.get(store, outcome.begun.archive, entry.key, entry)[0]


class Tables:
    """The tables that archives speak of, as they are now."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[tuple[str, str], TableFacts] = {}

    def of(self, part: Part) -> TableFacts:
        """Raises OpsError unknown_table, column_gone."""
        name = (part.schema, part.table)
        if name not in self._found:
            self._found.update(read_tables(self._session, [name]))
        facts = self._found.get(name)
        if facts is None:
            raise OpsError(
                "unknown_table",
                f"{part.title}, whose rows are in the archive, is gone.",
                "Create the table as it was (its columns are in the archive), then put the rows back.",
                {"table": part.title},
            )
        gone = [column.name for column in part.columns if not facts.has(column.name)]
        if gone:
            raise OpsError(
                "column_gone",
                f"{part.title} has no column {', '.join(gone)} any more, or computes it; its values would be lost.",
                "Add the column again, or load the archive into a table of its own (docs/cleanup.md shows how).",
                {"table": part.title, "columns": gone},
            )
        return facts

    def check(self, rights: Sequence[str], warn: list[str]) -> None:
        """Refuse what would make the result another one than the archive says."""
        for facts in self._found.values():
            for error in refuse_table(facts, 0, (), rights):
                raise error
            firing = [item.name for item in facts.triggers if item.type & INSERT]
            if firing:
                warn.append(f"Triggers of {facts.title} fire as rows are put back: {', '.join(firing)}.")


def _look(session: Session, tables: Tables, batch: Batch, found: Found) -> None:
    for part in batch.parts:
        now = present_rows(session, part, tables.of(part))
        for place, values in enumerate(part.rows):
            if place not in now:
                found.missing += 1
            elif now[place] == values:
                found.present += 1
            else:
                found.conflicts += 1
                found.examples = found.examples or []
                if len(found.examples) < _SHOWN:
                    found.examples.append(f"{part.title} {dict(zip(part.key, part.keys()[place]))}")


def put_back(params: dict[str, object], context: Context, verb: str) -> Result:
    """The state put_back of pg_purge."""
    system, database = str(params["system"]), str(params["database"])
    wanted = texts(params.get("archives"))
    if not wanted:
        raise OpsError("archive_missing", "No archive is named.", "Name the archives that the run returned.")
    store = open_store(cast("dict[str, object]", params["store"]))
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of(f"{verb}-guard", system, database))
    warnings: list[str] = []
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(holder.session(database)))
        prepare(session)
        # the newest first: what was deleted later may be what earlier rows referred to
        outcomes = [open_archive(session, store, name, params, verb) for name in sorted(set(wanted), reverse=True)]
        tables, found = Tables(session), Found()
        actions = []
        for outcome in outcomes:
            before = found.missing
            for _entry, batch in batches(store, outcome):
                _look(session, tables, batch, found)
            if found.missing > before:
                actions.append(
                    Action(
                        "put_back",
                        outcome.begun.archive,
                        f"rows that {outcome.begun.name} deleted",
                        {"rows": found.missing - before},
                    )
                )
        tables.check(("SELECT", "INSERT"), warnings)
        plan = Plan(
            verb, tuple(actions), {"rows": sum(item.rows for item in outcomes)} if actions else {}, tuple(warnings)
        )
        evidence: dict[str, object] = {
            "archives": [outcome.begun.archive for outcome in outcomes],
            "rows": found.missing,
            "present": found.present,
        }
        if found.conflicts:
            raise OpsError(
                "rows_in_the_way",
                f"{found.conflicts} keys of the archive belong to other rows now, for instance "
                f"{(found.examples or [''])[0]}; nothing was put back.",
                "Look at these rows; delete or rename them, or take what you need out of the archive by hand.",
                {"conflicts": found.conflicts, "rows": found.examples or []},
            )
        if plan.empty or context.check_mode:
            word = "would be put back" if actions else "to put back"
            message = f"{found.missing} rows {word}, {found.present} are there already."
            return Result(plan, bool(actions), message, evidence)
        context.authorise(plan)
        fence = fenced(stack, anyone, context, session, verb, system, database)
        far, report = Pace(found.missing, "rows"), Ticker(context)
        put = 0
        for outcome in outcomes:
            most = int(str(outcome.begun.facts.get("lock_limit") or _LOCK_LIMIT))
            for _entry, batch in batches(store, outcome):
                put += put_batch(fence.worker, tables, batch, most, fence.confirm)
                report(far(put))
        if waits := standby_warning(fence.worker):
            context.warn(waits)
    evidence["rows"] = put
    return Result(
        plan, bool(put), f"{put} rows put back and compared with the archive, {found.present} were there.", evidence
    )
