# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An index of a partitioned table: each leaf's is built concurrently, and then one short transaction joins them.

CREATE INDEX CONCURRENTLY knows no partitioned tables. So the leaves come first, each of them whole by itself, and the
partitioned index last: CREATE INDEX ON ONLY and all ATTACH PARTITION are catalog changes and stand in one transaction,
so that nobody ever meets a partitioned index that is half attached, and a run that is killed leaves none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import Step
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition, same
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Index, Table
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_acts import Acts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_sql import create_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import (
    indexes_of,
    partitions,
    tables_by_oid,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident

_ROUNDS = 3


def part_name(name: str, partition: str) -> str:
    """The name of a partition's index: both names, shortened and told apart by a digest where they are too long."""
    whole = f"{name}_{partition}"
    if len(whole.encode()) <= 63:
        return whole
    return f"{whole.encode()[:54].decode('utf-8', 'ignore')}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Part:
    """A table below the partitioned one. index: one that is there, sound and fitting, None when it must be made."""

    table: Table
    parent: int
    leaf: bool
    index: Index | None
    name: str


def parts_of(session: Session, step: Step) -> list[Part]:
    """All parts, from the top down. Raises OpsError foreign_partition."""
    below = partitions(session, step.table.oid)
    tables = {table.oid: table for table in tables_by_oid(session, [oid for oid, _parent, _leaf in below])}
    foreign = [table.full for table in tables.values() if table.kind == "f"]
    if foreign:
        raise OpsError(
            "foreign_partition",
            f"{step.table.full} has foreign tables as partitions: {', '.join(foreign[:3])}.",
            "Index the other partitions one by one, as tables of their own.",
        )
    indexes = indexes_of(session, [oid for oid, _parent, _leaf in below])
    tree = {step.table.oid: step.found.oid} if step.found is not None and _keeps(step) else {}
    found = []
    for oid, parent, leaf in below:
        table, name = tables[oid], part_name(step.name, tables[oid].name)
        index = _fitting([one for one in indexes if one.table == oid], step.built, tree.get(parent, -1), leaf)
        if index is not None:
            tree[oid] = index.oid
        found.append(Part(table, parent, leaf, index, name))
    return found


def _keeps(step: Step) -> bool:
    """Whether a partitioned index that is there and not valid only lacks parts."""
    return (
        step.found is not None
        and step.definition is not None
        and step.found.partitioned
        and same(step.found.definition, step.definition)
    )


def _fitting(indexes: Sequence[Index], wanted: Definition, parent: int, leaf: bool) -> Index | None:
    """An index of a part that belongs to the parent's index already, or that is free to."""
    fitting = [one for one in indexes if same(one.definition, wanted) and (one.sound or not leaf)]
    attached = [one for one in fitting if one.parent == parent]
    free = [one for one in fitting if one.parent == 0 and leaf]
    return next(iter([*attached, *free]), None)


def reused(parts: Sequence[Part], name: str) -> list[str]:
    """Indexes that were somebody's before and become a part: dropping the whole would take them along."""
    return [p.index.full for p in parts if p.index and p.leaf and p.index.parent == 0 and p.index.name != p.name]


def join(acts: Acts, session: Session, step: Step) -> None:
    """Build what leaves lack meanwhile, then make the partitioned index and attach everything, in one transaction.

    Raises OpsError partitions_move when new partitions come faster than they are indexed.
    """
    for _round in range(_ROUNDS):
        parts = parts_of(session, step)
        lacking = [part for part in parts if part.leaf and part.index is None]
        if not lacking:
            if reused(parts, step.name):
                acts.made.kept.add(step.full)
            acts.briefly(session, statements(step, parts), f"{step.full} was not put together")
            made = acts.look(session, step.schema, step.name)
            if made is not None and made.sound:
                acts.made.indexes.append((step, made))
                return
            continue
        for part in lacking:
            acts.build(session, part.table, part.table.schema, part.name, step.built)
    raise OpsError(
        "partitions_move",
        f"{step.table.full} gets new partitions faster than they can be indexed.",
        "Run the verb again when no partitions are made; it goes on from here.",
        {"index": step.full},
    )


def statements(step: Step, parts: Sequence[Part]) -> list[str]:
    """What joins the parts. Indexes of tables in between are made on the way down."""
    full = f"{ident(step.schema)}.{ident(step.name)}"
    names = {step.table.oid: full}
    text = []
    if step.found is not None and not _keeps(step):
        text.append(f"DROP INDEX {full}")
    if not _keeps(step):
        text.append(create_sql(step.built, step.name, step.schema, step.table.name, concurrently=False, only=True))
    for part in parts:
        schema, name = part.table.schema, part.name
        if part.index is not None:
            schema, name = part.index.schema, part.index.name
        elif not part.leaf:
            text.append(create_sql(step.built, name, schema, part.table.name, concurrently=False, only=True))
        names[part.table.oid] = f"{ident(schema)}.{ident(name)}"
        if part.index is None or part.index.parent == 0:
            text.append(f"ALTER INDEX {names[part.parent]} ATTACH PARTITION {names[part.table.oid]}")
    return text
