# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_maintenance: read, look into what is unknown, decide, lock, do, prove, remember."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    REINDEX,
    REWRITE,
    Act,
    Settings,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_decide import (
    Marks,
    Scope,
    Survey,
    decide,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import Pace, dead_limit
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_options import read_wishes
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_plan import (
    Budget,
    Decision,
    summary,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_build import Builder
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_crew import (
    STOPPED,
    TIME_IS_UP,
    Crew,
    Fence,
    Outcome,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_run import Runner
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_survey import (
    Reading,
    chosen,
    survey,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_told import (
    evidence_of,
    left_of,
    nothing,
    refuse_forbidden,
    refuse_undone,
    told,
    would,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import repack
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance import tables_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import (
    DONE,
    LATE,
    Manner,
    prepare,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_load import Limits
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store.maintenance import Memory
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

# how often what was done is written to the store, in seconds
REMEMBER = 10.0
PROBE_TOTAL = 8
LEAVING = 10.0
SWEEPING = 6.0
# bytes that a standby may lag when nobody says otherwise, as in cleanup
LAG = 256_000_000
ORDERLY = 3.0


def _names(params: Mapping[str, object], option: str) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("Sequence[object]", params.get(option) or ()))


def _seconds(params: Mapping[str, object], option: str) -> float | None:
    value = params.get(option)
    return None if value in (None, "") else float(parse_duration(str(value), option))


def _whole(params: Mapping[str, object], option: str) -> int | None:
    value = params.get(option)
    return None if value in (None, "") else int(str(value))


class Run:
    """One call of the module: its options, sessions and memory."""

    def __init__(self, params: Mapping[str, object], context: Context) -> None:
        self.params, self.context = params, context
        self.system, self.main = str(params["system"]), str(params["database"])
        self.anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
        self.store = open_store(cast("dict[str, object]", params["store"]))
        self.wishes = read_wishes(params)
        self.jobs = _whole(params, "jobs") or min(4, os.cpu_count() or 1)
        self.manner = Manner(
            lock_timeout=_seconds(params, "lock_timeout") or 5.0,
            delay=float(str(params.get("cost_delay") or 0)),
            limit=_whole(params, "cost_limit") or 200,
            memory=str(params.get("memory") or ""),
        )
        self.pace = Pace(delay=self.manner.delay / 1000, limit=self.manner.limit)
        each = _whole(params, "measure_bytes")
        each = 256_000_000 if each is None else each
        self.reading = Reading(
            Scope(_names(params, "schemas"), _names(params, "tables")),
            self.wishes,
            each,
            PROBE_TOTAL * each,
            str(params.get("repack") or "auto"),
            context.windows,
            str(params.get("space") or ""),
        )
        self.holders: dict[str, tuple[Holder, ...]] = {}
        self.settings: dict[str, Settings] = {}

    @property
    def budget(self) -> Budget:
        """Of the inventory, and never beyond the end of the window."""
        seconds = _seconds(self.params, "budget")
        if self.context.deadline is not None:
            # in order, before the window's own end would cut it
            left = max(1.0, self.context.deadline - self.context.now - ORDERLY)
            seconds = left if seconds is None else min(seconds, left)
        return Budget(seconds, self.jobs, _whole(self.params, "max_tables"), _whole(self.params, "max_rewrite_bytes"))

    def read(self, target: Target, names: Sequence[str], marks: Marks) -> list[Survey]:
        found = []
        for name in names:
            with contextlib.closing(target.session(name)) as session:
                prepare(session, self.manner)
                one = survey(session, target, name, self.reading, marks)
            self.holders[name], self.settings[name] = one.holders, one.settings
            found.append(one)
        return found

    def due(self, session: Session, act: Act) -> bool:
        """Whether a table that was sampled by now has more dead rows than it may."""
        for table in tables_of(session, act.database, oids=[act.oid]):
            return table.dead > dead_limit(self.settings[act.database], table, self.wishes.of(table))
        return False


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_maintenance."""
    run = Run(params, context)
    with contextlib.ExitStack() as stack:

        def connect(target: Target) -> Session:
            session = target.session()
            stack.callback(session.close)
            return session

        guard = run.anyone.named(mark_of("maintenance-guard", run.system, run.main))
        control = connect(guard)
        with contextlib.closing(guard.session()) as other:
            refuse_pooler(control, other)
        prepare(control, run.manner)
        if control.value("SELECT pg_is_in_recovery()"):
            raise OpsError(
                "server_is_standby",
                "This server is a standby, where nothing can be maintained.",
                "Run the verb on its primary; what it does arrives here by itself.",
            )
        server = read_server(control)
        target = guard.named(mark_of("maintenance", run.system, run.main, server))
        memory = Memory(run.store, run.system, run.main, server)
        _load(memory, context)
        names, closed = chosen(control, run.main, _names(params, "databases"))
        marks = memory.marks(context.now)
        surveys = run.read(target, names, marks)
        decision = decide(surveys, run.reading.scope, run.wishes, marks, run.budget, run.pace)
        remarks = [f"The role may not enter database {name}, which stays as it is." for name in closed]
        decision = replace(decision, remarks=(*remarks, *decision.remarks))
        plan = decision.plan(run.main)
        evidence = evidence_of(surveys, decision)
        if plan.empty:
            refuse_forbidden(decision, [])
            return Result(plan, False, nothing(surveys, decision), evidence)
        if context.check_mode:
            return Result(plan, True, would(decision), evidence)
        context.authorise(plan)
        for name in sorted(names):
            hold(control, run.system, name)
        cleaned = _end_dead_run(run, target, control, names)
        fence = Fence(control, run.system, names[0])
        return _carry_out(run, target, memory, decision, plan, evidence, cleaned, fence)


def _end_dead_run(run: Run, target: Target, control: Session, names: Sequence[str]) -> list[str]:
    """End what an interrupted run left working, and remove what its pg_repack left on tables; says what was done."""
    mark = target.connection.application_name
    cleaned = []
    for name in (mark, mark + repack.SUFFIX):
        cleaned += end_leftovers(target, control, name, [])
        _until_gone(control, name)
    for database in names if cleaned else []:
        with contextlib.closing(target.session(database)) as session:
            prepare(session, run.manner)
            for table in repack.leftovers(session):
                # without the right to it the table's own act tells
                with contextlib.suppress(OpsError):
                    if repack.sweep(session, table, SWEEPING, run.manner.lock_timeout) == repack.DROPPED:
                        cleaned.append(f"what pg_repack left on a table of {database} removed")
    return cleaned


def _until_gone(control: Session, mark: str) -> None:
    """Wait for the sessions of a dead run to end, which takes them a moment."""
    deadline = time.monotonic() + LEAVING
    sql = render("SELECT count(*) FROM pg_stat_activity WHERE application_name = {mark}", mark=mark)
    while control.value(sql) and time.monotonic() < deadline:
        time.sleep(0.1)


def _load(memory: Memory, context: Context) -> None:
    """Without its memory a run still knows what the statistics tell."""
    try:
        memory.load()
    except OpsError as error:
        if not context.go_past(error, "what earlier runs remembered could not be read"):
            raise


def _carry_out(
    run: Run,
    target: Target,
    memory: Memory,
    decision: Decision,
    plan: Plan,
    evidence: dict[str, object],
    cleaned: list[str],
    fence: Fence,
) -> Result:
    context = run.context
    budget = decision.budget.seconds
    lag = _whole(run.params, "max_lag")
    lag = LAG if lag is None else lag
    crew = Crew(
        target=target,
        context=context,
        manner=run.manner,
        limits=Limits(
            lag=lag or None,
            asked=run.params.get("max_lag") is not None,
            active=_whole(run.params, "max_active"),
            patience=_seconds(run.params, "patience") or 60.0,
            mark=target.connection.application_name,
        ),
        jobs=run.jobs,
        ends=None if budget is None else time.monotonic() + budget,
        lock_wait=_seconds(run.params, "lock_wait") or 10.0,
        truncate=str(run.params.get("truncate") or "auto"),
        due=run.due,
        done=_Remembering(run, memory),
        fence=fence,
        heavy=Builder(target, context, run.manner, _seconds(run.params, "rewrite_timeout") or 600.0),
    )
    runner = Runner(crew, decision.acts)
    try:
        outcomes = runner.run()
    except OpsError as error:
        done = sum(1 for item in runner.outcomes if item.outcome == DONE)
        raise OpsError(
            error.code,
            f"{error.cause} {done} of {len(decision.acts)} acts were done before.",
            "Run the verb again: it goes on with the rest." if error.code == "interrupted" else error.remedy,
            {**error.details, "done": done, "acts": [item.as_dict() for item in runner.outcomes]},
        ) from error
    finally:
        _save(memory, context)
    results = [item.as_dict() for item in outcomes]
    gained = summary(results)
    evidence.update(acts=results, gained=gained, cleaned=cleaned, left=[left_of(a, why) for a, why in decision.left])
    counts = Counter(item.outcome for item in outcomes)
    refuse_undone(decision, outcomes, runner.stopped_for, counts)
    message = told(gained, counts)
    left = counts[STOPPED] + counts[LATE]
    if left:
        context.warn(f"Maintenance stopped: {runner.stopped_for or TIME_IS_UP}; {left} acts are left for the next run.")
    _warn_held(run, outcomes)
    return Result(plan, bool(counts[DONE]), message, evidence)


class _Remembering:
    """Notes what was done, and writes it now and then, in a thread of its own so that nobody waits for the store."""

    def __init__(self, run: Run, memory: Memory) -> None:
        self._run, self._memory, self._last = run, memory, time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        act, now = outcome.act, time.time()
        if outcome.outcome != DONE:
            return
        name = f"{act.database}/{act.oid}"
        if act.kind == ANALYZE:
            # of a partitioned parent: rows written in its partitions, as they were when it was read
            self._memory.note(name, analyzed=now, written=int(str(act.measured.get("written") or 0)))
        elif act.kind == REINDEX:
            oid, size = outcome.facts.get("index_oid"), outcome.facts.get("index_bytes_after")
            self._memory.note(f"{act.database}/{oid}", at=now, bytes=int(str(size)))
        else:
            holder = _holder(self._run, outcome)
            self._memory.note(name, vacuumed=now, held=holder.key if holder else "")
            if act.kind == REWRITE and outcome.after is not None:
                self._memory.note(name, bytes=outcome.after.bytes or 0)
        if time.monotonic() - self._last >= REMEMBER:
            self._last = time.monotonic()
            threading.Thread(target=_save, args=(self._memory, self._run.context), daemon=True).start()


def _holder(run: Run, outcome: Outcome) -> Holder | None:
    """Who kept dead rows from being removed, when at least half of them are still there."""
    act, before, after = outcome.act, outcome.before, outcome.after
    if before is None or after is None or after.dead < max(1, before.dead // 2):
        return None
    for holder in run.holders.get(act.database, ()):
        if not holder.catalogs or act.schema == "pg_catalog":
            return holder
    return None


def _save(memory: Memory, context: Context) -> None:
    try:
        memory.save(time.time())
    except OpsError as error:
        context.warn(f"What was done could not be remembered: {error.cause} The statistics still tell it.")


def _warn_held(run: Run, outcomes: Sequence[Outcome]) -> None:
    """Dead rows that stay are named together with whoever still sees them."""
    held = [(item, holder) for item in outcomes if item.outcome == DONE for holder in [_holder(run, item)] if holder]
    if held:
        stay = sum(item.after.dead for item, _who in held if item.after is not None)
        run.context.warn(f"{stay:,} dead rows of {len(held)} tables stay: {held[0][1].tell()}.")
