# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List backup sets and judge the newest proven recovery points; reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.expiry import expiries
from ansible_collections.saasops.runbook.plugins.module_utils.domain.listing import Line, backup_lines, standing
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.metrics import render_metrics
from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import read_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import (
    RecoveryPoint,
    recovery_points,
    schedule_problem,
    worst,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import Policy, in_future
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import (
    Held,
    as_damaged,
    damage,
    take_stock,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def _seconds(params: Mapping[str, object], name: str) -> int | None:
    value = params.get(name)
    return None if value in (None, "") else parse_duration(str(value), name)


def sound(
    store: Store, system: str, stock: list[Held], policy: Policy, now: float, rpo: int | None, database: str | None
) -> tuple[list[Held], list[RecoveryPoint]]:
    """Stock and recovery points after every set that a verdict rests on was found whole."""
    checked: set[str] = set()
    while True:
        points = recovery_points([item.facts for item in stock], policy, now, rpo, system, database)
        suspects = {point.set_id for point in points} - {None} - checked
        if not suspects:
            return stock, points
        problems = {i.set_id: damage(store, i, system) for i in stock if i.set_id in suspects}
        checked.update(problems)
        stock = [as_damaged(i, problems[i.set_id]) if problems.get(i.set_id) else i for i in stock]


def _concerns(item: Held, database: str | None) -> bool:
    """Whether a set is listed: damaged and partial ones always, as nobody knows what they were."""
    return database is None or item.facts.group is None or item.facts.group.database == database


def _moment(value: float) -> str | None:
    return iso(value) if value > 0 else None


def _set(item: Held, now: float, expiry: float | None) -> dict[str, object]:
    facts, manifest = item.facts, item.manifest
    group = facts.group
    since = facts.snapshot_at or facts.started
    return {
        "set": item.set_id,
        "state": facts.state,
        "kind": group.kind if group else None,
        "database": group.database if group else None,
        "schemas": list(manifest.schemas) if manifest else [],
        "tenant": group.tenant if group else None,
        "started": _moment(facts.started),
        "snapshot_at": _moment(facts.snapshot_at),
        "finished": _moment(facts.finished),
        "age": round(now - since, 3) if since > 0 else None,
        "bytes": item.entry.stored_bytes,
        "raw_bytes": manifest.raw_bytes if manifest else None,
        "tables": manifest.tables if manifest else None,
        "rows": manifest.rows if manifest else None,
        "server_version": manifest.version if manifest else None,
        "proof": facts.proof or None,
        "pin": None if facts.pin is None else {"reason": facts.pin.reason, "until": _until(facts.pin.until)},
        "in_use": facts.in_use or None,
        "next_expiry": None if expiry is None else iso(expiry),
        "problem": facts.problem or None,
    }


def _until(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def _point(point: RecoveryPoint) -> dict[str, object]:
    return {
        "database": point.database,
        "schemas": list(point.schemas),
        "tenant": point.tenant,
        "set": point.set_id,
        "at": None if point.at is None else iso(point.at),
        "age": None if point.age is None else round(point.age, 3),
        "verdict": point.verdict,
        "msg": printable(point.sentence),
    }


def _expires(item: Held, expiry: float | None, policy: Policy | None, now: float) -> str:
    if policy is None or item.facts.state in ("damaged", "foreign") or in_future(item.facts, now):
        return ""
    if expiry is None:
        return "never"
    return "next prune" if expiry <= now else utc(expiry, seconds=False).replace(" UTC", "")


def _attention(stock: Sequence[Held]) -> list[str]:
    """How many sets cannot be relied on, by their standing."""
    counts: dict[str, int] = {}
    for item in stock:
        word = standing(item.facts)
        if word.isupper():
            counts[word] = counts.get(word, 0) + 1
    return [f"{count} {word.lower()}" for word, count in sorted(counts.items())]


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_backup_info."""
    system, now = str(params["system"]), context.now
    database = str(params["database"]) if params.get("database") else None
    rpo, interval = _seconds(params, "rpo"), _seconds(params, "schedule")
    retention = params.get("retention")
    policy = read_policy(cast("Mapping[str, object]", retention)) if retention else None
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    judged_by = policy or Policy()
    everything, points = sound(store, system, take_stock(store, system), judged_by, now, rpo, database)
    ends = expiries([item.facts for item in everything], policy, now, interval) if policy else {}
    stock = [item for item in everything if _concerns(item, database)]
    impossible = schedule_problem([item.facts for item in stock], interval, rpo)
    verdict = worst([point.verdict for point in points] + (["warning"] if impossible else []))
    lines = [
        Line(
            item.facts,
            item.entry.stored_bytes,
            item.manifest.tables if item.manifest else None,
            item.manifest.rows if item.manifest else None,
            _expires(item, ends.get(item.set_id), policy, now),
        )
        for item in stock
    ]
    doubtful = _attention(stock)
    told = [*backup_lines(lines, now), ""] if stock else []
    told += [f"{point.verdict.upper()}: {printable(point.sentence)}" for point in points]
    told += [f"WARNING: {impossible}"] if impossible else []
    told += [f"Not to be relied on: {', '.join(doubtful)}."] if doubtful else []
    gravest = next(point for point in points if point.verdict == worst(p.verdict for p in points))
    return Result(
        message=printable(gravest.sentence),
        evidence={
            "sets": [_set(item, now, ends.get(item.set_id)) for item in stock],
            "recovery_points": [_point(point) for point in points],
            "verdict": verdict,
            "schedule_problem": impossible or None,
            "store": store.url,
            "metrics": render_metrics(system, store.url, points, rpo, now),
            "lines": told,
        },
    )
