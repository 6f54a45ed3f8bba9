# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of indexes: invalid, unused, twice there, missing for a foreign key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    MONITOR,
    PgCheck,
    Row,
    Survey,
    each_database,
    needs,
    number,
    relation,
    text,
    whole,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

# seconds that the counters must reach back before "never used" means anything: a month's report runs monthly
OLD_ENOUGH = 14 * 86400


def _drop(survey: Survey, database: str, row: Row, why: str) -> Remedy:
    name = relation(row)
    return Remedy("index", {"name": name, "state": "absent", **survey.elsewhere(database)}, why)


def _invalid(survey: Survey) -> list[Measurement]:
    """Debris only when nobody is building on its table."""

    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = []
        for row in rows:
            name, scope = relation(row), survey.place(database, relation(row))
            size = human_size(number(row, "bytes"))
            if row["building"]:
                continue
            if whole(row, "hidden") and not survey.facts.sees_sessions:
                found.append(
                    Measurement(
                        missing=needs(
                            survey.facts, MONITOR, "somebody builds an index, on which table is hidden"
                        ).missing,
                        scope=scope,
                    )
                )
            elif row["partitioned"]:
                why = f"{name} lacks parts on some partitions"
                found.append(Measurement(value=1, scope=scope, detail=(why,), remedy=Remedy("", {}, why)))
            else:
                cost = "it is written to, and never read" if row["ready"] else "it is neither read nor written to"
                found.append(
                    Measurement(
                        value=1,
                        scope=scope,
                        detail=(f"on {text(row, 'table')}, {size}: {cost}; a build of it failed",),
                        remedy=_drop(survey, database, row, f"{name} is what a failed build left"),
                    )
                )
        return found

    return each_database(survey, "invalid_indexes", read, MONITOR) or [
        Measurement(value=0, detail=("no invalid index",))
    ]


def _unused(survey: Survey) -> list[Measurement]:
    facts = survey.facts
    if facts.counting_since is None:
        return [Measurement(missing="since when scans are counted is not known")]
    age = facts.now - facts.counting_since
    if age < OLD_ENOUGH:
        return [
            Measurement(
                missing=f"scans are counted for {human_duration(age)} only, and {human_duration(OLD_ENOUGH)} are needed"
            )
        ]
    elsewhere = facts.standbys or facts.standby

    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        found = []
        for row in rows:
            told = [f"on {text(row, 'table')}, not scanned for {human_duration(age)}"]
            if row["expression"]:
                told.append("its expression has statistics that the planner would miss")
            remedy: Remedy | None = _drop(survey, database, row, f"{relation(row)} has not been scanned")
            if elsewhere:
                told.append("other servers of this cluster may use it: each counts its own scans")
                remedy = Remedy("", {}, f"look at {relation(row)} on the other servers of the cluster too")
            found.append(
                Measurement(
                    value=whole(row, "bytes"),
                    detail=tuple(told),
                    scope=survey.place(database, relation(row)),
                    remedy=remedy,
                )
            )
        return found

    return each_database(survey, "unused_indexes", read) or [Measurement(value=0, detail=("no unused index",))]


def _spare(survey: Survey, query: str, how: str) -> list[Measurement]:
    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        return [
            Measurement(
                value=whole(row, "bytes"),
                detail=(f"{how} {text(row, 'kept')} on {text(row, 'table')}, {human_size(number(row, 'bytes'))}",),
                scope=survey.place(database, relation(row)),
                remedy=_drop(survey, database, row, f"{relation(row)} {how} {text(row, 'kept')}"),
            )
            for row in rows
        ]

    return each_database(survey, query, read)


def _duplicate(survey: Survey) -> list[Measurement]:
    found = _spare(survey, "duplicate_indexes", "is the same as")
    # each counts, however small it is now: it costs every write
    return [item if item.missing else replace(item, value=1) for item in found] or [Measurement(value=0)]


def _prefix(survey: Survey) -> list[Measurement]:
    return _spare(survey, "prefix_indexes", "is the beginning of") or [Measurement(value=0)]


def _foreign_keys(survey: Survey) -> list[Measurement]:
    def read(database: str, rows: Sequence[Row]) -> list[Measurement]:
        return [
            Measurement(
                value=whole(row, "bytes"),
                detail=(
                    f"{text(row, 'constraint')} ({text(row, 'columns')}) refers to {text(row, 'parent')}"
                    f" ({human_size(number(row, 'parent_bytes'))}); each delete there reads all of"
                    f" {relation(row)} ({human_size(number(row, 'bytes'))})",
                ),
                scope=survey.place(database, f"{relation(row)}.{text(row, 'constraint')}"),
                remedy=Remedy(
                    "",
                    {},
                    f"declare an index on {relation(row)} ({text(row, 'columns')}) in saasops_indexes, then run the"
                    " verb index",
                ),
            )
            for row in rows
        ]

    return each_database(survey, "foreign_keys", read) or [
        Measurement(value=0, detail=("each foreign key has an index",))
    ]


def _check(name: str, title: str, unit: str, warning: str, priority: int) -> Check:
    return Check(name, "builtin", warning, "", unit, title=title, priority=priority)


CHECKS = (
    PgCheck(
        _check("invalid_indexes", "invalid indexes", "indexes", "> 0", 60),
        "relation",
        MONITOR,
        ("invalid_indexes",),
        _invalid,
    ),
    PgCheck(
        _check("unused_indexes", "indexes that nobody scans", "B", "> 50 MB", 75),
        "relation",
        "",
        ("unused_indexes",),
        _unused,
    ),
    PgCheck(
        _check("duplicate_indexes", "indexes that are there twice", "indexes", "> 0", 74),
        "relation",
        "",
        ("duplicate_indexes",),
        _duplicate,
    ),
    PgCheck(
        _check("prefix_indexes", "indexes that a longer one contains", "B", "> 100 MB", 76),
        "relation",
        "",
        ("prefix_indexes",),
        _prefix,
    ),
    PgCheck(
        _check("foreign_keys_without_index", "foreign keys without an index", "B", "> 10 MB", 73),
        "relation",
        "",
        ("foreign_keys",),
        _foreign_keys,
    ),
)
