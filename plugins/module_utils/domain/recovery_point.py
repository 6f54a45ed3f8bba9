# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much would be lost now: the newest proven recovery point of each database against the RPO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import ago, human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    UNDO,
    BackupSet,
    Group,
    Policy,
    in_future,
)

WARNING_SHARE = 0.8
VERDICTS = ("ok", "unknown", "warning", "critical")


@dataclass(frozen=True)
class RecoveryPoint:
    """The newest proven set of a group (or a set of the whole database that covers it) and what it is worth.

    at: POSIX time of its snapshot; age in seconds; both None with set_id when there is none.
    verdict: one of VERDICTS; unknown when no RPO is given.
    """

    database: str
    schemas: tuple[str, ...]
    tenant: str | None
    set_id: str | None
    at: float | None
    age: float | None
    verdict: str
    sentence: str


def worst(verdicts: Iterable[str]) -> str:
    """The gravest of some verdicts; ok when there is none."""
    return max(verdicts, key=VERDICTS.index, default="ok")


def _newest(sets: Iterable[BackupSet], policy: Policy, now: float) -> BackupSet | None:
    usable = (item for item in sets if policy.proves(item) and not in_future(item, now))
    return max(usable, key=lambda item: (item.snapshot_at, item.set_id), default=None)


def _name(database: str, schemas: Sequence[str], tenant: str | None) -> str:
    if tenant is not None:
        return f"tenant {tenant} of {database}"
    return f"schemas {', '.join(schemas)} of {database}" if schemas else database


def _judge(group: Group, point: BackupSet | None, rpo: float | None, now: float) -> RecoveryPoint:
    name = _name(group.database, group.schemas, group.tenant)
    if point is None:
        sentence = f"{name}: no proven backup at all"
        return RecoveryPoint(group.database, group.schemas, group.tenant, None, None, None, "critical", sentence)
    age = max(0.0, now - point.snapshot_at)
    if rpo is None:
        verdict, limit = "unknown", "no RPO is given to judge it by"
    else:
        verdict = "critical" if age > rpo else "warning" if age > WARNING_SHARE * rpo else "ok"
        limit = {
            "critical": f"older than the RPO of {human_duration(rpo)}",
            "warning": f"more than {WARNING_SHARE:.0%} of the RPO of {human_duration(rpo)}",
            "ok": f"RPO {human_duration(rpo)}",
        }[verdict]
    sentence = f"{name}: newest proven recovery point {utc(point.snapshot_at)}, {ago(age)}; {limit}"
    return RecoveryPoint(
        group.database, group.schemas, group.tenant, point.set_id, point.snapshot_at, age, verdict, sentence
    )


def recovery_points(
    sets: Sequence[BackupSet], policy: Policy, now: float, rpo: float | None, system: str, database: str | None
) -> list[RecoveryPoint]:
    """One verdict per database, and per tenant or list of schemas that has sets of its own.

    A set of the whole database covers its tenants and schemas; what a tenant's restore kept to go back to is no
    recovery point. A database that is asked for and has no set is
    critical, and so is a store without any: no backup at all is what nobody is told of otherwise.
    """
    groups: dict[Group, list[BackupSet]] = {}
    for item in sets:
        if item.state == "complete" and item.group is not None and item.group.kind != UNDO:
            groups.setdefault(item.group, []).append(item)
    points = []
    whole = {group.database: members for group, members in groups.items() if group.kind == "database"}
    for group in sorted(groups, key=lambda g: (g.database, g.kind != "database", g.schemas, g.tenant or "")):
        if database is None or group.database == database:
            candidates = [*groups[group], *whole.get(group.database, [])]
            points.append(_judge(group, _newest(candidates, policy, now), rpo, now))
    if not points:
        points.append(_judge(Group(system, database or f"system {system}", "database"), None, rpo, now))
    return points


def schedule_problem(sets: Sequence[BackupSet], interval: float | None, rpo: float | None) -> str:
    """Why a schedule cannot meet the RPO, or "".

    Right before a backup is complete the newest recovery point is as old as one interval plus the time the backup
    takes, measured on the newest complete set.
    """
    if interval is None or rpo is None:
        return ""
    complete = (i for i in sets if i.state == "complete" and (i.group is None or i.group.kind != UNDO))
    newest = max(complete, key=lambda item: item.snapshot_at, default=None)
    takes = max(0.0, newest.finished - newest.snapshot_at) if newest is not None else 0.0
    if interval + takes <= rpo:
        return ""
    running = f" + {human_duration(takes)}" if takes >= 1 else ""
    return (
        f"A backup every {human_duration(interval)} cannot meet an RPO of {human_duration(rpo)}: "
        f"up to {human_duration(interval)}{running} would be lost just before one is complete. "
        "Back up more often, or turn on recovery to a point in time."
    )
