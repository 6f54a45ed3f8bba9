# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and their indexes as a server has them."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition

TABLE, PARTITIONED, MATVIEW = "r", "p", "m"


@dataclass(frozen=True)
class TableColumn:
    """A column as far as an index can depend on it. type: fully qualified, with its modifier; generated: "s", "v"."""

    name: str
    type: str
    collation: tuple[str, str]
    generated: str = ""


@dataclass(frozen=True)
class Table:
    """rows: reltuples, -1 when nobody has counted; bytes: without indexes. partition_key: column names, "" for an
    expression; leaf partitions are tables of their own. own_words: the schema has functions, operators or types that
    an expression could mean. owned: the login role may build indexes on it.
    """

    oid: int
    schema: str
    name: str
    kind: str
    rows: float
    bytes: int
    columns: tuple[TableColumn, ...]
    partition_key: tuple[str, ...] = ()
    own_words: bool = False
    owned: bool = True
    owner: str = ""

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of the table of an index (columns), or one that rests on the index (then `to` is its own name)."""

    name: str
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """An index that is there. constraint: its name and type ("p", "u", "x") or ("", "").

    rests: foreign keys of other tables that need this one to be unique. parent: oid of the partitioned index that it
    belongs to, 0 for none. scans: since the statistics were reset, None when not counted.
    """

    oid: int
    schema: str
    name: str
    table: int
    definition: Definition
    text: str
    valid: bool
    ready: bool
    live: bool
    bytes: int = 0
    constraint: tuple[str, str] = ("", "")
    replica_identity: bool = False
    clustered: bool = False
    partitioned: bool = False
    parent: int = 0
    extension: str = ""
    rests: tuple[str, ...] = ()
    scans: int | None = None

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sound(self) -> bool:
        """Used by queries and kept up to date by writers."""
        return self.valid and self.ready and self.live


@dataclass(frozen=True)
class Builder:
    """Somebody else who builds an index now. table and index: oids, 0 where the role may not see them."""

    pid: int
    table: int
    index: int
    phase: str
    who: str
