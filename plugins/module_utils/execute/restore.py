# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a set beside the live database: read, decide, build under a name of its own, prove, give it its name."""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import compare, narrowed
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Json,
    Manifest,
    Member,
    iso,
    new_set_id,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    compare_properties,
    database_from_json,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, fitted
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import (
    ServerState,
    Wish,
    decide_restore,
    estimated_bytes,
    missing_roles,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import discard, reconcile
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm, hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import (
    collation_version_now,
    read_properties,
    set_right,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    connected,
    create_database,
    default_jobs,
    prepare_schemas,
    run_pg_restore,
    table_sizes,
    vacuum,
    vacuum_in_budget,
    write_member,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import read_restorations, save

STAGING = "/var/tmp"
# tables up to this many bytes in all are vacuumed before the switch, the others after it
VACUUM_BUDGET = 512 * 1024 * 1024


@dataclass(frozen=True)
class Job:
    """All that one restore works with. session is one of the maintenance database and holds the advisory lock."""

    system: str
    database: str
    target: Target
    store: Store
    session: Session
    context: Context
    manifest: Manifest
    contents: Contents
    schemas: tuple[str, ...]
    jobs: int
    staging: str
    acknowledged: tuple[str, ...]

    @property
    def whole_dump(self) -> bool:
        """Whether the dump creates its schemas itself: everything in it is restored."""
        return not self.schemas or (self.manifest.kind != "database" and set(self.schemas) == set(self.manifest.schemas))

    @property
    def parts(self) -> tuple[str, ...]:
        """The schemas that are restored; () for a whole database."""
        return self.schemas or self.manifest.schemas


class _Progress:
    """One line every few seconds, whoever reports."""

    def __init__(self, context: Context, every: float = 3.0) -> None:
        self._context, self._every, self._last = context, every, time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._context.progress(text)


def _server_state(job: Job, needs: dict[str, int]) -> ServerState:
    session = job.session
    superuser, may_create = look.rights(session)
    own = database_from_json(cast("dict[str, Json]", job.contents.properties["database"]))
    limit, kept = look.wal_facts(session)
    # WAL is recycled at checkpoints unless somebody still needs it
    needs["wal"] = needs["data"] if kept else min(needs["data"], 2 * limit)
    return ServerState(
        version=session.version,
        system_identifier=look.system_identifier(session),
        superuser=superuser,
        may_create=may_create,
        in_recovery=bool(session.value("SELECT pg_is_in_recovery()")),
        databases=look.names(session, "SELECT datname::text FROM pg_database"),
        roles=look.names(session, "SELECT rolname::text FROM pg_roles"),
        tablespaces=look.names(session, "SELECT spcname::text FROM pg_tablespace"),
        extensions=look.available_extensions(session),
        collation_version=collation_version_now(session, own),
        volumes=look.read_volumes(job.target, session, job.staging, needs),
        standbys=look.standbys(session),
        wal_kept_for_slots=kept,
    )


def _wish(job: Job, params: dict[str, object], target_name: str) -> Wish:
    live = look.database_oid(job.session, job.database)
    installed = cast("dict[str, Json]", job.contents.properties.get("extensions") or {})
    size = job.session.value(render("SELECT pg_database_size({oid}::oid)", oid=live)) if live is not None else None
    return Wish(
        database=job.database,
        target=target_name,
        schemas=job.schemas,
        create_roles=params.get("on_missing_roles") == "create",
        staging=job.staging,
        staging_on_pgdata=look.staging_on_pgdata(job.target, job.session, job.staging),
        in_place=bool(params.get("in_place")),
        live_bytes=None if size is None else int(str(size)),
        blockers=tuple(look.read_blockers(job.session, job.database, installed)) if live is not None else (),
        acknowledged=job.acknowledged,
        hint=f"ansible-playbook saasops.runbook.restore -e set={job.manifest.set_id}",
    )


def _already(records: list[Restoration], job: Job, target_name: str, named: bool) -> Restoration | None:
    """A restore of the same set that stands verified under the same name, or (target not named) is live already."""
    for record in reversed(records):
        if record.set != job.manifest.set_id or record.schemas != job.schemas:
            continue
        if record.state == "verified" and record.target == target_name:
            if look.database_oid(job.session, record.target) == record.target_oid:
                return record
        if record.state == "switched" and not named:
            if look.database_oid(job.session, record.database) == record.target_oid:
                return record
    return None


def _fetch(job: Job, record: Restoration) -> str:
    """Bring the dump into the staging folder, whole and proven; returns the path for pg_restore."""
    transport, report = job.target.transport, _Progress(job.context)
    transport.make_folder(record.staging)
    if job.manifest.pipeline == "directory":
        transport.make_folder(f"{record.staging}/dump")
    total, done = job.manifest.stored_bytes, 0

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        if member.name.startswith("dump"):
            write_member(transport, record.staging, member, chunks)

    def finished(stored: object) -> None:
        nonlocal done
        done += int(getattr(stored, "length", 0))
        report(f"fetching {job.manifest.set_id}: {done:,} of {total:,} bytes")

    read_packs(
        job.store,
        sets.folder(job.manifest.set_id),
        job.contents.objects,
        open_codec(job.manifest.codec),
        sink,
        workers=job.jobs,
        finished=finished,
    )
    return f"{record.staging}/{'dump' if job.manifest.pipeline == 'directory' else 'dump.custom'}"


def _load(job: Job, record: Restoration, dump: str) -> list[str]:
    """Fill the new database; returns pg_restore's warnings."""
    properties, report = job.contents.properties, _Progress(job.context)
    if job.parts:
        with connected(job.target, record.building, 1) as (session,):
            prepare_schemas(
                session,
                properties,
                job.parts,
                keep_versions="extension_version" not in job.acknowledged,
                whole_dump=job.whole_dump,
            )
    started, total = time.monotonic(), estimated_bytes(job.manifest, properties)

    def tick() -> None:
        size = int(str(job.session.value(render("SELECT pg_database_size({oid}::oid)", oid=record.target_oid))))
        seconds = time.monotonic() - started
        report(f"restoring: {size:,} of about {total:,} bytes, {size / 1e6 / max(seconds, 0.1):.0f} MB/s")

    return run_pg_restore(
        job.target,
        record.building,
        job.session.version,
        dump,
        jobs=job.jobs,
        schemas=() if job.whole_dump else job.parts,
        no_tablespaces="missing_tablespaces" in job.acknowledged,
        tick=tick,
    )


def _tidy(job: Job, record: Restoration) -> tuple[str, ...]:
    """Vacuum and analyze what is small, analyze the rest; returns the tables whose vacuum is left for after a switch."""
    report = _Progress(job.context)
    with connected(job.target, record.building, job.jobs) as sessions:
        now, left = vacuum_in_budget(table_sizes(sessions[0]), VACUUM_BUDGET)
        vacuum(sessions, now, "VACUUM (FREEZE, ANALYZE)", lambda n, of: report(f"vacuuming: table {n} of {of}"))
        vacuum(sessions, left, "ANALYZE", lambda n, of: report(f"analyzing: large table {n} of {of}"))
    return tuple(left)


def _expected_properties(job: Job) -> dict[str, Json]:
    """The set's properties, without what was given up by an acknowledgement."""
    expected = dict(job.contents.properties)
    if "missing_tablespaces" in job.acknowledged:
        own = dict(cast("dict[str, Json]", expected["database"]))
        own["tablespace"] = "pg_default"
        expected["database"] = own
    if "extension_version" in job.acknowledged:
        expected["server_major"] = expected.get("server_major")
        listed = cast("dict[str, dict[str, Json]]", expected.get("extensions") or {})
        expected["extensions"] = {name: {**facts, "version": None} for name, facts in listed.items()}
    return expected


def _verify(job: Job, record: Restoration) -> dict[str, Json]:
    """Hold rows and catalog against the set. Raises restore_differs with every difference."""
    report = _Progress(job.context)
    expected = dict(job.contents.fingerprint)
    if job.parts:
        expected = narrowed(expected, job.parts)
    hashed = any(cast("dict[str, Json]", t).get("hash") for t in cast("dict[str, Json]", expected["tables"]).values())
    with connected(job.target, record.building, job.jobs) as sessions:
        for session in sessions:
            plain_view(session)
        found = relations(sessions[0], "rpm", job.parts)
        actual = take_fingerprint(
            sessions,
            found,
            job.parts,
            hashes=hashed and expected.get("server_major") == job.session.version // 10000,
            progress=lambda done, total: report(f"comparing rows: {done:,} of {total:,} bytes"),
        )
        differences = compare(expected, actual)
        properties, wanted = read_properties(sessions[0], record.building), _expected_properties(job)
        if "extension_version" in job.acknowledged:
            listed = cast("dict[str, dict[str, Json]]", properties["extensions"])
            properties["extensions"] = {name: {**facts, "version": None} for name, facts in listed.items()}
        differences += compare_properties(wanted, properties, job.parts)
    if differences:
        raise OpsError(
            "restore_differs",
            f"The restored database differs from set {job.manifest.set_id} in {len(differences)} points: "
            + "; ".join(item.text for item in differences[:5]) + ".",
            "It was dropped again. Restore another set; if all sets differ, compare the server with the source.",
            {"differences": [item.as_dict() for item in differences[:200]], "count": len(differences)},
        )
    return actual


def _build(job: Job, record: Restoration, roles: list[str]) -> tuple[Restoration, list[str]]:
    """Everything from the first write to the verified database under its name."""
    session, own = job.session, database_from_json(cast("dict[str, Json]", job.contents.properties["database"]))
    for role in roles:
        session.run(f"CREATE ROLE {ident(role)} NOLOGIN")
    job.context.progress(f"fetching {job.manifest.set_id}: {job.manifest.stored_bytes:,} bytes")
    dump = _fetch(job, record)
    create_database(session, record.building, own, default_tablespace="missing_tablespaces" in job.acknowledged)
    oid = look.database_oid(session, record.building)
    record = save(job.store, replace(record, target_oid=oid or 0))
    job.context.progress(f"restoring into {record.target}")
    warnings = _load(job, record, dump)
    job.target.transport.remove_tree(record.staging)
    left = _tidy(job, record)
    if not job.parts:
        wanted = own
        if "missing_tablespaces" in job.acknowledged:
            wanted = replace(own, tablespace="pg_default")
        set_right(session, record.building, wanted)
    job.context.progress("comparing with the set")
    _verify(job, record)
    confirm(session, job.system, job.database)
    session.run(f"ALTER DATABASE {ident(record.building)} RENAME TO {ident(record.target)}")
    return save(job.store, replace(record, state="verified", verified_at=iso(time.time()), vacuum_left=left)), warnings


def _apply(job: Job, target_name: str, roles: list[str], server: str) -> tuple[Restoration, list[str]]:
    """Build, and on any error leave nothing but a record that says so."""
    identifier = new_set_id(job.context.now, os.urandom(4))
    record = save(
        job.store,
        Restoration(
            id=identifier,
            system=job.system,
            set=job.manifest.set_id,
            database=job.database,
            target=target_name,
            building=f"saasops_building_{identifier.replace('-', '_')}",
            server=server,
            state="building",
            started=iso(job.context.now),
            partial=bool(job.parts),
            schemas=job.schemas,
            staging=f"{job.staging}/saasops-restore-{identifier}",
            roles_created=tuple(roles),
            snapshot_at=iso(job.manifest.snapshot_at),
        ),
        new=True,
    )
    try:
        return _build(job, record, roles)
    except BaseException as error:
        # the server or the store may be what failed; then the next run does it
        with contextlib.suppress(OpsError):
            oid = look.database_oid(job.session, record.building)
            discard(job.session, job.target, replace(record, target_oid=oid or 0))
            reason = error.code if isinstance(error, OpsError) else type(error).__name__
            save(job.store, replace(record, state="failed", reason=reason, target_oid=oid or 0))
        raise


def _evidence(job: Job, record: Restoration, seconds: float) -> dict[str, object]:
    return {
        "id": record.id,
        "set": record.set,
        "database": record.database,
        "target": record.target,
        "state": record.state,
        "seconds": round(seconds, 3),
        "tables": job.manifest.tables,
        "rows": job.manifest.rows,
        "bytes": {"raw": job.manifest.raw_bytes, "stored": job.manifest.stored_bytes},
        "snapshot_at": record.snapshot_at,
    }


def switch_command(record: Restoration) -> str:
    """What the operator types to let a verified restore take the live one's place."""
    return f"ansible-playbook saasops.runbook.restore -e set={record.set} -e switch=true"


def _sentence(job: Job, record: Restoration) -> str:
    what = f"Set {record.set} of {record.database}"
    if record.state == "switched":
        return f"{what} is live since {record.switched_at}; name another target to restore it once more."
    done = f"{what} stands verified as {record.target}: {job.manifest.tables} tables, {job.manifest.rows:,} rows."
    return done if record.partial else f"{done} To switch: {switch_command(record)}"


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_restore."""
    began = time.monotonic()
    system, database = str(params["system"]), str(params["database"])
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("restore", system, database))
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    with contextlib.ExitStack() as stack:
        session, other = target.session(), target.session()
        stack.callback(session.close)
        stack.callback(other.close)
        refuse_pooler(session, other)
        other.close()
        warnings = _lock(session, system, database, context)
        server = look.system_identifier(session)
        records = read_restorations(store, system, database, server)
        records, cleaned = reconcile(session, target, store, records, context.now, check_mode=context.check_mode)
        for line in cleaned:
            context.progress(line)
        set_id = str(params["set"])
        if set_id == "latest":
            set_id = sets.newest(store, system, database)
        manifest, contents = sets.load(store, set_id, system)
        if manifest.database != database:
            raise OpsError(
                "set_of_another_database",
                f"Set {set_id} was taken from database {manifest.database!r}, not from {database!r}.",
                f"Choose another set, or name the database (-e database={manifest.database}).",
            )
        schemas = tuple(sorted({str(name) for name in cast("list[str]", params.get("schemas") or [])}))
        job = Job(
            system=system,
            database=database,
            target=target,
            store=store,
            session=session,
            context=context,
            manifest=manifest,
            contents=contents,
            schemas=schemas,
            jobs=int(str(params.get("jobs") or 0)) or default_jobs(),
            staging=str(params.get("staging") or STAGING).rstrip("/"),
            acknowledged=tuple(cast("list[str]", params.get("acknowledge") or [])),
        )
        named = str(params.get("target") or "")
        target_name = named or fitted(database, f"_restore_{set_id[-8:]}")
        present = _already(records, job, target_name, bool(named))
        if present is not None:
            evidence: dict[str, object] = {"restore": _evidence(job, present, 0.0), "cleaned": cleaned}
            if present.state == "verified" and not present.partial:
                evidence["switch_command"] = switch_command(present)
            return Result(Plan("restore", ()), False, _sentence(job, present), evidence)
        target.tool("pg_restore", session.version)
        needs = {"data": estimated_bytes(manifest, contents.properties), "wal": 0, "staging": manifest.raw_bytes}
        state = _server_state(job, needs)
        plan = decide_restore(manifest, contents.properties, state, _wish(job, params, target_name))
        plan = replace(plan, warnings=plan.warnings + tuple(warnings))
        if context.check_mode:
            return Result(plan, True, f"Would restore set {set_id} as {target_name}.", {"cleaned": cleaned})
        roles = missing_roles(contents.properties, state.roles)
        record, said = _apply(job, target_name, roles, server)
        proof: dict[str, Json] = {"level": "restored", "at": record.verified_at, "restore": record.id}
        if not record.partial:
            sets.write_json(store, f"{sets.folder(set_id)}proof-{record.id}.json", proof)
    for line in said:
        context.warn(f"pg_restore: {line}")
    evidence = {"restore": _evidence(job, record, time.monotonic() - began), "cleaned": cleaned}
    if not record.partial:
        evidence["switch_command"] = switch_command(record)
    return Result(plan, True, _sentence(job, record), evidence)


def _lock(session: Session, system: str, database: str, context: Context) -> list[str]:
    """Hold the database's lock; in check mode a held one is only reported."""
    try:
        hold(session, system, database, wait=0.0 if context.check_mode else 10.0)
    except OpsError as error:
        if not context.check_mode or error.code != "database_busy":
            raise
        return [error.cause]
    return []
