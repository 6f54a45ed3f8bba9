# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a set beside the live database: read, decide, build under a name of its own, prove, give it its name."""

from __future__ import annotations

import time
from dataclasses import replace
from shlex import quote
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Contents, Json, Manifest
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import database_from_json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration, fitted
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import (
    ServerState,
    Wish,
    decide_restore,
    estimated_bytes,
    missing_roles,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard import guarded
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore_build import build, last_backup
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore_job import RestoreJob
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import collation_version_now
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    default_jobs,
    default_load_jobs,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rights import restore_lacks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store

# a folder of mode 0700 is made below it
STAGING = "/var/tmp"  # noqa: S108


def _server_state(job: RestoreJob, needs: dict[str, int]) -> ServerState:
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
        lacks=restore_lacks(
            session,
            cast("list[str]", job.contents.properties.get("owners") or []),
            list(cast("dict[str, Json]", job.contents.properties.get("extensions") or {})),
            own,
            whole=not job.parts,
        ),
    )


def _wish(job: RestoreJob, params: dict[str, object], target_name: str) -> Wish:
    live = look.database_oid(job.session, job.database)
    problem: OpsError | None = None
    if live is not None and job.in_place:
        try:
            last_backup(job, live)
        except OpsError as error:
            problem = error
    installed = cast("dict[str, Json]", job.contents.properties.get("extensions") or {})
    size = job.session.value(render("SELECT pg_database_size({oid}::oid)", oid=live)) if live is not None else None
    return Wish(
        database=job.database,
        target=target_name,
        schemas=job.schemas,
        create_roles=params.get("on_missing_roles") == "create",
        staging=job.staging,
        staging_on_pgdata=look.staging_on_pgdata(job.target, job.session, job.staging),
        in_place=job.in_place,
        last_backup_problem=problem,
        live_bytes=None if size is None else int(str(size)),
        blockers=tuple(look.read_blockers(job.session, job.database, installed)) if live is not None else (),
        acknowledged=job.acknowledged,
        hint=f"ansible-playbook saasops.runbook.restore -e set={job.manifest.set_id}",
    )


def _already(records: list[Restoration], job: RestoreJob, target_name: str, named: bool) -> Restoration | None:
    """A restore of the same set that stands verified under the same name, or (target not named) is live already."""
    for record in reversed(records):
        if record.set != job.manifest.set_id or record.schemas != job.schemas:
            continue
        beside = record.state == "verified" and record.target == target_name
        live = record.state == "switched" and not named
        if (beside or live) and look.database_oid(
            job.session, target_name if beside else job.database
        ) == record.target_oid:
            return record
    return None


def _evidence(job: RestoreJob, record: Restoration, seconds: float) -> dict[str, object]:
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
    target = (
        "" if record.target == _default_target(record.database, record.set) else f" -e target={quote(record.target)}"
    )
    return f"ansible-playbook saasops.runbook.restore -e set={record.set}{target} -e switch=true"


def _default_target(database: str, set_id: str) -> str:
    return fitted(database, f"_restore_{set_id[-8:]}")


def _sentence(job: RestoreJob, record: Restoration) -> str:
    what = f"Set {record.set} of {record.database}"
    if record.state == "switched":
        return f"{what} is live since {record.switched_at}; name another target to restore it once more."
    done = f"{what} stands verified as {record.target}: {job.manifest.tables} tables, {job.manifest.rows:,} rows."
    if record.partial:
        return f"{done} To drop it: ansible-playbook saasops.runbook.restore_finish -e restore={record.id}"
    return f"{done} To switch: {switch_command(record)}"


def _load_set(params: dict[str, object], job_store: Store, system: str, database: str) -> tuple[Manifest, Contents]:
    """The set that is asked for. Raises OpsError set_of_another_database, and what store.sets raises."""
    set_id = str(params["set"])
    if set_id == "latest":
        set_id = sets.newest(job_store, system, database)
    manifest, contents = sets.load(job_store, set_id, system)
    if manifest.database != database:
        raise OpsError(
            "set_of_another_database",
            f"Set {set_id} was taken from database {manifest.database!r}, not from {database!r}.",
            f"Choose another set, or name the database (-e database={manifest.database}).",
        )
    return manifest, contents


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_restore."""
    began = time.monotonic()
    system, database = str(params["system"]), str(params["database"])
    with guarded(params, context) as guard:
        manifest, contents = _load_set(params, guard.store, system, database)
        in_place, jobs = bool(params.get("in_place")), int(str(params.get("jobs") or 0))
        job = RestoreJob(
            system=system,
            database=database,
            target=guard.target,
            store=guard.store,
            session=guard.session,
            context=context,
            manifest=manifest,
            contents=contents,
            schemas=tuple(sorted({str(name) for name in cast("list[str]", params.get("schemas") or [])})),
            jobs=jobs or default_jobs(),
            load_jobs=jobs or default_load_jobs(),
            staging=str(params.get("staging") or STAGING).rstrip("/"),
            acknowledged=tuple(cast("list[str]", params.get("acknowledge") or [])),
            in_place=in_place,
        )
        named = str(params.get("target") or "")
        target_name = database if in_place else named or _default_target(database, manifest.set_id)
        present = _already(guard.records, job, target_name, bool(named))
        if present is not None:
            evidence: dict[str, object] = {"restore": _evidence(job, present, 0.0), "cleaned": guard.cleaned}
            if present.state == "verified" and not present.partial:
                evidence["switch_command"] = switch_command(present)
            return Result(Plan("restore", ()), bool(guard.concluded), _sentence(job, present), evidence)
        guard.target.tool("pg_restore", guard.session.version)
        needs = {"data": estimated_bytes(manifest, contents.properties), "wal": 0, "staging": manifest.raw_bytes}
        state = _server_state(job, needs)
        plan = decide_restore(manifest, contents.properties, state, _wish(job, params, target_name))
        plan = replace(plan, warnings=(*plan.warnings, *guard.warnings, *_standing(guard.records, job)))
        if context.check_mode:
            done = f"Would restore set {manifest.set_id} as {target_name}."
            return Result(plan, True, done, {"cleaned": guard.cleaned})
        context.authorise(plan)
        roles = missing_roles(contents.properties, state.roles)
        record, said = build(job, target_name, roles, state.system_identifier)
        if not record.partial:
            proof: dict[str, Json] = {"level": "restored", "at": record.verified_at, "restore": record.id}
            sets.write_json(guard.store, f"{sets.folder(manifest.set_id)}proof-{record.id}.json", proof)
    for line in said:
        context.warn(f"pg_restore: {line}")
    evidence = {"restore": _evidence(job, record, time.monotonic() - began), "cleaned": guard.cleaned}
    if record.state == "verified" and not record.partial:
        evidence["switch_command"] = switch_command(record)
    return Result(plan, True, _sentence(job, record), evidence)


def _standing(records: list[Restoration], job: RestoreJob) -> list[str]:
    """Copies of earlier restores that nobody switched or dropped."""
    return [
        f"{r.target} (set {r.set}) stands beside the live database since {r.verified_at}; "
        f"restore_finish -e restore={r.id} drops it."
        for r in records
        if r.state == "verified" and look.database_oid(job.session, r.target) == r.target_oid
    ]
