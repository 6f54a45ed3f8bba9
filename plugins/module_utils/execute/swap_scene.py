# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a switch or an undo has to know: what would be lost, what is in the way, what must be handed on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import database_differences, handed_on
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import CATALOG, Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sequences import SequenceState, ahead
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import (
    Losses,
    Scene,
    counted_since,
    written_since,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.poolers import look_at
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters, take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import Pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_database
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import connected, default_jobs
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.written import written_after
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store


@dataclass(frozen=True)
class SwapJob:
    """All that one run works with. session is one of the maintenance database and holds the advisory lock."""

    system: str
    database: str
    target: Target
    store: Store
    session: Session
    server: str
    context: Context
    acknowledged_rows: int | None
    poolers: tuple[Pooler, ...] = ()

    @property
    def stamp(self) -> str:
        """The run's start, for the name of the database that steps aside."""
        return datetime.fromtimestamp(self.context.now, timezone.utc).strftime("%Y%m%dT%H%M%SZ").lower()


def _count_rows(job: SwapJob, database: str) -> dict[str, Json]:
    with connected(job.target, database, default_jobs()) as sessions:
        for session in sessions:
            plain_view(session)
        return take_fingerprint(sessions, relations(sessions[0], "rpm"), hashes=False)


def losses_since_backup(job: SwapJob, record: Restoration, live_oid: int | None, database: str) -> Losses:
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


def losses_since_switch(job: SwapJob, record: Restoration, live_oid: int | None) -> Losses:
    if live_oid is None or live_oid != record.target_oid:
        return Losses((), True)
    with connected(job.target, job.database, 1) as (session,):
        found = written_since(record.counters, counters(session)) if record.counters else None
        if found is not None:
            return found
        if record.reason == CATALOG:
            return written_after(session, job.session, live_oid, record.aside_oid)
    # the statistics were reset or lost in a crash: what differs from the set is the least that was written
    return losses_since_backup(job, record, live_oid, job.database)


def read_scene(
    job: SwapJob, record: Restoration, other_name: str, losses: Losses, other_sequences: dict[str, SequenceState] | None
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
    pools, pooler_errors = look_at(job.target, job.poolers, job.database)
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
        sequences=tuple(ahead(live_sequences, other_sequences)),
        pools=tuple(pools),
        pooler_errors=tuple(pooler_errors),
    )
