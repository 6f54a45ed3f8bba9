# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback of a run and its forked workers tell each other: files in the run's own temporary folder.

    active         the callback is on and can write
    run            the run's id, of whoever asked first
    systems.jsonl  which system a host belongs to, told by admission
    tasks.jsonl    tasks that the callback saw and nobody has journaled yet

The folder lives as long as the run; what must outlive it goes to the spool.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import append_lines, locked, read_lines


@dataclass(frozen=True)
class Witnessed:
    """A task that the callback saw: the event's id and time (POSIX seconds), the host, the facts."""

    id: str
    at: float
    host: str
    facts: Mapping[str, Json]

    def as_json(self) -> dict[str, Json]:
        return {"id": self.id, "at": self.at, "host": self.host, "facts": dict(self.facts)}

    def event(self, system: str, run: str) -> Event:
        """As a record of the run."""
        return Event("task", self.at, self.id, system, run, {**self.facts, "host": self.host})


class Handover:
    """The folder; it is made by whoever comes first. Every method may raise OSError."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def _path(self, name: str) -> str:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        return os.path.join(self.folder, name)

    def begin(self) -> None:
        """The callback is on."""
        append_lines(self._path("active"), [])

    def give_up(self) -> None:
        """The callback cannot write: from now on it counts as off."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, "active"))

    def active(self) -> bool:
        """Whether the callback is on in this run."""
        return os.path.exists(os.path.join(self.folder, "active"))

    def run_id(self, make: Callable[[], str] | None = None) -> str:
        """The run's id; make() is asked when nobody has one yet, "" without it."""
        path = os.path.join(self.folder, "run")
        with contextlib.suppress(FileNotFoundError):
            return _text(path)
        if make is None:
            return ""
        with locked(self._path("lock")):
            if not os.path.exists(path):
                with open(path + ".new", "w", encoding="utf-8") as stream:
                    stream.write(make())
                os.rename(path + ".new", path)
        return _text(path)

    def announce(self, host: str, system: str) -> None:
        """A host belongs to a system."""
        if self.systems().get(host) != system:
            append_lines(self._path("systems.jsonl"), [{"host": host, "system": system}])

    def systems(self) -> dict[str, str]:
        """Systems by host, as they were announced."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for line in read_lines(os.path.join(self.folder, "systems.jsonl")):
                if isinstance(line, dict):
                    found[str(line.get("host"))] = str(line.get("system"))
        return found

    def write(self, task: Witnessed) -> None:
        """Hand over one task."""
        with locked(self._path("lock")):
            append_lines(os.path.join(self.folder, "tasks.jsonl"), [task.as_json()])

    def take(self, hosts: frozenset[str] | None = None) -> list[Witnessed]:
        """What was handed over of these hosts (None: of all), which is then gone from here."""
        path = os.path.join(self.folder, "tasks.jsonl")
        if not os.path.exists(path):
            return []
        with locked(self._path("lock")):
            if not os.path.exists(path):
                return []
            every = [found for found in map(_witnessed, read_lines(path)) if found is not None]
            mine = [task for task in every if hosts is None or task.host in hosts]
            rest = [task.as_json() for task in every if not (hosts is None or task.host in hosts)]
            if rest:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + ".new")
                append_lines(path + ".new", rest)
                os.rename(path + ".new", path)
            else:
                os.unlink(path)
        return mine


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _witnessed(line: object) -> Witnessed | None:
    if not isinstance(line, dict):
        return None
    return Witnessed(str(line["id"]), float(line["at"]), str(line["host"]), dict(line["facts"]))
