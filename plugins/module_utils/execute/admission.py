# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a run that belong to no host's module: decide once over all hosts of a system, and close."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Admitted
from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import envelope_of, together
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import (
    Plan,
    envelope_line,
    parse_plan,
    preview,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def whole_plan(plans: Mapping[str, Plan]) -> Plan:
    """One plan of all hosts; ceilings are added. Raises ValueError for none."""
    envelope = together(envelope_of(plan) for plan in plans.values())
    actions = tuple(action for _host, plan in sorted(plans.items()) for action in plan.actions)
    return Plan(envelope.verb, actions, envelope.ceilings)


def execute(params: dict[str, object], context: Context) -> Result:
    """The module admission."""
    body = cast("dict[str, object]", params["request"])
    if params["step"] == "close":
        return _close(params, context, body)
    plans = {host: parse_plan(plan) for host, plan in cast("dict[str, dict[str, object]]", params["plans"]).items()}
    if not plans:
        return Result(Plan(str(body["verb"]), ()), False, "No host has anything to do.", {"grant": {}})
    plan = whole_plan(plans)
    lines = [f"{host}: {line}" for host, one in sorted(plans.items()) for line in preview(one)]
    lines.append(f"the run: {len(plan.actions)} actions on {len(plans)} hosts, {envelope_line(plan)}")
    admitted = Admitted(body, params, context.now)
    if context.check_mode:
        against = admitted.against(plan)
        lines += [f"would be refused: {item.message}" for item in against]
        return Result(plan, not plan.empty, "Planned.", {"lines": lines, "against": [item.code for item in against]})
    if plan.empty:
        return Result(plan, False, "No host has anything to do.", {"lines": lines, "grant": {}})
    grant = admitted.grant(plans, plan)
    return Result(plan, False, f"Admitted as plan {grant['plan']}.", {"lines": lines, "grant": grant})


def _close(params: dict[str, object], context: Context, body: Mapping[str, object]) -> Result:
    """Give back what the run still holds, for whichever of its hosts."""
    if context.check_mode:
        return Result(None, False, "Nothing is held in check mode.")
    leases, run = Leases(open_store(cast("dict[str, object]", params["store"]))), str(body["run"])
    views, _unreadable = leases.status()
    mine = [view.name for view in views if view.lease is not None and view.lease.run == run]
    given = [name for name in mine if leases.release(name, run, time.time(), str(body.get("operator") or ""))]
    return Result(None, False, f"Given back: {', '.join(given)}." if given else "Nothing is held.")
