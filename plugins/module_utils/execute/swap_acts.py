# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a switch, an undo and a finish; each step leaves a state that the next run can conclude."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import proof_level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import handed_on
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import PROOFS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sequences import (
    SequenceState,
    ahead,
    reserved,
    sequences_from_json,
    sequences_json,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import (
    ProvenSet,
    Scene,
    aside_name,
    decide_discard,
    decide_finish,
    decide_switch,
    decide_undo,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute import poolers
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import (
    conclude_switch,
    conclude_undo,
    concluded,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_scene import (
    SwapJob,
    losses_since_backup,
    losses_since_switch,
    read_scene,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_database, set_right
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import connected, vacuum
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import (
    Rename,
    Swapped,
    exchange,
    open_database,
    renames_for,
    rows_written,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save

# an undo that meets new writes counts them and tries again this often
COUNTS = 3
# how long the sequences are watched for their pace, at least
PACE_SECONDS = 0.3


class WrittenMeanwhileError(Exception):
    """Rows were written between the count and the moment when nobody could write any more."""


def _advance(session: Session, states: list[SequenceState]) -> None:
    """Set sequences of the session's database to where their namesakes are, in a database nobody uses yet."""
    for item in states:
        session.value(
            render(
                "SELECT setval({name}::regclass, {value}, {called})",
                name=item.name,
                value=item.last_value,
                called=item.called,
            )
        )


def _catch_up(session: Session, states: list[SequenceState], behind: dict[str, SequenceState]) -> None:
    """The same in a database that is in use: only by taking numbers, so that it cannot step back behind a client."""
    for item in states:
        steps = abs(item.last_value - behind[item.name].last_value) // abs(item.increment)
        session.value(
            render(
                "SELECT count(nextval({name}::regclass)) FROM generate_series(1, {steps})",
                name=item.name,
                steps=steps + 1,
            )
        )


@dataclass(frozen=True)
class _Watch:
    """Where the live database's sequences were at a moment of time.monotonic(), to tell their pace later."""

    began: float
    states: dict[str, SequenceState]


def _watch(job: SwapJob) -> _Watch:
    """Begin to watch the live database's sequences; what has to be read anyway is read meanwhile."""
    states: dict[str, SequenceState] = {}
    if look.database_oid(job.session, job.database) is not None:
        with connected(job.target, job.database, 1) as (session,):
            states = look.read_sequences(session)
    return _Watch(time.monotonic(), states)


def _hand_on(job: SwapJob, scene: Scene, watch: _Watch) -> dict[str, SequenceState]:
    """Bring the database that takes over to where the live one is: own traits, sequences with a reserve.

    Returns its sequences as they stand then.
    """
    live, other = read_database(job.session, job.database), read_database(job.session, scene.other_name)
    if live is not None and other is not None:
        set_right(job.session, scene.other_name, handed_on(live, other))
    with connected(job.target, scene.other_name, 1) as (taking_over,):
        present = look.read_sequences(taking_over)
        if scene.live_oid is None:
            return present
        with connected(job.target, job.database, 1) as (leaving,):
            time.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - watch.began)))
            second, ended = look.read_sequences(leaving), time.monotonic()
        moved = reserved(watch.states, second, ended - watch.began, present)
        _advance(taking_over, moved)
    return {**present, **{item.name: item for item in moved}}


def _renames(scene: Scene, aside: str) -> list[Rename]:
    live = (scene.live_oid, scene.database) if scene.live_oid is not None else None
    return renames_for(live, (scene.other_oid or 0, scene.other_name), scene.database, aside)


def _after_exchange(
    job: SwapJob, aside: str, set_to: dict[str, SequenceState]
) -> tuple[dict[str, SequenceState], list[str]]:
    """(the last state of the sequences aside, what has to be said of them), once nobody can write there any more.

    A sequence that ran faster than its reserve is brought along, and named: a few numbers may be there twice.
    """
    with connected(job.target, aside, 1) as (old,), connected(job.target, job.database, 1) as (new,):
        last, present = look.read_sequences(old), look.read_sequences(new)
        _catch_up(new, ahead(last, present), present)
    overtaken = [item.name for item in ahead(last, set_to)]
    said = [f"Numbers of these sequences may have been handed out twice: {', '.join(overtaken)}."] if overtaken else []
    return last, said


def switch(job: SwapJob, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    """Give the live name to the restored database."""
    watch = _watch(job)
    losses = losses_since_backup(job, record, look.database_oid(job.session, job.database), job.database)
    scene = read_scene(job, record, record.target, losses, None)
    aside = aside_name(job.database, "before", job.stamp)
    plan = decide_switch(scene, aside)
    if job.context.check_mode:
        return plan, record, {"losses": losses.as_json()}
    job.context.authorise(plan)
    with connected(job.target, record.target, 1) as (session,):
        written = counters(session)
    set_to = _hand_on(job, scene, watch)
    hold = poolers.hold_of(job.target, job.poolers, scene.pools)
    record = save(
        job.store,
        replace(
            record,
            paused=hold.labels,
            state="switching",
            aside=aside if scene.live_oid is not None else "",
            aside_oid=scene.live_oid or 0,
            counters=written,
        ),
    )
    try:
        with hold:
            confirm(job.session, job.system, job.database)
            job.context.admission.confirm()
            done = exchange(job.target, _renames(scene, aside))
    except BaseException:
        _conclude_failed(job, replace(record, paused=hold.left))
        raise
    record = replace(record, switched_at=iso(time.time()), paused=hold.left)
    plan = replace(plan, warnings=(*plan.warnings, *poolers.said(hold)))
    if record.aside:
        with contextlib.suppress(OpsError):
            last, said = _after_exchange(job, record.aside, set_to)
            plan = replace(plan, warnings=(*plan.warnings, *said))
            record = replace(record, aside_sequences=sequences_json(last))
            # nobody writes there any more: now the loss is final
            losses = losses_since_backup(job, record, record.aside_oid, record.aside)
    record = _save_done(job, conclude_switch(job.session, record, job.context.now))
    record = vacuum_rest(job, record)
    return plan, record, {"losses": losses.as_json(), **_told(done), **poolers.told(hold)}


def _conclude_failed(job: SwapJob, record: Restoration) -> None:
    """Write down what the catalog shows after a failure; when that fails too, the next run does it."""
    with contextlib.suppress(OpsError):
        after, _sentence = concluded(job.session, job.target, record, job.context.now)
        save(job.store, after)


def _save_done(job: SwapJob, record: Restoration) -> Restoration:
    """Write down what has happened. Raises record_not_written, which says that it has happened."""
    try:
        return save(job.store, record)
    except OpsError as error:
        raise OpsError(
            "record_not_written",
            f"{job.database!r} was {record.state}, but the store did not take the record of it: {error.cause}",
            "Once the store answers again, run the verb again: it finds what was done and writes it down.",
        ) from error


def _told(done: Swapped) -> dict[str, object]:
    return {"attempts": done.attempts, "sessions_ended": done.ended, "rename_seconds": round(done.seconds, 3)}


def vacuum_rest(job: SwapJob, record: Restoration) -> Restoration:
    """Vacuum what was too large for it before the switch; a second run goes on where one stopped."""
    left = list(record.vacuum_left)
    if not left:
        return record
    with connected(job.target, job.database, 1) as (session,):
        session.run("SET lock_timeout = '5s'")
        for number, table in enumerate(list(left), 1):
            job.context.progress(f"vacuuming large table {number} of {len(record.vacuum_left)} of the live database")
            with contextlib.suppress(OpsError):
                vacuum([session], [table], "VACUUM (FREEZE, ANALYZE)", lambda n, of: None)
                left.remove(table)
    if left:
        job.context.warn(f"Not vacuumed yet: {', '.join(left)}; autovacuum will come to them.")
    return save(job.store, replace(record, vacuum_left=tuple(left)))


def undo(job: SwapJob, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    """Give the live name back to the old database. Writes that come in between are counted and refused again."""
    aside = aside_name(job.database, "undone", job.stamp)
    try:
        for attempt in range(1, COUNTS + 1):
            watch = _watch(job)
            live_oid = look.database_oid(job.session, job.database)
            # first the sum, then the count by table: what is written in between shows as a changed sum
            base = rows_written(job.session, live_oid) if live_oid is not None else 0
            losses = losses_since_switch(job, record, live_oid)
            scene = read_scene(job, record, record.aside, losses, sequences_from_json(record.aside_sequences))
            plan = decide_undo(scene, aside, job.acknowledged_rows)
            if job.context.check_mode:
                return plan, record, {"losses": losses.as_json()}
            job.context.authorise(plan)
            newer = aside if scene.live_oid is not None else ""
            hold = poolers.hold_of(job.target, job.poolers, scene.pools)
            record = save(job.store, replace(record, state="undoing", newer=newer, paused=hold.labels))
            open_database(job.session, record.aside)
            set_to = _hand_on(job, scene, watch)
            try:
                with hold:
                    confirm(job.session, job.system, job.database)
                    job.context.admission.confirm()
                    done = exchange(job.target, _renames(scene, aside), before_commit=_unwritten(scene.live_oid, base))
                break
            except WrittenMeanwhileError:
                pass
            finally:
                record = replace(record, paused=hold.left)
            job.context.progress(f"rows were written during attempt {attempt}: counting again")
        else:
            raise OpsError(
                "writes_since_switch",
                f"Rows were written to {job.database!r} during each of {COUNTS} attempts.",
                "Stop the application's writers, then run the undo again.",
            )
    except BaseException:
        if record.state == "undoing":
            _conclude_failed(job, record)
        raise
    record = replace(record, undone_at=iso(time.time()))
    plan = replace(plan, warnings=(*plan.warnings, *poolers.said(hold)))
    if record.newer:
        with contextlib.suppress(OpsError):
            last, said = _after_exchange(job, record.newer, set_to)
            plan = replace(plan, warnings=(*plan.warnings, *said))
            record = replace(record, aside_sequences=sequences_json(last))
    record = _save_done(job, conclude_undo(job.session, record, job.context.now))
    return plan, record, {"losses": losses.as_json(), **_told(done), **poolers.told(hold)}


def _unwritten(oid: int | None, base: int) -> Callable[[Session], None]:
    """Refuses the commit when the database's sum of written rows is no longer what it was at the count."""

    def check(session: Session) -> None:
        if oid is not None and rows_written(session, oid) != base:
            raise WrittenMeanwhileError

    return check


def _proven(job: SwapJob) -> list[ProvenSet]:
    """Complete, proven sets of the database whose objects are all in the store."""
    found = []
    for entry in sets.entries(job.store, job.system):
        manifest = entry.manifest
        if entry.state != "complete" or manifest is None or manifest.kind != "database":
            continue
        if manifest.database != job.database or proof_level(manifest.proof, entry.proofs) not in PROOFS:
            continue
        with contextlib.suppress(OpsError):
            sets.load(job.store, entry.set_id, job.system)
            found.append(
                ProvenSet(
                    entry.set_id,
                    manifest.snapshot_at,
                    str(manifest.server.get("system_identifier")),
                    int(str(manifest.server.get("database_oid") or 0)),
                )
            )
    return found


def finish(job: SwapJob, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    """Drop what stands aside."""
    session = job.session
    if record.state == "verified":
        return _discard_copy(job, record)
    present = look.database_of_oid(session, record.aside_oid) if record.aside_oid else None
    changed_at = posix(record.undone_at or record.switched_at)
    plan = decide_finish(
        record,
        record.aside_oid if present == record.aside else None,
        look.database_oid(session, job.database),
        changed_at,
        _proven(job),
        look.logical_slots(session, record.aside_oid),
    )
    if job.context.check_mode:
        return plan, record, {}
    job.context.authorise(plan)
    if not plan.empty:
        confirm(session, job.system, job.database)
        job.context.admission.confirm()
        session.run(f"DROP DATABASE {ident(record.aside)}")
    record = _save_done(job, replace(record, state="finished", finished_at=iso(time.time())))
    return plan, record, {}


def _discard_copy(job: SwapJob, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    """Drop a restored database that nobody wants to switch to; its set stays."""
    present = look.database_of_oid(job.session, record.target_oid)
    plan = decide_discard(record, present == record.target, look.logical_slots(job.session, record.target_oid))
    if job.context.check_mode:
        return plan, record, {}
    job.context.authorise(plan)
    if not plan.empty:
        confirm(job.session, job.system, job.database)
        job.context.admission.confirm()
        job.session.run(f"DROP DATABASE {ident(record.target)}")
    record = replace(record, state="finished", finished_at=iso(time.time()), aside=record.target)
    return plan, save(job.store, record), {}
