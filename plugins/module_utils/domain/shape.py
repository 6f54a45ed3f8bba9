# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of one schema as a merge of rows must know them, and what ties them to the rest of the database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column. generated: '' or the catalog's kind ('s', 'v'); identity: '', 'a' (always) or 'd' (by default)."""

    name: str
    generated: str = ""
    identity: str = ""
    large_object: bool = False

    @property
    def stored(self) -> bool:
        """Whether its value is data: a generated one follows from the others."""
        return not self.generated

    @property
    def settable(self) -> bool:
        """Whether an UPDATE may give it a value; an INSERT may for all that are stored (OVERRIDING SYSTEM VALUE)."""
        return self.stored and self.identity != "a"


@dataclass(frozen=True)
class Unique:
    """A unique index or exclusion constraint.

    expressions: SQL of each indexed column or expression, over the table's bare columns; operators: its equality as
    SQL ('OPERATOR(pg_catalog.=)'), '' for an exclusion; columns: plain column names, () when it has expressions;
    predicate: SQL of a partial index, or ''.
    """

    name: str
    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    columns: tuple[str, ...] = ()
    predicate: str = ""
    nulls_equal: bool = False
    exclusion: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose rows are merged as a whole: an ordinary one, or the top of a partitioned one.

    key: the primary key, or another unique index over columns that are never null; None when there is none.
    parts: names of the tables that hold its rows, in the same schema; its own name when it is not partitioned.
    """

    name: str
    partitioned: bool
    columns: tuple[Column, ...]
    key: Unique | None
    uniques: tuple[Unique, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def stored(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.stored)

    @property
    def large_objects(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.large_object)


@dataclass(frozen=True)
class Foreign:
    """A foreign key. Actions are the catalog's: a (none), r (restrict), c (cascade), n (null), d (default)."""

    name: str
    schema: str
    table: str
    columns: tuple[str, ...]
    to_schema: str
    to_table: str
    to_columns: tuple[str, ...]
    operators: tuple[str, ...]
    on_delete: str = "a"
    on_update: str = "a"

    @property
    def action(self) -> str:
        """What it does when a referenced row is deleted, as SQL says it."""
        return ACTIONS[self.on_delete]


ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass(frozen=True)
class Trait:
    """One fact of a schema's structure: its kind (column, constraint ...), the object, the catalog's text of it."""

    kind: str
    object: str
    text: str


@dataclass(frozen=True)
class Shape:
    """A schema: its tables, the foreign keys that begin or end in it, and its structure for comparing."""

    schema: str
    tables: tuple[Table, ...]
    foreign: tuple[Foreign, ...]
    traits: tuple[Trait, ...]

    def table(self, name: str) -> Table:
        return next(item for item in self.tables if item.name == name)

    @property
    def inner(self) -> tuple[Foreign, ...]:
        """Foreign keys from the schema into itself."""
        return tuple(f for f in self.foreign if f.schema == f.to_schema == self.schema)

    @property
    def inbound(self) -> tuple[Foreign, ...]:
        """Foreign keys of other schemas that refer to this one."""
        return tuple(f for f in self.foreign if f.to_schema == self.schema != f.schema)

    @property
    def outbound(self) -> tuple[Foreign, ...]:
        """Foreign keys of this schema that refer to others."""
        return tuple(f for f in self.foreign if f.schema == self.schema != f.to_schema)


@dataclass(frozen=True)
class Trigger:
    """A user's trigger; state is the catalog's: O (origin), D (disabled), R (replica), A (always)."""

    table: str
    name: str
    state: str


@dataclass(frozen=True)
class Surroundings:
    """What else in the database looks at the tenant's tables, and what cannot be merged. Names are schema.name.

    readers: views of other schemas; stale: materialized views of other schemas, refreshed by nobody here;
    own_views: populated materialized views of the tenant, in the order of a refresh; publications: those that send
    the changes on; rules: rules other than a view's; elsewhere: partitions that lie in another schema.
    """

    triggers: tuple[Trigger, ...] = ()
    readers: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    own_views: tuple[tuple[str, bool], ...] = ()
    publications: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    foreign_tables: tuple[str, ...] = ()


_CAST = re.compile(
    r"::(\"[^\"]+\"|[a-z_]\w*)(\.(\"[^\"]+\"|\w+))?( (varying|precision|with(out)? time zone))*(\(\d+(,\d+)?\))?(\[\])*"
)
# the server prints an expression with other casts and brackets once it was dumped and read back
_EXPRESSIONS = re.compile(r"CHECK |GENERATED |WHERE |EXCLUDE ")


def plain_text(text: str) -> str:
    """A catalog text without casts, brackets and blanks when it holds an expression."""
    return re.sub(r"[()\s]", "", _CAST.sub("", text)) if _EXPRESSIONS.search(text) else text


def structure_differences(live: Sequence[Trait], restored: Sequence[Trait]) -> list[tuple[str, str, str]]:
    """(kind, object, sentence) for each way in which the live schema cannot take the restored rows as they were.

    Partitions and sequences that only the live schema has do no harm: rows go where they belong. A constraint's
    name is not compared.
    """
    here = {(t.kind, t.object, plain_text(t.text)): t.text for t in live}
    there = {(t.kind, t.object, plain_text(t.text)): t.text for t in restored}
    now = {(kind, name): text for (kind, name, _plain), text in here.items()}
    before = {(kind, name) for kind, name, _plain in there}
    found = []
    for kind, name, plain in sorted(set(there) - set(here)):
        text = there[(kind, name, plain)]
        if kind in _SEVERAL:
            found.append((kind, name, f"{name} lacks the {kind}: {text}"))
        elif (kind, name) in now:
            found.append((kind, name, f"{kind} {name} is {now[(kind, name)]} and was {text}"))
        else:
            found.append((kind, name, f"{kind} {name} is missing ({text})"))
    for kind, name, plain in sorted(set(here) - set(there)):
        text = here[(kind, name, plain)]
        if kind in _SEVERAL:
            found.append((kind, name, f"{name} has a new {kind}: {text}"))
        elif (kind, name) not in before and kind not in ("partition", "sequence"):
            found.append((kind, name, f"{kind} {name} is new ({text})"))
    return found


# kinds of which an object has several
_SEVERAL = ("constraint", "unique index")
