# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checks a run is about: named ones, a named set, patterns."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError


def choose(names: Sequence[str], only: Sequence[str], set_name: str, sets: Mapping[str, Sequence[str]]) -> list[str]:
    """The chosen of these names, in their order; all when neither only nor a set is asked for.

    only and the sets hold names or shell-like patterns; "!pattern" takes away from what stands before it. A name that
    matches nothing is refused: a check that was asked for and does not exist must not look healthy.
    Raises OpsError unknown_set, unknown_check.
    """
    wanted: Sequence[str] = only
    if set_name:
        if set_name not in sets:
            known = ", ".join(sorted(sets)) or "none"
            raise OpsError(
                "unknown_set",
                f"There is no set {set_name!r} of checks (sets: {known}).",
                "Name one of them, or add it to saasops_check_sets in the inventory.",
                {"set": set_name, "sets": sorted(sets)},
            )
        if only:
            raise OpsError("unknown_set", "Both a set and single checks were asked for.", "Give set or only, not both.")
        wanted = sets[set_name]
        if not wanted:
            raise OpsError("unknown_set", f"The set {set_name!r} is empty.", "Write names of checks or patterns in it.")
    elif not only:
        return list(names)
    chosen: set[str] = set()
    for pattern in wanted:
        matched = fnmatch.filter(names, pattern.removeprefix("!"))
        if not matched:
            raise OpsError(
                "unknown_check",
                f"No check is named {pattern!r}.",
                "See the names with the verb health; the inventory's checks are in saasops_checks.",
                {"check": pattern, "checks": list(names)[:200]},
            )
        chosen = chosen - set(matched) if pattern.startswith("!") else chosen | set(matched)
    return [name for name in names if name in chosen]
