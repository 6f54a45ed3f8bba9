# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL text with values and identifiers in it, quoted here for every kind of session.

psycopg2 and psql would quote each in its own way; one pure function gives both the same bytes.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Union

Value = Union[None, bool, int, float, str, bytes, Sequence["Value"]]


def ident(name: str) -> str:
    """A quoted identifier. Raises ValueError on a NUL, which PostgreSQL cannot store."""
    if "\0" in name:
        raise ValueError("an identifier cannot contain a NUL character")
    return '"' + name.replace('"', '""') + '"'


def literal(value: Value) -> str:
    """A literal for any standard_conforming_strings setting. Lists become arrays, bytes become bytea."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, bytes):
        return "'\\x" + value.hex() + "'::bytea" if value else "''::bytea"
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text value cannot contain a NUL character")
        quoted = value.replace("'", "''")
        return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else "'" + quoted + "'"
    return "ARRAY[" + ", ".join(literal(item) for item in value) + "]"


class _Quoting(string.Formatter):
    def format_field(self, value: object, format_spec: str) -> str:
        if format_spec == "I":
            parts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            return ".".join(ident(part) for part in parts)
        if format_spec == "raw":
            return str(value)
        return literal(value)  # type: ignore[arg-type]


def render(template: str, **values: object) -> str:
    """Fill a template: {name} a literal, {name:I} an identifier (a tuple is qualified), {name:raw} SQL made by us.

    Braces that belong to the SQL are doubled.
    """
    return _Quoting().vformat(template, (), values)
