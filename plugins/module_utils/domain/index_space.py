# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large an index will be, about, and what building it needs on disk; all in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Table

PAGE = 8192
# IndexTupleData and ItemIdData (itup.h, itemid.h): each entry has one of both
_ENTRY = 8 + 4
_FILL = 0.9  # BTREE_DEFAULT_FILLFACTOR
_UNKNOWN_WIDTH = 32  # of an expression, or a column that nobody has analyzed
_ROW = 64  # a row of a table that nobody has counted
_LEAST_CEILING = 1 << 30


def rows_of(table: Table) -> float:
    """How many rows a table has, about."""
    return table.rows if table.rows >= 0 else table.bytes / _ROW


def size(definition: Definition, table: Table, widths: Mapping[str, int], rows: float) -> int:
    """About how large the index gets. widths: average bytes by column name. An upper bound for btree, whose equal
    keys share an entry; a rough one for the other methods."""
    if definition.method == "brin":
        return PAGE * 3 + table.bytes // 1000
    if definition.method == "gin":
        return PAGE * 2 + table.bytes
    names = [key.column for key in definition.keys] + list(definition.include)
    width = sum(widths.get(name, _UNKNOWN_WIDTH) if name else _UNKNOWN_WIDTH for name in names)
    entry = 20 if definition.method == "hash" else _ENTRY + (width + 7) // 8 * 8
    return PAGE * 2 + int(rows * entry / _FILL)


def needed(sizes: Sequence[int], jobs: int, work_memory: int, max_wal: int) -> int:
    """Free bytes that building indexes of these sizes asks for, `jobs` of them at a time.

    The indexes themselves; the sort of those that do not fit into maintenance_work_mem; and WAL, of which the server
    keeps about max_wal_size.
    """
    spill = sorted((one for one in sizes if one > work_memory), reverse=True)[: max(1, jobs)]
    return sum(sizes) + sum(spill) + min(sum(sizes), max_wal)


def refuse_full(path: str, free: int, need: int) -> OpsError | None:
    """Why the build would fill the volume; None when there is room."""
    if need <= free:
        return None
    return OpsError(
        "no_space",
        f"The indexes need about {human_size(need)} at {path} while they are built, and {human_size(free)} are free.",
        "Free space there, name a tablespace on another volume, or build fewer at a time (jobs, -e name=).",
        {"path": path, "needed": need, "free": free},
    )


def ceiling(sizes: Sequence[int]) -> int:
    """A bound that does not move with every row: twice the estimate, up to the next power of two, at least 1 GiB."""
    bound = _LEAST_CEILING
    while bound < 2 * sum(sizes):
        bound *= 2
    return bound
