# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the database of a restore: fetch, fill, prove, and only then give it its name."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import compare, narrowed
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Json,
    Manifest,
    Member,
    StoredObject,
    iso,
    new_set_id,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    compare_properties,
    database_from_json,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, parse
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import key as record_key
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import estimated_bytes
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import aside_name, written_since
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import conclude_building, named
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters, take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_properties, set_right
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    connected,
    create_database,
    lend_create,
    prepare_schemas,
    run_pg_restore,
    settle_schemas,
    table_sizes,
    vacuum,
    vacuum_in_budget,
    write_member,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import Rename, exchange, rows_written
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save

# tables up to this many bytes in all are vacuumed before the switch, the others after it
VACUUM_BUDGET = 64 * 1024 * 1024
# a tenth of the usual sample: good enough for plans until the large tables are vacuumed and analyzed in full
ROUGH_STATISTICS = 10


@dataclass(frozen=True)
class RestoreJob:
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
    in_place: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """The schemas that are restored; () for a whole database."""
        return self.schemas or self.manifest.schemas


def _fetch(job: RestoreJob, record: Restoration) -> str:
    """Bring the dump into the staging folder, whole and proven; returns the path for pg_restore."""
    transport, report = job.target.transport, Ticker(job.context)
    transport.make_folder(record.staging)
    if job.manifest.pipeline == "directory":
        transport.make_folder(f"{record.staging}/dump")
    total, done = job.manifest.stored_bytes, 0

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        if member.name.startswith("dump"):
            write_member(transport, record.staging, member, chunks)

    def finished(stored: StoredObject) -> None:
        nonlocal done
        done += stored.length
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


def _load(job: RestoreJob, record: Restoration, dump: str) -> list[str]:
    """Fill the new database; returns pg_restore's warnings."""
    properties, report = job.contents.properties, Ticker(job.context)
    if job.parts:
        with connected(job.target, record.building, 1) as (session,):
            prepare_schemas(
                session,
                properties,
                job.parts,
                keep_versions="extension_version" not in job.acknowledged,
            )
    started, total = time.monotonic(), estimated_bytes(job.manifest, properties)
    owners = [str(name) for name in cast("list[str]", properties.get("owners") or []) if not name.startswith("pg_")]
    # an ordinary role that gives objects away does it in two steps
    in_steps = not job.parts and len(owners) > 1 and not look.rights(job.session)[0]

    def tick() -> None:
        size = int(str(job.session.value(render("SELECT pg_database_size({oid}::oid)", oid=record.target_oid))))
        seconds = time.monotonic() - started
        report(f"restoring: {size:,} of about {total:,} bytes, {size / 1e6 / max(seconds, 0.1):.0f} MB/s")

    def fill(entries: str) -> list[str]:
        return run_pg_restore(
            job.target,
            record.building,
            job.session.version,
            dump,
            jobs=job.jobs,
            schemas=job.parts,
            no_tablespaces="missing_tablespaces" in job.acknowledged,
            entries=entries,
            tick=tick,
        )

    try:
        if not in_steps:
            return fill("all")
        said = fill("schemas")
        with connected(job.target, record.building, 1) as (session,):
            lend_create(session, owners)
            said += fill("others")
            settle_schemas(session, properties)
        return said
    except OpsError as error:
        if job.parts and "does not exist" in error.cause:
            raise OpsError(
                "schema_dependency",
                f"Objects in {', '.join(job.parts)} refer to something outside of these schemas: {error.cause}",
                "Name the schemas that they refer to as well.",
            ) from error
        raise


def _tidy(job: RestoreJob, record: Restoration) -> tuple[str, ...]:
    """Vacuum and analyze what is small, analyze the rest roughly; returns the tables left for after a switch."""
    report = Ticker(job.context)
    with connected(job.target, record.building, job.jobs) as sessions:
        for session in sessions:
            # a crash throws the database away, and the commit of the switch makes all before it durable
            session.run("SET synchronous_commit = off")
        now, left = vacuum_in_budget(table_sizes(sessions[0]), VACUUM_BUDGET)
        vacuum(sessions, now, "VACUUM (FREEZE, ANALYZE)", lambda n, of: report(f"vacuuming: table {n} of {of}"))
        for session in sessions:
            session.run(f"SET default_statistics_target = {ROUGH_STATISTICS}")
        vacuum(sessions, left, "ANALYZE", lambda n, of: report(f"analyzing: large table {n} of {of}"))
    return tuple(left)


def _expected_properties(job: RestoreJob) -> dict[str, Json]:
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


def _verify(job: RestoreJob, record: Restoration) -> dict[str, Json]:
    """Hold rows and catalog against the set. Raises restore_differs with every difference."""
    report = Ticker(job.context)
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
            + "; ".join(item.text for item in differences[:5])
            + ".",
            "It was dropped again. Restore another set; if all sets differ, compare the server with the source.",
            {"differences": [item.as_dict() for item in differences[:200]], "count": len(differences)},
        )
    return actual


def _build(job: RestoreJob, record: Restoration, roles: list[str]) -> tuple[Restoration, list[str]]:
    """Everything from the first write to the verified database under its name."""
    session, own = job.session, database_from_json(cast("dict[str, Json]", job.contents.properties["database"]))
    for role in roles:
        session.run(f"CREATE ROLE {ident(role)} NOLOGIN")
    if roles and not look.rights(session)[0]:
        # an ordinary role gives objects only to roles that it is a member of
        session.run(f"GRANT {', '.join(map(ident, roles))} TO CURRENT_USER")
    job.context.progress(f"fetching {job.manifest.set_id}: {job.manifest.stored_bytes:,} bytes")
    dump = _fetch(job, record)
    if job.in_place:
        record = _make_room(job, record)
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
    record = save(job.store, replace(record, verified_at=iso(time.time()), vacuum_left=left))
    confirm(session, job.system, job.database)
    job.context.admission.confirm()
    session.run(f"ALTER DATABASE {ident(record.building)} RENAME TO {ident(record.target)}")
    return save(job.store, named(record)), warnings


def _make_room(job: RestoreJob, record: Restoration) -> Restoration:
    """Drop the live database for a restore in place: renamed first, and only if nothing was written meanwhile."""
    session = job.session
    live_oid = look.database_oid(session, job.database)
    if live_oid is None:
        return record
    base = rows_written(session, live_oid)
    last_backup(job, live_oid)
    stamp = datetime.fromtimestamp(job.context.now, timezone.utc).strftime("%Y%m%dt%H%M%Sz")
    aside = aside_name(job.database, "before", stamp)
    record = save(job.store, replace(record, aside=aside, aside_oid=live_oid))
    confirm(session, job.system, job.database)
    job.context.admission.confirm()

    def unwritten(mover: Session) -> None:
        if rows_written(mover, live_oid) != base:
            raise OpsError(
                "writes_since_backup",
                f"Rows were written to {job.database!r} after its last backup.",
                "Stop the application, take a last backup (verb backup), and run the verb again.",
            )

    exchange(job.target, [Rename(live_oid, job.database, aside)], before_commit=unwritten)
    job.context.progress(f"dropping {job.database} to make room")
    session.run(f"DROP DATABASE {ident(aside)}")
    return record


def last_backup(job: RestoreJob, live_oid: int) -> str:
    """The id of a complete set of the live database after which nothing was written to it.

    Raises OpsError no_last_backup, writes_since_backup.
    """
    set_id = sets.newest(job.store, job.system, job.database)
    manifest, contents = sets.load(job.store, set_id, job.system)
    source = (str(manifest.server.get("system_identifier")), int(str(manifest.server.get("database_oid") or 0)))
    if source != (look.system_identifier(job.session), live_oid):
        raise OpsError(
            "no_last_backup",
            f"The newest set {set_id} was not taken from the database {job.database!r} as it is now.",
            "Take a last backup (verb backup) before the live database is dropped.",
        )
    with connected(job.target, job.database, 1) as (session,):
        lost = written_since(contents.fingerprint, counters(session))
    if lost is None or lost.rows:
        what = f"{lost.rows:,} rows were written" if lost else "It is unknown what was written"
        raise OpsError(
            "writes_since_backup",
            f"{what} to {job.database!r} since the newest set {set_id}.",
            "Stop the application, take a last backup (verb backup), and run the verb again.",
            {"losses": lost.as_json() if lost else {}},
        )
    return set_id


def build(job: RestoreJob, target_name: str, roles: list[str], server: str) -> tuple[Restoration, list[str]]:
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
            in_place=job.in_place,
        ),
        new=True,
    )
    try:
        return _build(job, record, roles)
    except BaseException as error:
        # the server or the store may be what failed; then the next run does it
        with contextlib.suppress(OpsError):
            reason = error.code if isinstance(error, OpsError) else type(error).__name__
            written = parse(sets.read_json(job.store, record_key(record.id)))
            after, said = conclude_building(job.session, job.target, written, reason)
            save(job.store, after)
            job.context.progress(said)
        raise
