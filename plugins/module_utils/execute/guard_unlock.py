# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""End a lease with a recorded reason, because its run is known to be gone."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import End, View
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import held_by
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard_status import facts
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def _chosen(leases: Leases, name: str) -> str:
    """The lease that is meant: the named one, or the only one that is held; "" when none is."""
    views, bad = leases.status()
    known = [view.name for view in views] + [str(error.details["lease"]) for error in bad]
    if name:
        if name not in known:
            raise OpsError(
                "lease_unknown",
                f"There is no lease {name}; known are: {', '.join(known) or 'none'}.",
                "Name one that status shows: -e lease=<name>.",
                {"leases": known},
            )
        return name
    held = [view.name for view in views if view.state() == "held"] + known[len(views) :]
    if len(held) > 1:
        raise OpsError(
            "lease_ambiguous",
            f"{len(held)} leases are held: {', '.join(held)}.",
            "Say which one is meant: -e lease=<name>.",
            {"leases": held},
        )
    return held[0] if held else ""


def _seen(leases: Leases, name: str) -> View | None:
    """The lease; None when its newest record cannot be read."""
    try:
        return leases.look(name)
    except OpsError as error:
        if error.code != "lease_unreadable":
            raise
        return None


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_unlock."""
    reason, run = str(params["reason"]).strip(), str(params.get("run") or "")
    if not reason:
        raise OpsError(
            "reason_missing",
            "A lease is not ended without a reason.",
            "Say why: -e \"reason='<why the run is gone>'\".",
        )
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    leases = Leases(store)
    name = _chosen(leases, str(params.get("lease") or ""))
    if not name:
        return Result(Plan("unlock", ()), message="No lease is held.", evidence={"ended": None})
    view = _seen(leases, name)
    ended: dict[str, object] = {"lease": name, "state": "unreadable"}
    if view is None:
        token, who = leases.newest(name), "a record that cannot be read"
    elif view.lease is None or view.state() != "held":
        return Result(Plan("unlock", ()), message=f"The lease {name} is not held.", evidence={"ended": None})
    else:
        token, who, ended = view.lease.token, held_by(view.lease, context.now), facts(view, context.now)
        if run and view.lease.run != run:
            raise OpsError(
                "lease_moved",
                f"The lease {name} is not held by run {run}, but by {who}.",
                "Look at status again; that run may be at work.",
                {"lease": name, "run": view.lease.run},
            )
    plan = Plan("unlock", (Action("unlock", name, reason),))
    if not context.check_mode:
        leases.unlock(name, token, End("unlocked", str(params.get("by") or ""), reason, context.now))
    tense = "would be ended" if context.check_mode else "is ended"
    return Result(plan, True, f"The lease {name} {tense}. It was held by {who}.", {"ended": ended})
