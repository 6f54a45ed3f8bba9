# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of restores in a store."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import (
    Restoration,
    key,
    of_database,
    parse,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json


def read_restorations(store: Store, system: str, database: str, server: str) -> list[Restoration]:
    """The records of one live name on one server (its system identifier), oldest first.

    A record that vanishes meanwhile or belongs to another system is passed over; one that cannot be read raises
    record_unreadable, because nothing is safe to clean up without it.
    """
    found = []
    for info in store.list("restores/"):
        name = info.key[len("restores/") :]
        if "/" in name or not name.endswith(".json"):
            continue
        try:
            body = read_json(store, info.key)
        except OpsError as error:
            if error.code == "object_missing":
                continue
            raise
        if body.get("system") == system:
            found.append(parse(body))
    return of_database(found, database, server)


def save(store: Store, record: Restoration, *, new: bool = False) -> Restoration:
    """Write a record, durable on return. new refuses one that is there already (object_exists)."""
    write_json(store, key(record.id), record.as_json(), if_absent=new)
    return record
