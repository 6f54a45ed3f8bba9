# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to do to restored tables before they are used, and what can wait until they are live."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# tables up to this many bytes in all are tidied before the switch, the others after it
BUDGET = 64 * 1024 * 1024


@dataclass(frozen=True)
class RestoredTable:
    """A table or materialized view with rows.

    sql: qualified and quoted. bytes: on disk, without indexes. toast: whether some of it is stored out of line, in
    pages that are not marked all-visible even by COPY FREEZE. analyzed: it has statistics. extended: statistics of
    several columns were asked for, which no dump carries.
    """

    schema: str
    name: str
    sql: str
    bytes: int
    toast: bool
    analyzed: bool
    extended: bool


@dataclass(frozen=True)
class Tidying:
    """Tables as SQL. vacuum, analyze, rough (a small sample): before the switch. left: vacuumed after it."""

    vacuum: tuple[str, ...]
    analyze: tuple[str, ...]
    rough: tuple[str, ...]
    left: tuple[str, ...]


def decide_tidying(
    tables: Sequence[RestoredTable], frozen: Collection[tuple[str, str]], budget: int = BUDGET
) -> Tidying:
    """The smallest tables up to budget bytes in all are done whole; of the others only what plans need at once.

    Statistics of several columns refine a plan and can wait where those of each column are there.
    """
    vacuum, analyze, rough, left = [], [], [], []
    spent = 0
    for table in sorted(tables, key=lambda item: (item.bytes, item.sql)):
        is_frozen = (table.schema, table.name) in frozen
        complete = table.analyzed and not table.extended
        if spent + table.bytes <= budget:
            spent += table.bytes
            if not is_frozen or table.toast:
                vacuum.append(table.sql)
            elif not table.analyzed:
                analyze.append(table.sql)
            elif table.extended:
                left.append(table.sql)
            continue
        if not table.analyzed:
            rough.append(table.sql)
        if not (is_frozen and complete) or table.toast:
            left.append(table.sql)
    # the largest first, so that those who work at them end together
    return Tidying(*(tuple(reversed(names)) for names in (vacuum, analyze, rough, left)))
