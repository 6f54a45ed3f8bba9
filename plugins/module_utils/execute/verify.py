# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_verify: read every byte of a set, and hold a restored database against it by PostgreSQL's own tools."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.drill import Check, Verdict, decide_drill
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference, Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Contents, Manifest, Member, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import DRILL, Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.script import compare_scripts
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore import STAGING
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_facts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import drop_database, write_member
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.script import archive_digest, database_digest
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store import restorations, sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs, verify_packs

# what says that the set itself is bad; a store that cannot be reached says nothing about it
DISPROVED = ("object_damaged", "object_missing", "set_incomplete", "manifest_damaged")


@dataclass(frozen=True)
class Trial:
    """A restored database that is held against its set."""

    target: Target
    store: Store
    system: str
    manifest: Manifest
    contents: Contents
    restored: str
    staging: str
    version: int


def _disprove(store: Store, set_id: str, error: OpsError, now: float) -> None:
    """Take earlier proofs back, so that no other set is deleted on the strength of this one."""
    body: dict[str, Json] = {"level": "failed", "at": iso(now), "code": error.code, "cause": error.cause}
    # a store that cannot be written to must not hide the finding itself
    with contextlib.suppress(OpsError):
        sets.write_json(store, f"{sets.folder(set_id)}proof-{os.urandom(4).hex()}.json", body)


def _verify_objects(store: Store, system: str, names: Sequence[str], context: Context) -> dict[str, object]:
    """Read whole sets; every failure is kept, so that one damaged set does not hide another."""
    damaged: dict[str, Json] = {}
    whole: list[Json] = []
    total = 0
    for name in names:
        try:
            manifest, contents = sets.load(store, name, system)
            verify_packs(
                store, sets.folder(name), contents.objects, open_codec(manifest.codec), workers=os.cpu_count() or 1
            )
        except OpsError as error:
            damaged[name] = {"code": error.code, "cause": error.cause}
            if error.code in DISPROVED and not context.check_mode:
                _disprove(store, name, error, context.now)
            continue
        total += manifest.stored_bytes
        whole.append(name)
        context.progress(f"{name} is whole, {len(whole)} of {len(names)}")
    if damaged:
        first = next(iter(damaged.items()))
        raise OpsError(
            "set_damaged",
            f"{len(damaged)} of {len(names)} sets cannot be restored from: "
            f"{first[0]}: {cast('dict[str, Json]', first[1])['cause']}",
            "Take another backup now, and look at the store's device; the damaged sets stay where they are.",
            {"damaged": damaged, "whole": whole},
        )
    return {"verified": whole, "bytes": total}


@contextlib.contextmanager
def _staged(trial: Trial) -> Iterator[str]:
    """A staging folder of our own, removed at the end; one that a killed drill left is removed first."""
    transport = trial.target.transport
    folder = f"{trial.staging}/{mark_of('drill', trial.system, trial.manifest.database)}"
    transport.remove_tree(folder)
    transport.make_folder(folder)
    try:
        yield folder
    finally:
        transport.remove_tree(folder)


def _fetch(trial: Trial, folder: str) -> str:
    """Bring the set's dump into folder, every byte compared with the manifest on the way; gives its path."""
    transport = trial.target.transport
    transport.make_folder(f"{folder}/dump")

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        if member.name.startswith("dump"):
            write_member(transport, folder, member, chunks)

    prefix = sets.folder(trial.manifest.set_id)
    read_packs(trial.store, prefix, trial.contents.objects, open_codec(trial.manifest.codec), sink)
    return f"{folder}/dump" if trial.manifest.pipeline == "directory" else f"{folder}/dump.custom"


def _differences(trial: Trial) -> list[Difference]:
    with _staged(trial) as folder:
        expected = archive_digest(trial.target, trial.version, _fetch(trial, folder))
    with _staged(trial) as folder:
        actual = database_digest(trial.target, trial.version, trial.restored, folder, trial.manifest.schemas)
    return compare_scripts(expected, actual)


def _checks(trial: Trial, wanted: Sequence[dict[str, object]]) -> list[Check]:
    session = trial.target.session(trial.restored)
    try:
        found = []
        for item in wanted:
            try:
                value = session.value(str(item["sql"]))
            except OpsError as error:
                value = error.cause
            found.append(Check(str(item["name"]), value))
        return found
    finally:
        session.close()


def _marker(target: Target, database: str, sql: str) -> float | None:
    """The moment of the newest marker row in POSIX seconds; sql gives one timestamptz."""
    session = target.session(database)
    try:
        value = session.value(f"SELECT extract(epoch FROM (SELECT m FROM ({sql}\n) AS marker(m)))::float8 AS at")
    finally:
        session.close()
    return None if value is None else float(str(value))


def _record_of(trial: Trial, server: str) -> Restoration | None:
    """The record that says that this database was restored by us and never went live."""
    for record in reversed(restorations.read_restorations(trial.store, trial.system, trial.manifest.database, server)):
        if record.target == trial.restored and record.state == "verified":
            return record
    return None


@contextlib.contextmanager
def _held(target: Target, system: str, database: str, check_mode: bool) -> Iterator[Session]:
    """A session of the maintenance database that holds the lock; what a dead drill left running is ended."""
    # under a mark of its own: whoever else carries the verb's mark while we hold the lock is a leftover
    session = target.named(mark_of("drill-guard", system, database)).session()
    try:
        if not check_mode:
            hold(session, system, database)
            end_leftovers(target, session, mark_of("drill", system, database), [])
        yield session
    finally:
        session.close()


def _remove(trial: Trial, record: Restoration, session: Session, now: float) -> None:
    drop_database(session, trial.restored)
    restorations.save(trial.store, replace(record, state="finished", finished_at=iso(now), reason=DRILL))


def _drill(params: dict[str, object], context: Context, trial: Trial, server: str, session: Session) -> Result:
    started = float(str(params.get("started") or 0)) or context.now
    record = _record_of(trial, server)
    if params.get("remove_restored") and record is None:
        raise OpsError(
            "not_a_scratch_database",
            f"No record says that {trial.restored!r} was restored by this collection and never went live.",
            "Nothing was changed. Restore with the verb restore_drill, or leave remove_restored out.",
        )
    actions = [Action("compare", trial.restored, f"with set {trial.manifest.set_id}, by pg_dump and pg_restore")]
    if params.get("remove_restored"):
        actions.append(Action("drop", trial.restored, "the scratch database of the drill"))
    plan = Plan("restore_drill", tuple(actions))
    if context.check_mode:
        return Result(plan=plan, changed=True, message="Check mode: nothing was compared.")
    if record is not None:
        record = restorations.save(trial.store, replace(record, reason=DRILL))
    checks = _checks(trial, cast("list[dict[str, object]]", params.get("checks") or []))
    healthy_at = time.time()
    marker = str(params.get("marker") or "")
    live = _marker(trial.target, trial.manifest.database, marker) if marker else None
    restored = _marker(trial.target, trial.restored, marker) if marker else None
    differences = _differences(trial)
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
    entry = _ledger(trial, context.now, verdict, differences)
    if verdict.outcome != "passed":
        raise OpsError(
            "drill_failed",
            f"The drill of set {trial.manifest.set_id} failed: {'; '.join(verdict.reasons[:5])}"
            + (f" and {len(verdict.reasons) - 5} more." if len(verdict.reasons) > 5 else "."),
            f"Database {trial.restored!r} is kept to be looked at; the ledger has the whole list ({entry}).",
            {"differences": [item.as_dict() for item in differences[:100]], "reasons": list(verdict.reasons[:100])},
        )
    if params.get("remove_restored") and record is not None:
        _remove(trial, record, session, context.now)
    lost = "not measured" if verdict.rpo is None else f"{verdict.rpo:.1f} s"
    return Result(
        plan=plan,
        changed=True,
        message=f"Drill passed: set {trial.manifest.set_id} restores whole in {human_duration(verdict.rto)} (RTO); "
        f"commits missing (RPO): {lost}; {len(checks)} assertions hold.",
        evidence={"drill": {"outcome": "passed", "rto": round(verdict.rto, 3), "rpo": verdict.rpo, "ledger": entry}},
    )


def _ledger(trial: Trial, now: float, verdict: Verdict, differences: Sequence[Difference]) -> str:
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
        "reasons": list(verdict.reasons),
        "differences": [cast("dict[str, Json]", item.as_dict()) for item in differences],
    }
    sets.write_json(trial.store, key, body, if_absent=True)
    if verdict.outcome == "passed":
        proof: dict[str, Json] = {"level": "restored", "at": iso(now), "drill": key}
        sets.write_json(trial.store, f"{sets.folder(trial.manifest.set_id)}proof-{identifier}.json", proof)
    return key


def _discard(params: dict[str, object], context: Context, store: Store, system: str, database: str) -> Result:
    """Drop the scratch database that an earlier drill left: one that failed, or one that was killed."""
    restored = str(params["restored"])
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("drill", system, database))
    with _held(target, system, database, context.check_mode) as session:
        here = session.value(render("SELECT count(*) FROM pg_database WHERE datname = {name}", name=restored))
        server = str(session.value("SELECT system_identifier::text FROM pg_control_system()"))
        records = restorations.read_restorations(store, system, database, server)
        record = next((r for r in reversed(records) if r.target == restored and r.state == "verified"), None)
        if not here or record is None:
            return Result(plan=Plan("restore_drill", ()), message="There is no scratch database to drop.")
        plan = Plan("restore_drill", (Action("drop", restored, "an earlier drill left it"),))
        if context.check_mode:
            return Result(plan=plan, changed=True, message=f"Check mode: {restored} was not dropped.")
        drop_database(session, restored)
        restorations.save(store, replace(record, state="finished", finished_at=iso(context.now), reason=DRILL))
        return Result(plan=plan, changed=True, message=f"Dropped {restored}, which an earlier drill had left.")


def execute(params: dict[str, object], context: Context) -> Result:
    """Verify sets (no restored database named), or a restored database against its set."""
    system, database, wanted = str(params["system"]), str(params["database"]), str(params["set"])
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    if params.get("discard"):
        return _discard(params, context, store, system, database)
    if wanted == "all":
        names = [
            entry.set_id
            for entry in sets.entries(store, system)
            # a damaged set may be of this database: its manifest can no longer tell
            if entry.state == "damaged" or (entry.manifest is not None and entry.manifest.database == database)
        ]
    else:
        names = [sets.newest(store, system, database) if wanted == "latest" else wanted]
    restored = str(params.get("restored") or "")
    if not restored:
        evidence = _verify_objects(store, system, names, context)
        return Result(message=f"{len(names)} sets are whole: every byte was read and compared.", evidence=evidence)
    manifest, contents = sets.load(store, names[0], system)
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("drill", system, database))
    session = target.session(restored)
    try:
        facts = read_facts(session)
    finally:
        session.close()
    trial = Trial(
        target=target,
        store=store,
        system=system,
        manifest=manifest,
        contents=contents,
        restored=restored,
        staging=str(params.get("staging") or STAGING).rstrip("/"),
        version=facts.version,
    )
    with _held(target, system, database, context.check_mode) as holder:
        return _drill(params, context, trial, facts.system_identifier, holder)
