# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals in a store: approvals/<plan>/<id>.json, written once, under the approver's credential."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

ROOT = "approvals/"
# what is older has expired long ago
NEWEST = 100


def read(store: Store) -> list[tuple[str, dict[str, Json]]]:
    """(key, body) of the newest approvals; one that cannot be read approves nothing and is left out."""
    found = []
    # keys begin with the time of the plan
    for info in store.list(ROOT)[-NEWEST:]:
        try:
            found.append((info.key, read_json(store, info.key)))
        except OpsError as error:
            if error.code not in ("object_missing", "object_damaged"):
                raise
    return found


def write(store: Store, plan: str, identifier: str, body: dict[str, Json]) -> str:
    """A new approval; its key. Never overwrites one."""
    key = f"{ROOT}{plan}/{identifier}.json"
    write_json(store, key, body, if_absent=True)
    return key
