# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans in a store: plans/<id>.json, what a run would do on each host, and the envelope that can be approved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import envelope_of, together
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import Request
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, new_set_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

ROOT = "plans/"


def keep(store: Store, system: str, request: Request, hosts: Mapping[str, Plan], now: float) -> str:
    """Write the plans of a run's hosts as one object; its id."""
    identifier = new_set_id(now, os.urandom(4))
    whole = together(envelope_of(plan) for plan in hosts.values())
    body = {
        "id": identifier,
        "system": system,
        "run": request.run,
        "verb": request.verb.name,
        "by": request.operator,
        "at": iso(now),
        "hosts": {name: plan.as_dict() for name, plan in sorted(hosts.items())},
        "envelope": whole.as_json(),
        "digest": whole.digest(),
    }
    write_json(store, f"{ROOT}{identifier}.json", cast("dict[str, Json]", body), if_absent=True)
    return identifier


def load(store: Store, identifier: str, system: str) -> dict[str, Json]:
    """A kept plan. Raises OpsError unknown_plan."""
    try:
        body = read_json(store, f"{ROOT}{identifier}.json")
    except OpsError as error:
        if error.code != "object_missing":
            raise
        raise OpsError(
            "unknown_plan", f"There is no plan {identifier} in {store.url}.", "Take the id from the refusal."
        ) from error
    if body.get("system") != system:
        raise OpsError(
            "plan_of_another_system",
            f"Plan {identifier} is of system {body.get('system')!r}, not of {system!r}.",
            "Choose that system's inventory.",
        )
    return body
