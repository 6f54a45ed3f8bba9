# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a repair back: rows become what they were, unless somebody changed them since; all in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Batch, Outcome, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import texts
from ansible_collections.saasops.runbook.plugins.module_utils.execute.put_back import Tables, batches, open_archive
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_fence import fenced
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import locks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repair import made_sql, update_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import (
    bound_idle,
    delete_sql,
    insert_sql,
    lock_sql,
    prepare,
    present_sql,
    touched,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.synchronous import standby_warning
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_LOCK_LIMIT = 5000  # milliseconds
Values = tuple["str | None", ...]


@dataclass
class Way:
    """What has to be done: rows to set back (place and columns), to insert again, to delete; rows that hinder it."""

    changes: list[tuple[Part, int, list[str], str]] = field(default_factory=list)
    inserts: list[tuple[Part, Values]] = field(default_factory=list)
    deletes: list[tuple[Part, Values, str]] = field(default_factory=list)
    done: int = 0
    hindered: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.changes) + len(self.inserts) + len(self.deletes)


def _values(row: Row) -> Values:
    return tuple(cast("list[str | None]", row["v"]))


def _name(part: Part, key: Values) -> str:
    return f"{part.title} " + ", ".join(f"{name}={value}" for name, value in zip(part.key, key))


def _ours(row: Row, batch: Batch, here: bool) -> bool:
    """Whether the row is the version that the repair's transaction left."""
    return here and str(row["x"]) == str(int(batch.xid) % (1 << 32))


def _look(session: Session, tables: Tables, batch: Batch, left: dict[tuple[str, Values], Values], way: Way) -> None:
    """Hold what the archive says against the rows as they are."""
    here = batch.server == read_server(session)
    for part in batch.parts:
        facts = tables.of(part)
        if part.kind == "source":
            continue
        if part.kind in ("changed", "deleted"):
            found = {int(str(row["n"])) - 1: row for row in session.rows(present_sql(part, facts))}
            for place, (key, before) in enumerate(zip(part.keys(), part.rows)):
                row = found.get(place)
                if row is None and part.kind == "deleted":
                    way.inserts.append((part, before))
                elif row is not None and _values(row) == before:
                    way.done += 1
                elif row is None or part.kind == "deleted":
                    way.hindered.append(_name(part, key))
                elif _ours(row, batch, here) or left.get((part.title, key)) == _values(row):
                    names = [column.name for column in part.columns]
                    other = [name for name, was, now in zip(names, before, _values(row)) if was != now]
                    way.changes.append((part, place, other, str(row["x"])))
                else:
                    way.hindered.append(_name(part, key))


def _look_for_made(session: Session, tables: Tables, batch: Batch, part: Part, way: Way) -> None:
    """Rows that the repair inserted: out of the archive, or by their version when it was killed before it had them."""
    facts = tables.of(part)
    here = batch.server == read_server(session)
    if not part.rows:
        rows = session.rows(made_sql(part, batch.xid)) if here else []
        places = [[column.name for column in part.columns].index(name) for name in part.key]
        way.deletes += [(part, tuple(_values(row)[place] for place in places), str(row["x"])) for row in rows]
        return
    found = {int(str(row["n"])) - 1: row for row in session.rows(present_sql(part, facts))}
    for place, (key, made) in enumerate(zip(part.keys(), part.rows)):
        row = found.get(place)
        if row is None:
            way.done += 1
        elif _ours(row, batch, here) or _values(row) == made:
            way.deletes.append((part, key, str(row["x"])))
        else:
            way.hindered.append(_name(part, key))


def _read(session: Session, tables: Tables, found: Sequence[Batch]) -> Way:
    way = Way()
    left = {
        (part.title, key): values
        for batch in found
        for part in batch.parts
        if part.kind == "left"
        for key, values in zip(part.keys(), part.rows)
    }
    made = [(batch, part) for batch in found for part in batch.parts if part.kind == "made"]
    known = {part.title for _batch, part in made if part.rows}
    for batch in found:
        if any(part.kind in ("changed", "deleted") for part in batch.parts):
            _look(session, tables, batch, left, way)
    for batch, part in made:
        if part.rows or part.title not in known:
            _look_for_made(session, tables, batch, part, way)
    return way


def _refuse(way: Way) -> None:
    if way.hindered:
        raise OpsError(
            "row_changed_since",
            f"{way.hindered[0]} was changed since the repair ({len(way.hindered)} rows in all); nothing was put back.",
            "Look at the row and decide by hand; its value of before is in the archive (docs/repair.md shows how).",
            {"rows": way.hindered[:50]},
        )


def _apply(session: Session, tables: Tables, found: Sequence[Batch]) -> int:
    """One transaction: look again with the rows locked, act, compare. Raises OpsError; then nothing was changed."""
    session.run("BEGIN")
    try:
        session.run(f"SET LOCAL lock_timeout = {_LOCK_LIMIT}")
        session.run("SET LOCAL statement_timeout = '60s'")
        bound_idle(session, _LOCK_LIMIT)
        way = _read(session, tables, found)
        _refuse(way)
        for part, place, _columns, version in way.changes:
            locked = session.rows(lock_sql(tables.of(part), part.key, [part.keys()[place]], [version], wait=True))
            if not locked:
                way.hindered.append(_name(part, part.keys()[place]))
        _refuse(way)
        for part, place, columns, _version in way.changes:
            session.run(update_sql(part, place, columns))
        for part, values in way.inserts:
            session.run(insert_sql(part, [values]))
        for part, key, version in way.deletes:
            session.run(delete_sql(tables.of(part), part.key, [key], [version]))
            if touched(session) != 1:
                way.hindered.append(_name(part, key))
        _refuse(way)
        again = _read(session, tables, found)
        if again.total or again.hindered:
            raise OpsError(
                "rows_differ",
                "The rows are not as the archive says after they were put back: a trigger changed them.",
                "Nothing was put back; read the triggers of the table.",
            )
        session.run("COMMIT")
        return way.total
    except OpsError:
        with contextlib.suppress(OpsError):
            session.run("ROLLBACK")
        raise


def _with_target(session: Session, outcome: Outcome, found: list[Batch]) -> list[Batch]:
    """A repair that was killed before it wrote which rows it had made: they are looked for by their version."""
    if outcome.begun.facts.get("act") != "insert" or any(p.kind == "made" for b in found for p in b.parts):
        return found
    into = str(outcome.begun.facts.get("into") or "")
    first = found[-1]
    schemas = sorted({part.schema for part in first.parts})
    facts = read_tables(session, [(schema, into) for schema in schemas])
    parts = tuple(Part(item.schema, item.name, item.columns, item.key, (), "made") for item in facts.values())
    return [*found, replace(first, parts=parts)]


def undo_repair(params: dict[str, object], context: Context) -> Result:
    """The state put_back of pg_repair."""
    system, database = str(params["system"]), str(params["database"])
    wanted = texts(params.get("archives"))
    if not wanted:
        raise OpsError("archive_missing", "No archive is named.", "Name the archives that the run returned.")
    store = open_store(cast("dict[str, object]", params["store"]))
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of("repair-guard", system, database))
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(holder.session(database)))
        prepare(session)
        tables = Tables(session)
        outcomes = [open_archive(session, store, name, params, "repair") for name in sorted(set(wanted), reverse=True)]
        found = []
        for outcome in outcomes:
            own = [batch for _entry, batch in batches(store, outcome)]
            found.append(_with_target(session, outcome, own) if own else own)
        ways = [_read(session, tables, item) for item in found]
        for way in ways:
            _refuse(way)
        actions = tuple(
            Action("put_back", outcome.begun.archive, f"rows that {outcome.begun.name} changed", {"rows": way.total})
            for outcome, way in zip(outcomes, ways)
            if way.total
        )
        total = sum(way.total for way in ways)
        plan = Plan("repair", actions, {"rows": sum(item.rows for item in outcomes)} if actions else {})
        evidence: dict[str, object] = {"archives": list(wanted), "count": total}
        if plan.empty or context.check_mode:
            return Result(plan, bool(actions), f"{total} rows would be put back.", evidence)
        context.authorise(plan)
        fence = fenced(stack, anyone, context, session, "repair", system, database, locks.REPAIR)
        done = 0
        for item in found:
            fence.confirm()
            done += _apply(fence.worker, tables, item)
        if waits := standby_warning(fence.worker):
            context.warn(waits)
    return Result(plan, bool(done), f"{done} rows are again as they were before the repair.", evidence)
