# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was read of the databases to what is done: each table's needs, the wishes of the inventory, the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import Holder, older
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    FREEZE,
    REINDEX,
    REWRITE,
    VACUUM,
    Act,
    Index,
    Mark,
    Settings,
    Table,
    Wish,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_bloat import (
    Room,
    leftover,
    no_room,
    rebuild,
    rewrite,
    suspect,
    unfinished,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import (
    STATISTIC,
    Need,
    Pace,
    act_of,
    after_analyzes,
    needs,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_plan import (
    Budget,
    Decision,
    within,
)

# ANALYZE ONLY, which leaves the partitions of a parent alone, is there from
ONLY = 180000
LONG = 3600.0
Marks = Mapping[str, Mark]


@dataclass(frozen=True)
class Survey:
    """One database as it was read. airs: by oid of a table, (share of air, whether it was measured).

    all_seen: whether the role may see what everybody else holds. unfinished: oids of tables on which an ended pg_repack
    left something; superuser: whether the role may remove that.
    """

    database: str
    version: int
    settings: Settings
    tables: Sequence[Table]
    indexes: Sequence[Index] = ()
    airs: Mapping[int, tuple[float, bool]] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    rooms: Mapping[int, Room] = field(default_factory=dict)
    temporary_age: int = 0
    all_seen: bool = True
    unfinished: tuple[int, ...] = ()
    superuser: bool = True


@dataclass(frozen=True)
class Scope:
    """Which tables: patterns of schemas, and of schema.table; () for all. system: catalogs too."""

    schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    system: bool = True

    def holds(self, table: Table) -> bool:
        if self.tables and not any(fnmatchcase(table.title, pattern) for pattern in self.tables):
            return False
        if self.schemas and not any(fnmatchcase(table.schema, pattern) for pattern in self.schemas):
            return False
        return self.system or not table.system or bool(self.tables or self.schemas)


@dataclass(frozen=True)
class Rule:
    """Wishes for the tables that match a pattern of schema.table, on top of the general ones."""

    tables: tuple[str, ...]
    changes: Mapping[str, object]


@dataclass(frozen=True)
class Wishes:
    """general, and the rules that change it for some tables; of several that match, the later ones win."""

    general: Wish
    rules: tuple[Rule, ...] = ()

    def of(self, table: Table) -> Wish:
        wish = self.general
        for rule in self.rules:
            if any(fnmatchcase(table.title, pattern) for pattern in rule.tables):
                wish = replace(wish, **rule.changes)  # type: ignore[arg-type]
        return wish


def mark_of(marks: Marks, database: str, oid: int) -> Mark:
    return marks.get(f"{database}/{oid}", Mark())


class _Gathering:
    """What comes together over all databases."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.remarks: list[str] = []
        self.forbidden: list[tuple[str, str]] = []
        self.blocked: dict[tuple[str, str], list[str]] = {}
        self.worked_on: list[str] = []
        self.scope = 0


def decide(
    surveys: Sequence[Survey], scope: Scope, wishes: Wishes, marks: Marks, budget: Budget, pace: Pace
) -> Decision:
    """What is done, in which order, and what is not, each with its reason."""
    found = _Gathering()
    for survey in surveys:
        _database(found, survey, [t for t in survey.tables if scope.holds(t)], wishes, marks, pace)
    for (database, who), names in sorted(found.blocked.items()):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        found.remarks.append(
            f"{database}: a vacuum of {', '.join(names[:3])}{more} would bring nothing: {who}; end it first."
        )
    if found.worked_on:
        found.remarks.append(f"Autovacuum works on {', '.join(sorted(found.worked_on))}; it is not disturbed.")
    acts, left = within(found.acts, budget)
    return Decision(tuple(acts), tuple(left), tuple(found.remarks), tuple(found.forbidden), found.scope, budget)


def _database(
    found: _Gathering, survey: Survey, tables: Sequence[Table], wishes: Wishes, marks: Marks, pace: Pace
) -> None:
    found.scope += len(tables)
    leaves: dict[int, list[Table]] = {}
    for table in survey.tables:
        if table.root and table.kind != "p":
            leaves.setdefault(table.root, []).append(table)
    mine: list[Act] = []
    for table in tables:
        wish = wishes.of(table)
        mark = mark_of(marks, survey.database, table.oid)
        below = leaves.get(table.oid, [])
        holders = survey.holders
        if not table.system:
            holders = tuple(holder for holder in holders if not holder.catalogs)
        due = needs(survey.settings, table, below, wish, holders, mark)
        useful = _sorted_out(found, survey, table, due)
        mine += [act_of(need, table, pace, below) for need in useful]
    mine = _without_partitions(mine, survey)
    mine += _own_traces(survey, mine, wishes, pace)
    by_oid = {table.oid: table for table in tables}
    mine += _rebuilds(found, survey, by_oid, wishes, marks, pace)
    found.acts += mine
    _horizon(found, survey, mine)


def _sorted_out(found: _Gathering, survey: Survey, table: Table, due: Sequence[Need]) -> list[Need]:
    """The needs that can be answered now; the others become remarks."""
    if not due:
        return []
    if table.autovacuum:
        found.worked_on.append(table.title)
        return []
    if not table.permitted:
        # catalogs are the database owner's affair, and nobody expects them of an application's role
        if not table.system:
            found.forbidden.append((table.title, table.owner))
        return []
    useful = []
    for need in due:
        if need.blocked:
            found.blocked.setdefault((survey.database, need.blocked), []).append(table.title)
        else:
            useful.append(need)
    return useful


def _without_partitions(acts: Sequence[Act], survey: Survey) -> list[Act]:
    """Before 18 ANALYZE of a parent analyzes its partitions too."""
    roots = {act.oid for act in acts if act.kind == ANALYZE and act.measured.get("partitions") is not None}
    if not roots or survey.version >= ONLY:
        return list(acts)
    covered = {table.oid for table in survey.tables if table.root in roots}
    return [act for act in acts if act.kind != ANALYZE or act.oid not in covered]


def _own_traces(survey: Survey, acts: Sequence[Act], wishes: Wishes, pace: Pace) -> list[Act]:
    """What our own ANALYZEs leave in pg_statistic, unless it is vacuumed anyway."""
    analyzes = sum(1 for act in acts if act.kind == ANALYZE)
    for table in survey.tables:
        if table.title != STATISTIC or not analyzes:
            continue
        need = after_analyzes(survey.settings, table, analyzes, len(survey.tables), wishes.of(table))
        rest = [act for act in acts if act.oid == table.oid]
        if need is not None and not rest:
            return [replace(act_of(need, table, pace), last=True)]
    return []


def _rebuilds(
    found: _Gathering,
    survey: Survey,
    tables: Mapping[int, Table],
    wishes: Wishes,
    marks: Marks,
    pace: Pace,
) -> list[Act]:
    acts: list[Act | None] = []
    for oid in survey.unfinished:
        table = tables.get(oid)
        wish = Wish(skip=True) if table is None else wishes.of(table)
        if table is None or wish.skip or not {REINDEX, REWRITE} & set(wish.measures):
            continue
        if survey.superuser:
            acts.append(unfinished(table))
        else:
            found.remarks.append(f"An ended pg_repack left its trigger on {table.title}; only a superuser removes it.")
    for oid, (air, measured) in survey.airs.items():
        table = tables.get(oid)
        if table is None or table.autovacuum:
            continue
        wish, mark = wishes.of(table), mark_of(marks, survey.database, oid)
        act, why_not = rewrite(table, air, measured, wish, mark, survey.rooms.get(oid, Room(None)), pace)
        if why_not:
            found.remarks.append(why_not)
        acts.append(act if table.permitted else None)
    for index in survey.indexes:
        table = tables.get(index.table)
        if table is None:
            continue
        wish = wishes.of(table)
        if REINDEX not in wish.measures or wish.skip:
            continue
        acts.append(leftover(index))
        mark = mark_of(marks, survey.database, index.oid)
        acts.append(rebuild(index, table, wish, mark, pace))
        if suspect(index, wish, mark) and no_room(index):
            found.remarks.append(no_room(index))
    return [act for act in acts if act is not None]


def _horizon(found: _Gathering, survey: Survey, acts: Sequence[Act]) -> None:
    """What is vacuumed although somebody old still sees what died since he began is said before it is done."""
    if not any(act.kind in (VACUUM, FREEZE) for act in acts):
        return
    if not survey.all_seen:
        found.remarks.append(
            f"{survey.database}: what other roles' transactions hold back is not seen; GRANT pg_read_all_stats."
        )
    for holder in older([h for h in survey.holders if not h.catalogs], LONG):
        found.remarks.append(f"{survey.database}: {holder.tell()}: what died since stays.")
    emergency = max((act.urgent for act in acts), default=0)
    if emergency and survey.temporary_age >= emergency:
        found.remarks.append(
            f"{survey.database}: a temporary table is {survey.temporary_age:,} transactions old; only its session can "
            "drop it (end it with the verb sessions)."
        )


def unknown(survey: Survey, scope: Scope, wishes: Wishes, marks: Marks, believed: float) -> list[Table]:
    """Tables whose counters cannot be believed, for whoever can count in them. believed: see needs.BELIEVED."""
    found = []
    for table in survey.tables:
        mark = mark_of(marks, survey.database, table.oid)
        recent = mark.vacuumed is not None and mark.vacuumed < believed
        if table.kind != "p" and scope.holds(table) and not table.known and not recent and not wishes.of(table).skip:
            found.append(table)
    return found
