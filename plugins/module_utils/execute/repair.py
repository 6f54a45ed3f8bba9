# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_repair: a fix of the inventory on the rows that it shows, in one transaction, with a way back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Begun, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import texts
from ansible_collections.saasops.runbook.plugins.module_utils.domain.repair import (
    check_values,
    choose,
    given_reason,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.repair_scene import (
    choose_rows,
    difference,
    find_sites,
    plan_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.repair_undo import undo_repair
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import Recorder, new_id, recover
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_fence import fenced
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import locks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import repair as statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import search_path
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repair import Site
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import (
    bound_idle,
    lock_sql,
    prepare,
    present_sql,
    xid_sql,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.synchronous import standby_warning
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


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


def _apply(session: Session, sites: Sequence[Site], recorder: Recorder, confirm: Callable[[], None]) -> list[Part]:
    """One transaction over all schemas. Gives the rows as they were left. Raises OpsError; then nothing was changed."""
    fix = sites[0].fix
    session.run("BEGIN")
    try:
        xid = str(session.value(xid_sql(session.version)))
        recorder.put(xid, [_before(site) for site in sites])
        confirm()
        session.run(f"SET LOCAL lock_timeout = '{fix.lock_timeout}s'")
        session.run(f"SET LOCAL statement_timeout = '{fix.lock_timeout * 2}s'")
        bound_idle(session, fix.lock_timeout * 1000)
        session.run("SET CONSTRAINTS ALL IMMEDIATE")
        _lock(session, sites)
        if not _same(sites, choose_rows(session, [replace(site, rows=()) for site in sites])):
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
    if not given_reason(reason) and not fix.report_only:
        raise OpsError(
            "reason_missing", "Rows are not changed by hand without a reason.", "Say why: -e reason='<why>'."
        )
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of("repair-guard", system, database))
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(holder.session(database)))
        prepare(reader)
        sites = find_sites(reader, fix, bound, texts(params.get("tenant")))
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            reader.run("SET LOCAL statement_timeout = '60s'")
            bound_idle(reader, 60_000)
            sites = choose_rows(reader, sites)
        finally:
            reader.run("ROLLBACK")
        plan = plan_of(fix, sites, reason)
        shown = [f"{site.names(row)}: {difference(site, row)}" for site in sites for row in site.rows]
        count = len(shown)
        evidence: dict[str, object] = {"fix": fix.name, "rows": shown, "count": count, "archives": [], "recovered": []}
        if fix.report_only:
            return Result(plan, False, f"{fix.name} only reports: {count} rows.", evidence)
        message = f"{count} rows would be repaired by {fix.name}."
        if context.check_mode:
            return Result(plan, not plan.empty, message, evidence)
        store = open_store(cast("dict[str, object]", params["store"]))
        if plan.empty and not archives.without_end(store, "repair", system, database, [fix.name]):
            return Result(plan, False, message, evidence)
        context.authorise(plan)
        fence = fenced(stack, anyone, context, reader, "repair", system, database, locks.REPAIR)
        recovered, unclear = recover(reader, store, "repair", system, database, [fix.name], fence.server, context.now)
        for error in unclear:
            context.warn(error.message)
        evidence["recovered"] = [
            {"archive": outcome.begun.archive, "rows": outcome.rows} for outcome in recovered if outcome.rows
        ]
        if plan.empty:
            ended = ", ".join(outcome.begun.archive for outcome in recovered)
            said = f" The archive of a run that was killed was brought to its end: {ended}." if ended else ""
            return Result(plan, False, message + said, evidence)
        recorder = Recorder(
            store,
            open_codec("zstd"),
            Begun(
                archive=new_id(context.now),
                verb="repair",
                system=system,
                database=database,
                server=fence.server,
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
            left = _apply(fence.worker, sites, recorder, fence.confirm)
        except OpsError:
            with contextlib.suppress(OpsError):
                recorder.settle(lambda: holder.session(database))
                recorder.finish("stopped", time.time())
            raise
        recorder.committed()
        _remember(recorder, left, context)
        if waits := standby_warning(fence.worker):
            context.warn(waits)
    archive = recorder.begun.archive
    evidence["archives"] = [archive]
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
