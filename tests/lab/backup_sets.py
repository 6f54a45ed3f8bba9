# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets without a database: sound by every check of the collection, of any age and size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Json,
    Manifest,
    Member,
    StoredObject,
    iso,
    new_set_id,
    render_contents,
    render_manifest,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore

HOUR = 3600.0
DAY = 86400.0


def make_set(
    root: Path,
    started: float,
    *,
    system: str = "demo",
    database: str = "app",
    tenant: str | None = None,
    proof: str | None = "stored",
    objects: int = 2,
    size: int = 1000,
    takes: float = 60.0,
    act: str = "",
) -> str:
    """Write one complete set below root and return its id.

    started: POSIX seconds; the files' times say when the set was finished, takes seconds later. size: bytes an object;
    act: the manifest's key.
    """
    store = PosixStore(str(root), create=True)
    set_id = new_set_id(started, os.urandom(4))
    stored = []
    for number in range(1, objects + 1):
        body = os.urandom(size)
        checksum = hashlib.sha256(body).hexdigest()
        key = f"objects/{number:04d}.zst"
        store.put(sets.folder(set_id) + key, [body])
        stored.append(StoredObject(key, size, checksum, (Member(f"member{number}", size, checksum),)))
    contents = render_contents(Contents(tuple(stored), {}, {}))
    store.put(sets.folder(set_id) + sets.CONTENTS, [contents])
    level: dict[str, Json] = {} if proof is None else {"level": proof, "at": iso(started + takes)}
    manifest = Manifest(
        system=system,
        set_id=set_id,
        kind="database" if tenant is None else "tenant",
        database=database,
        schemas=() if tenant is None else (tenant,),
        tenant=tenant,
        started=started,
        snapshot_at=started,
        finished=started + takes,
        server={"version": 150018},
        tools={"pg_dump": 15},
        pipeline="directory",
        codec="zstd",
        raw_bytes=size * objects * 4,
        stored_bytes=size * objects + len(contents),
        tables=12,
        rows=34567,
        contents_sha256=hashlib.sha256(contents).hexdigest(),
        globals={},
        proof=level,
        key=act,
    )
    store.put(sets.folder(set_id) + sets.MANIFEST, [render_manifest(manifest)])
    set_age(root, set_id, started + takes)
    return set_id


def make_partial(root: Path, started: float, *, changed: float | None = None, system: str = "demo") -> str:
    """Write what a killed backup leaves: objects, a mark of who began, no manifest. Last changed then."""
    store = PosixStore(str(root), create=True)
    set_id = new_set_id(started, os.urandom(4))
    sets.write_json(
        store, sets.folder(set_id) + "begun.json", {"system": system, "database": "app", "started": iso(started)}
    )
    store.put(sets.folder(set_id) + "objects/0001.zst", [os.urandom(500)])
    set_age(root, set_id, started if changed is None else changed)
    return set_id


def pin(root: Path, set_id: str, reason: str, until: float | None = None) -> None:
    """Pin a set."""
    body: dict[str, Json] = {"reason": reason, "by": "test", "until": None if until is None else iso(until)}
    sets.write_json(PosixStore(str(root)), sets.folder(set_id) + sets.PIN, body)


def set_age(root: Path, set_id: str, moment: float) -> None:
    """Date every file of a set."""
    for path in files(root, set_id):
        os.utime(path, (moment, moment))


def files(root: Path, set_id: str | None = None) -> list[Path]:
    """Every file of a set, or of the whole store, as the file system has it."""
    start = root if set_id is None else root / sets.folder(set_id)
    return sorted(path for path in start.rglob("*") if path.is_file())


def listing(root: Path) -> dict[str, bytes]:
    """Every file of a store and its content, by path below root: for comparing before and after."""
    return {str(path.relative_to(root)): path.read_bytes() for path in files(root)}


def of_sets(listed: Mapping[str, bytes]) -> dict[str, bytes]:
    """A listing without what the guard keeps beside the sets: its journal and its leases."""
    return {name: body for name, body in listed.items() if name.split("/")[0] not in ("journal", "leases")}


def complete(root: Path, set_ids: Iterable[str]) -> set[str]:
    """Those of the sets that have a manifest, as the file system has it."""
    return {set_id for set_id in set_ids if (root / sets.folder(set_id) / sets.MANIFEST).exists()}
