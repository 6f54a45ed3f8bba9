# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of an index or a table is air, and whether and how it is built anew.

The estimates are those of Jehan-Guillaume de Rorthais' queries (pgsql-bloat-estimation): what the rows need by the
planner's statistics, against what lies on disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    BLOCK,
    LEFTOVER,
    REINDEX,
    REWRITE,
    Act,
    Index,
    Mark,
    Table,
    Wish,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import Pace

PAGE_HEADER, ITEM, TUPLE, INDEX_TUPLE, SPECIAL = 24, 4, 24, 8, 16
ALIGNMENT = 8
# what was built anew is not built anew for the same air again: an estimate that is wrong stays wrong
GROWN = 1.3
# a copy needs its own size, and the WAL of it
COPY = 2.2


def _aligned(size: float) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Column:
    """Average width in bytes, and share of NULLs, as pg_stats has them."""

    width: float
    nulls: float = 0.0


def _width(columns: Sequence[Column]) -> float:
    return sum(column.width * (1 - column.nulls) for column in columns)


def index_air(rows: float, columns: Sequence[Column], size: int, fillfactor: int = 90) -> float | None:
    """Share of a btree of this size that its rows do not need; None when it cannot be told. Never below 0.

    Duplicates are stored once from 13 on, so that a healthy index may be smaller than this expects: then it is 0.
    """
    if rows < 0 or size <= 2 * BLOCK or not columns:
        return None
    bitmap = 8 if any(column.nulls > 0 for column in columns) else 0
    each = _aligned(INDEX_TUPLE + bitmap) + _aligned(_width(columns)) + ITEM
    room = (BLOCK - PAGE_HEADER - SPECIAL) * fillfactor / 100
    leaves = math.ceil(rows * each / room)
    # pages above the leaves, and the one that describes the index
    pages = 1 + leaves + math.ceil(leaves * each / room) + 1
    return max(0.0, 1 - pages * BLOCK / size)


def table_air(rows: float, columns: Sequence[Column], size: int, fillfactor: int = 100) -> float | None:
    """Share of a table of this size (without its long values) that its rows do not need; None when unknown."""
    if rows < 0 or size <= 2 * BLOCK or not columns:
        return None
    bitmap = math.ceil(len(columns) / 8) if any(column.nulls > 0 for column in columns) else 0
    # alignment inside of a row costs about 4 bytes for every three columns
    each = _aligned(23 + bitmap) + _aligned(_width(columns) + 1.3 * len(columns)) + ITEM
    room = (BLOCK - PAGE_HEADER) * fillfactor / 100
    return max(0.0, 1 - math.ceil(rows * each / room) * BLOCK / size)


def _numbers(bloat: float, size: int, measured: bool) -> dict[str, object]:
    return {"bloat_percent": round(100 * bloat), "bytes": size, "measured": measured}


def _worth(bloat: float | None, size: int, share: float, waste: int, mark: Mark) -> bool:
    if bloat is None or bloat < share or bloat * size < waste:
        return False
    return not mark.bytes or size > GROWN * mark.bytes


def leftover(index: Index) -> Act | None:
    """What a broken REINDEX CONCURRENTLY left, and nobody builds."""
    if not index.leftover or index.building or not index.permitted:
        return None
    reason = f"an invalid index that a broken rebuild left, {human_size(index.bytes)}; nobody builds it"
    return _act(LEFTOVER, index, reason, 0.1, {"bytes": index.bytes})


def unfinished(table: Table) -> Act:
    """What an ended pg_repack left on a table, where none works now."""
    return Act(
        kind=LEFTOVER,
        database=table.database,
        schema=table.schema,
        name=table.name,
        oid=table.oid,
        table=table.oid,
        reason="an ended pg_repack left its log and trigger: every write is logged, and no other can begin",
        seconds=0.1,
        options=(REPACK,),
    )


def _act(kind: str, index: Index, reason: str, seconds: float, numbers: dict[str, object]) -> Act:
    return Act(
        kind=kind,
        database=index.database,
        schema=index.schema,
        name=index.name,
        oid=index.oid,
        table=index.table,
        reason=reason,
        seconds=seconds,
        gain=float(index.bytes) * (index.bloat or 0.0),
        measured=numbers,
        bytes=index.bytes,
    )


def suspect(index: Index, wish: Wish, mark: Mark) -> bool:
    """Whether an index is worth being looked into, or built anew."""
    return (
        not index.leftover
        and not index.building
        and index.concurrent
        and index.permitted
        and not wish.skip
        and REINDEX in wish.measures
        and _worth(index.bloat, index.bytes, wish.index_bloat, wish.index_waste, mark)
    )


def no_room(index: Index) -> str:
    """Why an index that is due cannot be built anew; "" when it can, as far as anybody can tell."""
    need = int(index.bytes * COPY)
    if index.free is None or index.free >= need:
        return ""
    return (
        f"{index.title} is not built anew: that needs up to {human_size(need)}, and {human_size(index.free)} are free."
    )


def rebuild(index: Index, table: Table, wish: Wish, mark: Mark, pace: Pace) -> Act | None:
    """REINDEX CONCURRENTLY for an index that is mostly air, where there is room for it."""
    if not suspect(index, wish, mark) or index.bloat is None or no_room(index):
        return None
    how = "measured" if index.measured else "estimated"
    reason = f"{100 * index.bloat:.0f} % of {human_size(index.bytes)} is air ({how})"
    # the table is read twice, what remains of the index is written once
    seconds = 0.2 + 2 * table.bytes / pace.read + (1 - index.bloat) * index.bytes / pace.write
    return _act(REINDEX, index, reason, seconds, _numbers(index.bloat, index.bytes, index.measured))


@dataclass(frozen=True)
class Room:
    """What a rewrite would find. free: bytes of the table's volume, None when nobody can tell.

    repack: version of the extension pg_repack in the database, "" without; repack_client: of the program.
    unique: whether the table has a unique index without NULLs. windows: those that are open now.
    """

    free: int | None
    repack: str = ""
    repack_client: str = ""
    repack_wanted: str = "auto"
    unique: bool = True
    superuser: bool = True
    windows: tuple[str, ...] = ()


REPACK, FULL = "pg_repack", "VACUUM FULL"


def choose_rewrite(table: Table, room: Room) -> tuple[str, str]:
    """(how, "") or ("", why not): pg_repack where it can, because it locks the table only for moments."""
    need = int(table.total_bytes * COPY)
    if room.free is None:
        return "", "nobody can tell how much space is free on the table's volume; set space in saasops_maintenance"
    if room.free < need:
        return "", f"a copy needs up to {human_size(need)}, and {human_size(room.free)} are free"
    hindrance = _no_repack(table, room)
    if not hindrance:
        return REPACK, ""
    if room.repack_wanted == "always":
        return "", f"pg_repack is asked for, and {hindrance}"
    if not room.windows:
        return "", f"VACUUM FULL locks everybody out, so it needs an open window of saasops_windows ({hindrance})"
    return FULL, ""


def _no_repack(table: Table, room: Room) -> str:
    """Why pg_repack cannot be used; "" when it can."""
    if room.repack_wanted == "never":
        return "pg_repack is not wanted"
    if not room.repack:
        return "the extension pg_repack is not installed in the database"
    if not room.repack_client:
        return "there is no program pg_repack where the client tools run"
    if room.repack_client != room.repack:
        return f"the program pg_repack is of version {room.repack_client}, the extension of {room.repack}"
    if not room.superuser:
        return "pg_repack asks for a superuser"
    if not room.unique:
        return "the table has no unique index without NULLs"
    if table.system or table.kind != "r":
        return "pg_repack does ordinary tables only"
    return ""


def rewrite(
    table: Table, bloat: float | None, measured: bool, wish: Wish, mark: Mark, room: Room, pace: Pace
) -> tuple[Act | None, str]:
    """(the act, "") for a table that is mostly air; (None, why not) when it cannot be done; (None, "") without need."""
    if wish.skip or REWRITE not in wish.measures or table.kind not in "rm" or table.system:
        return None, ""
    if bloat is None or not _worth(bloat, table.bytes, wish.table_bloat, wish.table_waste, Mark()):
        return None, ""
    if mark.bytes and table.total_bytes <= GROWN * mark.bytes:
        return None, ""
    how, why_not = choose_rewrite(table, room)
    if not how:
        return None, f"{table.title} is {100 * bloat:.0f} % air and is not rewritten: {why_not}."
    said = "measured" if measured else "estimated"
    return Act(
        kind=REWRITE,
        database=table.database,
        schema=table.schema,
        name=table.name,
        oid=table.oid,
        table=table.oid,
        reason=f"{100 * bloat:.0f} % of {human_size(table.bytes)} is air ({said}); by {how}",
        seconds=0.5 + table.total_bytes / pace.read + 2 * (1 - bloat) * table.total_bytes / pace.write,
        gain=bloat * table.bytes,
        options=(how,),
        measured=_numbers(bloat, table.bytes, measured),
        bytes=table.total_bytes,
    ), ""
