# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb is going to do, before it does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

# a field of Action is named object and hides the built-in type inside the class
Measured = Mapping[str, object]
Plain = dict[str, object]
_Actions = Sequence[Mapping[str, object]]
_Ceilings = Mapping[str, int]
SHOWN = 40  # actions that check mode shows one by one


@dataclass(frozen=True)
class Action:
    """One act: its kind ("dump", "rename"), its object, why, and the numbers that were measured.

    measured is shown and never hashed: rows and bytes change every second.
    scope: what an approval speaks of instead of the object, where which objects are due changes by the minute and no
    harm comes of one more (tables to vacuum: "database app"); ceilings bound those.
    """

    kind: str
    object: str
    reason: str
    measured: Measured = field(default_factory=dict)
    scope: str = ""

    @property
    def agreed(self) -> str:
        """What the envelope names."""
        return self.scope or self.object

    def as_dict(self) -> Plain:
        body: Plain = {"kind": self.kind, "object": self.object, "reason": self.reason, "measured": dict(self.measured)}
        return {**body, "scope": self.scope} if self.scope else body


@dataclass(frozen=True)
class Plan:
    """An ordered list of actions, ceilings that bound them, and remarks that hinder nothing."""

    verb: str
    actions: tuple[Action, ...]
    ceilings: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.actions

    def envelope(self) -> str:
        """SHA-256 (hex) over kinds, objects and ceilings: what an approval speaks of."""
        agreed = {
            "verb": self.verb,
            "actions": [list(pair) for pair in sorted({(a.kind, a.agreed) for a in self.actions})],
            "ceilings": dict(sorted(self.ceilings.items())),
        }
        return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, object]:
        return {
            "verb": self.verb,
            "actions": [a.as_dict() for a in self.actions],
            "ceilings": dict(self.ceilings),
            "warnings": list(self.warnings),
            "envelope": self.envelope(),
        }


def describe(actions: Sequence[Action]) -> list[str]:
    """One line an action, as a person reads it in a diff or a check mode report."""
    lines = []
    for action in actions:
        numbers = ", ".join(f"{key} {value}" for key, value in action.measured.items())
        lines.append(f"{action.kind} {action.object}: {action.reason}" + (f" ({numbers})" if numbers else ""))
    return lines


def envelope_line(plan: Plan) -> str:
    """The envelope for a person: the beginning of its digest, and what it bounds."""
    ceilings = "".join(f", at most {most} {name}" for name, most in sorted(plan.ceilings.items()))
    return f"envelope {plan.envelope()[:12]}: {len({(a.kind, a.agreed) for a in plan.actions})} acts{ceilings}"


def preview(plan: Plan, longest: int = SHOWN) -> list[str]:
    """What check mode shows of a plan: its actions, the first of many, and its envelope."""
    if plan.empty:
        return ["nothing to do"]
    lines = describe(plan.actions[:longest])
    more = len(plan.actions) - len(lines)
    return [*lines, *([f"and {more} more"] if more else []), envelope_line(plan)]


def parse_plan(body: Mapping[str, object]) -> Plan:
    """A plan out of a module's result, without its warnings."""
    actions = tuple(
        Action(
            str(item["kind"]),
            str(item["object"]),
            str(item.get("reason") or ""),
            cast(Measured, item.get("measured") or {}),
            str(item.get("scope") or ""),
        )
        for item in cast(_Actions, body.get("actions") or [])
    )
    ceilings = cast(_Ceilings, body.get("ceilings") or {})
    return Plan(str(body["verb"]), actions, {name: int(most) for name, most in ceilings.items()})
