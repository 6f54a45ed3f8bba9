# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair finds before it decides: the tables of the fix, the rows it speaks of, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.repair import Fix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import (
    DELETE,
    INSERT,
    UPDATE,
    TableFacts,
    key_of,
    refuse_reference,
    refuse_table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import repair as statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import search_path
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repair import Bound, Chosen, Site
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas

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


def find_sites(session: Session, fix: Fix, bound: Bound, tenants: Sequence[str]) -> list[Site]:
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


def choose_rows(session: Session, sites: Sequence[Site]) -> list[Site]:
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


def difference(site: Site, row: Chosen) -> dict[str, object]:
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


def plan_of(fix: Fix, sites: Sequence[Site], reason: str) -> Plan:
    if fix.report_only:
        return Plan("repair", ())
    actions = tuple(
        Action(
            f"{fix.act} by {fix.name}",
            f"{site.target.title} for {site.names(row)}" if fix.act == "insert" else site.names(row),
            reason,
            difference(site, row),
        )
        for site in sites
        for row in site.rows
    )
    return Plan("repair", actions, {"rows": len(actions)} if actions else {})
