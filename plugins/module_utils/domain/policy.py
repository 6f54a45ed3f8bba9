# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the operator's option retention to a Policy, or a refusal before anything is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import PROOFS, Policy, Rule
from ansible_collections.saasops.runbook.plugins.module_utils.domain.slots import PERIODS

PARTIAL_GRACE = 86400
_RULES: dict[str, dict[str, object]] = {}
for _period in PERIODS:
    _RULES[_period] = {"type": "int"}
    _RULES[f"{_period}_max_age"] = {"type": "str"}

RETENTION_OPTIONS: dict[str, dict[str, object]] = {
    **_RULES,
    "keep_all_within": {"type": "str"},
    "minimum_proven": {"type": "int", "default": 2},
    "proof": {"type": "str", "default": "stored", "choices": list(PROOFS)},
    "partial_grace": {"type": "str", "default": f"{PARTIAL_GRACE // 3600}h"},
}


def _refused(cause: str, remedy: str, option: str) -> OpsError:
    return OpsError("bad_retention", cause, remedy, {"option": option})


def _age(options: Mapping[str, object], name: str) -> int | None:
    value = options.get(name)
    return None if value is None else parse_duration(str(value), f"retention.{name}")


def _rule(options: Mapping[str, object], period: str) -> Rule:
    count = options.get(period)
    if count is not None and int(str(count)) < 0:
        raise _refused(f"retention.{period} is {count}.", "Give the number of slots to keep, 0 or more.", period)
    return Rule(None if count is None else int(str(count)), _age(options, f"{period}_max_age"))


def read_policy(options: Mapping[str, object], also_delete: Sequence[str] = ()) -> Policy:
    """The policy of RETENTION_OPTIONS. Raises OpsError bad_retention, bad_duration.

    A policy that keeps nothing but the proven minimum is refused: it is more often a typing error than a wish.
    """
    rules = {period: _rule(options, period) for period in PERIODS}
    within = _age(options, "keep_all_within") or 0
    grace = _age(options, "partial_grace")
    minimum = int(str(options.get("minimum_proven", 2)))
    if minimum < 1:
        raise _refused(
            f"retention.minimum_proven is {minimum}.",
            "At least 1 proven set of each database always stays; the default is 2.",
            "minimum_proven",
        )
    if not within and not any(rule.active for rule in rules.values()):
        raise _refused(
            "The retention names no hourly, daily, weekly or monthly sets to keep, and no keep_all_within.",
            'Set it in the inventory, for instance saasops_retention: {"daily": 30, "weekly": 12, "monthly": 12}.',
            "retention",
        )
    return Policy(
        rules=rules,
        keep_all_within=within,
        minimum_proven=minimum,
        proof=str(options.get("proof") or "stored"),
        partial_grace=PARTIAL_GRACE if grace is None else grace,
        also_delete=frozenset(also_delete),
    )
