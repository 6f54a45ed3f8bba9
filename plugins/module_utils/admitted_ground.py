# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guarded module stands on: the request of admission, the rules of its system, its store, and break glass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import Policy, Request, parse_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import PRUNE, VERBS
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.stand_in import DOWN

_Items = Sequence[object]


def _told(body: object) -> OpsError | None:
    """A refusal that the controller found (the calendar's), handed in as a dictionary."""
    if not isinstance(body, Mapping):
        return None
    return OpsError(str(body["code"]), str(body["cause"]), str(body["remedy"]), body.get("details"))


def names(value: object) -> tuple[str, ...]:
    """A list of the request as strings."""
    return tuple(str(item) for item in cast(_Items, value or []))


def parse_request(body: Mapping[str, object]) -> Request:
    """The option guard as admission made it."""
    deadline = body.get("deadline")
    return Request(
        run=str(body["run"]),
        verb=VERBS[str(body["verb"])],
        operator=str(body.get("operator") or ""),
        hosts=names(body.get("hosts")),
        failed=names(body.get("failed")),
        window=_told(body.get("window")),
        deadline=None if deadline is None else float(str(deadline)),
        break_glass=str(body.get("break_glass") or ""),
        open=names(body.get("open")),
    )


class Ground:
    """body: the option guard; params: the module's own; now: POSIX seconds at which it began."""

    def __init__(self, body: Mapping[str, object], params: Mapping[str, object], now: float) -> None:
        self.body, self.params, self.began = body, params, now
        self.request = parse_request(body)
        self.policy: Policy = parse_policy(cast("Mapping[str, object]", body.get("policy") or {}))
        self.host = str(body["host"])
        self.system = str(params.get("system") or self.host)
        self.bypassed: list[OpsError] = []
        self._opened: Store | None = None
        self._away: OpsError | None = None

    @property
    def glass(self) -> str:
        """The reason of break glass, "" without."""
        return self.request.break_glass

    @property
    def store(self) -> Store:
        """The system's store. Raises what opening it raises."""
        if self._away is not None and self.glass:
            raise self._away
        if self._opened is None:
            self._opened = open_store(cast("dict[str, object]", self.params["store"]))
        return self._opened

    def go_past(self, error: OpsError, what: str) -> bool:
        """Whether break glass goes past an unavailable store; it is told with what follows from it, once."""
        if not self.glass:
            return False
        self._past(error, what)
        return True

    def _past(self, error: OpsError, what: str) -> None:
        if error.code in DOWN:
            # a store that is gone is not waited for again by whoever comes next
            self._away = error
        found = OpsError(error.code, f"{what}: {error.cause}", error.remedy)
        if found.cause not in {item.cause for item in self.bypassed}:
            self.bypassed.append(found)

    @contextlib.contextmanager
    def tolerating(self, what: str) -> Iterator[None]:
        """With break glass an unavailable store is gone past, and said; without, it is an error as any other."""
        try:
            yield
        except OpsError as error:
            if error.code == "store_full" and self.request.verb == PRUNE:
                # nobody else can take a lease there either, and only a prune makes room
                self._past(error, what)
            elif error.code == "lease_held" or not self.go_past(error, what):
                raise

    def process(self) -> dict[str, Json]:
        """The run's process on its controller, for the proof that it is gone."""
        known = ("controller", "boot_id", "pid_namespace", "pid", "process_started")
        return {name: cast("Json", self.body[name]) for name in known if self.body.get(name) is not None}
