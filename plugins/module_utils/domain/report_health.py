# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest run of health of each host and set, as the report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import ago, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import Run
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import shown

MOST_CHECKS = 20
_TONES = {Level.OK: "good", Level.WARNING: "warn", Level.CRITICAL: "bad", Level.INCONCLUSIVE: "loud"}


@dataclass(frozen=True)
class Newest:
    """host and set as their keys have them, and the last run of the newest day."""

    host: str
    set_name: str
    run: Run


def health_view(found: Sequence[Newest], now: float) -> dict[str, Json]:
    """One row for each host and set, the worst first; its checks that are not ok, the worst first."""
    ordered = sorted(found, key=lambda item: (-item.run.level.rank, item.host, item.set_name))
    return {"rows": cast("list[Json]", [_row(item, now) for item in ordered])}


def _row(item: Newest, now: float) -> dict[str, Json]:
    levels = [kept.level for kept in item.run.checks.values()]
    bad = sorted(
        ((name, kept) for name, kept in item.run.checks.items() if kept.level is not Level.OK),
        key=lambda pair: -pair[1].level.rank,
    )
    return {
        "host": printable(item.host),
        "set": printable(item.set_name),
        "at": utc(item.run.at, seconds=False),
        "ago": ago(now - item.run.at),
        "level": item.run.level.value,
        "tone": _TONES[item.run.level],
        "ok": sum(level is Level.OK for level in levels),
        "checks": len(levels),
        "bad": cast(
            "list[Json]",
            [
                {
                    "name": printable(name),
                    "level": kept.level.value,
                    "tone": _TONES[kept.level],
                    "value": shown(kept.value, ""),
                }
                for name, kept in bad[:MOST_CHECKS]
            ],
        ),
        "more": max(0, len(bad) - MOST_CHECKS),
    }
