# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a verified restore with the live database, undo that, and finish by dropping what stands aside."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import proof_level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    database_differences,
    handed_on,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import PROOFS
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import (
    Losses,
    ProvenSet,
    Scene,
    SequenceState,
    aside_name,
    counted_since,
    decide_finish,
    decide_switch,
    decide_undo,
    sequences_ahead,
    sequences_from_json,
    sequences_json,
    written_since,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import (
    conclude_switch,
    conclude_undo,
    reconcile,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters, take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm, hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_database, set_right
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import connected, default_jobs, vacuum
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import (
    Rename,
    Swapped,
    exchange,
    open_database,
    rows_written,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import read_restorations, save

# an undo that meets new writes counts them and tries again this often
COUNTS = 3


@dataclass(frozen=True)
class Job:
    """All that one run works with. session is one of the maintenance database and holds the advisory lock."""

    system: str
    database: str
    target: Target
    store: Store
    session: Session
    server: str
    context: Context
    acknowledged_rows: int | None

    @property
    def stamp(self) -> str:
        """The run's start, for the name of the database that steps aside."""
        return datetime.fromtimestamp(self.context.now, timezone.utc).strftime("%Y%m%dT%H%M%SZ").lower()


class _WrittenMeanwhile(Exception):
    """Rows were written between the count and the moment when nobody could write any more."""


def _advance(session: Session, ahead: list[SequenceState]) -> None:
    """Set sequences of the session's database to where their namesakes are, in a database nobody uses yet."""
    for item in ahead:
        session.value(
            render(
                "SELECT setval({name}::regclass, {value}, {called})",
                name=item.name,
                value=item.last_value,
                called=item.called,
            )
        )


def _catch_up(session: Session, ahead: list[SequenceState], behind: dict[str, SequenceState]) -> None:
    """The same in a database that is in use: only by taking numbers, so that it cannot step back behind a client."""
    for item in ahead:
        steps = abs(item.last_value - behind[item.name].last_value) // abs(item.increment)
        session.value(
            render(
                "SELECT count(nextval({name}::regclass)) FROM generate_series(1, {steps})", name=item.name, steps=steps + 1
            )
        )


def _count_rows(job: Job, database: str) -> dict[str, Json]:
    with connected(job.target, database, default_jobs()) as sessions:
        for session in sessions:
            plain_view(session)
        return take_fingerprint(sessions, relations(sessions[0], "rpm"), hashes=False)


def _losses_since_backup(job: Job, record: Restoration, live_oid: int | None, database: str) -> Losses:
    """What was written to the database `database` (whose oid is live_oid) since the record's set was taken."""
    if live_oid is None:
        return Losses((), True)
    manifest, contents = sets.load(job.store, record.set, job.system)
    same = str(manifest.server.get("system_identifier")) == job.server
    if same and int(str(manifest.server.get("database_oid") or 0)) == live_oid:
        with connected(job.target, database, 1) as (session,):
            found = written_since(contents.fingerprint, counters(session))
        if found is not None:
            return found
    job.context.progress("statistics do not reach back to the backup: counting all rows")
    return counted_since(contents.fingerprint, _count_rows(job, database))


def _losses_since_switch(job: Job, record: Restoration, live_oid: int | None) -> Losses:
    if live_oid is None or live_oid != record.target_oid:
        return Losses((), True)
    with connected(job.target, job.database, 1) as (session,):
        found = written_since(record.counters, counters(session))
    if found is not None:
        return found
    # the statistics were reset or lost in a crash: what differs from the set is the least that was written
    return _losses_since_backup(job, record, live_oid, job.database)


def _scene(
    job: Job, record: Restoration, other_name: str, losses: Losses, other_sequences: dict[str, SequenceState] | None
) -> Scene:
    session, live_oid = job.session, look.database_oid(job.session, job.database)
    other_oid = look.database_oid(session, other_name)
    installed: list[str] = []
    live_sequences: dict[str, SequenceState] = {}
    if live_oid is not None:
        with connected(job.target, job.database, 1) as (inside,):
            installed = look.names(inside, "SELECT extname::text FROM pg_extension")
            live_sequences = look.read_sequences(inside)
    if other_sequences is None:
        other_sequences = {}
        if other_oid is not None:
            with connected(job.target, other_name, 1) as (inside,):
                other_sequences = look.read_sequences(inside)
    live, other = read_database(session, job.database), read_database(session, other_name)
    carried = database_differences(handed_on(live, other), other) if live is not None and other is not None else []
    oids = [oid for oid in (live_oid, other_oid) if oid is not None]
    return Scene(
        database=job.database,
        record=record,
        live_oid=live_oid,
        other_name=other_name,
        other_oid=other_oid,
        losses=losses,
        blockers=tuple(look.read_blockers(session, job.database, installed)) if live_oid is not None else (),
        sessions=look.read_sessions(session, oids),
        may_rename=look.may_rename(session, oids),
        carried=tuple(item.text for item in carried),
        maintenance=job.target.connection.maintenance_database,
        sequences=tuple(sequences_ahead(live_sequences, other_sequences)),
    )


def _hand_on(job: Job, scene: Scene) -> None:
    """Bring the database that takes over to where the live one is: own traits, sequences."""
    live, other = read_database(job.session, job.database), read_database(job.session, scene.other_name)
    if live is not None and other is not None:
        set_right(job.session, scene.other_name, handed_on(live, other))
    if scene.sequences:
        with connected(job.target, scene.other_name, 1) as (session,):
            _advance(session, list(scene.sequences))


def _renames(scene: Scene, aside: str) -> list[Rename]:
    renames = [Rename(scene.live_oid, scene.database, aside)] if scene.live_oid is not None else []
    return [*renames, Rename(scene.other_oid or 0, scene.other_name, scene.database)]


def _after_exchange(job: Job, aside: str) -> dict[str, SequenceState]:
    """Read the last state of the sequences of the database aside, and bring the live ones to them."""
    with connected(job.target, aside, 1) as (old,), connected(job.target, job.database, 1) as (new,):
        last, present = look.read_sequences(old), look.read_sequences(new)
        _catch_up(new, sequences_ahead(last, present), present)
    return last


def _switch(job: Job, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    losses = _losses_since_backup(job, record, look.database_oid(job.session, job.database), job.database)
    scene = _scene(job, record, record.target, losses, None)
    aside = aside_name(job.database, "before", job.stamp)
    plan = decide_switch(scene, aside)
    if job.context.check_mode:
        return plan, record, {"losses": losses.as_json()}
    _hand_on(job, scene)
    with connected(job.target, record.target, 1) as (session,):
        written = counters(session)
    record = save(
        job.store,
        replace(
            record,
            state="switching",
            aside=aside if scene.live_oid is not None else "",
            aside_oid=scene.live_oid or 0,
            counters=written,
        ),
    )
    confirm(job.session, job.system, job.database)
    try:
        done = exchange(job.target, _renames(scene, aside))
    except OpsError:
        save(job.store, replace(record, state="verified", aside="", aside_oid=0))
        raise
    record = replace(record, switched_at=iso(time.time()))
    if record.aside:
        with contextlib.suppress(OpsError):
            record = replace(record, aside_sequences=sequences_json(_after_exchange(job, record.aside)))
            # nobody writes there any more: now the loss is final
            losses = _losses_since_backup(job, record, record.aside_oid, record.aside)
    record = save(job.store, conclude_switch(job.session, record, job.context.now))
    record = _vacuum_rest(job, record)
    return plan, record, {"losses": losses.as_json(), **_told(done)}


def _told(done: Swapped) -> dict[str, object]:
    return {"attempts": done.attempts, "sessions_ended": done.ended, "rename_seconds": round(done.seconds, 3)}


def _vacuum_rest(job: Job, record: Restoration) -> Restoration:
    """VACUUM (FREEZE) what was too large to be vacuumed before the switch; a second run goes on where one stopped."""
    left = list(record.vacuum_left)
    if not left:
        return record
    with connected(job.target, job.database, 1) as (session,):
        session.run("SET lock_timeout = '5s'")
        for number, table in enumerate(list(left), 1):
            job.context.progress(f"vacuuming large table {number} of {len(record.vacuum_left)} of the live database")
            with contextlib.suppress(OpsError):
                vacuum([session], [table], "VACUUM (FREEZE)", lambda n, of: None)
                left.remove(table)
    if left:
        job.context.warn(f"Not vacuumed yet: {', '.join(left)}; autovacuum will come to them.")
    return save(job.store, replace(record, vacuum_left=tuple(left)))


def _undo(job: Job, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    aside = aside_name(job.database, "undone", job.stamp)
    opened = False
    try:
        for attempt in range(1, COUNTS + 1):
            live_oid = look.database_oid(job.session, job.database)
            # first the sum, then the count by table: what is written in between shows as a changed sum
            base = rows_written(job.session, live_oid) if live_oid is not None else 0
            losses = _losses_since_switch(job, record, live_oid)
            scene = _scene(job, record, record.aside, losses, sequences_from_json(record.aside_sequences))
            plan = decide_undo(scene, aside, job.acknowledged_rows)
            if job.context.check_mode:
                return plan, record, {"losses": losses.as_json()}
            record = save(
                job.store, replace(record, state="undoing", newer=aside if scene.live_oid is not None else "")
            )
            open_database(job.session, record.aside)
            opened = True
            _hand_on(job, scene)
            confirm(job.session, job.system, job.database)
            try:
                done = exchange(job.target, _renames(scene, aside), before_commit=_unwritten(scene.live_oid, base))
                break
            except _WrittenMeanwhile:
                job.context.progress(f"rows were written during attempt {attempt}: counting again")
        else:
            raise OpsError(
                "writes_since_switch",
                f"Rows were written to {job.database!r} during each of {COUNTS} attempts.",
                "Stop the application's writers, then run the undo again.",
            )
    except BaseException:
        with contextlib.suppress(OpsError):
            if opened:
                look_again = look.database_of_oid(job.session, record.aside_oid)
                if look_again == record.aside:
                    conclude_closed(job.session, record)
            save(job.store, replace(record, state="switched", newer=""))
        raise
    record = replace(record, undone_at=iso(time.time()))
    if record.newer:
        with contextlib.suppress(OpsError):
            record = replace(record, aside_sequences=sequences_json(_after_exchange(job, record.newer)))
    record = save(job.store, conclude_undo(job.session, record, job.context.now))
    return plan, record, {"losses": losses.as_json(), **_told(done)}


def conclude_closed(session: Session, record: Restoration) -> None:
    """Close the old database again after an undo that did not happen."""
    session.run(f"ALTER DATABASE {ident(record.aside)} ALLOW_CONNECTIONS false")


def _unwritten(oid: int | None, base: int) -> Callable[[Session], None]:
    """Refuses the commit when the database's sum of written rows is no longer what it was at the count."""

    def check(session: Session) -> None:
        if oid is not None and rows_written(session, oid) != base:
            raise _WrittenMeanwhile

    return check


def _proven(job: Job) -> list[ProvenSet]:
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


def _finish(job: Job, record: Restoration) -> tuple[Plan, Restoration, dict[str, object]]:
    session = job.session
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
    if not plan.empty:
        confirm(session, job.system, job.database)
        session.run(f"DROP DATABASE {ident(record.aside)}")
    record = save(job.store, replace(record, state="finished", finished_at=iso(time.time())))
    return plan, record, {}


def _choose(job: Job, records: list[Restoration], state: str, wanted: str) -> tuple[Restoration | None, Restoration | None]:
    """(the record to act on, the record that shows that it was done already)."""
    known = [r for r in records if wanted in ("latest", r.id)]
    if wanted != "latest" and not known:
        raise OpsError(
            "restore_unknown",
            f"There is no restore {wanted} of database {job.database!r}.",
            "Look at restores/ in the store, or leave restore out: the newest is taken.",
        )
    begin, ends = {
        "switched": (("verified",), ("switched",)),
        "undone": (("switched",), ("undone",)),
        "finished": (("switched", "undone"), ("finished",)),
    }[state]
    ready = [r for r in known if r.state in begin]
    if state == "switched":
        # a copy that somebody dropped is not waiting any more
        ready = [r for r in ready if look.database_oid(job.session, r.target) == r.target_oid]
    done = [r for r in known if r.state in ends]
    newest_done = done[-1] if done else None
    if ready and (newest_done is None or state != "switched" or _later(ready[-1], newest_done)):
        return ready[-1], None
    return None, newest_done


def _later(one: Restoration, other: Restoration) -> bool:
    return one.verified_at > (other.switched_at or other.verified_at)


_NOTHING = {
    "switched": ("no_verified_restore", "has no verified restore that could be switched", "Run the verb restore first."),
    "undone": ("nothing_to_undo", "was not switched", "Nothing has to be undone."),
    "finished": ("nothing_to_finish", "has no switch or undo that waits to be finished", "Nothing has to be done."),
}


def _sentence(record: Restoration, state: str, changed: bool) -> str:
    if state == "finished":
        return f"{record.aside or 'What stood aside'} is dropped; restore {record.id} is finished."
    kept = f" {record.aside} is kept, closed, until restore_finish." if record.aside else ""
    word = "now" if changed else "already"
    if state == "switched":
        return f"{record.database} is {word} set {record.set} ({record.snapshot_at}).{kept}"
    return f"{record.database} is {word} again what it was before the switch.{kept}"


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_swap."""
    system, database, state = str(params["system"]), str(params["database"]), str(params["state"])
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("restore", system, database))
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    acknowledged = params.get("acknowledge_loss")
    with contextlib.ExitStack() as stack:
        session, other = target.session(), target.session()
        stack.callback(session.close)
        refuse_pooler(session, other)
        other.close()
        busy = ""
        try:
            hold(session, system, database, wait=0.0 if context.check_mode else 10.0)
        except OpsError as error:
            if not context.check_mode or error.code != "database_busy":
                raise
            busy = error.cause
        server = look.system_identifier(session)
        job = Job(
            system, database, target, store, session, server, context,
            None if acknowledged is None else int(str(acknowledged)),
        )  # fmt: skip
        records = read_restorations(store, system, database, server)
        records, cleaned = reconcile(session, target, store, records, context.now, check_mode=context.check_mode)
        record, done = _choose(job, records, state, str(params.get("restore") or "latest"))
        if record is None:
            if done is None:
                code, what, remedy = _NOTHING[state]
                raise OpsError(code, f"Database {database!r} {what}.", remedy)
            if state == "switched" and not context.check_mode:
                done = _vacuum_rest(job, done)
            return Result(
                Plan(state, ()),
                bool(cleaned) and not context.check_mode,
                _sentence(done, state, False),
                {"restore": _evidence(done), "cleaned": cleaned},
            )
        act = {"switched": _switch, "undone": _undo, "finished": _finish}[state]
        plan, record, more = act(job, record)
        if busy:
            plan = replace(plan, warnings=(*plan.warnings, busy))
    message = f"Would do: {state}." if context.check_mode else _sentence(record, state, True)
    return Result(plan, not plan.empty, message, {"restore": _evidence(record), "cleaned": cleaned, **more})


def _evidence(record: Restoration) -> dict[str, object]:
    return {
        "id": record.id,
        "set": record.set,
        "database": record.database,
        "state": record.state,
        "aside": record.aside,
        "snapshot_at": record.snapshot_at,
        "switched_at": record.switched_at,
        "undone_at": record.undone_at,
    }
