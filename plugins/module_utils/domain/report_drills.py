# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger of drills as the report shows it: a table, and RTO and RPO over time as the geometry of two charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import ago, human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_runs import took

MOST_DRILLS = 100
# units of the drawing; the page scales it to its width
WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 26
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_LINES = 4
FAR = 4


@dataclass(frozen=True)
class Drill:
    """One entry of the ledger. at: POSIX seconds; rto and rpo in seconds, None where not measured."""

    at: float
    set_id: str
    database: str
    outcome: str
    rto: float | None
    rpo: float | None
    reasons: tuple[str, ...]
    differences: int
    where: str

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def _seconds(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return max(0.0, float(value))


def parse_drill(body: Mapping[str, Json]) -> Drill | None:
    """An entry of drills/; None for what is none."""
    try:
        at = posix(str(body.get("at")))
    except ValueError:
        return None
    if "outcome" not in body:
        return None
    server, reasons, differences = body.get("server"), body.get("reasons"), body.get("differences")
    scratch = isinstance(server, Mapping) and server.get("scratch") is True
    return Drill(
        at=at,
        set_id=str(body.get("set") or ""),
        database=str(body.get("database") or ""),
        outcome=str(body.get("outcome")),
        rto=_seconds(body.get("rto")),
        rpo=_seconds(body.get("rpo")),
        reasons=tuple(str(item) for item in reasons) if isinstance(reasons, list) else (),
        differences=len(differences) if isinstance(differences, list) else 0,
        where=f"a server of its own ({server.get('host')})"
        if scratch and isinstance(server, Mapping)
        else "beside the live database",
    )


def _step(top: float) -> float:
    """The distance between two lines of a scale from 0 to top, so that there are at most _LINES."""
    for step in _STEPS:
        if top <= step * _LINES:
            return step
    return math.ceil(top / _LINES / 86400) * 86400.0


def chart(points: Sequence[tuple[float, float, bool]], target: float | None, name: str) -> dict[str, Json]:
    """Geometry of one series of (POSIX time, seconds, passed), oldest first; {} for none. Source: linear scales."""
    if not points:
        return {}
    worst = max(value for _at, value, _passed in points)
    # a target far above would press what was measured flat
    in_sight = bool(target) and target is not None and target <= FAR * max(worst, _STEPS[0])
    highest = max(worst, target if in_sight and target else 0.0)
    step = _step(highest)
    top = step * max(1, math.ceil(highest / step))
    first, last = points[0][0], points[-1][0]

    def across(at: float) -> float:
        share = 0.5 if last == first else (at - first) / (last - first)
        return round(LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM), 1)

    days = [utc(first)[:10]] if utc(first)[:10] == utc(last)[:10] else [utc(first)[:10], utc(last)[:10]]
    failed = sum(not passed for _at, _value, passed in points)
    told = f"{name} of {len(points)} drills, the longest {took(worst)}, the latest {took(points[-1][1])}"
    return {
        "name": name,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "label": told + (f"; {failed} failed" if failed else "") + (f"; target {took(target)}" if target else ""),
        "lines": [{"y": up(step * n), "label": took(step * n) if n else "0"} for n in range(round(top / step) + 1)],
        "path": " ".join(f"{across(at)},{up(value)}" for at, value, _passed in points),
        "dots": [
            {"x": across(at), "y": up(value), "passed": passed, "label": f"{utc(at, seconds=False)}: {took(value)}"}
            for at, value, passed in points
        ],
        "target": up(target) if in_sight and target else None,
        "target_label": f"target {took(target)}" if target else "",
        "days": cast("list[Json]", days),
    }


def drills_view(
    drills: Sequence[Drill], total: int, rto: float | None, rpo: float | None, now: float
) -> dict[str, Json]:
    """All that the report tells of drills; rto and rpo are the targets in seconds, total counts what the ledger has."""
    ordered = sorted(drills, key=lambda drill: drill.at)[-MOST_DRILLS:]
    charts = [
        chart([(d.at, d.rto, d.passed) for d in ordered if d.rto is not None], rto, "RTO"),
        chart([(d.at, d.rpo, d.passed) for d in ordered if d.rpo is not None], rpo, "RPO"),
    ]
    rows = [_row(drill, rto, rpo, now) for drill in reversed(ordered)]
    return {
        "rows": cast("list[Json]", rows),
        "more": max(0, total - len(ordered)),
        "total": total,
        "charts": cast("list[Json]", [found for found in charts if found]),
        "rto_target": human_duration(rto) if rto else "",
        "rpo_target": human_duration(rpo) if rpo else "",
        "latest": rows[0] if rows else None,
    }


def _row(drill: Drill, rto: float | None, rpo: float | None, now: float) -> dict[str, Json]:
    reasons = list(drill.reasons[:5])
    if len(drill.reasons) > len(reasons):
        reasons.append(f"and {len(drill.reasons) - len(reasons)} more")
    return {
        "at": utc(drill.at, seconds=False),
        "age": ago(now - drill.at),
        "set": drill.set_id,
        "database": drill.database,
        "outcome": drill.outcome,
        "passed": drill.passed,
        "rto": "not measured" if drill.rto is None else took(drill.rto),
        "rto_met": drill.rto is None or not rto or drill.rto <= rto,
        "rpo": "not measured" if drill.rpo is None else took(drill.rpo),
        "rpo_met": drill.rpo is None or not rpo or drill.rpo <= rpo,
        "where": drill.where,
        "reasons": cast("list[Json]", reasons),
        "differences": drill.differences,
    }
