# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin a backup set, so that prune leaves it, or take the pin away."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import parse_moment
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import PIN, SetEntry, entry, folder, write_json


def _until(params: dict[str, object], now: float) -> float | None:
    text = params.get("until")
    if text in (None, ""):
        return None
    try:
        until = parse_moment(str(text))
    except ValueError as error:
        raise OpsError(
            "bad_moment", f"until: {error}.", "Write a day, or a time in UTC that ends in Z.", {"until": str(text)}
        ) from error
    if until <= now:
        raise OpsError(
            "bad_moment", f"until: {text} is past.", "Give a later day, or leave until out to pin for ever.", {}
        )
    return until


def _found(store: Store, set_id: str, system: str) -> SetEntry:
    found = entry(store, set_id, system)
    if found.state == "foreign":
        raise OpsError(
            "set_of_another_system",
            f"Set {set_id} cannot be pinned: {found.problem}",
            "Name the system it belongs to.",
            {"set": set_id},
        )
    return found


def _same(pin: dict[str, Json], reason: str, until: str | None) -> bool:
    return pin.get("reason") == reason and pin.get("until") == until


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_backup_pin."""
    set_id, system, state = str(params["set"]), str(params["system"]), str(params["state"])
    prefix = folder(set_id)
    until = _until(params, context.now) if state == "present" else None
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    found = _found(store, set_id, system)
    if state == "absent":
        if found.pin is None:
            return Result(Plan("pin", ()), message=f"Set {set_id} is not pinned.", evidence={"pin": None})
        plan = Plan("pin", (Action("unpin", set_id, f"it was pinned: {found.pin.get('reason')}"),))
        if not context.check_mode:
            context.authorise(plan)
            store.delete([prefix + PIN])
        return Result(plan, True, f"Set {set_id} is no longer pinned.", {"pin": None})
    reason = str(params["reason"])
    pin: dict[str, Json] = {"reason": reason, "until": None if until is None else iso(until)}
    lasts = "for ever" if until is None else f"until {utc(until, seconds=False)}"
    if found.pin is not None and _same(found.pin, reason, None if until is None else iso(until)):
        return Result(Plan("pin", ()), message=f"Set {set_id} is pinned {lasts} already.", evidence={"pin": pin})
    plan = Plan("pin", (Action("pin", set_id, f"{reason} ({lasts})"),))
    if not context.check_mode:
        context.authorise(plan)
        write_json(store, prefix + PIN, {**pin, "at": iso(context.now), "by": str(params.get("by") or "")})
    return Result(plan, True, f"Set {set_id} is pinned {lasts}.", {"pin": pin})
