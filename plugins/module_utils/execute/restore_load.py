# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a set's dump and fill the new database with it; a table is loaded while the next ones are fetched.

A file is whole, proven and on the far side's disk before anything reads it: nothing streams from a store into a COPY.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_toc import read_toc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Member, StoredObject
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pace import pace
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import estimated_bytes
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Pace, Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.execute.relay import Relay, Step
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore_job import RestoreJob
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.load import Loader, Source
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    SCHEMA,
    connected,
    entries_list,
    lend_create,
    prepare_schemas,
    restore_statistics,
    run_pg_restore,
    settle_schemas,
    write_member,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import Crew
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_pack

TOC = "dump/toc.dat"


class Filling:
    """One restore's way from the store into the database.

    make() makes the empty database and returns the record that names it; a restore in place makes room by it, so
    there everything is fetched before. frozen: tables whose rows need no VACUUM. Raises OpsError.
    """

    def __init__(self, job: RestoreJob, record: Restoration, make: Callable[[], Restoration]) -> None:
        self._job, self.record, self._make = job, record, make
        self._report = Ticker(job.context)
        self._far = Pace(job.manifest.stored_bytes)
        self._codec = open_codec(job.manifest.codec)
        self._fetched = 0
        self._began = 0.0
        self._lock = threading.Lock()
        self._toc = b""
        self.frozen: set[tuple[str, str]] = set()

    def run(self) -> list[str]:
        """Fetch and fill; returns pg_restore's warnings."""
        transport, staging = self._job.target.transport, self.record.staging
        transport.make_folder(staging)
        if self._job.manifest.pipeline == "directory":
            transport.make_folder(f"{staging}/dump")
        objects = sorted(self._job.contents.objects, key=lambda item: -sum(member.length for member in item.members))
        leading = [item for item in objects if any(member.name == TOC for member in item.members)]
        for item in leading:
            self._fetch(item, Crew(1))
        entries = read_toc(self._toc) if self._toc else None
        parts = self._job.parts
        try:
            if entries is None or self._in_steps:
                said = self._by_pg_restore([item for item in objects if item not in leading])
                return said + self._statistics()
            source = Source(
                self._dump,
                tuple(entries),
                parts,
                "missing_tablespaces" in self._job.acknowledged,
            )
            return self._by_copy(objects, leading, source) + self._statistics()
        except OpsError as error:
            raise self._explained(error) from error

    def _by_copy(self, objects: Sequence[StoredObject], leading: Sequence[StoredObject], source: Source) -> list[str]:
        job, said = self._job, []
        relay = Relay(job.load_jobs)

        def gate() -> None:
            self._begin()
            said.extend(loader.make_tables(self._tick))

        with job.target.environment(self.record.building) as env:
            loader = Loader(job.target, self.record.building, job.session.version, source, job.load_jobs, env)
            pairs: list[tuple[Step, Step]] = [
                (partial(self._fetch, item, relay.crew), partial(loader.load, _files(item)))
                for item in objects
                if item not in leading
            ]
            # small tables, already here
            pairs += [(_nothing, partial(loader.load, _files(item))) for item in leading]
            relay.run(pairs, gate, tick=self._tick, hold=job.in_place, end=loader.end)
        self.frozen = loader.loaded
        return [*said, *loader.finish(self._tick)]

    def _by_pg_restore(self, objects: Sequence[StoredObject]) -> list[str]:
        """Everything by pg_restore: a stream, a table of contents that is not understood, objects given away."""
        job = self._job
        crew = Crew(job.jobs)
        crew.run(lambda number: self._fetch(objects[number], crew), len(objects))
        self._begin()
        if not self._in_steps:
            return self._pg_restore("")
        transport, dump = job.target.transport, self._dump
        tool = job.target.tool("pg_restore", job.session.version)
        said = self._pg_restore(entries_list(transport, tool, dump, lambda line: bool(SCHEMA.match(line))))
        with connected(job.target, self.record.building, 1) as (session,):
            lend_create(session, self._owners)
            said += self._pg_restore(entries_list(transport, tool, dump, lambda line: not SCHEMA.match(line)))
            settle_schemas(session, job.contents.properties)
        return said

    def _pg_restore(self, entries: str) -> list[str]:
        job = self._job
        return run_pg_restore(
            job.target,
            self.record.building,
            job.session.version,
            self._dump,
            jobs=job.load_jobs,
            schemas=job.parts,
            no_tablespaces="missing_tablespaces" in job.acknowledged,
            tick=self._tick,
            entries=entries,
        )

    @property
    def _owners(self) -> list[str]:
        owners = cast("list[str]", self._job.contents.properties.get("owners") or [])
        return [str(name) for name in owners if not name.startswith("pg_")]

    @property
    def _in_steps(self) -> bool:
        """Whether an ordinary role gives objects away, which it does in two steps."""
        job = self._job
        return not job.parts and len(self._owners) > 1 and not look.rights(job.session)[0]

    def _statistics(self) -> list[str]:
        job = self._job
        building, version = self.record.building, job.session.version
        return restore_statistics(job.target, building, version, self._dump, job.parts, self._tick)

    @property
    def _dump(self) -> str:
        name = "dump" if self._job.manifest.pipeline == "directory" else "dump.custom"
        return f"{self.record.staging}/{name}"

    def _fetch(self, item: StoredObject, crew: Crew) -> None:
        """Bring one object of the set into the staging folder, proven."""
        job = self._job

        def sink(member: Member, chunks: Iterator[bytes]) -> None:
            if member.name == TOC:
                self._toc = b"".join(chunks)
                write_member(job.target.transport, self.record.staging, member, iter([self._toc]))
            elif member.name.startswith("dump"):
                write_member(job.target.transport, self.record.staging, member, chunks)

        # a set is listed as good only after every object of it was read back and gave its members' SHA-256
        folder = sets.folder(job.manifest.set_id)
        read_pack(job.store, folder, item, self._codec, sink, crew=crew, proven=True)
        with self._lock:
            self._fetched += item.length

    def _begin(self) -> None:
        """Make the database, and in it what a restore of named schemas leaves out."""
        job = self._job
        self.record = self._make()
        if job.parts:
            with connected(job.target, self.record.building, 1) as (session,):
                keep = "extension_version" not in job.acknowledged
                prepare_schemas(session, job.contents.properties, job.parts, keep_versions=keep)
        self._began = time.monotonic()

    def _tick(self) -> None:
        job, oid = self._job, self.record.target_oid
        total = job.manifest.stored_bytes
        fetched = f"fetched {self._far(self._fetched)}"
        # asked on the session that holds the lock: without it nothing goes on
        question = render("SELECT pg_database_size({oid}::oid)", oid=oid) if oid else "SELECT 0"
        size = int(str(job.session.value(question)))
        if not self._began:
            self._report(f"fetching {job.manifest.set_id}: {fetched}")
            return
        expected = estimated_bytes(job.manifest, job.contents.properties)
        seconds = time.monotonic() - self._began
        more = f"; {fetched}" if self._fetched < total else ""
        self._report(f"restoring: {pace(size, expected, seconds, about=True)}{more}")

    def _explained(self, error: OpsError) -> OpsError:
        parts = self._job.parts
        if not parts or "does not exist" not in error.cause:
            return error
        return OpsError(
            "schema_dependency",
            f"Objects in {', '.join(parts)} refer to something outside of these schemas: {error.cause}",
            "Name the schemas that they refer to as well.",
        )


def _files(item: StoredObject) -> dict[str, int]:
    """The files of the dump that an object holds, with their lengths in bytes."""
    return {member.name.partition("/")[2]: member.length for member in item.members if member.name.startswith("dump/")}


def _nothing() -> None:
    """The first step of what has been fetched."""
