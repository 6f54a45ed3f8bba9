# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which migrations ran somewhere else first: migrations/<database>/<version>-<digest of its scripts>.json."""

from __future__ import annotations

import hashlib

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

ROOT = "migrations/"


def key(system: str, database: str, version: str, digest: str) -> str:
    """The record's key; digest is hex, over everything that was tried."""
    place = hashlib.sha256(f"{system}\0{database}".encode()).hexdigest()[:16]
    return f"{ROOT}{place}/{version}-{digest[:32]}.json"


def rehearsed_at(store: Store, record: str) -> float | None:
    """POSIX seconds; None when it was not, or nobody can tell."""
    try:
        return float(str(read_json(store, record)["at"]))
    except OpsError as error:
        if error.code not in ("object_missing", "object_damaged"):
            raise
        return None
    except (KeyError, ValueError):
        return None


def save(store: Store, record: str, body: dict[str, Json]) -> None:
    """Write a record, durable on return."""
    write_json(store, record, body)
