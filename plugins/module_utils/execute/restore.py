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
    )


def _wish(job: RestoreJob, params: dict[str, object], target_name: str) -> Wish:
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


def _already(records: list[Restoration], job: RestoreJob, target_name: str, named: bool) -> Restoration | None:
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
    return f"ansible-playbook saasops.runbook.restore -e set={record.set} -e switch=true"


def _sentence(job: RestoreJob, record: Restoration) -> str:
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
        job = RestoreJob(
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
