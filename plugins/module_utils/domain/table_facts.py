# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be known of a table before rows of it are deleted or changed, and why it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Column
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

INSERT, DELETE, UPDATE = 4, 8, 16  # bits of pg_trigger.tgtype
# pg_constraint.confdeltype
ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass(frozen=True)
class Trigger:
    """A trigger that fires: its name and tgtype."""

    name: str
    type: int


@dataclass(frozen=True)
class Reference:
    """A foreign key that points to a table. action is confdeltype; indexed: whether its columns lead an index."""

    name: str
    schema: str
    table: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    action: str
    indexed: bool
    own: bool = False

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class TableFacts:
    """One table. kind, persistence as in pg_class; columns without generated ones; required: NOT NULL, no default.

    key: primary key; uniques: other column lists that tell rows apart. lacks: rights that the role has not.
    """

    schema: str
    name: str
    oid: int
    kind: str
    persistence: str
    columns: tuple[Column, ...]
    generated: tuple[str, ...]
    not_null: frozenset[str]
    required: tuple[str, ...]
    key: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...]
    triggers: tuple[Trigger, ...] = ()
    rules: tuple[str, ...] = ()
    row_security: bool = False
    inherited: bool = False
    lacks: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    def type_of(self, column: str) -> str:
        """Raises KeyError."""
        return {item.name: item.type for item in self.columns}[column]

    def has(self, column: str) -> bool:
        return any(item.name == column for item in self.columns)


def key_of(facts: TableFacts, asked: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell rows apart. Raises OpsError no_key."""
    if not asked:
        if facts.key:
            return facts.key
        raise OpsError(
            "no_key",
            f"{facts.title} has no primary key, so a row cannot be named.",
            "Name columns with a unique index over NOT NULL columns as key.",
            {"table": facts.title},
        )
    if set(asked) in [set(columns) for columns in (facts.key, *facts.uniques)]:
        return tuple(asked)
    raise OpsError(
        "no_key",
        f"{', '.join(asked)} of {facts.title} are not NOT NULL columns of one valid, immediate, whole unique index.",
        "Name the columns of such an index as key, or leave key out for the primary key.",
        {"table": facts.title},
    )


def refuse_table(facts: TableFacts, acts: int, accepted: Sequence[str], rights: Sequence[str]) -> Iterator[OpsError]:
    """Why rows of this table cannot be named, archived and acted on exactly. acts: bits of what will be done."""
    where = {"table": facts.title}
    if facts.kind not in ("r", "p"):
        yield OpsError(
            "not_a_table",
            f"{facts.title} is no ordinary or partitioned table.",
            "Name the table that holds the rows.",
            where,
        )
        return
    if facts.inherited:
        yield OpsError(
            "inherited_table",
            f"Other tables inherit from {facts.title} without being partitions; their rows would be touched with it.",
            "Write a rule for each of the tables that hold rows.",
            where,
        )
    if facts.row_security:
        yield OpsError(
            "row_security",
            f"Row security hides rows of {facts.title} from this role, so it would see and count only some.",
            "Log in as the owner of the table (without FORCE) or as a role with BYPASSRLS.",
            where,
        )
    missing = [right for right in rights if right in facts.lacks]
    if missing:
        yield OpsError(
            "not_permitted",
            f"The login role lacks {', '.join(missing)} on {facts.title}.",
            f"GRANT {', '.join(missing)} ON {facts.title} to it, or log in as the owner. (FOR UPDATE asks for UPDATE; "
            " no row is updated by cleanup.)",
            where,
        )
    if facts.rules:
        yield OpsError(
            "rewrite_rules",
            f"{facts.title} has rewrite rules ({', '.join(facts.rules)}), so a statement does not do what it says.",
            "Drop the rules or replace them with triggers.",
            where,
        )
    firing = [item.name for item in facts.triggers if item.type & acts and item.name not in accepted]
    if firing:
        yield OpsError(
            "triggers",
            f"Triggers of {facts.title} would fire and may change or delete what is not archived: {', '.join(firing)}.",
            "Read them; name those that do no harm as accept_triggers.",
            {**where, "triggers": firing},
        )


def index_name(reference: Reference) -> str:
    """A name for the index that a reference lacks."""
    return f"{reference.schema}.{reference.table}_{'_'.join(reference.columns)}_idx"[:120]


def refuse_reference(facts: TableFacts, reference: Reference, archived: bool) -> Iterator[OpsError]:
    """Why rows of facts cannot be deleted while this foreign key points to them. archived: its rows are in the rule."""
    where = {"table": facts.title, "referencing": reference.title, "constraint": reference.name}
    columns = ", ".join(reference.columns)
    if not reference.indexed:
        yield OpsError(
            "foreign_key_unindexed",
            f"{reference.title} refers to {facts.title} by {columns} ({reference.name}) without an index: each deleted "
            "row would read that whole table.",
            f"ansible-playbook saasops.runbook.index -i <inventory> -e name={index_name(reference)} -e state=present",
            where,
        )
    if reference.action in "cnd" and not archived:
        yield OpsError(
            "reference_not_archived",
            f"{reference.title} refers to {facts.title} by {columns} with ON DELETE {ACTIONS[reference.action]}: "
            "rows of it would be deleted or changed and be in no archive.",
            "Name the table among the rule's children, so that its rows are archived and deleted with their parents.",
            where,
        )
