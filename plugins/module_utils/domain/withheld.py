# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What something open holds back: verbs that must wait until a person ends it, whatever else would let them run.

An open item may name verbs (prune), or one kind of action of a verb (maintenance:rewrite). Such a refusal is about
losing data: neither break glass nor a guard that is switched off goes past it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan

# the only verbs that are looked for: all others are spared the reading of what is open
HOLDABLE = frozenset({"prune", "cleanup", "restart", "restore_finish", "maintenance"})
# the module that opened the item -> the code of the refusal
_CODES = {"pg_integrity": "integrity_suspected"}
# keys of the items that hold something back
_MAY_HOLD = ("open/integrity-",)
_REMEDIES = {
    "pg_integrity": "Look into it first (docs: integrity). When it is settled: integrity -e state=released "
    "-e reason='<why>'."
}


def _means(held: str, verb: str, plan: Plan) -> bool:
    name, _colon, kind = held.partition(":")
    return name == verb and (not kind or any(action.kind == kind for action in plan.actions))


def holders(items: Sequence[OpenItem], verb: str, plan: Plan) -> list[OpenItem]:
    """The open items that hold this plan of a verb back."""
    return [item for item in items if any(_means(held, verb, plan) for held in item.holds)]


def refusals(items: Sequence[OpenItem], verb: str, plan: Plan) -> list[OpsError]:
    """A reason for each open item that holds the plan back; [] when none does."""
    return [
        OpsError(
            _CODES.get(item.module, "held_back"),
            f"{verb} is held back since {utc(item.opened)}: {item.what}.",
            _REMEDIES.get(item.module, f"End {item.id} first; the verb status shows it."),
            {"item": item.id, "holds": list(item.holds)},
        )
        for item in holders(items, verb, plan)
    ]


def unreadable(errors: Sequence[OpsError]) -> OpsError | None:
    """A record that cannot be read and may hold something back; None when there is none."""
    for error in errors:
        if str(error.details.get("key", "")).startswith(_MAY_HOLD):
            cause = f"What is held back is not known: {error.cause}"
            return OpsError(error.code, cause, error.remedy, error.details)
    return None
