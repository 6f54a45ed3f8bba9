# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What maintenance remembers of a database between its runs: one small object in the store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Mark
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

# marks of what was not touched for so long say nothing any more, in seconds
FORGOTTEN = 90 * 86400.0


def key(system: str, database: str) -> str:
    """Of a database of a system; any name may be a database's."""
    digest = hashlib.sha256(f"{system}\0{database}".encode()).hexdigest()[:16]
    return f"maintenance/{digest}.json"


class Memory:
    """Marks by "database/oid". server: its system identifier and port; those of another server count for nothing."""

    def __init__(self, store: Store, system: str, database: str, server: str) -> None:
        self._store, self._key = store, key(system, database)
        self._head: dict[str, Json] = {"format": 1, "system": system, "database": database, "server": server}
        self._marks: dict[str, dict[str, Json]] = {}
        self._changed = False
        # threads note, and another one saves
        self._lock = threading.Lock()
        # an older text never lands on a newer one
        self._writing = threading.Lock()

    def load(self) -> None:
        """Read it; nothing is remembered when there is none, or when it cannot be read. Raises the store's errors."""
        try:
            body = read_json(self._store, self._key)
        except OpsError as error:
            if error.code not in ("object_missing", "object_damaged"):
                raise
            return
        if body.get("format") == 1 and body.get("server") == self._head["server"]:
            self._marks = dict(cast("Mapping[str, dict[str, Json]]", body.get("marks") or {}))

    def marks(self, now: float) -> dict[str, Mark]:
        """All marks, their times as seconds before now (POSIX seconds)."""

        def ago(value: object) -> float | None:
            return None if value is None else max(0.0, now - float(str(value)))

        return {
            name: Mark(
                vacuumed=ago(mark.get("vacuumed")),
                analyzed=ago(mark.get("analyzed")),
                held=str(mark.get("held") or ""),
                bytes=int(str(mark.get("bytes") or 0)),
                written=int(str(mark.get("written") or 0)),
            )
            for name, mark in self._marks.items()
        }

    def note(self, name: str, **facts: Json) -> None:
        """Remember facts of one table or index."""
        with self._lock:
            self._marks[name] = {**self._marks.get(name, {}), **facts}
            self._changed = True

    def save(self, now: float) -> None:
        """Write it, durable on return; nothing when nothing was noted. Raises the store's errors."""
        with self._writing:
            with self._lock:
                if not self._changed:
                    return
                fresh = {name: mark for name, mark in self._marks.items() if now - _newest(mark) < FORGOTTEN}
                self._changed = False
            try:
                write_json(self._store, self._key, {**self._head, "marks": cast("Json", fresh)})
            except OpsError:
                self._changed = True
                raise


def _newest(mark: Mapping[str, Json]) -> float:
    return max((float(str(mark[name])) for name in ("vacuumed", "analyzed", "at") if mark.get(name)), default=0.0)
