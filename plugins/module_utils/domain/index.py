# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done about each index: from what is wanted, and from what a server has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import (
    NEW,
    OLD,
    Definition,
    Managed,
    beside,
    differences,
    is_leftover,
    same,
    show,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_drop import against, remarks
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import Wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import (
    PARTITIONED,
    Builder,
    ForeignKey,
    Index,
    Table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_space import ceiling
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

CREATE, REPAIR, REPLACE, DROP, CLEAN = "create", "repair", "replace", "drop", "clean"


@dataclass(frozen=True)
class Target:
    """One index in one schema. definition: what it shall be, None for an absent one that only its name tells."""

    wish: Wish
    schema: str
    table: Table | None
    definition: Definition | None = None

    @property
    def name(self) -> str:
        return self.wish.name

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def place(self) -> Table:
        """Of a target whose table is there. Raises ValueError for any other."""
        if self.table is None:
            raise ValueError(f"{self.full} has no table")
        return self.table

    @property
    def wanted(self) -> Definition:
        """Of a target that shall be there. Raises ValueError for any other."""
        if self.definition is None:
            raise ValueError(f"{self.full} shall be absent")
        return self.definition

    @property
    def managed(self) -> Managed:
        return Managed(self.wish.options is not None, self.wish.tablespace is not None)


@dataclass(frozen=True)
class Scene:
    """What is there. indexes: of all tables that are spoken of, and of all names; taken: names of other relations."""

    indexes: Sequence[Index]
    tables: Mapping[int, Table]
    taken: Collection[tuple[str, str]] = ()
    builders: Sequence[Builder] = ()
    foreign_keys: Mapping[int, Sequence[ForeignKey]] = field(default_factory=dict)
    conflicts: Mapping[int, int] = field(default_factory=dict)

    def named(self, schema: str, name: str) -> Index | None:
        return next((item for item in self.indexes if (item.schema, item.name) == (schema, name)), None)

    def of(self, table: int) -> list[Index]:
        return [item for item in self.indexes if item.table == table]

    def builder(self, table: int) -> Builder | None:
        return next((item for item in self.builders if item.table == table), None)


@dataclass(frozen=True)
class Step:
    """One act. definition: of what is built; found: the index that is there under the name; size: estimated bytes."""

    kind: str
    schema: str
    name: str
    table: Table
    definition: Definition | None = None
    found: Index | None = None
    wish: Wish | None = None
    reason: str = ""
    size: int = 0

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def builds(self) -> bool:
        return self.kind in (CREATE, REPAIR, REPLACE)

    @property
    def built(self) -> Definition:
        """Of an act that builds. Raises ValueError for any other."""
        if self.definition is None:
            raise ValueError(f"{self.full} is not built")
        return self.definition


@dataclass(frozen=True)
class Decision:
    """steps in the order of the wishes; notes: what needs nothing, and why; refusals: why nothing at all is done."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[OpsError, ...] = ()


def _under_way(full: str, builder: Builder) -> OpsError:
    return OpsError(
        "build_under_way",
        f"{builder.who or 'somebody'} (pid {builder.pid}) builds an index on the table of {full} now"
        f"{f' ({builder.phase})' if builder.phase else ''}.",
        "Wait until that has ended, and run the verb again.",
        {"pid": builder.pid, "index": full},
    )


def _twin(target: Target, scene: Scene, planned: Sequence[Step], definition: Definition) -> str:
    """The name of a sound index, there or planned, that is the wanted one under another name."""
    table = target.place
    for index in scene.of(table.oid):
        if index.sound and index.name != target.name and same(index.definition, definition, target.managed):
            return index.full
    for step in planned:
        here = step.builds and step.table.oid == table.oid
        if here and step.definition is not None and same(step.definition, definition, target.managed):
            return step.full
    return ""


def _partition_problem(target: Target, definition: Definition, table: Table) -> OpsError | None:
    keys = {key.column for key in definition.keys}
    missing = [name or "an expression" for name in table.partition_key if name not in keys]
    if not definition.unique or not missing:
        return None
    return OpsError(
        "partition_key_missing",
        f"{target.full} is to be unique over all partitions of {table.full}, and lacks {', '.join(missing)}.",
        "A unique index of a partitioned table holds all columns of the partition key.",
    )


def _present(target: Target, scene: Scene, planned: Sequence[Step]) -> Step | str | OpsError:
    """A step, a note, or why not."""
    table, wanted = target.place, target.wanted
    if (target.schema, target.name) in scene.taken:
        return OpsError(
            "name_taken", f"{target.full} is the name of something that is no index.", "Give the index another name."
        )
    if not table.owned:
        return OpsError(
            "not_permitted",
            f"Only its owner {table.owner} may index {table.full}.",
            f"Log in as {table.owner} or a member of it (saasops_connection.user).",
            {"table": table.full, "owner": table.owner},
        )
    found = scene.named(target.schema, target.name)
    builder = scene.builder(table.oid)
    step = Step(CREATE, target.schema, target.name, table, wanted, found, target.wish, show(wanted))
    problem = _partition_problem(target, wanted, table) if table.kind == PARTITIONED else None
    if found is None:
        twin = _twin(target, scene, planned, wanted)
        if twin:
            return f"{target.full} is there as {twin}: the same definition, so nothing is built"
        return problem or (_under_way(target.full, builder) if builder else step)
    if found.table != table.oid:
        of = scene.tables[found.table].full if found.table in scene.tables else "another table"
        return OpsError(
            "name_taken", f"{target.full} is an index of {of}.", "Give the index another name, or drop that one."
        )
    differ = differences(found.definition, wanted, target.managed)
    if found.sound and not differ:
        return f"{target.full} is as it should be"
    if builder:
        return _under_way(target.full, builder)
    if not found.sound:
        if found.constraint[1]:
            return OpsError(
                "index_of_constraint",
                f"{target.full} is invalid and belongs to constraint {found.constraint[0]}.",
                "Drop the constraint and make it again: that is a migration.",
            )
        why = "invalid: a build was interrupted" if not differ else f"invalid, and {'; '.join(differ)}"
        return problem or replace(step, kind=REPAIR, reason=f"{why}; {show(wanted)}")
    if not target.wish.replace:
        return OpsError(
            "index_differs",
            f"{target.full} is another index: {'; '.join(differ)}.",
            "Give the new one another name, or have it take the other's place with replace: true.",
            {"index": target.full, "differences": differ, "found": found.text},
        )
    if found.constraint[1] or found.replica_identity or found.rests or found.parent or table.kind == PARTITIONED:
        return OpsError(
            "not_replaceable",
            f"{target.full} carries a constraint, a foreign key, a replica identity or partitions.",
            "Make the new index under another name and let go of the old one by a migration.",
        )
    # what the entry does not speak of stays as it was
    kept = replace(
        wanted,
        options=wanted.options if target.managed.options else found.definition.options,
        tablespace=wanted.tablespace if target.managed.tablespace else found.definition.tablespace,
    )
    return replace(step, kind=REPLACE, definition=kept, reason=f"{'; '.join(differ)}; {show(kept)}")


def _absent(
    target: Target, scene: Scene, going: Collection[int], acknowledged: Collection[str]
) -> Step | str | list[OpsError]:
    found = scene.named(target.schema, target.name)
    if found is None:
        return f"{target.full} is not there"
    table = scene.tables[found.table]
    if target.definition is not None:
        differ = differences(found.definition, target.definition, target.managed)
        if differ or (target.table is not None and target.table.oid != found.table):
            return [
                OpsError(
                    "index_differs",
                    f"{target.full} is not the one that is to go: {'; '.join(differ) or 'it is on another table'}.",
                    "Somebody made another index of this name; drop it by -e name= and -e state=absent if it is meant.",
                    {"index": target.full, "differences": differ},
                )
            ]
    if not table.owned:
        return [
            OpsError(
                "not_permitted",
                f"Only the owner {table.owner} of {table.full} may drop its indexes.",
                f"Log in as {table.owner} or a member of it (saasops_connection.user).",
            )
        ]
    builder = scene.builder(table.oid)
    if builder:
        return [_under_way(target.full, builder)]
    staying = [item for item in scene.of(found.table) if item.oid not in going]
    reasons = against(found, staying, scene.foreign_keys.get(found.table, ()), acknowledged)
    if reasons:
        return reasons
    state = "" if found.sound else "invalid; "
    return Step(
        DROP, target.schema, target.name, table, found=found, reason=f"{state}on {table.full}, {show(found.definition)}"
    )


def _leftovers(tables: Collection[int], scene: Scene, steps: Sequence[Step]) -> list[Step]:
    """What REINDEX CONCURRENTLY and our own replacements left on the tables that are spoken of."""
    handled = {step.full for step in steps}
    resumed = {f"{step.schema}.{beside(step.name, NEW)}" for step in steps if step.kind == REPLACE}
    found = []
    for index in scene.indexes:
        # a partition's part of an unfinished index is its parent's business
        if index.table not in tables or index.full in handled | resumed or index.constraint[1] or index.parent:
            continue
        if scene.builder(index.table) or not scene.tables[index.table].owned:
            continue
        ours = index.name.endswith((NEW, OLD))
        if ours or (not index.valid and is_leftover(index.name)):
            why = "left by an interrupted replacement" if ours else "left by an interrupted REINDEX CONCURRENTLY"
            found.append(Step(CLEAN, index.schema, index.name, scene.tables[index.table], found=index, reason=why))
    return found


def decide(
    present: Sequence[Target], absent: Sequence[Target], scene: Scene, acknowledged: Collection[str] = ()
) -> Decision:
    """Everything that is to be done, or every reason not to."""
    steps: list[Step] = []
    notes: list[str] = []
    warnings: list[str] = []
    refusals: list[OpsError] = []
    seen: set[str] = set()
    for target in [*present, *absent]:
        if target.full in seen:
            refusals.append(
                OpsError(
                    "index_named_twice",
                    f"Two entries of saasops_indexes speak of {target.full}.",
                    "Leave one of them.",
                    {"index": target.full},
                )
            )
        seen.add(target.full)
    for target in present:
        answer = _present(target, scene, steps)
        if isinstance(answer, Step):
            steps.append(answer)
        elif isinstance(answer, OpsError):
            refusals.append(answer)
        else:
            notes.append(answer)
    going = {index.oid for item in absent if (index := scene.named(item.schema, item.name)) is not None}
    for target in absent:
        outcome = _absent(target, scene, going, acknowledged)
        if isinstance(outcome, Step):
            steps.append(outcome)
            if outcome.found is not None:
                warnings += remarks(outcome.found, scene.conflicts.get(outcome.table.oid, 0))
        elif isinstance(outcome, list):
            refusals += outcome
        else:
            notes.append(outcome)
    tables = {item.table.oid for item in present if item.table is not None}
    return Decision((*steps, *_leftovers(tables, scene, steps)), tuple(notes), tuple(warnings), tuple(refusals))


def plan_of(decision: Decision, warnings: Sequence[str] = ()) -> Plan:
    """The plan with its envelope: one action an index, a bound on how many and on their bytes."""
    actions = []
    for step in decision.steps:
        measured: dict[str, object] = {}
        if step.builds:
            measured = {"about": human_size(step.size), "rows": int(max(0, step.table.rows))}
        elif step.found is not None:
            measured = {"size": human_size(step.found.bytes)}
        actions.append(Action(step.kind, step.full, _on(step), measured))
    sizes = [step.size for step in decision.steps if step.builds]
    ceilings = {"indexes": len(decision.steps)} if decision.steps else {}
    if sizes:
        ceilings["bytes"] = ceiling(sizes)
    return Plan("index", tuple(actions), ceilings, (*decision.warnings, *warnings))


def _on(step: Step) -> str:
    return f"on {step.table.full}: {step.reason}" if step.builds else step.reason
