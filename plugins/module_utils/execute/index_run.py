# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry a decision about indexes out: builds first, several tables at a time, then what cannot be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import REPLACE, Decision, Step
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import PARTITIONED, Index
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_acts import Acts, Limits, Made
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_crew import Crew
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_partitions import join, parts_of
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_facts import analyze, explain, indexes_used
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

# what is wrong with one index and says nothing about the next
ALONE = frozenset({"duplicate_keys", "index_differs", "index_not_valid", "foreign_partition", "partitions_move"})


@dataclass(frozen=True)
class Failure:
    """A step that was not done, and why."""

    full: str
    error: OpsError


class _Run:
    def __init__(self, crew: Crew, acts: Acts) -> None:
        self._crew, self._acts = crew, acts
        self._lock = threading.Lock()
        self.failures: list[Failure] = []
        self._stop = threading.Event()

    def phase(self, work: Sequence[tuple[int, str, Callable[[Session], None]]], what: str) -> None:
        """Do acts (table, index, act): one at a time on a table, several tables at a time."""
        tables: dict[int, list[tuple[str, Callable[[Session], None]]]] = {}
        for table, full, act in work:
            tables.setdefault(table, []).append((full, act))
        if tables:
            self._crew.work([self._on_table(acts) for acts in tables.values()], what)

    def failed(self, full: str) -> bool:
        return any(one.full == full for one in self.failures)

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def _on_table(self, acts: Sequence[tuple[str, Callable[[Session], None]]]) -> Callable[[], None]:
        def work() -> None:
            if self.stopped:
                return
            try:
                with self._crew.session() as session:
                    for full, act in acts:
                        if not self._one(session, full, act):
                            return
            except OpsError as error:
                self._note(acts[0][0], error)
            except Exception as error:  # noqa: BLE001 - a thread's error must reach the result
                self._note(acts[0][0], OpsError("module_failed", f"{type(error).__name__}: {error}.", "Report it."))

        return work

    def _one(self, session: Session, full: str, act: Callable[[Session], None]) -> bool:
        """Whether the session can go on to the next act."""
        if self.stopped:
            return False
        try:
            act(session)
        except OpsError as error:
            self._note(full, error)
            return error.code in ALONE
        return True

    def _note(self, full: str, error: OpsError) -> None:
        with self._lock:
            self.failures.append(Failure(full, error))
            if error.code not in ALONE:
                self._stop.set()


def carry_out(
    decision: Decision,
    target: Target,
    database: str,
    limits: Limits,
    jobs: int,
    made: Made,
    context: Context,
    fence: Callable[[], None],
) -> list[Failure]:
    """Do all steps; what was done is in `made`. Raises what ended the run; failures of single steps are returned.

    fence: raises once the lock on the database is no longer ours.
    """
    crew = Crew(context, target, database, jobs)
    acts = Acts(crew, limits, made)
    run = _Run(crew, acts)
    builds = [step for step in decision.steps if step.builds]
    run.phase(_builds(crew, acts, builds), "indexes")
    whole = [step for step in builds if step.table.kind == PARTITIONED and not run.failed(step.full)]
    if not run.stopped:
        run.phase([(step.table.oid, step.full, _joins(acts, step)) for step in whole], "partitioned indexes")
    final = [step for step in decision.steps if (not step.builds or step.kind == REPLACE) and not run.failed(step.full)]
    if final and not run.stopped:
        # from here on nothing is taken back
        context.admission.confirm()
        try:
            fence()
        except OpsError as error:
            # what was built is told with it
            return [*run.failures, Failure(final[0].full, error)]
        run.phase([(step.table.oid, step.full, _final(acts, step)) for step in final], "old indexes")
    return run.failures


def _builds(crew: Crew, acts: Acts, steps: Sequence[Step]) -> list[tuple[int, str, Callable[[Session], None]]]:
    work: list[tuple[int, str, Callable[[Session], None]]] = []
    for step in steps:
        if step.table.kind != PARTITIONED:
            work.append((step.table.oid, step.full, _plain(acts, step)))
            continue
        with crew.session() as session:
            parts = parts_of(session, step)
        for part in parts:
            if part.leaf and part.index is None:
                work.append((part.table.oid, step.full, _leaf(acts, step, part.table.oid)))
    return work


def _leaf(acts: Acts, step: Step, table: int) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        part = next((one for one in parts_of(session, step) if one.table.oid == table), None)
        # a partition may be detached or dropped meanwhile
        if part is not None and part.index is None and step.definition is not None:
            acts.build(session, part.table, part.table.schema, part.name, step.built)

    return act


def _joins(acts: Acts, step: Step) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        join(acts, session, step)
        _prove(acts, session, step)

    return act


def _plain(acts: Acts, step: Step) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        index: Index = acts.build(session, step.table, step.schema, acts.place(step), step.built)
        if step.kind != REPLACE:
            acts.made.indexes.append((step, index))
            _prove(acts, session, step)

    return act


def _final(acts: Acts, step: Step) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        if step.kind != REPLACE:
            acts.drop(session, step)
            return
        acts.swap(session, step)
        _prove(acts, session, step)

    return act


def _prove(acts: Acts, session: Session, step: Step) -> None:
    """What makes a valid index a useful one: statistics for an expression, and the planner's word. Only remarks."""
    definition = step.definition
    if definition is not None and any(not key.column for key in definition.keys):
        try:
            analyze(session, step.table)
        except OpsError as error:
            acts.made.remarks.append(f"{step.full}: {step.table.full} was not analyzed ({error.cause})")
    proof = step.wish.proof if step.wish else ""
    if not proof:
        return
    try:
        names = indexes_used(explain(session, step.schema, proof))
        could = names or indexes_used(explain(session, step.schema, proof, [("enable_seqscan", "off")]))
    except OpsError as error:
        acts.made.remarks.append(f"{step.full}: its proof could not be explained ({error.cause})")
        return
    if not _among(step, names):
        how = "would use it, were the table larger" if _among(step, could) else "does not use it"
        acts.made.remarks.append(f"{step.full}: the planner {how} (proof: {proof[:80]})")


def _among(step: Step, names: set[str]) -> bool:
    # a partitioned index shows as those of its parts
    return any(name == step.name or (step.table.kind == PARTITIONED and step.name[:40] in name) for name in names)
