# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the database of a restore: fetch, fill, prove, and only then give it its name."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timezone
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import compare, narrowed
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Json,
    iso,
    new_set_id,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pace import pace
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    compare_properties,
    database_from_json,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, parse
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import key as record_key
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import aside_name, written_since
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tidying import decide_tidying
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import conclude_building, named
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore_job import RestoreJob
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore_load import Filling
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters, take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_properties, set_right
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    connected,
    create_database,
    restored_tables,
    vacuum,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import Rename, exchange, rows_written
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save

# a tenth of the usual sample: good enough for plans until the large tables are vacuumed and analyzed in full
ROUGH_STATISTICS = 10


def _tidy(job: RestoreJob, record: Restoration, frozen: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Vacuum and analyze what is small, analyze the rest roughly; returns the tables left for after a switch."""
    report = Ticker(job.context)
    with connected(job.target, record.building, job.load_jobs) as sessions:
        for session in sessions:
            # a crash throws the database away, and the commit of the switch makes all before it durable
            session.run("SET synchronous_commit = off")
        plan = decide_tidying(restored_tables(sessions[0]), frozen)
        vacuum(sessions, plan.vacuum, "VACUUM (FREEZE, ANALYZE)", lambda n, of: report(f"vacuuming: table {n} of {of}"))
        vacuum(sessions, plan.analyze, "ANALYZE", lambda n, of: report(f"analyzing: table {n} of {of}"))
        for session in sessions:
            session.run(f"SET default_statistics_target = {ROUGH_STATISTICS}")
        vacuum(sessions, plan.rough, "ANALYZE", lambda n, of: report(f"analyzing: large table {n} of {of}"))
    return plan.left


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
        began = time.monotonic()
        found = relations(sessions[0], "rpm", job.parts)
        actual = take_fingerprint(
            sessions,
            found,
            job.parts,
            hashes=hashed and expected.get("server_major") == job.session.version // 10000,
            progress=lambda done, total: report(f"comparing rows: {pace(done, total, time.monotonic() - began)}"),
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

    def make() -> Restoration:
        made = _make_room(job, record) if job.in_place else record
        create_database(session, made.building, own, default_tablespace="missing_tablespaces" in job.acknowledged)
        oid = look.database_oid(session, made.building)
        job.context.progress(f"restoring into {made.target}")
        return save(job.store, replace(made, target_oid=oid or 0))

    job.context.progress(f"fetching {job.manifest.set_id}: {job.manifest.stored_bytes:,} bytes")
    filling = Filling(job, record, make)
    warnings = filling.run()
    record = filling.record
    job.target.transport.remove_tree(record.staging)
    left = _tidy(job, record, filling.frozen)
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
