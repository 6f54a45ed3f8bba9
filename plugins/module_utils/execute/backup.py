# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_backup: read, decide, lock, take one snapshot, make the sets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup import (
    Part,
    Previous,
    Situation,
    already_done,
    decide_backup,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Manifest, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.rights import NO_BACKUP_LACKS
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_set import Job, make_set
from ansible_collections.saasops.runbook.plugins.module_utils.execute.leftovers import remove_partial, sweep
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_facts, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rights import backup_lacks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import join, take_snapshot
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import (
    Relation,
    matching_schemas,
    missing_schemas,
    relations,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def _parts(session: Session, params: dict[str, object]) -> list[tuple[Part, list[Relation]]]:
    """The sets asked for, each with its relations. Raises unknown_schema when a name or a pattern finds nothing."""
    schemas = [str(name) for name in cast("list[str]", params.get("schemas") or [])]
    patterns = [str(name) for name in cast("list[str]", params.get("tenants") or [])]
    absent = missing_schemas(session, schemas)
    tenants = matching_schemas(session, patterns) if patterns else []
    if absent or (patterns and not tenants):
        names = ", ".join(repr(name) for name in absent or patterns)
        raise OpsError(
            "unknown_schema",
            f"No schema matches {names}.",
            "Check the name; it is case-sensitive.",
            {"schemas": absent},
        )
    everything = relations(session, "rpm", schemas or tenants)

    def part(kind: str, names: Sequence[str], tenant: str | None) -> tuple[Part, list[Relation]]:
        found = [item for item in everything if not names or item.schema in names]
        return Part(kind, tuple(names), tenant, len(found), sum(item.bytes for item in found)), found

    if tenants:
        return [part("tenant", [name], name) for name in tenants]
    return [part("schemas" if schemas else "database", schemas, None)]


def _previous(store: Store, system: str, database: str, part: Part, now: float) -> list[Previous]:
    found = []
    for entry in sets.entries(store, system):
        manifest = entry.manifest
        # a set that was kept to go back to shows what somebody wanted to be rid of: it makes no backup needless
        if entry.state != "complete" or manifest is None or manifest.database != database or manifest.undo:
            continue
        if (manifest.kind, manifest.schemas, manifest.tenant) == (part.kind, part.schemas, part.tenant):
            found.append(Previous(entry.set_id, now - manifest.snapshot_at, manifest.key))
    return found


def _situation(job: Job, staging: str, due: Sequence[tuple[Part, list[Relation]]] = ()) -> Situation:
    transport, facts = job.target.transport, job.facts
    on_pgdata: bool | None = None
    if staging and facts.data_directory:
        with contextlib.suppress(OSError):
            on_pgdata = transport.same_volume(staging, facts.data_directory)
    return Situation(
        database=job.database,
        database_bytes=facts.bytes,
        user_mappings=facts.user_mappings,
        subscriptions=facts.subscriptions,
        staging=staging,
        staging_free=transport.free_bytes(staging) if staging else None,
        staging_on_pgdata=on_pgdata,
        store_url=job.store.url,
        store_free=job.store.free_bytes(),
        globals_readable=True,
        lacks=backup_lacks(
            job.reader,
            [item for _part, found in due for item in found],
            sorted({name for part, _found in due for name in part.schemas}),
        )
        if due
        else NO_BACKUP_LACKS,
    )


def _evidence(manifest: Manifest) -> dict[str, Json]:
    return {
        "set": manifest.set_id,
        "kind": manifest.kind,
        "tenant": manifest.tenant,
        "snapshot_at": iso(manifest.snapshot_at),
        "seconds": round(manifest.finished - manifest.started, 3),
        "bytes": {"raw": manifest.raw_bytes, "stored": manifest.stored_bytes},
        "tables": manifest.tables,
        "rows": manifest.rows,
        "proof": dict(manifest.proof),
    }


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_backup."""
    system, database = str(params["system"]), str(params["database"])
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    max_age = params.get("max_age")
    # under a mark of its own: whoever else carries the verb's mark while we hold the lock is a leftover
    holder = anyone.named(mark_of("backup-guard", system, database))
    with contextlib.ExitStack() as stack:

        def connect(server: Target, name: str | None = None) -> Session:
            session = server.session(name)
            stack.callback(session.close)
            return session

        reader = connect(holder, database)
        with contextlib.closing(holder.session(database)) as other:
            refuse_pooler(reader, other)
        facts = read_facts(reader)
        target = anyone.named(mark_of("backup", system, database, facts.server))
        target.tool("pg_dump", facts.version)
        job = Job(
            system=system,
            database=database,
            target=target,
            store=store,
            staging=str(params.get("staging") or "").rstrip("/"),
            jobs=int(str(params.get("jobs") or 0)) or min(4, os.cpu_count() or 1),
            hashes=params.get("fingerprint") == "hashes",
            codec=open_codec(str(params.get("codec") or "zstd"), int(str(params.get("level") or 2))),
            key=str(params.get("key") or ""),
            context=context,
            facts=facts,
            reader=reader,
        )
        parts = _parts(reader, params)
        due = []
        present = []
        for part, found in parts:
            previous = _previous(store, system, database, part, context.now)
            done = already_done(previous, job.key, parse_duration(str(max_age), "max_age") if max_age else None)
            if done:
                present.append(done)
            else:
                due.append((part, found))
        if not due:
            return Result(
                plan=decide_backup(_situation(job, job.staging), [], "", True),
                message=f"Nothing to do: {', '.join(present)} is recent enough or has the same key.",
                evidence={"sets": [], "present": present},
            )
        plan = decide_backup(
            _situation(job, job.staging, due),
            [part for part, _found in due],
            str(params.get("fingerprint") or "counts"),
            bool(params.get("accept_secrets")),
        )
        if context.check_mode:
            return Result(plan=plan, changed=True, message="Check mode: nothing was dumped.", evidence={"sets": []})
        context.authorise(plan)
        hold(connect(holder), system, database)
        cleaned = end_leftovers(target, reader, target.connection.application_name, [reader.pid])
        cleaned += [
            f"partial set {name} removed"
            for name in remove_partial(store, system, database, facts.server, context.warn)
        ]
        cleaned += [f"unfinished object {name} removed" for name in sweep(store, context.now, context.warn)]
        before = counters(reader)
        schemas = sorted({name for part, _found in due for name in part.schemas})
        snapshot = take_snapshot(connect(target, database), reader, schemas)
        stack.callback(snapshot.release)
        workers = [connect(target, database) for _number in range(job.jobs)]
        for worker in workers:
            join(worker, snapshot)
        made = []
        for part, _found in due:
            mine = [item for item in snapshot.relations if not part.schemas or item.schema in part.schemas]
            made.append(make_set(job, part, mine, snapshot, workers, before))
    return Result(
        plan=plan,
        changed=True,
        message=f"{len(made)} set{'s' if len(made) != 1 else ''} written and proven: "
        + ", ".join(item.set_id for item in made),
        evidence={"sets": [_evidence(item) for item in made], "present": present, "cleaned": cleaned},
    )
