# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show who holds the leases of a system, what is open, and when work may run."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import View
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import line
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import line as item_line
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def facts(view: View, now: float) -> dict[str, object]:
    """A lease as the modules return it; times are seconds by the reader's own clock."""
    lease = view.lease
    if lease is None:
        return {"lease": view.name, "state": "free"}
    state = view.state(now)
    return {
        "lease": view.name,
        "state": state,
        "run": lease.run,
        "token": lease.token,
        "operator": lease.holder.operator,
        "controller": lease.holder.controller,
        "verb": lease.verb,
        "class": lease.verb_class,
        "reason": lease.reason,
        "hosts": view.hosts,
        "taken": iso(lease.taken),
        "age": max(0.0, now - lease.taken),
        "expires_in": view.remaining(now) if state in ("held", "expired") else None,
        "ended": None if view.end is None else dict(view.end.as_json()),
    }


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_status."""
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    views, bad = Leases(store).status()
    for error in bad:
        context.warn(error.message)
    lines = [line(view, context.now) for view in views] + [f"{e.details['lease']}: UNREADABLE" for e in bad]
    held = [view.name for view in views if view.state(context.now) == "held"]
    message = "No run is under way." if not held and not bad else f"{len(held)} held: {', '.join(held)}."
    if bad:
        message += f" {len(bad)} cannot be read."
    leases = [facts(view, context.now) for view in views]
    leases += [{"lease": e.details["lease"], "state": "unreadable"} for e in bad]
    items, unreadable = open_items.read(store, str(params["system"])) if params.get("system") else ([], [])
    for error in unreadable:
        context.warn(error.message)
    lines += [item_line(item, context.now) for item in items]
    message += f" {len(items)} open." if items else ""
    calendar = [str(one) for one in cast("list[object]", params.get("calendar") or [])]
    return Result(
        message=message,
        evidence={"leases": leases, "open": [item.as_json() for item in items], "lines": lines + calendar},
    )
