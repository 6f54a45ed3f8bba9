# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open items in a store: recorded before the thing is opened, closed idempotently."""

from __future__ import annotations

import contextlib

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import (
    ROOT,
    OpenItem,
    closed,
    key,
    parse,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json


def record(store: Store, item: OpenItem) -> None:
    """Say that this is about to be opened; durable on return. An earlier record of the same thing is replaced."""
    write_json(store, key(item.id), item.as_json())


def look(store: Store, identifier: str) -> OpenItem | None:
    """One item; None when it is not open. Raises item_unreadable, and the store's errors."""
    try:
        return parse(read_json(store, key(identifier)))
    except OpsError as error:
        if error.code != "object_missing":
            raise
        return None


def read(store: Store, system: str) -> tuple[list[OpenItem], list[OpsError]]:
    """Everything that is open in a system, oldest first, and an error for each record that cannot be read."""
    found, bad = [], []
    for info in store.list(ROOT):
        try:
            item = parse(read_json(store, info.key))
        except OpsError as error:
            if error.code == "object_missing":  # closed meanwhile
                continue
            if error.code not in ("object_damaged", "item_unreadable"):
                raise
            bad.append(OpsError("item_unreadable", f"{info.key}: {error.cause}", error.remedy, {"key": info.key}))
            continue
        if item is not None and item.system == system:
            found.append(item)
    return sorted(found, key=lambda item: (item.opened, item.id)), bad


def close(store: Store, item: OpenItem, by: str, how: str, now: float) -> bool:
    """Say that it is over; False when it was closed already. Safe to repeat.

    The journal keeps the history, so the record goes; where nothing may be deleted it stays, marked closed.
    """
    if look(store, item.id) is None:
        return False
    write_json(store, key(item.id), closed(item, by, how, now))
    with contextlib.suppress(OpsError):
        store.delete([key(item.id)])
    return True
