# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's silence around a module that changes something: exactly its targets, for as long as it works.

What was opened is an open item in the store (open/<id>.json, with its undo), recorded before the silence is made. The
silence also ends by itself, so that nothing stays quiet for long when everything else fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.silence import (
    Matcher,
    Wanted,
    parse_matchers,
    same,
    stamp,
)
from ansible_collections.saasops.runbook.plugins.module_utils.providers.alertmanager import (
    ALERTMANAGER_SPEC,
    MATCHERS_SPEC,
    Alertmanager,
    open_alertmanager,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

ROOT = "open/"
PREFIX = f"{ROOT}silence-"
# the inventory's saasops_silence as admission hands it in; a short timeout, because nobody waits for a silence
SILENCE_SPEC: dict[str, dict[str, object]] = {
    **ALERTMANAGER_SPEC,
    "timeout": {"type": "int", "default": 3},
    "matchers": {**MATCHERS_SPEC, "required": True},
    "after": {"type": "str", "default": "5m"},
    "longest": {"type": "str", "default": "1h"},
    "required": {"type": "bool", "default": False},
    "verbs": {"type": "list", "elements": "str"},
}
# the verb that puts back what others opened makes no silence of its own
ENDS_SILENCES = "reconcile"
_PROCESS = ("controller", "boot_id", "pid_namespace", "pid", "process_started")
Fact = tuple[str, dict[str, object]]


class Silencing:
    """One module's silence. body: the option guard. options: of SILENCE_SPEC, None when nothing is silenced."""

    def __init__(
        self,
        options: Mapping[str, object] | None,
        body: Mapping[str, object],
        system: str,
        warn: Callable[[str], None],
    ) -> None:
        self._options = options
        self._body = body
        self._system = system
        self._warn = warn
        self._run, self._host, self._verb = str(body["run"]), str(body["host"]), str(body["verb"])
        self._stop = threading.Event()
        self._store: Store | None = None
        self._manager: Alertmanager | None = None
        self._wanted: Wanted | None = None

    def _parsed(self, now: float) -> tuple[Alertmanager, Wanted, float]:
        options = cast("Mapping[str, object]", self._options)
        longest = float(parse_duration(str(options["longest"]), "saasops_silence.longest"))
        parse_duration(str(options["after"]), "saasops_silence.after")
        comment = f"saasops.runbook: {self._verb} of {self._system} on {self._host}, run {self._run}"
        author = str(self._body.get("operator") or "saasops.runbook")
        wanted = Wanted(parse_matchers(options["matchers"]), comment, author, ends=now + longest)
        return open_alertmanager(options), wanted, longest

    def open(self, store: Callable[[], Store], lease: str, break_glass: bool) -> list[Fact]:
        """Record and make the silence; put back what dead runs left. Facts for the journal.

        lease: the name of the lease that this run holds, "" for none: an open silence of an earlier run under the
        same lease is no longer wanted. Raises OpsError only where the silence is required and no glass is broken.
        """
        if self._options is None or self._verb == ENDS_SILENCES:
            return []
        facts: list[Fact] = []
        now = time.time()
        try:
            manager, wanted, longest = self._parsed(now)
            recorded = self._record(store, wanted, now, longest, lease)
            if recorded is not None:
                facts += self._reconcile(recorded, manager, lease, now)
            step, stands = manager.converge(wanted, now)
        except OpsError as error:
            if self._options["required"] and not break_glass:
                raise OpsError(error.code, f"The silence is required here. {error.cause}", error.remedy) from error
            self._warn(f"[{error.code}] Alerts are not silenced: {error.cause}")
            return [*facts, ("note", {"code": "not_silenced", "cause": error.message})]
        self._manager, self._wanted = manager, wanted
        threading.Thread(target=self._renew, args=(longest,), daemon=True, name="saasops-silence").start()
        del step
        return [*facts, ("note", {"code": "silenced", "silence": stands.id, "until": stamp(stands.ends)})]

    def _key(self) -> str:
        named = f"{self._run}\n{self._system}\n{self._host}"
        return f"{PREFIX}{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"

    def _record(
        self, opener: Callable[[], Store], wanted: Wanted, now: float, longest: float, lease: str
    ) -> Store | None:
        """The open item, before the silence; a store that is away does not hinder one that ends by itself."""
        manager_url = str(cast("Mapping[str, object]", self._options)["url"])
        undo: dict[str, Json] = {
            "state": "absent",
            "alertmanager": {"url": manager_url},
            "comment": wanted.comment,
            "matchers": [
                {"name": m.name, "value": m.value, "is_regex": m.is_regex, "is_equal": m.is_equal}
                for m in wanted.matchers
            ],
        }
        item: dict[str, Json] = {
            "format": 1,
            "id": self._key()[len(ROOT) : -len(".json")],
            "state": "open",
            "system": self._system,
            "host": self._host,
            "what": f"alerts are silenced: {' '.join(str(m) for m in wanted.matchers)}",
            "verb": self._verb,
            "run": self._run,
            "operator": str(self._body.get("operator") or ""),
            "opened": iso(now),
            "expiry": iso(now + longest),
            "outlives": False,
            "actor": "alertmanager",
            "process": {name: cast("Json", self._body[name]) for name in _PROCESS if name in self._body},
            "lease": lease,
            "undo": {"module": "alertmanager_silence", "options": undo},
        }
        try:
            self._store = opener()
            write_json(self._store, self._key(), item)
        except OpsError as error:
            self._store = None
            self._warn(f"[{error.code}] The silence is not recorded: {error.cause}")
        return self._store

    def _reconcile(self, store: Store, manager: Alertmanager, lease: str, now: float) -> list[Fact]:
        """End what earlier runs left silent: those whose lease is ours now, and whose time is over."""
        facts: list[Fact] = []
        for info in store.list(PREFIX):
            if info.key == self._key():
                continue
            with contextlib.suppress(OpsError, KeyError, TypeError, ValueError):
                body = read_json(store, info.key)
                ended = posix(str(body["expiry"])) <= now
                if body["system"] != self._system or body["run"] == self._run:
                    continue
                if not ended and not (lease and body.get("lease") == lease):
                    continue
                if not ended and not put_back(manager, body):
                    continue
                store.delete([info.key])
                facts.append(("reverted", {"open_item": str(body["id"]), "of_run": str(body["run"])}))
        return facts

    def _renew(self, longest: float) -> None:
        while not self._stop.wait(longest / 3):
            with contextlib.suppress(OpsError):
                self._set(time.time() + longest)

    def _set(self, ends: float, shorten: bool = False) -> None:
        if self._manager is not None and self._wanted is not None:
            wanted = Wanted(
                self._wanted.matchers, self._wanted.comment, self._wanted.created_by, ends=ends, shorten=shorten
            )
            self._manager.converge(wanted, time.time())

    def close(self, failed: bool) -> None:
        """The module is through: alerts may speak again, at once after a failure, else a stated time later."""
        self._stop.set()
        if self._manager is None or self._wanted is None or self._options is None:
            return
        after = 0 if failed else parse_duration(str(self._options["after"]), "saasops_silence.after")
        try:
            if after:
                self._set(time.time() + after, shorten=True)
            else:
                _end(self._manager, self._wanted.matchers, self._wanted.comment)
            if self._store is not None:
                self._store.delete([self._key()])
        except OpsError as error:
            # the record stays: the next run or reconcile closes it, and the silence ends by itself
            self._warn(f"[{error.code}] The silence of this run was not ended: {error.cause}")
        self._manager = None


def _end(manager: Alertmanager, matchers: tuple[Matcher, ...], comment: str) -> None:
    for item in same(manager.silences(), matchers, comment):
        manager.expire(item.id)


def release(options: Mapping[str, object] | None, item: OpenItem, now: float) -> str:
    """Put an open silence back, as one sentence. options: of SILENCE_SPEC, None when the inventory has none.

    Raises OpsError of the provider, and silence_out_of_reach.
    """
    if item.expiry is not None and item.expiry <= now:
        return f"The silence of run {item.opened_by} has ended by itself."
    if options is None or not put_back(open_alertmanager(options), item.as_json()):
        raise OpsError(
            "silence_out_of_reach",
            "The inventory names no Alertmanager, or another one than the silence is in.",
            "Set saasops_silence, or wait: it ends by itself.",
        )
    return f"The silence of run {item.opened_by} is ended."


def put_back(manager: Alertmanager, item: Mapping[str, Json]) -> bool:
    """End the silence of an open item; False when it is another Alertmanager's. Safe to repeat.

    Raises OpsError of the provider, and KeyError or TypeError for a record that is not ours.
    """
    undo = cast("Mapping[str, object]", item["undo"])
    named = cast("Mapping[str, object]", undo["options"])
    where = cast("Mapping[str, object]", named["alertmanager"])
    if str(where["url"]).rstrip("/") != manager.url:
        return False
    _end(manager, parse_matchers(named["matchers"]), str(named["comment"]))
    return True
