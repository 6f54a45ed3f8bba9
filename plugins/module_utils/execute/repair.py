# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_repair: a fix of the inventory on the rows that it shows, in one transaction, with a way back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Begun, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import texts
from ansible_collections.saasops.runbook.plugins.module_utils.domain.repair import Fix, check_values, choose
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import (
    DELETE,
    INSERT,
    UPDATE,
    TableFacts,
    key_of,
    refuse_reference,
    refuse_table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.repair_undo import undo_repair
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import Recorder, new_id, recover
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import repair as statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import search_path
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repair import Bound, Chosen, Site
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import (
    lock_sql,
    prepare,
    present_sql,
    xid_sql,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_BITS = {"update": UPDATE, "insert": INSERT, "delete": DELETE, "report": 0}
_RIGHTS = {
    "update": ("SELECT", "UPDATE"),
    "delete": ("SELECT", "UPDATE", "DELETE"),
    "insert": ("SELECT", "INSERT"),
    "report": ("SELECT",),
}


def _refuse(fix: Fix, facts: TableFacts, target: TableFacts) -> None:
    rights = ("SELECT", "UPDATE") if fix.act == "insert" else _RIGHTS[fix.act]
    for error in refuse_table(facts, 0 if fix.act == "insert" else _BITS[fix.act], fix.accept_triggers, rights):
        raise error
    if fix.act == "insert":
        for error in refuse_table(target, INSERT, fix.accept_triggers, _RIGHTS["insert"]):
            raise error
    if fix.act == "delete":
        for reference in facts.references:
            for error in refuse_reference(facts, reference, archived=False):
                raise error
    absent = [column for column in fix.values if not target.has(column)]
    if absent:
        raise OpsError(
            "column_unknown",
            f"{target.title} has no column {', '.join(absent)} that can be set.",
            f"Correct fix {fix.name}.",
        )
    if fix.act == "insert":
        without = [column for column in target.required if column not in fix.values]
        if without:
            raise OpsError(
                "column_missing",
                f"{target.title} needs {', '.join(without)}, and fix {fix.name} gives no value for it.",
                "Add it to the fix, from the fields of the row it is made from.",
                {"columns": without},
            )


def _sites(session: Session, fix: Fix, bound: Bound, tenants: Sequence[str]) -> list[Site]:
    """The fix in each schema that it speaks of, without rows yet. Raises OpsError."""
    schemas = matching_schemas(session, fix.schemas)
    if tenants:
        schemas = [name for name in schemas if name in matching_schemas(session, tenants)]
    other = fix.into or fix.table
    tables = read_tables(session, [(schema, name) for schema in schemas for name in sorted({fix.table, other})])
    found = []
    for schema in schemas:
        facts, target = tables.get((schema, fix.table)), tables.get((schema, other))
        if facts is None or target is None:
            continue
        _refuse(fix, facts, target)
        key = key_of(facts, fix.key)
        found.append(Site(fix, facts, key, target, key_of(target, ()) if fix.act == "insert" else key, bound))
    if not found:
        raise OpsError(
            "unknown_table",
            f"No schema of {', '.join(tenants or fix.schemas)} has the tables of fix {fix.name}.",
            "Check the names; they are case-sensitive.",
        )
    return found


def _choose(session: Session, sites: Sequence[Site]) -> list[Site]:
    """The sites with rows. Raises OpsError too_many_rows, not_repairable."""
    chosen = []
    total = 0
    for site in sites:
        session.run(f"SET LOCAL search_path = {search_path(site.facts.schema, site.fix.search_path)}")
        rows = statements.choose(session, site)
        total += len(rows)
        if total > site.fix.limit and not site.fix.report_only:
            raise OpsError(
                "too_many_rows",
                f"Fix {site.fix.name} speaks of more than {site.fix.limit} rows.",
                "Choose fewer by its parameters or by tenant=<schema>, or raise the fix's limit; nothing was changed.",
            )
        if rows:
            chosen.append(replace(site, rows=tuple(rows)))
    if not chosen or chosen[0].fix.report_only:
        return chosen
    failing = [f"{site.names(row)}: {says}" for site in chosen for row in site.rows for says in row.failing]
    failing += [f"{site.names(row)}: {name} would be empty" for site in chosen for row, name in _empty(site)]
    if failing:
        raise OpsError(
            "not_repairable",
            f"{failing[0]}." + (f" And {len(failing) - 1} more." if len(failing) > 1 else ""),
            "Put that right first, where it belongs; nothing was changed.",
            {"rows": failing[:50]},
        )
    return chosen


def _empty(site: Site) -> list[tuple[Chosen, str]]:
    return [
        (row, column)
        for row in site.rows
        for column, value in zip(site.columns, row.after)
        if value is None and column in site.target.not_null
    ]


def _difference(site: Site, row: Chosen) -> dict[str, object]:
    """What is shown of a row: before -> after of what is set, and the columns that the fix names to be shown."""
    shown: dict[str, object] = {name: site.before(row, name) for name in site.fix.show if site.facts.has(name)}
    for column, after in zip(site.columns, row.after):
        if site.fix.act == "update":
            shown[column] = f"{_text(site.before(row, column))} -> {_text(after)}"
        else:
            shown[column] = _text(after)
    if site.fix.act == "delete" and not site.fix.show:
        shown.update((item.name, site.before(row, item.name)) for item in site.facts.columns[:6])
    return shown


def _text(value: str | None) -> str:
    return "NULL" if value is None else value[:200]


def _plan(fix: Fix, sites: Sequence[Site], reason: str) -> Plan:
    if fix.report_only:
        return Plan("repair", ())
    actions = tuple(
        Action(
            f"{fix.act} by {fix.name}",
            f"{site.target.title} for {site.names(row)}" if fix.act == "insert" else site.names(row),
            reason,
            _difference(site, row),
        )
        for site in sites
        for row in site.rows
    )
    return Plan("repair", actions, {"rows": len(actions)} if actions else {})


def _before(site: Site) -> Part:
    """The rows as they are; for an insert those that the new ones are made from."""
    kind = {"update": "changed", "delete": "deleted", "insert": "source"}[site.fix.act]
    facts = site.facts
    return Part(facts.schema, facts.name, facts.columns, site.key, tuple(row.values for row in site.rows), kind)


def _after(session: Session, site: Site, keys: Sequence[statements.Values]) -> Part:
    """The rows as the fix left or made them."""
    facts = site.target
    columns = [item for item in facts.columns if item.name in site.target_key]
    columns.sort(key=lambda item: site.target_key.index(item.name))
    named = Part(facts.schema, facts.name, tuple(columns), site.target_key, tuple(keys))
    whole = replace(named, columns=facts.columns, rows=())
    rows = session.rows(present_sql(named, facts, facts.columns))
    kind = "made" if site.fix.act == "insert" else "left"
    return replace(whole, rows=tuple(tuple(cast("list[str | None]", row["v"])) for row in rows), kind=kind)


def _same(planned: Sequence[Site], now: Sequence[Site]) -> bool:
    def named(sites: Sequence[Site]) -> set[tuple[str, statements.Values, str]]:
        return {(site.facts.title, row.key, row.version) for site in sites for row in site.rows}

    return named(planned) == named(now)


def _lock(session: Session, sites: Sequence[Site]) -> None:
    """The rows as they were shown, held until the end. Raises OpsError rows_changed."""
    for site in sites:
        keys, versions = [row.key for row in site.rows], [row.version for row in site.rows]
        locked = session.rows(lock_sql(site.facts, site.key, keys, versions, wait=True))
        numbers = {int(str(row["n"])) for row in locked}
        missing = [site.names(row) for number, row in enumerate(site.rows, 1) if number not in numbers]
        if missing:
            raise OpsError(
                "rows_changed",
                f"{missing[0]} was changed since it was looked at ({len(missing)} rows in all).",
                "Nothing was changed; look again (check mode) and decide anew.",
                {"rows": missing[:50]},
            )


def _apply(session: Session, sites: Sequence[Site], recorder: Recorder, context: Context) -> list[Part]:
    """One transaction over all schemas. Gives the rows as they were left. Raises OpsError; then nothing was changed."""
    fix = sites[0].fix
    session.run("BEGIN")
    try:
        xid = str(session.value(xid_sql(session.version)))
        recorder.put(xid, [_before(site) for site in sites])
        context.admission.confirm()
        session.run(f"SET LOCAL lock_timeout = '{fix.lock_timeout}s'")
        session.run(f"SET LOCAL statement_timeout = '{fix.lock_timeout * 2}s'")
        session.run("SET CONSTRAINTS ALL IMMEDIATE")
        _lock(session, sites)
        if not _same(sites, _choose(session, [replace(site, rows=()) for site in sites])):
            raise OpsError(
                "rows_changed",
                "The fix speaks of other rows than when it was planned.",
                "Nothing was changed; look again (check mode) and decide anew.",
            )
        left = []
        for site in sites:
            session.run(f"SET LOCAL search_path = {search_path(site.facts.schema, fix.search_path)}")
            try:
                left.append((site, statements.act(session, site)))
            except ValueError as error:
                raise OpsError(
                    "rows_not_changed",
                    f"{site.target.title}: {error}: a trigger forbids it.",
                    "Nothing was changed; read the triggers of the table.",
                ) from error
        for site in sites:
            session.run(f"SET LOCAL search_path = {search_path(site.facts.schema, fix.search_path)}")
            if not statements.verify(session, site):
                raise OpsError(
                    "verify_failed",
                    f"After fix {fix.name} its verification does not hold in {site.facts.schema}; it was rolled back.",
                    "Read the fix's verify and look at the rows; nothing was changed.",
                )
        parts = [_after(session, site, keys) for site, keys in left if fix.act != "delete"]
        session.run("COMMIT")
        return parts
    except OpsError as error:
        with contextlib.suppress(OpsError):
            session.run("ROLLBACK")
            if error.code not in ("session_ended", "interrupted", "session_timeout"):
                recorder.rolled_back()
        raise


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_repair."""
    if params.get("state") == "put_back":
        return undo_repair(params, context)
    system, database, reason = str(params["system"]), str(params["database"]), str(params.get("reason") or "").strip()
    fix = choose(
        cast(Sequence[Mapping[str, object]], params.get("fixes") or []),
        str(params.get("fix") or ""),
        texts(params.get("tenant_schemas")),
    )
    bound = check_values(fix, cast(Mapping[str, object], params.get("parameters") or {}))
    if not reason and not fix.report_only:
        raise OpsError(
            "reason_missing", "Rows are not changed by hand without a reason.", "Say why: -e reason='<why>'."
        )
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("repair", system, database))
    with contextlib.closing(target.session(database)) as session:
        prepare(session)
        sites = _sites(session, fix, bound, texts(params.get("tenant")))
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            session.run("SET LOCAL statement_timeout = '60s'")
            sites = _choose(session, sites)
        finally:
            session.run("ROLLBACK")
        plan = _plan(fix, sites, reason)
        shown = [f"{site.names(row)}: {_difference(site, row)}" for site in sites for row in site.rows]
        count = len(shown)
        evidence: dict[str, object] = {"fix": fix.name, "rows": shown, "count": count, "archives": [], "recovered": []}
        if fix.report_only:
            return Result(plan, False, f"{fix.name} only reports: {count} rows.", evidence)
        if plan.empty or context.check_mode:
            return Result(plan, not plan.empty, f"{count} rows would be repaired by {fix.name}.", evidence)
        context.authorise(plan)
        store = open_store(cast("dict[str, object]", params["store"]))
        server = read_server(session)
        recovered, unclear = recover(session, store, system, database, [fix.name], server, context.now)
        for error in unclear:
            context.warn(error.message)
        recorder = Recorder(
            store,
            open_codec("zstd"),
            Begun(
                archive=new_id(context.now),
                verb="repair",
                system=system,
                database=database,
                server=server,
                name=fix.name,
                started=time.time(),
                reason=reason,
                keep=fix.keep_archive,
                facts={
                    "act": fix.act,
                    "into": fix.into,
                    "parameters": {name: value for name, (_kind, value) in bound.items()},
                },
            ),
        )
        try:
            left = _apply(session, sites, recorder, context)
        except OpsError:
            with contextlib.suppress(OpsError):
                recorder.settle(lambda: target.session(database))
                recorder.finish("stopped", time.time())
            raise
        recorder.committed()
        _remember(recorder, left, context)
    archive = recorder.begun.archive
    evidence["archives"] = [archive]
    evidence["recovered"] = [
        {"archive": outcome.begun.archive, "rows": outcome.rows} for outcome in recovered if outcome.rows
    ]
    undo: dict[str, Json] = {"verb": "repair", "archives": [archive]}
    return Result(plan, True, f"{count} rows repaired by {fix.name}; archive {archive}.", evidence, undo=undo)


def _remember(recorder: Recorder, left: Sequence[Part], context: Context) -> None:
    """The rows as they were left, for the undo after the table was moved or restored; it can do without."""
    try:
        if left:
            recorder.add(left)
        recorder.finish("complete", time.time())
    except OpsError as error:
        context.warn(f"The repair is done, and its archive could not be completed: {error.cause} The next run does.")
