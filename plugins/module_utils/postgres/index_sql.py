# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""CREATE INDEX as a text: of a wish as a person wrote it, and of a definition as the server spelled it."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import (
    DESCENDING,
    NULLS_FIRST,
    Definition,
    Key,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import Column, Wish
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal


def _qualified(pair: tuple[str, str]) -> str:
    return ".".join(ident(part) for part in pair if part)


def _option(name: str, value: str) -> str:
    return f"{'.'.join(ident(part) for part in name.split('.'))} = {literal(value)}"


def _options(pairs: Sequence[tuple[str, str]]) -> str:
    return f"({', '.join(_option(name, value) for name, value in pairs)})"


def _wished(column: Column) -> str:
    # an expression that is a plain column in parentheses is that column for the server, too
    parts = [f"({column.expression})" if column.expression else ident(column.name)]
    if column.collation[1]:
        parts.append(f"COLLATE {_qualified(column.collation)}")
    if column.opclass[1]:
        parts.append(_qualified(column.opclass))
        if column.opclass_options:
            parts.append(_options(column.opclass_options))
    if column.order:
        parts.append(column.order.upper())
    if column.nulls:
        parts.append(f"NULLS {column.nulls.upper()}")
    return " ".join(parts)


def wish_sql(wish: Wish, name: str, table: str) -> str:
    """The statement that a wish means, for a table (quoted, qualified) without rows."""
    text = f"CREATE {'UNIQUE ' if wish.unique else ''}INDEX {ident(name)} ON {table} USING {ident(wish.method)}"
    text += f" ({', '.join(_wished(column) for column in wish.columns)})"
    if wish.include:
        text += f" INCLUDE ({', '.join(ident(item) for item in wish.include)})"
    if wish.nulls_not_distinct:
        text += " NULLS NOT DISTINCT"
    if wish.options:
        text += f" WITH {_options(wish.options)}"
    if wish.tablespace:
        text += f" TABLESPACE {ident(wish.tablespace)}"
    if wish.where:
        text += f" WHERE ({wish.where})"
    return text


def _key(key: Key) -> str:
    parts = [ident(key.column) if key.column else key.text]
    if key.collation[1]:
        parts.append(f"COLLATE {_qualified(key.collation)}")
    parts.append(_qualified(key.opclass))
    if key.parameters:
        parts.append(_options([_pair(item) for item in key.parameters]))
    if key.option:
        parts.append("DESC" if key.option & DESCENDING else "ASC")
        parts.append("NULLS FIRST" if key.option & NULLS_FIRST else "NULLS LAST")
    return " ".join(parts)


def _pair(text: str) -> tuple[str, str]:
    name, _equals, value = text.partition("=")
    return name, value


def create_sql(
    definition: Definition, name: str, schema: str, table: str, *, concurrently: bool = True, only: bool = False
) -> str:
    """CREATE INDEX of a definition. only: of a partitioned table alone, without its partitions."""
    text = "CREATE UNIQUE INDEX" if definition.unique else "CREATE INDEX"
    if concurrently:
        text += " CONCURRENTLY"
    text += (
        f" {ident(name)} ON {'ONLY ' if only else ''}{ident(schema)}.{ident(table)} USING {ident(definition.method)}"
    )
    text += f" ({', '.join(_key(key) for key in definition.keys)})"
    if definition.include:
        text += f" INCLUDE ({', '.join(ident(item) for item in definition.include)})"
    if definition.nulls_not_distinct:
        text += " NULLS NOT DISTINCT"
    if definition.options:
        text += f" WITH {_options([_pair(item) for item in definition.options])}"
    if definition.tablespace:
        text += f" TABLESPACE {ident(definition.tablespace)}"
    if definition.predicate:
        text += f" WHERE {definition.predicate}"
    return text
