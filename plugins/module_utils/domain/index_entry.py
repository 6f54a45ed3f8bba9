# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator writes in saasops_indexes, read and checked before any server is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

Plain = Mapping[str, object]
PRESENT, ABSENT = "present", "absent"
_SIMPLE = re.compile(r"[\w$]+\Z")
_PART = r'"(?:[^"]|"")+"|[^."]+'
_OPTION = re.compile(r"[a-z][a-z0-9_.]*\Z")
_WHERE = frozenset({"name", "table", "schema", "schemas", "tablespace", "state", "replace", "proof"})
_WHAT = frozenset({"columns", "method", "unique", "nulls_not_distinct", "include", "where", "with"})
_FIELDS = _WHERE | _WHAT
_COLUMN = frozenset({"name", "expression", "order", "nulls", "opclass", "opclass_options", "collation"})


@dataclass(frozen=True)
class Column:
    """A key as it was asked for: a column's name or an SQL expression, the rest "" where it is left to the server.

    opclass and collation: (schema, name), schema "" where it was not given.
    """

    name: str = ""
    expression: str = ""
    order: str = ""
    nulls: str = ""
    opclass: tuple[str, str] = ("", "")
    opclass_options: tuple[tuple[str, str], ...] = ()
    collation: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Wish:
    """One entry. schema: exactly this one, or schemas: patterns; both empty means public.

    columns: () for an entry that only names what is to be absent.
    options, tablespace: None where the entry says nothing about them.
    """

    name: str
    table: str = ""
    schema: str = ""
    schemas: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    method: str = "btree"
    unique: bool = False
    nulls_not_distinct: bool = False
    include: tuple[str, ...] = ()
    where: str = ""
    options: tuple[tuple[str, str], ...] | None = None
    tablespace: str | None = None
    state: str = PRESENT
    replace: bool = False
    proof: str = ""
    # as it was written; two that were written alike are not one because of it
    raw: Mapping[str, object] = field(default_factory=dict, compare=False, hash=False)

    def absent_again(self, schema: str) -> dict[str, Json]:
        """The entry that drops what this one made in a schema, and only that."""
        kept = {name: value for name, value in self.raw.items() if name in _WHAT or name == "tablespace"}
        return cast(
            "dict[str, Json]", {**kept, "name": self.name, "table": self.table, "schema": schema, "state": ABSENT}
        )

    @property
    def shape(self) -> Wish:
        """What decides about the definition; the same shape on the same kind of table is the same index."""
        return replace(self, name="", table="", schema="", schemas=(), state=PRESENT, replace=False, proof="")


def _bad(number: int, what: str, remedy: str) -> OpsError:
    return OpsError("bad_index", f"Entry {number} of saasops_indexes: {what}.", remedy, {"entry": number})


def split_name(text: str) -> tuple[str, str]:
    """("schema", "name") of schema.name, ("", "name") of a name alone; double quotes hold a dot. Raises ValueError."""
    whole = re.fullmatch(rf"(?:({_PART})\.)?({_PART})", text, re.DOTALL)
    if not whole:
        raise ValueError(f"{text!r} is not a name, or schema.name")
    parts = [part for part in whole.groups() if part is not None]
    plain = [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts]
    return ("", plain[0]) if len(plain) == 1 else (plain[0], plain[1])


def _texts(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    return [str(item) for item in cast("Sequence[object]", value)]


def _options(value: object, number: int) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise _bad(number, f"{value!r} is no dictionary of options", "Write for instance with: {fillfactor: 70}.")
    found = []
    for name, given in value.items():
        if not _OPTION.match(str(name)):
            raise _bad(number, f"{name!r} is no option", "See the storage parameters of CREATE INDEX.")
        text = ("on" if given else "off") if isinstance(given, bool) else str(given)
        found.append((str(name), text))
    return tuple(sorted(found))


def _pair(value: object, number: int) -> tuple[str, str]:
    try:
        return split_name(str(value)) if value else ("", "")
    except ValueError as error:
        raise _bad(number, str(error), "Write a name, or schema.name.") from error


def _column(value: object, number: int) -> Column:
    if isinstance(value, str):
        if not _SIMPLE.match(value):
            raise _bad(
                number,
                f"{value!r} is no plain column",
                "Write {expression: lower(email)}, {name: created_at, order: desc}, or {name: Odd Name}.",
            )
        return Column(name=value)
    if not isinstance(value, Mapping) or not set(value) <= _COLUMN or ("name" in value) == ("expression" in value):
        raise _bad(
            number, f"{value!r} is no column", f"Give a name or an expression, and of: {', '.join(sorted(_COLUMN))}."
        )
    order, nulls = str(value.get("order") or "").lower(), str(value.get("nulls") or "").lower()
    if order not in ("", "asc", "desc") or nulls not in ("", "first", "last"):
        raise _bad(number, f"order {order!r}, nulls {nulls!r}", "order is asc or desc, nulls is first or last.")
    return Column(
        name=str(value.get("name") or ""),
        expression=str(value.get("expression") or "").strip(),
        order=order,
        nulls=nulls,
        opclass=_pair(value.get("opclass"), number),
        opclass_options=_options(value.get("opclass_options") or {}, number),
        collation=_pair(value.get("collation"), number),
    )


def _boolean(value: object, name: str, number: int) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    if str(value).lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return str(value).lower() in ("true", "yes", "on", "1")
    raise _bad(number, f"{name} is {value!r}", f"{name} is true or false.")


def parse_wish(entry: object, number: int) -> Wish:
    """One entry; number counts from 1 and is told in errors. Raises OpsError bad_index."""
    if not isinstance(entry, Mapping) or not set(entry) <= _FIELDS:
        unknown = ", ".join(sorted(set(entry) - _FIELDS)) if isinstance(entry, Mapping) else repr(entry)
        raise _bad(number, f"{unknown} is not known", f"An entry has: {', '.join(sorted(_FIELDS))}.")
    state = str(entry.get("state") or PRESENT)
    if state not in (PRESENT, ABSENT):
        raise _bad(number, f"state is {state!r}", "state is present or absent.")
    schema, name = _pair(entry.get("name"), number)
    table_schema, table = _pair(entry.get("table"), number)
    given = {item for item in (schema, table_schema, str(entry.get("schema") or "")) if item}
    patterns = tuple(_texts(entry.get("schemas")))
    if len(given) > 1 or (given and patterns):
        raise _bad(number, "more than one schema is named", "Give schema, schema.table, or schemas with patterns.")
    if not name or len(name.encode()) > 63:
        raise _bad(number, f"the name {name!r} is missing or longer than 63 bytes", "Give a name of 1 to 63 bytes.")
    columns = tuple(_column(item, number) for item in cast("Sequence[object]", entry.get("columns") or []))
    if state == PRESENT and not (columns and table):
        raise _bad(number, "table or columns are missing", "Say which columns of which table; or state: absent.")
    with_ = entry.get("with")
    return Wish(
        name=name,
        table=table,
        schema=next(iter(given), ""),
        schemas=patterns,
        columns=columns,
        method=str(entry.get("method") or "btree"),
        unique=_boolean(entry.get("unique"), "unique", number),
        nulls_not_distinct=_boolean(entry.get("nulls_not_distinct"), "nulls_not_distinct", number),
        include=tuple(_texts(entry.get("include"))),
        where=str(entry.get("where") or "").strip(),
        options=None if with_ is None else _options(with_, number),
        tablespace=None if entry.get("tablespace") is None else str(entry["tablespace"]),
        state=state,
        replace=_boolean(entry.get("replace"), "replace", number),
        proof=str(entry.get("proof") or "").strip().rstrip(";"),
        raw=entry,
    )


def parse_wishes(entries: Sequence[Plain], name: str = "", state: str = "", *, replacing: bool = False) -> list[Wish]:
    """All entries, or only those that `name` (index, or schema.index) speaks of, in that schema alone.

    state: absent drops what `name` speaks of, whatever the entries say of it. replacing: every entry may replace.
    Raises OpsError bad_index, index_not_listed.
    """
    wishes = [parse_wish(entry, number) for number, entry in enumerate(entries, 1)]
    if replacing:
        wishes = [replace(wish, replace=True) for wish in wishes]
    if not name:
        if state == ABSENT:
            raise OpsError("bad_index", "No index is named that shall be absent.", "Say -e name=<schema.index>.")
        return wishes
    try:
        schema, index = split_name(name)
    except ValueError as error:
        raise OpsError("bad_index", f"{error}.", "Say -e name=<schema.index>.") from error
    listed = [wish for wish in wishes if wish.name == index]
    if state == ABSENT:
        if schema or not listed:
            return [Wish(index, schema=schema, state=ABSENT)]
        return [replace(wish, columns=(), state=ABSENT) for wish in listed]
    fitting = [
        replace(wish, schema=schema, schemas=()) if schema else wish for wish in listed if _reaches(wish, schema)
    ]
    if not fitting:
        raise OpsError(
            "index_not_listed",
            f"saasops_indexes has no entry for {name!r}.",
            "Check the name; an index that is to be made is an entry of saasops_indexes.",
            {"names": sorted({wish.name for wish in wishes})},
        )
    return fitting


def _reaches(wish: Wish, schema: str) -> bool:
    """Whether an entry speaks of this schema; "" asks for none in particular."""
    if not schema or wish.schema == schema:
        return True
    if wish.schemas:
        return any(re.fullmatch(_pattern(item), schema) for item in wish.schemas)
    return not wish.schema and schema == "public"


def _pattern(text: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in text)
