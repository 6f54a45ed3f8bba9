# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make backup sets: read, decide, dump under one snapshot, prove, and write the manifest last."""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json, narrowed, rows_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Manifest,
    StoredObject,
    iso,
    new_set_id,
    render_contents,
    render_manifest,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import dump
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import (
    DatabaseFacts,
    read_facts,
    refuse_pooler,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters, take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_properties
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import Snapshot, join, take_snapshot
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import (
    Relation,
    matching_schemas,
    missing_schemas,
    relations,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import (
    Source,
    memory_source,
    write_packs,
    write_stream,
)

BEGUN = "begun.json"


@dataclass(frozen=True)
class Job:
    """All that one run of the module works with."""

    system: str
    database: str
    target: Target
    store: Store
    staging: str
    jobs: int
    hashes: bool
    codec: str
    level: int
    key: str
    context: Context
    facts: DatabaseFacts


def _parts(session: Session, params: dict[str, object]) -> list[tuple[Part, list[Relation]]]:
    """The sets asked for, each with its relations. Raises unknown_schema when a name or a pattern finds nothing."""
    schemas = [str(name) for name in cast("list[str]", params.get("schemas") or [])]
    patterns = [str(name) for name in cast("list[str]", params.get("tenants") or [])]
    absent = missing_schemas(session, schemas)
    tenants = matching_schemas(session, patterns) if patterns else []
    if absent or (patterns and not tenants):
        names = ", ".join(repr(name) for name in absent or patterns)
        raise OpsError(
            "unknown_schema", f"No schema matches {names}.", "Check the name; it is case-sensitive.", {"schemas": absent}
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
        if entry.state != "complete" or manifest is None or manifest.database != database:
            continue
        if (manifest.kind, manifest.schemas, manifest.tenant) == (part.kind, part.schemas, part.tenant):
            found.append(Previous(entry.set_id, now - manifest.snapshot_at, manifest.key))
    return found


def _situation(job: Job, staging: str) -> Situation:
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
    )


def _remove_partial(store: Store, system: str, database: str) -> list[str]:
    """Delete what an interrupted run of this database left; the lock held says that none is running."""
    gone = []
    for entry in sets.entries(store, system):
        begun = sets.folder(entry.set_id) + BEGUN
        if entry.state != "partial" or begun not in entry.keys:
            continue
        with contextlib.suppress(OpsError):
            record = sets.read_json(store, begun)
            if record.get("system") == system and record.get("database") == database:
                # begun.json last, so that an interruption here is found again
                store.delete([key for key in entry.keys if key != begun])
                store.delete([begun])
                gone.append(entry.set_id)
    return gone


class _Progress:
    """One line every few seconds, whoever reports."""

    def __init__(self, context: Context, every: float = 3.0) -> None:
        self._context, self._every, self._last = context, every, time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._context.progress(text)


def _extras(job: Job, snapshot: Snapshot, part: Part, session: Session) -> list[Source]:
    """globals.sql, schema.sql and configuration.json as members of the set."""
    version = job.facts.version
    texts = {"schema.sql": dump.schema_text(job.target, job.database, version, snapshot.identifier, part.schemas)}
    with contextlib.suppress(OpsError):
        texts["globals.sql"] = dump.globals_text(job.target, version, passwords=False)
    texts["configuration.json"] = json.dumps(dump.configuration(session), indent=1, sort_keys=True).encode()
    return [memory_source(name, text) for name, text in texts.items()]


def _dump(job: Job, snapshot: Snapshot, part: Part, prefix: str, extras: list[Source]) -> list[StoredObject]:
    """Bring the dump and the small texts into the store; returns the objects, all proven by reading them back."""
    report = _Progress(job.context)
    if job.staging:
        folder = f"{job.staging}/{mark_of('backup', job.system, job.database)}"
        transport = job.target.transport
        transport.remove_tree(folder)
        transport.make_folder(folder)
        try:
            started = time.monotonic()
            dump.dump_to_folder(
                job.target,
                job.database,
                job.facts.version,
                snapshot.identifier,
                part.schemas,
                f"{folder}/dump",
                job.jobs,
                lambda: report(f"dumping {part.title}: {time.monotonic() - started:.0f} s"),
            )
            sources = [
                Source(fact, lambda path=f"{folder}/{fact.name}": transport.read_file(path))  # type: ignore[misc]
                for fact in transport.file_facts(folder)
            ]
            return write_packs(
                job.store,
                prefix,
                [*sources, *extras],
                job.codec,
                level=job.level,
                workers=job.jobs,
                progress=lambda done, total: report(f"storing {part.title}: {done:,} of {total:,} bytes"),
            )
        finally:
            transport.remove_tree(folder)
    small = write_packs(job.store, prefix, extras, job.codec, level=job.level, workers=1)
    with dump.dump_stream(job.target, job.database, job.facts.version, snapshot.identifier, part.schemas) as chunks:
        big = write_stream(
            job.store,
            prefix,
            "dump.custom",
            _counted(chunks, lambda done: report(f"streaming {part.title}: {done:,} bytes")),
            job.codec,
            level=job.level,
            workers=job.jobs,
        )
    return [*small, big]


def _counted(chunks: Iterator[bytes], tell: object) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        tell(done)  # type: ignore[operator]
        yield chunk


def _make_set(
    job: Job, part: Part, found: list[Relation], snapshot: Snapshot, sessions: Sequence[Session], before: dict[str, Json]
) -> Manifest:
    """One complete set. On any error nothing of it stays in the store, unless the store itself is gone."""
    set_id = new_set_id(job.context.now, os.urandom(4))
    prefix = sets.folder(set_id)
    begun: dict[str, Json] = {"system": job.system, "database": job.database, "started": iso(job.context.now)}
    sets.write_json(job.store, prefix + BEGUN, begun, if_absent=True)
    try:
        properties = read_properties(sessions[0], job.database)
        with ThreadPoolExecutor(max_workers=1) as side:
            counting = side.submit(take_fingerprint, sessions, found, part.schemas, hashes=job.hashes)
            extras = _extras(job, snapshot, part, snapshot.session)
            objects = _dump(job, snapshot, part, prefix, extras)
            fingerprint = counting.result()
        fingerprint.update(before)
        if part.schemas:
            fingerprint = narrowed(fingerprint, part.schemas)
        if not snapshot.still_holds():
            raise OpsError(
                "snapshot_lost",
                "The session that held the snapshot was ended during the backup.",
                "Find out who ended it (server log), then run the backup again.",
            )
        contents = render_contents(Contents(tuple(objects), fingerprint, properties))
        job.store.put(prefix + sets.CONTENTS, [contents])
        manifest = Manifest(
            system=job.system,
            set_id=set_id,
            kind=part.kind,
            database=job.database,
            schemas=part.schemas,
            tenant=part.tenant,
            started=job.context.now,
            snapshot_at=snapshot.taken_at,
            finished=time.time(),
            server=job.facts.as_dict(),
            tools={"pg_dump": job.facts.version // 10000},
            pipeline="directory" if job.staging else "stream",
            codec=job.codec,
            raw_bytes=sum(member.length for item in objects for member in item.members),
            stored_bytes=sum(item.length for item in objects) + len(contents),
            tables=len(found),
            rows=rows_of(fingerprint),
            contents_sha256=hashlib.sha256(contents).hexdigest(),
            globals={"passwords": "omitted", "included": any(m.name == "globals.sql" for o in objects for m in o.members)},
            proof={"level": "stored", "at": iso(time.time())},
            key=job.key,
        )
        job.store.put(prefix + sets.MANIFEST, [render_manifest(manifest)], if_absent=True)
    except BaseException:
        with contextlib.suppress(OpsError):
            keys = [info.key for info in job.store.list(prefix)]
            job.store.delete([key for key in keys if not key.endswith(BEGUN)])
            job.store.delete([prefix + BEGUN])
        raise
    return manifest


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
    target = Target.from_params(
        cast("dict[str, object]", params["connection"]), mark_of("backup", system, database)
    )
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    max_age = params.get("max_age")
    with contextlib.ExitStack() as stack:

        def connect(name: str | None = None) -> Session:
            session = target.session(name)
            stack.callback(session.close)
            return session

        exporter, reader = connect(database), connect(database)
        refuse_pooler(exporter, reader)
        facts = read_facts(reader)
        target.tool("pg_dump", facts.version)
        job = Job(
            system=system,
            database=database,
            target=target,
            store=store,
            staging=str(params.get("staging") or "").rstrip("/"),
            jobs=int(str(params.get("jobs") or 0)) or min(4, os.cpu_count() or 1),
            hashes=params.get("fingerprint") == "hashes",
            codec=str(params.get("codec") or "zstd"),
            level=int(str(params.get("level") or 1)),
            key=str(params.get("key") or ""),
            context=context,
            facts=facts,
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
            _situation(job, job.staging),
            [part for part, _found in due],
            str(params.get("fingerprint") or "counts"),
            bool(params.get("accept_secrets")),
        )
        if context.check_mode:
            return Result(plan=plan, changed=True, message="Check mode: nothing was dumped.", evidence={"sets": []})
        guard = connect()
        hold(guard, system, database)
        cleaned = end_leftovers(
            target, reader, mark_of("backup", system, database), [exporter.pid, reader.pid, guard.pid]
        )
        cleaned += [f"partial set {name} removed" for name in _remove_partial(store, system, database)]
        cleaned += [f"unfinished object {name} removed" for name in store.sweep("", context.now - 86400)]
        before = counters(reader)
        schemas = sorted({name for part, _found in due for name in part.schemas})
        snapshot = take_snapshot(exporter, reader, schemas)
        stack.callback(snapshot.release)
        workers = [connect(database) for _ in range(job.jobs)]
        for worker in workers:
            join(worker, snapshot)
        made = []
        for part, _found in due:
            mine = [item for item in snapshot.relations if not part.schemas or item.schema in part.schemas]
            made.append(_make_set(job, part, mine, snapshot, workers, before))
    return Result(
        plan=plan,
        changed=True,
        message=f"{len(made)} set{'s' if len(made) != 1 else ''} written and proven: "
        + ", ".join(item.set_id for item in made),
        evidence={"sets": [_evidence(item) for item in made], "present": present, "cleaned": cleaned},
    )
