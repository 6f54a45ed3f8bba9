# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an index is, as the server itself spells it; and in what two of them differ.

Every text in a Definition was written by the server's own deparser (pg_get_indexdef, pg_get_expr) under the same
search_path, never by a person. So equal texts mean equal trees: lower(email) and lower((email)::text) are one text,
and an operator class that is the default is the same as one that is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

# pg_index.indoption
DESCENDING, NULLS_FIRST = 1, 2


@dataclass(frozen=True)
class Key:
    """One key of an index.

    text: as pg_get_indexdef writes it; column: its plain name, "" for an expression. opclass and collation are
    (schema, name) pairs, collation ("", "") for a type that has none. parameters: of the operator class.
    option: the bits DESCENDING and NULLS_FIRST.
    """

    text: str
    column: str
    opclass: tuple[str, str]
    collation: tuple[str, str] = ("", "")
    parameters: tuple[str, ...] = ()
    option: int = 0


@dataclass(frozen=True)
class Definition:
    """An index without its name and table. predicate: "" for a whole one; options: "fillfactor=70", sorted."""

    method: str
    keys: tuple[Key, ...]
    include: tuple[str, ...] = ()
    predicate: str = ""
    unique: bool = False
    nulls_not_distinct: bool = False
    options: tuple[str, ...] = ()
    tablespace: str = ""


@dataclass(frozen=True)
class Managed:
    """Which of the things that change no answer an operator has named; what is not named may be as it is."""

    options: bool = False
    tablespace: bool = False


ALL = Managed(True, True)


def _order(option: int) -> str:
    word = "DESC" if option & DESCENDING else "ASC"
    return f"{word} NULLS {'FIRST' if option & NULLS_FIRST else 'LAST'}"


def _name(pair: tuple[str, str]) -> str:
    return ".".join(part for part in pair if part) or "none"


def differences(found: Definition, wanted: Definition, managed: Managed = ALL) -> list[str]:
    """In what `found` is not as wanted, a phrase each; [] when they are the same index."""
    lines: list[str] = []

    def differ(what: str, has: object, asked: object) -> None:
        if has != asked:
            lines.append(f"{what} is {has or 'none'} instead of {asked or 'none'}")

    differ("the method", found.method, wanted.method)
    columns = [key.text for key in found.keys], [key.text for key in wanted.keys]
    differ("the key", ", ".join(columns[0]), ", ".join(columns[1]))
    if columns[0] == columns[1]:
        for has, asked in zip(found.keys, wanted.keys):
            differ(f"the order of {has.text}", _order(has.option), _order(asked.option))
            differ(f"the operator class of {has.text}", _name(has.opclass), _name(asked.opclass))
            differ(
                f"the operator class's options of {has.text}", ", ".join(has.parameters), ", ".join(asked.parameters)
            )
            differ(f"the collation of {has.text}", _name(has.collation), _name(asked.collation))
    differ("included", ", ".join(found.include), ", ".join(wanted.include))
    differ("the condition", found.predicate, wanted.predicate)
    differ("unique", "yes" if found.unique else "no", "yes" if wanted.unique else "no")
    differ(
        "NULLS NOT DISTINCT",
        "yes" if found.nulls_not_distinct else "no",
        "yes" if wanted.nulls_not_distinct else "no",
    )
    if managed.options:
        differ("WITH", ", ".join(found.options), ", ".join(wanted.options))
    if managed.tablespace:
        differ("the tablespace", found.tablespace, wanted.tablespace)
    return lines


def same(found: Definition, wanted: Definition, managed: Managed = ALL) -> bool:
    """Whether an index that is there is the one that is wanted."""
    return not differences(found, wanted, managed)


def show(definition: Definition) -> str:
    """For a person: `unique btree (tenant_id, created_at DESC) include (name) where (state = 'on'::text)`."""
    keys = [key.text + (f" {_order(key.option)}" if key.option else "") for key in definition.keys]
    text = f"{'unique ' if definition.unique else ''}{definition.method} ({', '.join(keys)})"
    if definition.include:
        text += f" include ({', '.join(definition.include)})"
    if definition.nulls_not_distinct:
        text += " nulls not distinct"
    if definition.options:
        text += f" with ({', '.join(definition.options)})"
    if definition.predicate:
        text += f" where {definition.predicate}"
    return text


def as_entry(name: str, schema: str, table: str, definition: Definition) -> dict[str, Json]:
    """The entry of saasops_indexes that makes this very index again: what a journal keeps for the way back."""
    columns: list[Json] = []
    for key in definition.keys:
        column: dict[str, Json] = {"name": key.column} if key.column else {"expression": key.text}
        if key.option:  # most methods know no order, and refuse to be told one
            column["order"] = "desc" if key.option & DESCENDING else "asc"
            column["nulls"] = "first" if key.option & NULLS_FIRST else "last"
        column["opclass"] = ".".join(key.opclass)
        if key.collation[1]:
            column["collation"] = ".".join(key.collation)
        if key.parameters:
            column["opclass_options"] = dict(_pair(item) for item in key.parameters)
        columns.append(column)
    entry: dict[str, Json] = {
        "name": name,
        "schema": schema,
        "table": table,
        "method": definition.method,
        "columns": columns,
        "unique": definition.unique,
        "with": dict(_pair(item) for item in definition.options),
        "tablespace": definition.tablespace,
    }
    if definition.include:
        entry["include"] = list(definition.include)
    if definition.predicate:
        entry["where"] = definition.predicate
    if definition.nulls_not_distinct:
        entry["nulls_not_distinct"] = True
    return entry


def _pair(text: str) -> tuple[str, Json]:
    name, _equals, value = text.partition("=")
    return name, value


_LEFTOVER = re.compile(r"_cc(?:new|old)\d*\Z")
# of a replacement; two underscores, because one is in many a name that people choose
NEW, OLD = "__saasops_new", "__saasops_old"


def beside(name: str, suffix: str) -> str:
    """The name that the new (NEW) or the old (OLD) index has while one takes the other's place: at most 63 bytes."""
    room = 63 - len(suffix)
    return name.encode()[:room].decode("utf-8", "ignore") + suffix


def is_leftover(name: str) -> bool:
    """Whether REINDEX CONCURRENTLY would have named it so; only an invalid index of such a name is a leftover."""
    return bool(_LEFTOVER.search(name))


def grouped(entries: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The same entries, those that differ in their schema alone as one: 500 tenants need not be 500 lines."""
    found: list[tuple[dict[str, Json], list[str]]] = []
    for entry in entries:
        rest = {name: value for name, value in entry.items() if name != "schema"}
        schema = str(entry["schema"])
        plain = not set(schema) & set("*?\\")
        for known, schemas in found:
            if plain and schemas and known == rest:
                schemas.append(schema)
                break
        else:
            found.append((rest if plain else dict(entry), [schema] if plain else []))
    return [{**entry, "schemas": list(schemas)} if schemas else entry for entry, schemas in found]
