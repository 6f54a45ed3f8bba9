# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agree to a plan that is kept in the store, for a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import parse_envelope
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import parse_approval
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan, describe, parse_plan
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import approvals, journal, plans
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_Hosts = Mapping[str, Mapping[str, object]]


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_approve."""
    plan, by, system = str(params["plan"]), str(params["by"]), str(params["system"])
    if not by.strip():
        raise OpsError("approver_unknown", "It is not said who approves.", "Give by=<your name>.")
    until = context.now + parse_duration(str(params["valid_for"]), "valid_for")
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    body = plans.load(store, plan, system)
    envelope = parse_envelope(body["envelope"])
    hosts = cast(_Hosts, body["hosts"])
    lines = [f"{host}: {line}" for host, one in sorted(hosts.items()) for line in describe(parse_plan(one).actions)]
    mine = (parse_approval(*pair) for pair in approvals.read(store))
    evidence: dict[str, object] = {"lines": lines, "envelope": envelope.digest()}
    for found in mine:
        if found is not None and (found.plan, found.by) == (plan, by) and found.until > context.now:
            done = f"Plan {plan} is approved by {by} until {utc(found.until)} already."
            return Result(Plan("approve", ()), False, done, {**evidence, "approval": found.id})
    act = Action("approve", plan, f"{envelope.verb} by {body.get('by')}, until {utc(until)}")
    result = Result(Plan("approve", (act,)), True, f"Plan {plan} is approved by {by} until {utc(until)}.", evidence)
    if not context.check_mode:
        approval: dict[str, Json] = {
            "plan": plan,
            "envelope": cast("dict[str, Json]", envelope.as_json()),
            "by": by,
            "at": iso(context.now),
            "until": iso(until),
            "until_posix": until,
        }
        evidence["approval"] = approvals.write(store, plan, os.urandom(8).hex(), approval)
        facts = {"plan": plan, "operator": by, "until": iso(until), "envelope": envelope.digest()}
        event = Event("approval", context.now, new_id(os.urandom(16)), system, str(body.get("run") or ""), facts)
        try:
            journal.append(store, [event])
        except OpsError as error:
            context.warn(f"The approval stands, but the journal did not take it: {error.cause}")
    return result
