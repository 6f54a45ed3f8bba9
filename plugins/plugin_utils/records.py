# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journal records on their way between the controller and the store: none is lost when the store is away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id, parse_event
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import spooled
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import Batch
from ansible_collections.saasops.runbook.plugins.plugin_utils import witness


class Records:
    """What one guarded task takes to the store, and what it brings back unwritten."""

    def __init__(self, system: str, request: Mapping[str, object], action: str) -> None:
        self._system = system
        self._request = request
        self._action = action
        self._handover = witness.handover()
        self._spool = witness.spool(system)
        self._stack = contextlib.ExitStack()
        self._batch: Batch | None = None
        self._given: list[Event] = []

    def __enter__(self) -> Records:
        self._stack.__enter__()
        self._handover.announce(str(self._request["host"]), self._system)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def to_write(self) -> dict[str, object]:
        """events (and events_again_since) of the option guard: spooled ones, the run's first, witnessed tasks."""
        self._batch = self._stack.enter_context(self._spool.merging())
        events = spooled(self._batch.events, time.time(), self._system) if self._batch else []
        if self._batch is not None and self._batch.torn:
            events.append(self._event("note", {"code": "spool_torn", "lines": self._batch.torn}))
        if self._first():
            events.append(self._event("run_started", {"versions": witness.versions()}))
        run = str(self._request["run"])
        witnessed = self._handover.take(frozenset([str(self._request["host"])]))
        events += [task.event(self._system, run) for task in witnessed]
        self._given = events
        again = self._batch.again_since if self._batch else None
        return {"events": [event.as_json() for event in events], "events_again_since": again}

    def settle(self, report: Mapping[str, object] | None, answer: Mapping[str, object]) -> None:
        """After the module: spool what is not in the chain; without a report that is all, and that nobody knows."""
        if report is None:
            lost = self._event("note", {"code": "no_report", "failed": True, "cause": _last_words(answer)})
            self._spool.add(self._new(self._given), tried=True)
            self._spool.add([lost])
            return
        unwritten = [parse_event(item) for item in cast("list[object]", report.get("unwritten") or [])]
        if not unwritten and self._batch is not None:
            self._batch.done()
        self._spool.add(self._new(unwritten), tried=True)

    def _new(self, events: list[Event]) -> list[Event]:
        """Without those that still wait in the spool's batch."""
        waiting = {event.id for event in self._batch.events} if self._batch else set()
        return [event for event in events if event.id not in waiting]

    def _first(self) -> bool:
        """Whether nobody of this run has begun the run's records in this system."""
        name = hashlib.sha256(self._system.encode()).hexdigest()[:16]
        path = os.path.join(self._handover.folder, f"begun-{name}")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True

    def _event(self, kind: str, facts: Mapping[str, object]) -> Event:
        request = self._request
        common = {name: request.get(name) for name in ("host", "verb", "operator", "controller")}
        body = {**common, "action": self._action, **facts}
        return Event(kind, time.time(), new_id(os.urandom(16)), self._system, str(request["run"]), body)


def _last_words(answer: Mapping[str, object]) -> str:
    words = str(answer.get("msg") or answer.get("module_stderr") or "the host did not answer")
    return words.strip()[-500:]
