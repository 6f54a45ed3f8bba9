# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a purge finds before it decides: the tables of each rule, what refers to them, how many rows match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import Child, Rule
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import (
    DELETE,
    Reference,
    TableFacts,
    key_of,
    refuse_reference,
    refuse_table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import (
    Count,
    Node,
    condition_sql,
    count,
    search_path,
    unreferenced_sql,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import bound_idle
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas

_Tables = Mapping[tuple[str, str], TableFacts]
_RIGHTS = ("SELECT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class Place:
    """One table of a rule. condition: which of its rows match; free: that nothing outside the rule refers to a row."""

    rule: Rule
    node: Node
    condition: str
    free: str
    cutoff: float | None
    count: Count = field(default_factory=lambda: Count(0, 0, True))

    @property
    def path(self) -> str:
        return search_path(self.node.facts.schema, self.rule.search_path)


def _names(children: Sequence[Child]) -> list[str]:
    return [name for child in children for name in (child.table, *_names(child.children))]


def _node(
    child: Child, schema: str, above: TableFacts, tables: _Tables, errors: list[OpsError], rule: Rule
) -> tuple[Node, Reference | None] | None:
    """A child of a table with what it refers by. None, and an error, when it cannot be told."""
    facts = tables.get((schema, child.table))
    if facts is None:
        errors.append(OpsError("unknown_table", f"There is no {schema}.{child.table}.", f"Correct rule {rule.name}."))
        return None
    errors += refuse_table(facts, DELETE, child.accept_triggers, _RIGHTS)
    found = [
        item
        for item in above.references
        if (item.schema, item.table) == (schema, child.table) and (not child.columns or item.columns == child.columns)
    ]
    if len(found) > 1:
        errors.append(
            OpsError(
                "reference_ambiguous",
                f"{facts.title} refers to {above.title} by several foreign keys.",
                f"Name the columns of the child in rule {rule.name}, once for each.",
            )
        )
        return None
    reference = found[0] if found else None
    parent_columns = reference.parent_columns if reference else above.key
    columns = reference.columns if reference else child.columns
    if not columns or len(columns) != len(parent_columns) or not all(facts.has(name) for name in columns):
        errors.append(
            OpsError(
                "reference_unknown",
                f"No foreign key of {facts.title} refers to {above.title}, and the rule names no columns of it that "
                f"hold the key ({', '.join(above.key)}).",
                f"Name the columns of the child in rule {rule.name}.",
            )
        )
        return None
    below = _below(child.children, facts, tables, errors, rule, strict=True)
    return Node(facts, key_of(facts, child.key), columns, parent_columns, below), reference


def _below(
    children: Sequence[Child], above: TableFacts, tables: _Tables, errors: list[OpsError], rule: Rule, strict: bool
) -> tuple[Node, ...]:
    """The tables below one. strict: whatever else refers to it is refused, because its rows go with their parents."""
    nodes = []
    archived = []
    for child in children:
        made = _node(child, above.schema, above, tables, errors, rule)
        if made is not None:
            nodes.append(made[0])
            if made[1] is not None:
                archived.append(made[1])
    for reference in above.references:
        errors += refuse_reference(above, reference, reference in archived)
        if strict and reference not in archived and reference.action in "ar":
            errors.append(
                OpsError(
                    "reference_not_archived",
                    f"{reference.title} refers to {above.title} ({reference.name}) and is not in rule {rule.name}.",
                    "Name it among the children of that table.",
                )
            )
    return tuple(nodes)


def _place(rule: Rule, facts: TableFacts, tables: _Tables, cutoff: float | None, errors: list[OpsError]) -> Place:
    errors += refuse_table(facts, DELETE, rule.accept_triggers, _RIGHTS)
    nodes = _below(rule.children, facts, tables, errors, rule, strict=False)
    kept = {(node.facts.schema, node.facts.name, node.columns) for node in nodes}
    outside = [
        item for item in facts.references if item.action in "ar" and (item.schema, item.table, item.columns) not in kept
    ]
    condition = condition_sql(rule, facts, cutoff)
    return Place(
        rule, Node(facts, key_of(facts, rule.key), (), (), nodes), condition, unreferenced_sql(outside), cutoff
    )


def find_places(
    session: Session, rules: Sequence[Rule], cutoffs: Mapping[str, float | None], warn: list[str]
) -> list[Place]:
    """Every table that the rules speak of. Raises OpsError: all refusals of all tables in one."""
    wanted: list[tuple[Rule, str]] = []
    for rule in rules:
        schemas = matching_schemas(session, rule.schemas)
        if not schemas:
            raise OpsError(
                "unknown_schema",
                f"No schema matches {', '.join(rule.schemas)} of rule {rule.name}.",
                "Check the name; it is case-sensitive.",
            )
        wanted += [(rule, schema) for schema in schemas]
    tables = read_tables(
        session,
        sorted({(schema, name) for rule, schema in wanted for name in (rule.table, *_names(rule.children))}),
    )
    errors: list[OpsError] = []
    places = []
    for rule in rules:
        schemas = [schema for item, schema in wanted if item is rule]
        present = [schema for schema in schemas if (schema, rule.table) in tables]
        if not present:
            errors.append(
                OpsError(
                    "unknown_table",
                    f"No schema of rule {rule.name} has a table {rule.table}.",
                    "Check the name; it is case-sensitive.",
                )
            )
        elif len(present) < len(schemas):
            absent = sorted(set(schemas) - set(present))
            warn.append(f"Rule {rule.name}: {len(absent)} schemas have no table {rule.table}: {', '.join(absent[:5])}.")
        for schema in present:
            try:
                places.append(_place(rule, tables[schema, rule.table], tables, cutoffs[rule.name], errors))
            except OpsError as error:
                errors.append(error)
    if errors:
        raise _together(errors)
    return places


def _together(errors: Sequence[OpsError]) -> OpsError:
    """The first one, with how many more there are and all of them as details."""
    first = errors[0]
    more = len(errors) - 1
    return OpsError(
        first.code,
        first.cause + (f" (And {more} more, see details.)" if more else ""),
        first.remedy,
        {**first.details, "refusals": [f"[{item.code}] {item.cause}" for item in errors[:50]]},
    )


def count_places(session: Session, places: Sequence[Place], seconds: int) -> list[Place]:
    """All numbers under one snapshot; seconds bounds each statement."""
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        session.run(f"SET LOCAL statement_timeout = {seconds * 1000}")
        bound_idle(session, seconds * 1000)
        counted = []
        for place in places:
            session.run(f"SET LOCAL search_path = {place.path}")
            number = count(session, place.node.facts, place.condition, place.free)
            counted.append(Place(place.rule, place.node, place.condition, place.free, place.cutoff, number))
        return counted
    finally:
        session.run("ROLLBACK")
