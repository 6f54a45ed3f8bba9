# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping clients out of a database for a time: what to do, from how the database is and what is recorded of it.

A hold is CONNECTION LIMIT 0: nobody but superusers gets a new connection, and every connection of others is ended.
The limit that was there before is recorded with the open item, so that it comes back as it was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

# seconds: shorter ones would end before they are noticed; longer ones are a decision of their own
SHORTEST, LONGEST = 30, 7 * 86400


@dataclass(frozen=True)
class Database:
    """A database as the catalog has it. limit: its CONNECTION LIMIT, -1 for none.

    clients: connections that a hold ends; superusers: those that it does not reach.
    """

    name: str
    oid: int
    server: str
    limit: int
    clients: int = 0
    superusers: int = 0

    @property
    def item_id(self) -> str:
        """The open item's id: a database is held only once, whatever its name is."""
        return "hold-" + hashlib.sha256(f"{self.server}\0{self.oid}".encode()).hexdigest()[:12]


def limit_before(database: Database, item: OpenItem | None, given: int | None) -> int:
    """The limit to come back to. Raises OpsError hold_unknown when nothing tells it."""
    if database.limit != 0:
        return database.limit
    if item is not None:
        return int(str(item.undo["limit"]))
    if given is not None:
        return given
    raise OpsError(
        "hold_unknown",
        f"Database {database.name!r} has CONNECTION LIMIT 0, and no record says that a run of ours set it.",
        "Say which limit it is to have afterwards: limit=-1 for none.",
    )


def decide_hold(
    database: Database, item: OpenItem | None, reason: str, until: float | None, given: int | None = None
) -> Plan:
    """The plan to hold it until a moment (POSIX seconds; None: until it is released). Raises OpsError hold_unknown."""
    limit_before(database, item, given)
    lasts = "until it is released" if until is None else f"until {utc(until)}"
    actions = []
    if database.limit != 0:
        measured = {"connections_ended": database.clients}
        actions.append(Action("hold", database.name, f"{reason}; {lasts}", measured))
    elif item is None or item.expiry != until:
        actions.append(Action("prolong", database.name, f"{reason}; {lasts}"))
    elif database.clients:
        actions.append(Action("end connections", database.name, reason, {"connections": database.clients}))
    warnings = []
    if database.superusers:
        warnings.append(
            f"{database.superusers} connections of superusers are in {database.name}: no limit holds them off. An "
            "application should not be one."
        )
    ceilings = {"databases": 1, "sessions": database.clients} if actions else {}
    return Plan("hold", tuple(actions), ceilings, tuple(warnings))


def decide_release(database: Database, item: OpenItem | None, given: int | None = None) -> Plan:
    """The plan to let clients in again. Raises OpsError hold_unknown."""
    if database.limit == 0:
        before = limit_before(database, item, given)
        if before == 0:
            return Plan("hold", ())
        to = "no connection limit" if before < 0 else f"CONNECTION LIMIT {before}"
        return Plan("hold", (Action("release", database.name, f"back to {to}"),), {"databases": 1})
    if item is not None:
        return Plan("hold", (Action("close record", database.name, "clients are let in already"),), {"databases": 1})
    return Plan("hold", ())
