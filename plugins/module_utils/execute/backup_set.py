# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup set: dump and fingerprint under one snapshot, objects proven, the manifest last."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup import Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_proof import (
    Newlines,
    compare_rows,
    data_files,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json, key_of, narrowed, rows_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Manifest,
    StoredObject,
    iso,
    new_set_id,
    render_contents,
    render_manifest,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.leftovers import discard_set
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Pace, Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import dump
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import DatabaseFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_properties
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import Snapshot
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import Relation
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import Codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import BEGUN
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import (
    Source,
    plan_packs,
    write_pack,
    write_packs,
    write_stream,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact, Transport


@dataclass(frozen=True)
class Job:
    """All that one run of the module works with.

    reader is a session outside of any transaction: a question that is not permitted must not end the snapshot.
    """

    system: str
    database: str
    target: Target
    store: Store
    staging: str
    jobs: int
    hashes: bool
    codec: Codec
    key: str
    context: Context
    facts: DatabaseFacts
    reader: Session


def _text(name: str, text: bytes) -> Source:
    """A small text as a member of the set."""
    fact = FileFact(name, len(text), hashlib.sha256(text).hexdigest())
    return fact, lambda: contextlib.nullcontext([text])


def _extras(job: Job, snapshot: Snapshot, part: Part) -> list[Source]:
    """globals.sql, schema.sql and configuration.json as members of the set."""
    version = job.facts.version
    texts = {"schema.sql": dump.schema_text(job.target, job.database, version, snapshot.identifier, part.schemas)}
    try:
        texts["globals.sql"] = dump.globals_text(job.target, version, passwords=False)
    except OpsError as error:
        # a managed server hides roles from ordinary ones; the manifest says that they are missing
        job.context.warn(f"Roles and tablespaces are not part of the set: {error.cause}")
    texts["configuration.json"] = json.dumps(dump.configuration(job.reader), indent=1, sort_keys=True).encode()
    return [_text(name, text) for name, text in texts.items()]


@dataclass(frozen=True)
class Dumped:
    """What lies in the store: the objects, and the rows of each table that went by (fingerprint key -> rows).

    rows is None where they could not be counted on the way.
    """

    objects: tuple[StoredObject, ...]
    rows: dict[str, int] | None


def _stream(
    job: Job, snapshot: Snapshot, part: Part, prefix: str, extras: list[Source], found: Sequence[Relation]
) -> Dumped:
    """The dump as one stream, read by pg_restore while it passes by."""
    far = Pace(sum(item.bytes for item in found), about=True)
    report = Ticker(job.context)
    small = write_pack(job.store, prefix, f"objects/small{job.codec.suffix}", extras, job.codec)
    with contextlib.ExitStack() as stack:
        chunks = stack.enter_context(
            dump.dump_stream(job.target, job.database, job.facts.version, snapshot.identifier, part.schemas)
        )
        reader = None
        # through exec the stream would have to travel back; there its length and hash are proven by the far side
        if job.target.transport.name == "local":
            reader = dump.StreamReader(job.target, job.facts.version)
            stack.callback(reader.close)
            chunks = reader.watch(chunks)
        big = write_stream(
            job.store,
            prefix,
            f"objects/stream{job.codec.suffix}",
            job.codec,
            name="dump.custom",
            chunks=_counted(chunks, lambda done: report(f"streaming {part.title}: {far(done)}")),
            threads=job.jobs,
        )
        return Dumped((small, big), None if reader is None else dict(reader.copies.rows))


def _directory(
    job: Job, snapshot: Snapshot, part: Part, prefix: str, extras: list[Source], found: Sequence[Relation]
) -> Dumped:
    """The dump in directory format in staging, then file by file into the store."""
    report = Ticker(job.context)
    transport, version = job.target.transport, job.facts.version
    folder = f"{job.staging}/{job.target.connection.application_name}"
    transport.remove_tree(folder)
    transport.make_folder(folder)
    try:
        far = Pace(sum(item.bytes for item in found), about=True)

        def dumped() -> str:
            return f"dumping {part.title}: {far(_size(transport, folder))}"

        dump.dump_to_folder(
            job.target,
            job.database,
            version,
            snapshot.identifier,
            part.schemas,
            f"{folder}/dump",
            job.jobs,
            lambda: report(dumped),
        )
        files = data_files(dump.listing(job.target, version, f"{folder}/dump"))
        counters = {f"dump/{dump_id}.dat": Newlines() for dump_id in files}
        sources = {
            fact.name: _file(transport, folder, fact, counters.get(fact.name)) for fact in transport.file_facts(folder)
        }
        sources.update({fact.name: (fact, opener) for fact, opener in extras})
        packs = [
            [sources[fact.name] for fact in pack] for pack in plan_packs([fact for fact, _opener in sources.values()])
        ]
        raw = sum(fact.length for pack in packs for fact, _opener in pack)
        stored = _Tally(len(packs), Pace(raw), lambda text: report(f"storing {part.title}: {text}"))
        objects = write_packs(job.store, prefix, packs, job.codec, workers=job.jobs, finished=stored)
    finally:
        transport.remove_tree(folder)
    keys = {item.oid: key_of(item.schema, item.name) for item in found}
    rows = {
        keys[oid]: counters[f"dump/{dump_id}.dat"].rows
        for dump_id, oid in files.items()
        if oid in keys and f"dump/{dump_id}.dat" in sources
    }
    return Dumped(tuple(objects), rows)


def _size(transport: Transport, folder: str) -> int:
    """Bytes on disk below a folder, for a line of progress; 0 when nobody can say."""
    done = transport.run(["du", "-sk", folder], timeout=10)
    kilobytes = done.stdout.split(b"\t")[0].split()[:1]
    return 1024 * int(kilobytes[0]) if kilobytes and kilobytes[0].isdigit() else 0


def _file(transport: Transport, folder: str, fact: FileFact, counter: Newlines | None) -> Source:
    @contextlib.contextmanager
    def opener() -> Iterator[Iterator[bytes]]:
        with transport.read_file(f"{folder}/{fact.name}") as chunks:
            yield counter.watch(chunks) if counter else chunks

    return fact, opener


def _prove_whole(dumped: Dumped, fingerprint: dict[str, Json]) -> None:
    """Raise dump_incomplete unless every counted row lies in the dump."""
    if dumped.rows is None:
        return
    tables = cast("dict[str, dict[str, Json]]", fingerprint["tables"])
    counted = {key: int(str(entry["rows"])) for key, entry in tables.items() if entry["kind"] == "r"}
    wrong = compare_rows(counted, dumped.rows)
    if wrong:
        raise dump.incomplete(
            "; ".join(item.text for item in wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""),
            {"differences": [item.as_dict() for item in wrong[:50]]},
        )


class _Tally:
    """Counts objects as they are proven."""

    def __init__(self, total: int, far: Pace, tell: Callable[[str], None]) -> None:
        self._total, self._far, self._tell, self._done, self._bytes = total, far, tell, 0, 0

    def __call__(self, stored: StoredObject) -> None:
        self._done += 1
        self._bytes += sum(member.length for member in stored.members)
        self._tell(f"{self._done} of {self._total} objects proven, {self._far(self._bytes)}")


def _counted(chunks: Iterator[bytes], tell: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        tell(done)
        yield chunk


def make_set(
    job: Job,
    part: Part,
    found: list[Relation],
    snapshot: Snapshot,
    sessions: Sequence[Session],
    before: dict[str, Json],
) -> Manifest:
    """One complete set. On any error nothing of it stays in the store, unless that is gone or forbids to delete."""
    set_id = new_set_id(job.context.now, os.urandom(4))
    prefix = sets.folder(set_id)
    # written first: it tells the next run of the same database whose half-made set this is
    begun: dict[str, Json] = {
        "system": job.system,
        "database": job.database,
        "server": job.facts.server,
        "started": iso(job.context.now),
    }
    sets.write_json(job.store, prefix + BEGUN, begun, if_absent=True)
    try:
        properties = read_properties(sessions[0], job.database)
        with ThreadPoolExecutor(max_workers=1) as side:
            counting = side.submit(take_fingerprint, sessions, found, part.schemas, hashes=job.hashes)
            extras = _extras(job, snapshot, part)
            if job.staging:
                dumped = _directory(job, snapshot, part, prefix, extras, found)
            else:
                dumped = _stream(job, snapshot, part, prefix, extras, found)
            fingerprint = counting.result()
        _prove_whole(dumped, fingerprint)
        objects = dumped.objects
        fingerprint.update(before)
        if part.schemas:
            fingerprint = narrowed(fingerprint, part.schemas)
        if not snapshot.still_holds():
            raise OpsError(
                "snapshot_lost",
                "The session that held the snapshot was ended during the backup.",
                "Find out who ended it (server log), then run the backup again.",
            )
        contents = render_contents(Contents(objects, fingerprint, properties))
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
            codec=job.codec.name,
            raw_bytes=sum(member.length for item in objects for member in item.members),
            stored_bytes=sum(item.length for item in objects) + len(contents),
            tables=len(found),
            rows=rows_of(fingerprint),
            contents_sha256=hashlib.sha256(contents).hexdigest(),
            globals={
                "passwords": "omitted",
                "included": any(m.name == "globals.sql" for o in objects for m in o.members),
            },
            proof={"level": "stored", "at": iso(time.time())},
            key=job.key,
        )
        job.context.admission.confirm()
        job.store.put(prefix + sets.MANIFEST, [render_manifest(manifest)], if_absent=True)
    except BaseException:
        discard_set(job.store, prefix, job.context.warn)
        raise
    return manifest
