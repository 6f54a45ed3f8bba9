# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets in a store: where their objects lie, which are complete, what was left half-way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    SET_ID,
    Contents,
    Json,
    Manifest,
    canonical,
    parse_contents,
    parse_manifest,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store

ROOT = "backups/"
MANIFEST = "manifest.json"
CONTENTS = "contents.json"
PIN = "pin.json"


def folder(set_id: str) -> str:
    """The prefix of a set's keys, ending in '/'. Raises OpsError bad_set_id, so that no name escapes the store."""
    if not SET_ID.match(set_id):
        raise OpsError("bad_set_id", f"{set_id!r} is not the id of a backup set.", "Take an id from the verb backups.")
    return f"{ROOT}{set_id}/"


@dataclass(frozen=True)
class SetEntry:
    """One folder below backups/: its manifest, or why there is none that can be trusted.

    state: complete, partial (no manifest), damaged (the manifest is refused, or an object is missing or has
    another length than promised), foreign (of another system or a newer format).
    pin and proofs are the parsed pin.json and proof-*.json.
    """

    set_id: str
    state: str
    manifest: Manifest | None
    problem: str
    stored_bytes: int
    newest_change: float
    pin: dict[str, Json] | None
    proofs: tuple[dict[str, Json], ...]
    keys: tuple[str, ...]


def read_all(store: Store, key: str) -> bytes:
    """A small object's bytes."""
    with store.get(key) as chunks:
        return b"".join(chunks)


def read_json(store: Store, key: str) -> dict[str, Json]:
    """A small JSON object. Raises OpsError object_damaged when it is none."""
    try:
        body = json.loads(read_all(store, key))
    except ValueError as error:
        raise OpsError(
            "object_damaged", f"{key} is not readable JSON.", "Remove it or restore it from a copy."
        ) from error
    if not isinstance(body, dict):
        raise OpsError("object_damaged", f"{key} is not a JSON object.", "Remove it or restore it from a copy.")
    return body


def write_json(store: Store, key: str, body: dict[str, Json], *, if_absent: bool = False) -> None:
    """Write a small record."""
    store.put(key, [canonical(body)], if_absent=if_absent)


# any other error is the store's, and says nothing of the set
_STATES = {
    "manifest_damaged": "damaged",
    "object_damaged": "damaged",
    "manifest_newer": "foreign",
    "set_of_another_system": "foreign",
    "object_missing": "partial",
}


def _mark(store: Store, key: str, unreadable: dict[str, Json]) -> dict[str, Json]:
    """A small record beside a set. One that is gone or cannot be read must not hide the set from a listing."""
    try:
        return read_json(store, key)
    except OpsError as error:
        if error.code not in ("object_missing", "object_damaged"):
            raise
        return unreadable


def _entry(store: Store, set_id: str, objects: Iterable[ObjectInfo], system: str | None) -> SetEntry:
    prefix = folder(set_id)
    found = {info.key[len(prefix) :]: info for info in objects}
    manifest: Manifest | None = None
    state, problem = "complete", ""
    pin = _mark(store, prefix + PIN, {"reason": f"{PIN} cannot be read"}) if PIN in found else None
    proofs = tuple(
        _mark(store, prefix + name, {})
        for name in sorted(found)
        if name.startswith("proof-") and name.endswith(".json")
    )
    if MANIFEST not in found:
        state, problem = "partial", "it has no manifest: the run that wrote it did not finish"
    else:
        try:
            manifest = parse_manifest(read_all(store, prefix + MANIFEST), set_id, system)
            if CONTENTS not in found:
                state, problem = "damaged", "its list of contents is missing"
        except OpsError as error:
            if error.code not in _STATES:
                raise
            state, problem = _STATES[error.code], error.cause
    return SetEntry(
        set_id=set_id,
        state=state,
        manifest=manifest,
        problem=problem,
        stored_bytes=sum(info.length for info in found.values()),
        newest_change=max(info.modified for info in found.values()),
        pin=pin,
        proofs=proofs,
        keys=tuple(prefix + name for name in sorted(found)),
    )


def entry(store: Store, set_id: str, system: str | None) -> SetEntry:
    """One set, in whatever state. Raises OpsError set_unknown, bad_set_id."""
    found = store.list(folder(set_id))
    if not found:
        raise _unknown(set_id)
    return _entry(store, set_id, found, system)


def _unknown(set_id: str) -> OpsError:
    return OpsError("set_unknown", f"There is no set {set_id} in the store.", "List the sets with the verb backups.")


def entries(store: Store, system: str | None) -> list[SetEntry]:
    """Every set in the store, oldest first; partial and damaged ones too, marked as such."""
    groups: dict[str, list[ObjectInfo]] = {}
    for info in store.list(ROOT):
        set_id = info.key[len(ROOT) :].split("/", 1)[0]
        if SET_ID.match(set_id):
            groups.setdefault(set_id, []).append(info)
    return [_entry(store, set_id, groups[set_id], system) for set_id in sorted(groups)]


def load(store: Store, set_id: str, system: str | None) -> tuple[Manifest, Contents]:
    """A complete set's manifest and contents.

    Raises OpsError: set_unknown, set_incomplete, and what parse_manifest and parse_contents raise; also
    set_incomplete when an object is missing or has another length than the contents promise.
    """
    prefix = folder(set_id)
    present = {info.key[len(prefix) :]: info.length for info in store.list(prefix)}
    if not present:
        raise _unknown(set_id)
    if MANIFEST not in present or CONTENTS not in present:
        raise OpsError(
            "set_incomplete",
            f"Set {set_id} has no manifest: the run that wrote it did not finish.",
            "Choose a complete set (verb backups); prune removes partial ones.",
            {"set": set_id},
        )
    manifest = parse_manifest(read_all(store, prefix + MANIFEST), set_id, system)
    contents = parse_contents(read_all(store, prefix + CONTENTS), manifest)
    wrong = [item.key for item in contents.objects if present.get(item.key) != item.length]
    if wrong:
        raise OpsError(
            "set_incomplete",
            f"Set {set_id} lacks {len(wrong)} of its {len(contents.objects)} objects, or they have another length: "
            f"{', '.join(wrong[:3])}.",
            "Choose another set; a second copy of this one, if there is one, may be whole.",
            {"set": set_id, "objects": wrong[:50]},
        )
    return manifest, contents


def newest(store: Store, system: str, database: str, tenant: str | None = None) -> str:
    """The id of the newest complete set of a database (kind database, or of one tenant). Raises no_backup."""
    found: list[tuple[float, str]] = []
    for entry in entries(store, system):
        manifest = entry.manifest
        if entry.state != "complete" or manifest is None or manifest.database != database or manifest.undo:
            continue
        if (manifest.kind == "database") if tenant is None else (manifest.tenant == tenant):
            # ids know the second only; of two sets of one second the one that shows more is the newer
            found.append((manifest.snapshot_at, entry.set_id))
    if found:
        return max(found)[1]
    raise OpsError(
        "no_backup",
        f"The store holds no complete set of database {database!r} of system {system!r}.",
        "Run the verb backup first, or check the store's address.",
        {"database": database},
    )


def digest(chunks: Iterable[bytes]) -> tuple[int, str]:
    """Length in bytes and SHA-256 (hex) of chunks."""
    checksum, length = hashlib.sha256(), 0
    for chunk in chunks:
        checksum.update(chunk)
        length += len(chunk)
    return length, checksum.hexdigest()
