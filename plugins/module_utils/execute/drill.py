# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: hold a restored database against its set by PostgreSQL's own tools, and write the ledger.

The restored database stands beside the live one, or on a scratch server of its own. Then the live server is only
read: one session asks who it is and when its newest row was committed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.drill import (
    Check,
    ServerSeen,
    Verdict,
    decide_drill,
    refuse_scratch,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference, Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.globals import (
    parse_roles,
    role_notes,
    undefined_roles,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Contents, Manifest, Member, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import DRILL, Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.script import compare_scripts
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore import STAGING
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import globals_text
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, see_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import drop_database, write_member
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.script import archive_digest, database_digest
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import database_oid
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.store import restorations, sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs

GLOBALS = "globals.sql"


@dataclass(frozen=True)
class Place:
    """The server that the restored database stands on.

    session is one of its maintenance database that holds the lock. live: where the newest committed row is read,
    which is this server's own target when no scratch server is named.
    """

    target: Target
    session: Session
    seen: ServerSeen
    live: Target
    scratch: bool

    def as_json(self) -> dict[str, Json]:
        """What the ledger says of it."""
        connection = self.target.connection
        return {
            "scratch": self.scratch,
            "system_identifier": self.seen.identifier,
            "version": self.seen.version,
            "host": connection.service or connection.host,
            "port": self.seen.port,
            "transport": self.target.transport.name,
        }


@dataclass(frozen=True)
class Trial:
    """A restored database that is held against its set."""

    place: Place
    store: Store
    system: str
    manifest: Manifest
    contents: Contents
    restored: str
    staging: str

    @property
    def target(self) -> Target:
        return self.place.target


@dataclass(frozen=True)
class Globals:
    """Roles compared, those that the drill made itself, and sentences on what the server has in another way."""

    compared: int
    made: tuple[str, ...]
    notes: tuple[str, ...]


@contextlib.contextmanager
def _reading(live: Target, database: str | None = None) -> Iterator[Session]:
    """A session of the live server that cannot write."""
    session = live.session(database)
    try:
        session.run("SET default_transaction_read_only = on")
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def _held(params: dict[str, object], check_mode: bool) -> Iterator[Place]:
    """Look at the servers, hold the lock where the drill works, and end what a dead drill left running there."""
    system, database = str(params["system"]), str(params["database"])
    given = cast("dict[str, object]", params["connection"])
    # under a mark of its own: whoever else carries the verb's mark while we hold the lock is a leftover
    anyone = Target.from_params(given, mark_of("drill-guard", system, database))
    other = cast("dict[str, object] | None", params.get("live_connection"))
    live = Target.from_params(other, mark_of("drill-reader", system, database)) if other else anyone
    with contextlib.closing(anyone.session()) as session:
        seen = see_server(session)
        if other:
            with _reading(live) as reader:
                refuse_scratch(see_server(reader), seen)
        target = anyone.named(mark_of("drill", system, database, read_server(session)))
        if not check_mode:
            hold(session, system, database)
            end_leftovers(target, session, target.connection.application_name, [])
        yield Place(target, session, seen, live, bool(other))


@contextlib.contextmanager
def _staged(trial: Trial) -> Iterator[str]:
    """A staging folder of our own, removed at the end; one that a killed drill left is removed first."""
    transport = trial.target.transport
    folder = f"{trial.staging}/{trial.target.connection.application_name}"
    transport.remove_tree(folder)
    transport.make_folder(folder)
    try:
        yield folder
    finally:
        transport.remove_tree(folder)


def _fetch(trial: Trial, folder: str) -> tuple[str, str | None]:
    """Bring the set's dump into folder, every byte compared with the manifest on the way.

    Returns its path, and the set's script of roles; None when the set has none.
    """
    transport = trial.target.transport
    transport.make_folder(f"{folder}/dump")
    globals_sql: list[bytes] = []

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        if member.name.startswith("dump"):
            write_member(transport, folder, member, chunks)
        elif member.name == GLOBALS:
            globals_sql.append(b"".join(chunks))

    prefix = sets.folder(trial.manifest.set_id)
    read_packs(trial.store, prefix, trial.contents.objects, open_codec(trial.manifest.codec), sink)
    path = f"{folder}/dump" if trial.manifest.pipeline == "directory" else f"{folder}/dump.custom"
    return path, globals_sql[0].decode("utf-8", "surrogateescape") if globals_sql else None


def _differences(trial: Trial) -> tuple[list[Difference], str | None]:
    version = trial.place.seen.version
    with _staged(trial) as folder:
        archive, globals_sql = _fetch(trial, folder)
        expected = archive_digest(trial.target, version, archive)
    with _staged(trial) as folder:
        actual = database_digest(trial.target, version, trial.restored, folder, trial.manifest.schemas)
    return compare_scripts(expected, actual), globals_sql


def _globals(trial: Trial, record: Restoration | None, script: str | None) -> tuple[list[Difference], Globals]:
    """Hold the roles that the set's objects need against its own script of them, and against the server's."""
    made = record.roles_created if record else ()
    if script is None:
        return [], Globals(0, made, ("the set has no script of roles: the role that made it could not read them",))
    used = [str(name) for name in cast("list[str]", trial.contents.properties.get("roles") or [])]
    defined = parse_roles(script)
    here: list[str] = []
    notes: list[str] = []
    try:
        text = globals_text(trial.target, trial.place.seen.version, passwords=False).decode("utf-8", "surrogateescape")
        here = [name for name in used if name not in made]
        notes = role_notes(here, defined, parse_roles(text))
    except OpsError as error:
        notes = [f"the server's roles could not be read: {error.cause}"]
    return undefined_roles(used, defined), Globals(len(here), made, tuple(notes))


def _checks(trial: Trial, wanted: Sequence[dict[str, object]]) -> list[Check]:
    with contextlib.closing(trial.target.session(trial.restored)) as session:
        found = []
        for item in wanted:
            try:
                value = session.value(str(item["sql"]))
            except OpsError as error:
                value = error.cause
            found.append(Check(str(item["name"]), value))
        return found


def _marker(session: Session, sql: str) -> float | None:
    """The moment of the newest marker row in POSIX seconds; sql gives one timestamptz."""
    value = session.value(f"SELECT extract(epoch FROM (SELECT m FROM ({sql}\n) AS marker(m)))::float8 AS at")
    return None if value is None else float(str(value))


def _markers(trial: Trial, sql: str) -> tuple[float | None, float | None]:
    """(live, restored): the live database is asked first, so that what commits meanwhile is not held against us."""
    if not sql:
        return None, None
    with _reading(trial.place.live, trial.manifest.database) as session:
        live = _marker(session, sql)
    with contextlib.closing(trial.target.session(trial.restored)) as session:
        return live, _marker(session, sql)


def _record(store: Store, system: str, database: str, place: Place, restored: str) -> Restoration | None:
    """The record that says that this database was restored by us and never went live.

    The oid tells it from one that somebody else made under its name meanwhile.
    """
    oid = database_oid(place.session, restored)
    for record in reversed(restorations.read_restorations(store, system, database, place.seen.identifier)):
        if record.target == restored and record.state == "verified" and record.target_oid == oid:
            return record
    return None


def _remove(store: Store, record: Restoration, session: Session, now: float) -> None:
    """Drop the scratch database, and the roles that were made for it unless somebody uses them meanwhile."""
    drop_database(session, record.target)
    for role in record.roles_created:
        unused = render("SELECT count(*) FROM pg_roles WHERE rolname = {name} AND NOT rolcanlogin", name=role)
        if session.value(unused):
            # one that owns something elsewhere meanwhile stays
            with contextlib.suppress(OpsError):
                session.run(f"DROP ROLE {ident(role)}")
    restorations.save(store, replace(record, state="finished", finished_at=iso(now), reason=DRILL))


def drill(params: dict[str, object], context: Context, store: Store, set_id: str) -> Result:
    """Compare the restored database with its set, measure, and write the ledger. Raises drill_failed."""
    system, restored = str(params["system"]), str(params["restored"])
    manifest, contents = sets.load(store, set_id, system)
    with _held(params, context.check_mode) as place:
        if database_oid(place.session, restored) is None:
            raise OpsError(
                "unknown_database", f"There is no database {restored!r}.", "Check the name; it is case-sensitive."
            )
        record = _record(store, system, manifest.database, place, restored)
        if params.get("remove_restored") and record is None:
            raise OpsError(
                "not_a_scratch_database",
                f"No record says that {restored!r} was restored by this collection and never went live.",
                "Nothing was changed. Restore with the verb restore_drill, or leave remove_restored out.",
            )
        actions = [Action("compare", restored, f"with set {manifest.set_id}, by pg_dump and pg_restore")]
        if params.get("remove_restored"):
            actions.append(Action("drop", restored, "the scratch database of the drill"))
        plan = Plan("restore_drill", tuple(actions))
        if context.check_mode:
            return Result(plan=plan, changed=True, message="Check mode: nothing was compared.")
        context.authorise(plan)
        staging = str(params.get("staging") or STAGING).rstrip("/")
        trial = Trial(place, store, system, manifest, contents, restored, staging)
        return _try(params, context, trial, record, plan)


def _try(params: dict[str, object], context: Context, trial: Trial, record: Restoration | None, plan: Plan) -> Result:
    started = float(str(params.get("started") or 0)) or context.now
    if record is not None:
        record = restorations.save(trial.store, replace(record, reason=DRILL))
    checks = _checks(trial, cast("list[dict[str, object]]", params.get("checks") or []))
    healthy_at = time.time()
    live, restored = _markers(trial, str(params.get("marker") or ""))
    differences, script = _differences(trial)
    missing, found = _globals(trial, record, script)
    differences += missing
    for note in found.notes:
        context.warn(f"Not held against the set: {note}.")
    rto, rpo = params.get("rto"), params.get("rpo")
    verdict = decide_drill(
        differences,
        checks,
        started,
        healthy_at,
        live,
        restored,
        float(parse_duration(str(rto), "rto")) if rto else None,
        float(parse_duration(str(rpo), "rpo")) if rpo else None,
    )
    entry = _ledger(trial, context.now, verdict, differences, found)
    if verdict.outcome != "passed":
        raise OpsError(
            "drill_failed",
            f"The drill of set {trial.manifest.set_id} failed: {'; '.join(verdict.reasons[:5])}"
            + (f" and {len(verdict.reasons) - 5} more." if len(verdict.reasons) > 5 else "."),
            f"Database {trial.restored!r} is kept to be looked at; the ledger has the whole list ({entry}).",
            {"differences": [item.as_dict() for item in differences[:100]], "reasons": list(verdict.reasons[:100])},
        )
    if params.get("remove_restored") and record is not None:
        _remove(trial.store, record, trial.place.session, context.now)
    lost = "not measured" if verdict.rpo is None else f"{verdict.rpo:.1f} s"
    server = trial.place.as_json()
    where = f" on the scratch server {server['host']}:{server['port']}" if trial.place.scratch else ""
    return Result(
        plan=plan,
        changed=True,
        message=f"Drill passed: set {trial.manifest.set_id} restores whole in {human_duration(verdict.rto)} (RTO)"
        f"{where}; commits missing (RPO): {lost}; {len(checks)} assertions hold.",
        evidence={
            "drill": {
                "outcome": "passed",
                "rto": round(verdict.rto, 3),
                "rpo": verdict.rpo,
                "ledger": entry,
                "server": server,
            }
        },
    )


def _ledger(trial: Trial, now: float, verdict: Verdict, differences: Sequence[Difference], found: Globals) -> str:
    """Write the drill into the ledger, and on success the proof beside the set; returns the ledger's key."""
    identifier = os.urandom(4).hex()
    key = f"drills/{iso(now).replace(':', '').replace('-', '')}-{identifier}.json"
    body: dict[str, Json] = {
        "system": trial.system,
        "set": trial.manifest.set_id,
        "database": trial.manifest.database,
        "at": iso(now),
        "outcome": verdict.outcome,
        "rto": verdict.rto,
        "rpo": verdict.rpo,
        "server": trial.place.as_json(),
        "globals": {"compared": found.compared, "made": list(found.made), "notes": list(found.notes)},
        "reasons": list(verdict.reasons),
        "differences": [cast("dict[str, Json]", item.as_dict()) for item in differences],
    }
    sets.write_json(trial.store, key, body, if_absent=True)
    if verdict.outcome == "passed":
        proof: dict[str, Json] = {"level": "restored", "at": iso(now), "drill": key}
        sets.write_json(trial.store, f"{sets.folder(trial.manifest.set_id)}proof-{identifier}.json", proof)
    return key


def discard(params: dict[str, object], context: Context, store: Store) -> Result:
    """Drop the scratch database that an earlier drill left: one that failed, or one that was killed."""
    restored = str(params["restored"])
    with _held(params, context.check_mode) as place:
        record = _record(store, str(params["system"]), str(params["database"]), place, restored)
        if record is None:
            return Result(plan=Plan("restore_drill", ()), message="There is no scratch database to drop.")
        plan = Plan("restore_drill", (Action("drop", restored, "an earlier drill left it"),))
        if context.check_mode:
            return Result(plan=plan, changed=True, message=f"Check mode: {restored} was not dropped.")
        context.authorise(plan)
        _remove(store, record, place.session, context.now)
        return Result(plan=plan, changed=True, message=f"Dropped {restored}, which an earlier drill had left.")
