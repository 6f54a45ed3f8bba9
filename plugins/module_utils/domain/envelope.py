# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an approval speaks of: kinds of action, their objects, and ceilings. Measured numbers are not in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan

Json = dict[str, object]
SHOWN = 10


@dataclass(frozen=True)
class Envelope:
    """actions: (kind, object) pairs; ceilings: the most of each ("sets": 3) that may be touched."""

    verb: str
    actions: frozenset[tuple[str, str]]
    ceilings: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> Json:
        """Canonical: the same envelope gives the same JSON."""
        return {
            "verb": self.verb,
            "actions": [list(pair) for pair in sorted(self.actions)],
            "ceilings": dict(sorted(self.ceilings.items())),
        }

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON; Plan.envelope gives the same for its plan."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


def envelope_of(plan: Plan) -> Envelope:
    """The tightest envelope that the plan fits in."""
    return Envelope(plan.verb, frozenset((item.kind, item.agreed) for item in plan.actions), dict(plan.ceilings))


def together(envelopes: Iterable[Envelope]) -> Envelope:
    """One envelope for several plans of a verb: all their actions; ceilings are added. Raises ValueError for none."""
    found = list(envelopes)
    if not found:
        raise ValueError("no envelope")
    ceilings: dict[str, int] = {}
    for item in found:
        for name, most in item.ceilings.items():
            ceilings[name] = ceilings.get(name, 0) + most
    actions = frozenset(pair for item in found for pair in item.actions)
    return Envelope(found[0].verb, actions, ceilings)


def parse_envelope(value: object) -> Envelope:
    """From as_json. Raises OpsError envelope_unreadable."""
    try:
        body = cast("Mapping[str, object]", value)
        pairs = cast("list[list[str]]", body["actions"])
        ceilings = cast("Mapping[str, int]", body["ceilings"])
        actions = frozenset((str(kind), str(name)) for kind, name in pairs)
        return Envelope(str(body["verb"]), actions, {str(name): int(most) for name, most in ceilings.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise OpsError(
            "envelope_unreadable", "An approved envelope cannot be read.", "Plan and approve once more."
        ) from error


def outside(wanted: Envelope, agreed: Envelope) -> list[str]:
    """What of wanted is not within agreed, a line each; [] when all of it is."""
    if wanted.verb != agreed.verb:
        return [f"the verb {wanted.verb} instead of {agreed.verb}"]
    kinds = {kind for kind, _name in agreed.actions}
    lines = []
    for kind, name in sorted(wanted.actions - agreed.actions):
        lines.append(f"{kind} {name}: {'one more object' if kind in kinds else 'another kind of action'}")
    for name, most in sorted(wanted.ceilings.items()):
        agreed_most = agreed.ceilings.get(name, 0)
        if most > agreed_most:
            lines.append(f"{name}: {most:,} instead of at most {agreed_most:,}")
    return lines


def refuse_outside(wanted: Envelope, agreed: Envelope, source: str) -> OpsError | None:
    """The refusal of a plan that goes beyond what was agreed; source names that ("plan 2026...")."""
    lines = outside(wanted, agreed)
    if not lines:
        return None
    shown = "; ".join(lines[:SHOWN]) + (f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")
    return OpsError(
        "outside_envelope",
        f"This run would do what {source} does not hold: {shown}.",
        "Plan again and have that plan approved.",
        {"difference": lines},
    )
