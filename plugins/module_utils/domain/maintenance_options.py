# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options thresholds, rules and measures to wishes, or a refusal before anything is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import MEASURES, Wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_decide import Rule, Wishes

_SHARES = ("ahead", "dead_share", "changed_share", "visible_share", "freeze", "index_bloat", "table_bloat")
_COUNTS = ("dead_rows", "emergency_age", "index_waste", "table_waste")
THRESHOLDS: dict[str, dict[str, object]] = {
    **{name: {"type": "float"} for name in _SHARES},
    **{name: {"type": "int"} for name in _COUNTS},
    "max_age": {"type": "str"},
}
RULE: dict[str, dict[str, object]] = {
    "tables": {"type": "list", "elements": "str", "required": True},
    "skip": {"type": "bool", "default": False},
    "measures": {"type": "list", "elements": "str", "choices": list(MEASURES)},
    **THRESHOLDS,
}


def _bad(name: str, value: object, wanted: str) -> OpsError:
    return OpsError("bad_threshold", f"{name} is {value}.", f"Give {wanted}.", {"option": name})


def _changes(options: Mapping[str, object]) -> dict[str, object]:
    """The fields of a Wish that the options set. Raises bad_threshold, bad_duration."""
    found: dict[str, object] = {}
    for name in _SHARES:
        if options.get(name) is not None:
            share = float(str(options[name]))
            if not 0 <= share <= 1:
                raise _bad(name, options[name], "a share from 0 to 1, for instance 0.2 for 20 %")
            found[name] = share
    for name in _COUNTS:
        if options.get(name) is not None:
            count = int(str(options[name]))
            if count < 0:
                raise _bad(name, count, "a whole number from 0 on")
            found[name] = count
    if options.get("max_age"):
        found["max_age"] = float(parse_duration(str(options["max_age"]), "max_age"))
    if options.get("measures"):
        found["measures"] = _measures(options["measures"])
    if options.get("skip"):
        found["skip"] = True
    return found


def _measures(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in cast(Sequence[object], value))


def read_wishes(params: Mapping[str, object]) -> Wishes:
    """From the module's options. Raises OpsError bad_threshold, bad_duration."""
    general = replace(Wish(), **_changes(cast("Mapping[str, object]", params.get("thresholds") or {})))  # type: ignore[arg-type]
    if params.get("measures"):
        general = replace(general, measures=_measures(params["measures"]))
    rules = [
        Rule(tuple(str(item) for item in cast(Sequence[object], rule["tables"])), _changes(rule))
        for rule in cast(Sequence[Mapping[str, object]], params.get("rules") or [])
    ]
    return Wishes(general, tuple(rules))
