# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup set: what it promises, how it is sealed, when it is refused.

The manifest is written last and is the commit mark of a set. It names the SHA-256 of contents.json, which
names every object; and it carries a seal over itself, so that an edit is noticed. The seal guards against
accidents and careless edits; against a forger only a store that forbids overwriting helps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Union

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

FORMAT = 1
# the key of a set that the restore of a tenant made to go back to: the rows that somebody wanted to be rid of
UNDO_KEY = "undo of a tenant's restore"
KINDS = ("database", "schemas", "tenant")
SET_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\Z")
Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]


@dataclass(frozen=True)
class Member:
    """One file of a dump inside an object: its name, raw length in bytes, SHA-256 (hex) of the raw bytes."""

    name: str
    length: int
    sha256: str


@dataclass(frozen=True)
class StoredObject:
    """One object of a set: key below the set's folder, stored length and SHA-256, the members it holds in order."""

    key: str
    length: int
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Contents:
    """contents.json: every object, the fingerprint of the rows, the properties a dump does not carry."""

    objects: tuple[StoredObject, ...]
    fingerprint: Mapping[str, Json]
    properties: Mapping[str, Json]


@dataclass(frozen=True)
class Manifest:
    """manifest.json of one complete set. Times are POSIX seconds, sizes bytes.

    key is the idempotency key of the act that made it: the same key again makes no second set.
    """

    system: str
    set_id: str
    kind: str
    database: str
    schemas: tuple[str, ...]
    tenant: str | None
    started: float
    snapshot_at: float
    finished: float
    server: Mapping[str, Json]
    tools: Mapping[str, Json]
    pipeline: str
    codec: str
    raw_bytes: int
    stored_bytes: int
    tables: int
    rows: int
    contents_sha256: str
    globals: Mapping[str, Json]
    proof: Mapping[str, Json]
    secrets: tuple[str, ...] = ()
    key: str = ""

    @property
    def undo(self) -> bool:
        """Whether the set was made to go back to what a tenant's restore replaced, and is no backup of its own."""
        return self.key == UNDO_KEY

    @property
    def version(self) -> int:
        """server_version_num of the source."""
        return int(str(self.server.get("version", 0)))


def iso(moment: float) -> str:
    """POSIX seconds as ISO 8601 in UTC, to the microsecond (the snapshot's second matters for RPO)."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def posix(text: str) -> float:
    """The reverse of iso. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def new_set_id(now: float, randomness: bytes) -> str:
    """A set id that sorts by its start; randomness is at least 4 bytes."""
    return datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%SZ-") + randomness[:4].hex()


def canonical(body: object) -> bytes:
    """The one JSON text of a value: what is hashed."""
    return json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()


def _seal(body: Mapping[str, Json]) -> str:
    return hashlib.sha256(canonical({key: value for key, value in body.items() if key != "seal"})).hexdigest()


def render_manifest(manifest: Manifest) -> bytes:
    """manifest.json, sealed."""
    body: dict[str, Json] = {
        "format": FORMAT,
        "system": manifest.system,
        "set": manifest.set_id,
        "kind": manifest.kind,
        "database": manifest.database,
        "schemas": list(manifest.schemas),
        "tenant": manifest.tenant,
        "started": iso(manifest.started),
        "snapshot_at": iso(manifest.snapshot_at),
        "finished": iso(manifest.finished),
        "server": dict(manifest.server),
        "tools": dict(manifest.tools),
        "pipeline": manifest.pipeline,
        "codec": manifest.codec,
        "bytes": {"raw": manifest.raw_bytes, "stored": manifest.stored_bytes},
        "tables": manifest.tables,
        "rows": manifest.rows,
        "contents_sha256": manifest.contents_sha256,
        "globals": dict(manifest.globals),
        "proof": dict(manifest.proof),
        "secrets": list(manifest.secrets),
        "key": manifest.key,
    }
    body["seal"] = _seal(body)
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _damaged(set_id: str, what: str) -> OpsError:
    return OpsError(
        "manifest_damaged",
        f"The manifest of set {set_id} {what}.",
        "Do not restore from this set; take another one (verb backups lists them).",
        {"set": set_id},
    )


def parse_manifest(data: bytes, set_id: str, system: str | None) -> Manifest:
    """Read and check manifest.json found in the folder of set_id.

    system None accepts any. Raises OpsError: manifest_damaged (unreadable, edited, of another set),
    manifest_newer (a later format), set_of_another_system.
    """
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise ValueError("not an object")
        version = int(body["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(set_id, "cannot be read") from error
    if version > FORMAT:
        raise OpsError(
            "manifest_newer",
            f"Set {set_id} has format {version}; this release reads up to {FORMAT}.",
            "Update the collection, or choose another set.",
            {"set": set_id, "format": version},
        )
    if body.get("seal") != _seal(body):
        raise _damaged(set_id, "was changed after it was sealed")
    if body.get("set") != set_id:
        raise _damaged(set_id, f"belongs to set {body.get('set')}")
    try:
        manifest = Manifest(
            system=str(body["system"]),
            set_id=set_id,
            kind=str(body["kind"]),
            database=str(body["database"]),
            schemas=tuple(str(name) for name in body["schemas"]),
            tenant=None if body["tenant"] is None else str(body["tenant"]),
            started=posix(body["started"]),
            snapshot_at=posix(body["snapshot_at"]),
            finished=posix(body["finished"]),
            server=dict(body["server"]),
            tools=dict(body["tools"]),
            pipeline=str(body["pipeline"]),
            codec=str(body["codec"]),
            raw_bytes=int(body["bytes"]["raw"]),
            stored_bytes=int(body["bytes"]["stored"]),
            tables=int(body["tables"]),
            rows=int(body["rows"]),
            contents_sha256=str(body["contents_sha256"]),
            globals=dict(body["globals"]),
            proof=dict(body["proof"]),
            secrets=tuple(str(item) for item in body.get("secrets", [])),
            key=str(body.get("key", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(set_id, f"lacks a field or has a wrong one ({error})") from error
    if manifest.kind not in KINDS:
        raise _damaged(set_id, f"has an unknown kind {manifest.kind!r}")
    if system is not None and manifest.system != system:
        raise OpsError(
            "set_of_another_system",
            f"Set {set_id} belongs to the system {manifest.system!r}, not to {system!r}.",
            "Check the store's address in the inventory, or name the system it belongs to.",
            {"set": set_id, "system": manifest.system},
        )
    return manifest


def render_contents(contents: Contents) -> bytes:
    """contents.json in canonical form; its SHA-256 goes into the manifest."""
    return canonical(
        {
            "objects": [
                {
                    "key": item.key,
                    "length": item.length,
                    "sha256": item.sha256,
                    "members": [[m.name, m.length, m.sha256] for m in item.members],
                }
                for item in contents.objects
            ],
            "fingerprint": dict(contents.fingerprint),
            "properties": dict(contents.properties),
        }
    )


def parse_contents(data: bytes, manifest: Manifest) -> Contents:
    """Read contents.json and hold it against the manifest. Raises OpsError manifest_damaged."""
    if hashlib.sha256(data).hexdigest() != manifest.contents_sha256:
        raise _damaged(manifest.set_id, "does not match its list of contents")
    body = json.loads(data)
    return Contents(
        objects=tuple(
            StoredObject(
                item["key"],
                int(item["length"]),
                item["sha256"],
                tuple(Member(n, int(k), s) for n, k, s in item["members"]),
            )
            for item in body["objects"]
        ),
        fingerprint=body["fingerprint"],
        properties=body["properties"],
    )
