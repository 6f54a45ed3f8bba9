# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put back everything that is open in a system and whose run is over, and say what was interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils import silencing
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import read as read_record
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import View
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import held_by
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem, line, over, runs_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import (
    INTERRUPTED,
    Interrupted,
    without_end,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan, describe
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, parse
from ansible_collections.saasops.runbook.plugins.module_utils.execute import hold
from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard import guarded
from ansible_collections.saasops.runbook.plugins.module_utils.execute.poolers import release_left
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import under_way
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import holder
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import poolers_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import system_identifier
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json

# which of our modules put an item back: data of the record chooses, nothing else of it is run
UNDOS = {"pg_hold": hold.release}


@dataclass
class Found:
    """What is open. over: with the reason why it is; working: sentences on what is left alone; bad: unreadable."""

    items: list[tuple[OpenItem, str]] = field(default_factory=list)
    leases: list[tuple[View, str]] = field(default_factory=list)
    restores: dict[str, list[Restoration]] = field(default_factory=dict)
    interrupted: list[Interrupted] = field(default_factory=list)
    working: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    processes: dict[str, Mapping[str, object]] = field(default_factory=dict)

    def plan(self) -> Plan:
        actions = [Action("put back", item.id, f"{item.what}; {why}") for item, why in self.items]
        actions += [
            Action("conclude", f"restore {one.id}", _state_of(one)) for each in self.restores.values() for one in each
        ]
        actions += [Action("end lease", view.name, why) for view, why in self.leases]
        actions += [Action("record", f"run {one.run}", one.sentence) for one in self.interrupted]
        return Plan("reconcile", tuple(actions))


def _state_of(record: Restoration) -> str:
    held = f", paused: {', '.join(record.paused)}" if record.paused else ""
    return f"of {record.database}, left in the state {record.state}{held}"


def _look_at_leases(store: Store, found: Found, now: float, dead: Sequence[str]) -> None:
    views, bad = Leases(store).status()
    found.bad += [error.message for error in bad]
    for view in views:
        lease, state = view.lease, view.state(now)
        if lease is None or state not in ("held", "expired"):
            continue
        found.processes[lease.run] = dict(vars(lease.holder))
        if lease.run in dead:
            found.leases.append((view, f"run {lease.run} is over"))
        elif state == "expired":
            found.leases.append((view, f"run {lease.run} has not renewed it"))
        else:
            found.working.append(f"{view.name} is held by {held_by(lease, now)}")


def _look_at_items(store: Store, system: str, found: Found, now: float, dead: Sequence[str]) -> None:
    items, bad = open_items.read(store, system)
    found.bad += [error.message for error in bad]
    found.processes.update(runs_of(items))
    for item in items:
        why = over(item, now, dead)
        if why:
            found.items.append((item, why))
        else:
            found.working.append(line(item, now))


def _look_at_runs(store: Store, found: Found, dead: Sequence[str], own: str) -> None:
    chain = read_chain(store)
    bodies = [body for body in (read_record(entry.text) for entry in chain.entries) if body is not None]
    for one in without_end(bodies):
        if one.run == own:
            continue
        if one.run in dead:
            found.interrupted.append(one)
        else:
            found.processes.setdefault(one.run, dict(one.process))
            found.working.append(f"{one.sentence}, and may still be at work")


def _records(store: Store, system: str) -> list[Restoration]:
    """Restores of this system that some run left on its way, or left with a pooler paused."""
    left = []
    for info in store.list("restores/"):
        with contextlib.suppress(OpsError):
            record = parse(read_json(store, info.key))
            if record.system == system:
                left.append(record)
    return left


def _look_at_restores(session: Session, store: Store, system: str, found: Found) -> None:
    server = system_identifier(session)
    for record in _records(store, system):
        if record.server != server:
            if record.state in ("building", "switching", "undoing"):
                found.working.append(f"restore {record.id} belongs to another server ({_state_of(record)})")
            continue
        if not under_way(session, record) and not record.paused:
            continue
        at_work = holder(session, system, record.database)
        if at_work is not None:
            found.working.append(f"restore {record.id} of {record.database} is at work (backend {at_work['pid']})")
        else:
            found.restores.setdefault(record.database, []).append(record)


def _put_back_restores(params: dict[str, object], context: Context, database: str) -> list[str]:
    """Under the lock of the database: only there it is sure that nobody works on it."""
    with guarded({**params, "database": database}, context) as guard:
        said = list(guard.cleaned)
        poolers = tuple(poolers_of(params, guard.target.connection.application_name))
        for record in guard.records:
            if record.paused:
                after, lines = release_left(guard.target, poolers, record, check_mode=False)
                said += lines
                if after != record:
                    save(guard.store, after)
        return said


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_reconcile."""
    system, own = str(params["system"]), str(params.get("own_run") or "")
    dead = [str(run) for run in cast("Sequence[object]", params.get("dead_runs") or [])]
    store = open_store(cast("dict[str, object]", params["store"]))
    looks = params.get("dead_runs") is None
    store.check(write=False)
    if not (looks or context.check_mode):
        try:
            store.check(write=True)
        except OpsError as error:
            # what is open can be read; that it was put back is then written down by whoever comes next
            if not context.go_past(error, "what is put back may not be recorded"):
                raise
    found = Found()
    _look_at_leases(store, found, context.now, dead)
    _look_at_items(store, system, found, context.now, dead)
    _look_at_runs(store, found, dead, own)
    session: Session | None = None
    with contextlib.ExitStack() as stack:
        if params.get("connection"):
            target = Target.from_params(
                cast("dict[str, object]", params["connection"]), mark_of("reconcile", system, "")
            )
            session = target.session()
            stack.callback(session.close)
            _look_at_restores(session, store, system, found)
        evidence: dict[str, object] = {"processes": found.processes, "working": found.working, "reverted": []}
        plan = found.plan()
        lines = [*describe(plan.actions), *found.working, *(f"UNREADABLE {one}" for one in found.bad)]
        evidence["lines"] = lines
        for one in found.bad:
            context.warn(one)
        if looks:
            return Result(None, False, "Looked.", evidence)
        if plan.empty or context.check_mode:
            word = "Nothing is to be put back." if plan.empty else f"{len(plan.actions)} would be put back."
            return Result(plan, not plan.empty, word, evidence)
        context.authorise(plan)
        failures = _apply(params, context, store, session, found, evidence)
    if failures:
        raise OpsError(
            "reconcile_incomplete",
            f"{len(failures)} of {len(plan.actions)} could not be put back: " + " ".join(failures),
            "Mend what is said there and run reconcile again; it goes on where it stopped.",
            {"reverted": evidence["reverted"]},
        )
    said = cast("list[str]", evidence["reverted"])
    evidence["lines"] = [*said, *found.working]
    return Result(plan, True, f"{len(plan.actions)} put back: " + " ".join(said), evidence)


def _undone(session: Session | None, context: Context, item: OpenItem) -> str:
    """Put one item back, as a sentence. Raises OpsError no_undo, and whatever stands in the way."""
    if item.module == "alertmanager_silence":
        return silencing.release(context.silence, item, context.now)
    undo = UNDOS.get(item.module)
    if undo is None or session is None:
        raise OpsError(
            "no_undo",
            f"Nothing here can undo {item.module} on {item.host}.",
            "Set saasops_connection, or update the collection.",
        )
    return undo(session, item)


def _close(store: Store, item: OpenItem, run: str, how: str, context: Context) -> None:
    try:
        open_items.close(store, item, run, how, context.now)
    except OpsError as error:
        # it is put back; that it is over is found again, and written down then
        if not context.go_past(error, f"{item.id} could not be recorded as closed"):
            raise


def _apply(
    params: dict[str, object],
    context: Context,
    store: Store,
    session: Session | None,
    found: Found,
    evidence: dict[str, object],
) -> list[str]:
    """Each by itself, so that one that fails does not keep the others open; the sentences of those that failed."""
    said = cast("list[str]", evidence["reverted"])
    failures: list[str] = []

    def told(sentence: str, facts: Mapping[str, object]) -> None:
        said.append(sentence)
        context.progress(sentence)
        context.admission.says("reverted", {"message": sentence, **facts})

    for item, why in found.items:
        try:
            sentence = _undone(session, context, item)
            _close(store, item, str(params.get("own_run") or ""), sentence, context)
            told(sentence, {"item": item.id, "of": item.opened_by, "why": why})
        except OpsError as error:
            failures.append(f"{item.id}: {error.message}")
    for database, records in found.restores.items():
        try:
            for sentence in _put_back_restores(params, context, database):
                told(sentence, {"restores": [record.id for record in records]})
        except OpsError as error:
            failures.append(f"{database}: {error.message}")
    leases = Leases(store)
    for view, why in found.leases:
        run = view.lease.run if view.lease else ""
        try:
            if leases.release(view.name, run, context.now, "reconcile"):
                told(f"The lease {view.name} is free again: {why}.", {"lease": view.name, "of": run})
        except OpsError as error:
            failures.append(f"{view.name}: {error.message}")
    for one in found.interrupted:
        said.append(f"{one.sentence}.")
        context.admission.says("note", {"code": INTERRUPTED, "of": one.run, "cause": one.sentence})
    return failures
