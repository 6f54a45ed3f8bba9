# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store keeps of a suspected corruption: evidence, the last release, pins, and the hold in stores of copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.integrity import ROOT, item_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import PIN, folder, read_json, write_json


class Opening(Protocol):
    """What is opened, see admitted.Opening."""

    @property
    def id(self) -> str:
        """Of the open item."""

    @property
    def what(self) -> str:
        """What is open, for a person."""

    @property
    def module(self) -> str:
        """Which module closes it."""

    @property
    def undo(self) -> Mapping[str, Json]:
        """What that module needs for it."""

    @property
    def holds(self) -> tuple[str, ...]:
        """Verbs that it holds back."""


def read(store: Store, key: str) -> dict[str, Json] | None:
    """An object; None when it is missing or cannot be read. Raises the store's errors."""
    try:
        return read_json(store, key)
    except OpsError as error:
        if error.code not in ("object_missing", "object_damaged"):
            raise
        return None


def write(store: Store, key: str, body: Mapping[str, Json]) -> None:
    """Keep the evidence; durable on return."""
    write_json(store, key, dict(body))


def _release_key(system: str) -> str:
    return f"{ROOT}{item_id(system)}-released.json"


def write_release(store: Store, system: str, item: OpenItem, reason: str, now: float) -> None:
    """Say that what was counted until now is settled."""
    body: dict[str, Json] = {
        "format": 1,
        "system": system,
        "at": iso(now),
        "reason": reason,
        "suspected": item.what,
        "evidence": item.undo.get("evidence"),
    }
    write_json(store, _release_key(system), body)


def released_at(store: Store, system: str) -> float:
    """When the last suspicion was released, POSIX seconds; 0 when none was."""
    body = read(store, _release_key(system))
    try:
        return posix(str(body["at"])) if body else 0.0
    except (KeyError, ValueError):
        return 0.0


def pin(store: Store, set_id: str, by: str, now: float) -> None:
    """Keep a set; one that is pinned already stays pinned as it is."""
    key = folder(set_id) + PIN
    if read(store, key) is None:
        write_json(store, key, {"reason": "data corruption is suspected", "until": None, "at": iso(now), "by": by})


def unpin(store: Store, set_id: str, by: str) -> None:
    """Let a set go that pin() keeps; a person's pin stays."""
    key = folder(set_id) + PIN
    found = read(store, key)
    if found is not None and found.get("by") == by:
        store.delete([key])


def hold(store: Store, system: str, opening: Opening, now: float) -> None:
    """The same open item in a store of copies, which has no journal of its own."""
    item = OpenItem(
        id=opening.id,
        system=system,
        host="",
        what=opening.what,
        verb="integrity",
        opened_by="",
        operator="",
        opened=now,
        module=opening.module,
        undo=dict(opening.undo),
        outlives=True,
        holds=opening.holds,
    )
    open_items.record(store, item)


def release(store: Store, identifier: str, now: float) -> None:
    """End hold()."""
    item = open_items.look(store, identifier)
    if item is not None:
        open_items.close(store, item, "", "released", now)
