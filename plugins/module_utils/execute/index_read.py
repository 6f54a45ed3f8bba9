# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_index must know before it decides: who is meant, what is there, how large it gets, who is in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import Decision, Scene, Step, Target
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import ABSENT, Wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Index, Table
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_space import (
    needed,
    refuse_full,
    rows_of,
    size,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_acts import Limits
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_clone import Shape, shape_of, spell_out
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_facts import (
    conflicts,
    duplicates,
    place_of,
    rows_where,
    widths,
    work_memory,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_watch import in_the_way, sees_everybody
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import (
    builders,
    foreign_keys,
    indexes_named,
    indexes_of,
    other_relations,
    tables_by_oid,
    tables_named,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target as Server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas

_SHOWN = 5
_BLOCKERS_LOOKED_FOR = 20


@dataclass(frozen=True)
class Reading:
    """Targets, what is there, and remarks; with it what is needed to measure a decision."""

    present: tuple[Target, ...]
    absent: tuple[Target, ...]
    scene: Scene
    warnings: tuple[str, ...]
    session: Session
    server: Server
    jobs: int
    limits: Limits
    database: str

    def before(self, decision: Decision) -> list[str]:
        """What was there of what changes, for the diff."""
        return [step.found.text for step in decision.steps if step.found is not None]

    def measured(self, decision: Decision) -> tuple[Decision, list[OpsError], list[str]]:
        """The decision with sizes; what more speaks against it (space, duplicates), and what may delay it."""
        refusals = list(decision.refusals)
        building = [step for step in decision.steps if step.builds]
        known = widths(self.session, sorted({step.table.oid for step in building}))
        steps = tuple(
            replace(step, size=self._size(step, known.get(step.table.oid, {}))) if step.builds else step
            for step in decision.steps
        )
        warnings: list[str] = []
        if not refusals:
            refusals += self._space(steps, warnings)
            refusals += self._duplicates(steps, warnings)
            warnings += self._delays(steps)
        return replace(decision, steps=steps), refusals, warnings

    def _size(self, step: Step, known: Mapping[str, int]) -> int:
        definition = step.built
        rows = rows_of(step.table)
        if definition.predicate:
            told = rows_where(self.session, step.table, definition.predicate)
            rows = min(rows, told) if told >= 0 else rows
        return size(definition, step.table, known, rows)

    def _space(self, steps: Sequence[Step], warnings: list[str]) -> list[OpsError]:
        places: dict[str, list[int]] = {}
        for step in steps:
            if step.definition is not None and step.builds:
                places.setdefault(step.definition.tablespace, []).append(step.size)
        if not places:
            return []
        if not server_state.server_is_here(self.server):
            warnings.append("The free space of the server cannot be seen from here, so it was not checked.")
            return []
        found = []
        for tablespace, sizes in places.items():
            path = place_of(self.session, tablespace) if tablespace else server_state.data_directory(self.session)
            if not path:
                warnings.append(
                    "The login role may not know the data directory (pg_read_all_settings); free space was not checked."
                )
                continue
            need = needed(sizes, self.jobs, work_memory(self.session), server_state.wal_facts(self.session)[0])
            full = refuse_full(path, self.server.transport.free_bytes(path), need)
            if full is not None:
                found.append(full)
        return found

    def _duplicates(self, steps: Sequence[Step], warnings: list[str]) -> list[OpsError]:
        found = []
        for step in steps:
            definition = step.definition
            if not step.builds or definition is None or not definition.unique:
                continue
            try:
                keys = duplicates(self.session, step.table, definition)
            except OpsError as error:
                warnings.append(f"Whether {step.full} can be unique was not found out: {error.cause}")
                continue
            if keys:
                found.append(
                    OpsError(
                        "duplicate_keys",
                        f"{step.full} cannot be unique: {'; '.join(keys)}.",
                        "Mend the rows (verb repair), then run this again.",
                        {"index": step.full, "duplicates": keys},
                    )
                )
        return found

    def _delays(self, steps: Sequence[Step]) -> list[str]:
        said = []
        if steps and not sees_everybody(self.session):
            said.append(
                "The login role does not see other roles' transactions (grant pg_read_all_stats): a build may have to "
                f"wait for one, and gives up after {self.limits.wait:.0f} s of that."
            )
        tables = dict.fromkeys(step.table.oid for step in steps)
        blockers: dict[str, None] = {}
        for oid in list(tables)[:_BLOCKERS_LOOKED_FOR]:
            blockers.update(
                dict.fromkeys(in_the_way(self.session, self.database, oid, self.limits.old, [self.session.pid]))
            )
        said += [f"A build would wait now for {who}." for who in list(blockers)[:_SHOWN]]
        return said


def _schemas(session: Session, wish: Wish) -> list[str]:
    if wish.schema:
        return [wish.schema]
    if not wish.schemas:
        return ["public"]
    found = matching_schemas(session, wish.schemas)
    if not found:
        raise OpsError(
            "unknown_schema",
            f"Index {wish.name}: no schema matches {', '.join(wish.schemas)}.",
            "Check the patterns; names are case-sensitive.",
            {"schemas": list(wish.schemas)},
        )
    return found


def _without_table(wish: Wish, lacking: Sequence[str], total: int) -> str:
    """A warning, or OpsError unknown_table when no schema has the table."""
    if len(lacking) == total:
        where = ", ".join(f"{schema}.{wish.table}" for schema in lacking[:_SHOWN])
        raise OpsError(
            "unknown_table",
            f"Index {wish.name}: there is no table {where}.",
            "Check table and schemas of the entry; names are case-sensitive.",
            {"schemas": list(lacking)},
        )
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return f"Index {wish.name}: {', '.join(lacking[:_SHOWN])}{more} have no table {wish.table}, and get no index."


def read(
    session: Session,
    server: Server,
    wishes: Sequence[Wish],
    params: Mapping[str, object],
    limits: Limits,
    context: Context,
) -> Reading:
    """Read everything. Raises bad_index, unknown_schema, unknown_table."""
    warnings: list[str] = []
    places = [(wish, _schemas(session, wish)) for wish in wishes]
    pairs = sorted({(schema, wish.table) for wish, schemas in places if wish.table for schema in schemas})
    tables = {(table.schema, table.name): table for table in tables_named(session, pairs) if table.kind != "f"}
    spelled: dict[Shape, Definition] = {}
    present: list[Target] = []
    absent: list[Target] = []
    for wish, schemas in places:
        lacking = [schema for schema in schemas if wish.table and (schema, wish.table) not in tables]
        if lacking and wish.state != ABSENT:
            warnings.append(_without_table(wish, lacking, len(schemas)))
        for schema in schemas:
            table = tables.get((schema, wish.table))
            if wish.state != ABSENT and table is None:
                continue
            definition = None
            if table is not None and wish.columns:
                shape = shape_of(table, wish)
                if shape not in spelled:
                    spelled[shape] = spell_out(session, table, wish)
                definition = spelled[shape]
            (absent if wish.state == ABSENT else present).append(Target(wish, schema, table, definition))
    names = sorted({(target.schema, target.name) for target in [*present, *absent]})
    indexes: dict[int, Index] = {
        index.oid: index
        for index in [
            *indexes_of(session, sorted({table.oid for table in tables.values()})),
            *indexes_named(session, names),
        ]
    }
    # an absent one may stand on a table that nobody named, and what else that has decides whether it may go
    known: dict[int, Table] = {table.oid: table for table in tables.values()}
    more = sorted({index.table for index in indexes.values()} - set(known))
    known.update({table.oid: table for table in tables_by_oid(session, more)})
    indexes.update({index.oid: index for index in indexes_of(session, more)})
    going = sorted(
        {index.table for index in indexes.values() if (index.schema, index.name) in names} if absent else set()
    )
    found: dict[int, int] = {}
    with contextlib.suppress(OpsError):
        found = conflicts(session, [known[oid] for oid in going])
    scene = Scene(
        indexes=list(indexes.values()),
        tables=known,
        taken=other_relations(session, names),
        builders=builders(session, [session.pid], server.connection.application_name),
        foreign_keys=foreign_keys(session, going),
        conflicts=found,
    )
    for target in absent:
        if params.get("state") == ABSENT and _still_wanted(target, params):
            warnings.append(
                f"saasops_indexes still asks for {target.full}: the next run of index builds it again, unless you take "
                "the entry out."
            )
    return Reading(
        tuple(present),
        tuple(absent),
        scene,
        tuple(warnings),
        session,
        server,
        int(str(params.get("jobs") or 2)),
        limits,
        str(params["database"]),
    )


def _still_wanted(target: Target, params: Mapping[str, object]) -> bool:
    entries = params.get("indexes")
    if not isinstance(entries, list):
        return False
    return any(
        isinstance(entry, dict)
        and str(entry.get("name")).rpartition(".")[2] == target.name
        and str(entry.get("state") or "") != ABSENT
        for entry in entries
    )
