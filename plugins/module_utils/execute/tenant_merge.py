# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a tenant's rows from the scratch database into its live tables, in one transaction that is proven or undone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain import tenant as decide
from ansible_collections.saasops.runbook.plugins.module_utils.domain import tenant_refusals as refuse
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Shape, Surroundings
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import live_merge as steps
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import merge
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.merge import Pair
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.references import (
    read_triggers,
    referenced_large_objects,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.shape import read_shape
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.transfer import copy_rows


@dataclass(frozen=True)
class Bounds:
    """lock_wait: seconds that one attempt waits for the tables; attempts; time_limit: seconds of the transaction."""

    lock_wait: float
    attempts: int
    time_limit: float


@dataclass
class Outcome:
    """What the transaction did. plan is empty when nothing differed; held: seconds that writers were locked out."""

    plan: Plan
    changes: tuple[decide.Change, ...] = ()
    raised: tuple[str, ...] = ()
    undo: str | None = None
    held: float = 0.0
    attempts: int = 1


@dataclass(frozen=True)
class Merge:
    """All that the merge works with. session is one of the live database; staging the schema of its staged tables."""

    target: Target
    database: str
    scratch_database: str
    session: Session
    scratch: Session
    staging: str
    source: decide.Source
    shape: Shape
    around: Surroundings
    bounds: Bounds

    @property
    def pairs(self) -> list[Pair]:
        return [Pair(table, self.shape.schema, self.staging, number) for number, table in enumerate(self.shape.tables)]


def scratch_checksums(job: Merge) -> dict[str, Row]:
    """rows and hash of every table in the scratch database, computed exactly as the live ones will be."""
    plain_view(job.scratch)
    try:
        return steps.checksums(job.scratch, job.shape, lambda number: job.pairs[number].live)
    finally:
        with contextlib.suppress(OpsError):
            job.scratch.run("COMMIT")


def stage(job: Merge, wanted: Mapping[str, Row], jobs: int, tell: Callable[[str], None]) -> None:
    """Copy every table into the staging schema of the live database and count what arrived. Raises stream_cut."""
    pairs = job.pairs
    for pair in pairs:
        job.session.run(merge.create_staged(pair))
    filled = sorted(
        (p for p in pairs if wanted[p.table.name]["rows"]), key=lambda p: -int(str(wanted[p.table.name]["rows"]))
    )

    def copy(pair: Pair) -> None:
        out = merge.copy_out(job.shape.schema, pair.table)
        copy_rows(job.target, (job.scratch_database, out), (job.database, merge.copy_in(pair)))

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for done, _none in enumerate(pool.map(copy, filled), 1):
            tell(f"staging: table {done} of {len(filled)}")
    for pair in pairs:
        rows = job.session.value(f"SELECT count(*) AS rows FROM {pair.staged}")
        if rows != wanted[pair.table.name]["rows"]:
            raise OpsError(
                "stream_cut",
                f"Of {wanted[pair.table.name]['rows']} rows of {pair.table.name}, {rows} arrived in the live database.",
                "The stream between the client tools was cut; nothing was changed. Run the verb again.",
                {"table": pair.table.name},
            )
        if rows:
            job.session.run(f"ANALYZE {pair.staged}")


def carry_out(
    job: Merge, wanted: Mapping[str, Row], restored: Mapping[str, decide.Position], keep: Callable[[], str],
    confirm: Callable[[], None], tell: Callable[[str], None],
) -> Outcome:  # fmt: skip
    """Lock, compare, keep a way back, change, prove, commit.

    keep makes the set to go back to and returns its id; confirm proves that the advisory lock is still ours.
    """
    for attempt in range(1, job.bounds.attempts + 1):
        try:
            steps.begin(job.session)
            try:
                steps.lock(job.session, job.pairs, job.bounds.lock_wait)
            except OpsError as error:
                if error.details.get("sqlstate") not in steps.BUSY:
                    raise
                job.session.run("ROLLBACK")
                who = steps.blockers(job.session, job.shape.schema)
                if attempt == job.bounds.attempts:
                    raise _locked(job, who) from error
                tell(f"the tenant's tables are busy, attempt {attempt} of {job.bounds.attempts}")
                time.sleep(0.3 * attempt)
                continue
            began = time.monotonic()
            outcome = _inside(job, wanted, restored, keep, confirm, tell)
            outcome.held, outcome.attempts = round(time.monotonic() - began, 3), attempt
            return outcome
        except BaseException:
            with contextlib.suppress(OpsError):
                job.session.run("ROLLBACK")
            raise
    raise AssertionError("the last attempt returns or raises")


def _locked(job: Merge, who: list[Row]) -> OpsError:
    names = [
        f"prepared transaction {row['gid']}"
        if row["gid"]
        else f"pid {row['pid']} ({row['application'] or 'no name'}, {row['user']}, {row['state']}, {row['seconds']} s)"
        for row in who
    ]
    return OpsError(
        "lock_timeout",
        f"The tables of {job.shape.schema!r} could not be locked in {job.bounds.attempts} attempts of "
        f"{job.bounds.lock_wait:g} s" + (f"; held by {'; '.join(names[:5])}" if names else "") + ".",
        "Nothing was changed. Wait for these transactions or end them (verb sessions), then run the verb again.",
        {"holders": [dict(row) for row in who[:20]]},
    )


def _inside(
    job: Merge, wanted: Mapping[str, Row], restored: Mapping[str, decide.Position], keep: Callable[[], str],
    confirm: Callable[[], None], tell: Callable[[str], None],
) -> Outcome:  # fmt: skip
    session, shape, pairs = job.session, job.shape, job.pairs
    deadline = steps.Deadline(session, job.bounds.time_limit)
    if read_shape(session, shape.schema) != shape:
        raise OpsError(
            "structure_changed",
            f"The structure of schema {shape.schema!r} was changed while its rows were brought over.",
            "Nothing was changed. Run the verb again when no migration is under way.",
        )
    tell("comparing rows")
    found = steps.compare_rows(session, pairs, deadline)
    behind = decide.sequences_behind(steps.positions(session, shape.schema), restored)
    changes = tuple(found[pair.number] for pair in pairs)
    plan = decide.decide_changes(
        job.source, shape, job.around, changes, {name: position.text() for name, position in behind.items()}
    )
    if plan.empty:
        session.run("ROLLBACK")
        return Outcome(plan, changes)
    undo = None
    if any(change.any for change in changes):
        emptied: set[int] = set()
        deadline.run(lambda: emptied.update(steps.mark_early(session, shape, pairs)))
        found = steps.with_early(session, pairs, found, emptied)
        changes = tuple(found[pair.number] for pair in pairs)
        _refuse_references(job, pairs)
        tell("keeping the rows as they are now, to go back to")
        undo = keep()
        tell("changing rows")
        steps.quiet_triggers(session, shape, job.around.triggers)
        steps.change_rows(session, pairs, found, deadline)
        steps.wake_triggers(session, shape.schema, job.around.triggers)
        _prove(job, wanted, deadline)
        steps.refresh(session, shape.schema, job.around.own_views, deadline)
    confirm()
    raised = steps.raise_sequences(session, shape.schema, behind)
    session.run("COMMIT")
    return Outcome(plan, changes, tuple(raised), undo)


def _refuse_references(job: Merge, pairs: list[Pair]) -> None:
    session, shape = job.session, job.shape
    referred = steps.referring(session, shape, pairs)
    if referred:
        raise refuse.referring_refusal(shape.schema, referred)
    absent = steps.parents_absent(session, shape, pairs)
    if absent:
        raise refuse.parents_refusal(shape.schema, absent)
    staged = [(pair.staged, column) for pair in pairs for column in pair.table.large_objects]
    # a plain oid column may hold something else; then what is live has dangling numbers as well
    missing = set(referenced_large_objects(session, staged))
    missing -= set(referenced_large_objects(session, [(p.target, c) for p in pairs for c in p.table.large_objects]))
    if missing:
        raise refuse.large_objects_refusal(shape.schema, sorted(missing))


def _prove(job: Merge, wanted: Mapping[str, Row], deadline: steps.Deadline) -> None:
    """Hold every table, generated columns included, and every trigger against what they must be."""
    now: dict[str, Row] = {}
    deadline.run(lambda: now.update(steps.checksums(job.session, job.shape, lambda number: job.pairs[number].live)))
    wrong = [
        f"{name} has {now[name]['rows']} rows instead of {wanted[name]['rows']}"
        if now[name]["rows"] != wanted[name]["rows"]
        else f"{name} has the right number of rows, but other values"
        for name in now
        if now[name] != wanted[name]
    ]
    triggers = read_triggers(job.session, job.shape.schema)
    if triggers != job.around.triggers:
        wrong.append("triggers are not in the state they were in")
    if wrong:
        raise refuse.mismatch(job.shape.schema, wrong)


def analyze(job: Merge, changes: tuple[decide.Change, ...]) -> None:
    """Fresh statistics for what changed; after the commit, and no harm if it is left out."""
    for change in changes:
        if change.any:
            with contextlib.suppress(OpsError):
                job.session.run(f"ANALYZE {ident(job.shape.schema)}.{ident(change.table)}")
