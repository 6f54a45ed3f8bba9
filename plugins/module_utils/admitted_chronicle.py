# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guarded module writes to the journal, and what becomes of it when the store does not take it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted_ground import Ground
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, Head, new_id, parse_event
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal


class Chronicle:
    """The records of one module.

    anchor: the inventory's saasops_journal_anchor, a second place for the chain's head. unwritten: what waits.
    warnings: what went wrong beside the work, for people.
    """

    def __init__(self, ground: Ground, anchor: Mapping[str, object] | None = None) -> None:
        self._ground, self._anchor = ground, anchor
        self.unwritten: list[Event] = [
            parse_event(item) for item in cast("list[object]", ground.body.get("events") or [])
        ]
        self.warnings: list[str] = []
        again = ground.body.get("events_again_since")
        self._again_since = None if again is None else float(str(again))

    def event(self, kind: str, facts: Mapping[str, object]) -> Event:
        """A record of now, with what is the same in all of this module's."""
        ground, verb = self._ground, self._ground.request.verb
        common = {
            "host": ground.host,
            "verb": verb.name,
            "class": verb.verb_class,
            "action": str(ground.body.get("action") or ""),
            "operator": ground.request.operator,
            "controller": str(ground.body.get("controller") or ""),
        }
        run = ground.request.run
        return Event(kind, time.time(), new_id(os.urandom(16)), ground.system, run, {**common, **facts})

    def bypasses(self) -> list[Event]:
        """What was gone past so far, as records."""
        if not self._ground.bypassed:
            return []
        reason = self._ground.glass or "saasops_guard: none"
        went_past = [{"code": item.code, "cause": item.cause} for item in self._ground.bypassed]
        return [self.event("bypass", {"reason": reason, "past": went_past})]

    def write(self, events: list[Event], *, final: bool = False) -> None:
        """Write to the chain; what it does not take goes back to the controller, unless the journal is required.

        final: nothing comes after it, so nothing is stopped by it, and the chain's new head is anchored.
        Raises OpsError journal_unavailable.
        """
        ground = self._ground
        self.unwritten += events
        try:
            after = journal.append(ground.store, self.unwritten, self._again_since)
        except OpsError as error:
            # some of them may be in the chain now: whoever tries again looks first
            self._again_since = min(ground.began, self._again_since or ground.began)
            ground.go_past(error, "the journal's records wait on the controller")
            if ground.policy.journal == "required" and not final and not ground.glass:
                raise OpsError(
                    "journal_unavailable",
                    f"The journal is required here and could not be written: {error.cause}",
                    f"{error.remedy} Or go past it with break_glass; the records then wait on the controller.",
                ) from error
            return
        self.unwritten = []
        if final and self._anchor:
            self._keep(after.head)

    def _keep(self, head: Head) -> None:
        """The head in the second place; the next run's makes up for one that could not be kept."""
        try:
            place = journal.open_anchor(dict(self._anchor or {}), self._ground.store)
            journal.write_anchor(place, self._ground.system, head, time.time())
        except OpsError as error:
            self.warnings.append(f"the journal's head {head.number} was not anchored: {error.message}")
