# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of rows in a store, see domain/archive.py for their layout."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import (
    Batch,
    Begun,
    Entry,
    Outcome,
    parse_batch,
    parse_begun,
    parse_outcome,
    render_batch,
    render_begun,
    render_outcome,
    rows_by_table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import SET_ID
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import Codec, open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_all, read_json, write_json

ROOT = "archives/"
BEGUN = "begun.json"
MANIFEST = "manifest.json"
ROWS = "rows/"


def folder(archive: str) -> str:
    """The prefix of an archive's keys. Raises OpsError bad_archive_id, so that no name escapes the store."""
    if not SET_ID.match(archive):
        raise OpsError(
            "bad_archive_id", f"{archive!r} is not the id of an archive.", "Take an id from the run's result."
        )
    return f"{ROOT}{archive}/"


@dataclass(frozen=True)
class Archive:
    """One folder below archives/: outcome is None when its run did not come to its end."""

    begun: Begun
    outcome: Outcome | None
    keys: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.begun.archive


def begin(store: Store, begun: Begun) -> None:
    """Say what is about to be archived; durable on return."""
    write_json(store, folder(begun.archive) + BEGUN, render_begun(begun), if_absent=True)


def put(store: Store, codec: Codec, batch: Batch) -> Entry:
    """Store a batch; durable on return, and acknowledged with the length and SHA-256 of what was sent."""
    key = f"{ROWS}{batch.number:06d}{codec.suffix}"
    stored = store.put(folder(batch.archive) + key, codec.compress([render_batch(batch)]), if_absent=True)
    return Entry(batch.number, key, stored.length, stored.sha256, rows_by_table(batch.parts))


def drop(store: Store, archive: str, entry: Entry) -> None:
    """Remove a batch whose transaction was rolled back; where it may not be deleted it stays and counts for nothing."""
    with contextlib.suppress(OpsError):
        store.delete([folder(archive) + entry.key])


def get(store: Store, archive: str, key: str, entry: Entry | None = None) -> tuple[Batch, Entry]:
    """One batch, held against what its manifest promises. Raises OpsError archive_damaged, archive_newer."""
    name = folder(archive) + key
    try:
        data = read_all(store, name)
        length, checksum = len(data), hashlib.sha256(data).hexdigest()
        if entry is not None and (entry.length, entry.sha256) != (length, checksum):
            raise OpsError("object_damaged", f"{name} is not what was stored", "")
        codec = open_codec("zstd" if key.endswith(".zst") else "none")
        batch = parse_batch(b"".join(codec.decompress([data])), name)
    except OpsError as error:
        if error.code not in ("object_damaged", "object_missing"):
            raise
        raise OpsError(
            "archive_damaged",
            f"{name} is missing or damaged: {error.cause.rstrip('.')}.",
            "Take the object from a second copy of the store; nothing was put back out of it.",
            {"object": name},
        ) from error
    if batch.archive != archive:
        raise OpsError("archive_damaged", f"{name} belongs to archive {batch.archive}.", "Put the right object there.")
    return batch, Entry(batch.number, key, length, checksum, rows_by_table(batch.parts))


def finish(store: Store, outcome: Outcome) -> None:
    """Write the manifest, the last object of an archive."""
    write_json(store, folder(outcome.begun.archive) + MANIFEST, render_outcome(outcome))


def read(store: Store, archive: str) -> Archive:
    """One archive. Raises OpsError archive_unknown, archive_damaged, archive_newer."""
    prefix = folder(archive)
    keys = tuple(info.key[len(prefix) :] for info in store.list(prefix))
    if BEGUN not in keys:
        raise OpsError(
            "archive_unknown",
            f"The store holds no archive {archive}.",
            "Take the id from the result of the run; an archive goes when its time (keep_archive) is over.",
        )
    begun = parse_begun(read_json(store, prefix + BEGUN), prefix + BEGUN)
    outcome = None
    if MANIFEST in keys:
        outcome = parse_outcome(read_json(store, prefix + MANIFEST), prefix + MANIFEST)
    return Archive(begun, outcome, keys)


def ids(store: Store) -> list[str]:
    """All archives, oldest first."""
    return sorted({info.key[len(ROOT) :].partition("/")[0] for info in store.list(ROOT)})


def without_end(store: Store, verb: str, system: str, database: str, names: Sequence[str]) -> list[Archive]:
    """The archives of these rules (cleanup) or fixes (repair) whose run did not come to its end, oldest first."""
    found: dict[str, set[str]] = {}
    for info in store.list(ROOT):
        archive, _slash, key = info.key[len(ROOT) :].partition("/")
        found.setdefault(archive, set()).add(key)
    unfinished = [name for name, keys in sorted(found.items()) if BEGUN in keys and MANIFEST not in keys]
    open_ones = [read(store, name) for name in unfinished]
    return [
        item
        for item in open_ones
        if (item.begun.verb, item.begun.system, item.begun.database) == (verb, system, database)
        and item.begun.name in names
    ]


def expired(store: Store, system: str, now: float) -> list[Archive]:
    """The archives of a system whose time (keep_archive) is over. One that cannot be read, or has no end, is none."""
    found = []
    for archive in ids(store):
        try:
            item = read(store, archive)
        except OpsError as error:
            if error.code not in (
                "archive_unknown",
                "archive_damaged",
                "archive_newer",
                "object_damaged",
                "bad_archive_id",
            ):
                raise
            continue
        if item.begun.system == system and item.outcome is not None and (item.outcome.expires or now) < now:
            found.append(item)
    return found


def remove(store: Store, archive: Archive) -> None:
    """Delete an archive whose time is over, its manifest last: what a killed removal leaves is removed again."""
    prefix = folder(archive.id)
    store.delete([prefix + key for key in archive.keys if key not in (MANIFEST, BEGUN)])
    store.delete([prefix + MANIFEST, prefix + BEGUN])
