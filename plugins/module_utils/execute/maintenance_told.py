# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of maintenance says: its result, its sentences, and the error for what was due and is not done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Act
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_decide import Survey
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_plan import Decision
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_crew import (
    FAILED,
    STOPPED,
    TIME_IS_UP,
    Outcome,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import DONE, FORBIDDEN, LOCKED


def refuse_forbidden(decision: Decision, outcomes: Sequence[Outcome]) -> None:
    """A table that is due and may not be touched is a failure: nobody else maintains it."""
    names = [name for name, _owner in decision.forbidden]
    names += [item.act.title for item in outcomes if item.outcome == FORBIDDEN]
    if names:
        owners = sorted({owner for _name, owner in decision.forbidden})
        raise OpsError(
            "maintenance_not_permitted",
            f"{len(names)} tables are due that this role may not maintain: {', '.join(names[:5])}"
            f"{' and more' if len(names) > 5 else ''}.",
            f"Log in as their owner{' (' + ', '.join(owners[:3]) + ')' if owners else ''} or the database's, or GRANT "
            "MAINTAIN (pg_maintain) from PostgreSQL 17 on.",
            {"tables": names},
        )


def refuse_undone(decision: Decision, outcomes: Sequence[Outcome], stopped: str, counts: Mapping[str, int]) -> None:
    """What was due and could not be done ends in an error, when all the rest was done."""
    details: dict[str, object] = {"acts": [item.as_dict() for item in outcomes], "counts": dict(counts)}
    failed = [item for item in outcomes if item.outcome == FAILED]
    if failed:
        first = failed[0]
        raise OpsError(
            "maintenance_failed",
            f"{len(failed)} of {len(outcomes)} acts failed, first {first.act.kind} {first.act.title}: "
            f"{'; '.join(first.said) or 'no message'}",
            "Read the messages of the server; what was done stays, and the next run tries the rest again.",
            details,
        )
    refuse_forbidden(decision, outcomes)
    if stopped and stopped != TIME_IS_UP and counts.get(STOPPED):
        raise OpsError(
            "maintenance_stopped",
            f"Maintenance stopped after {counts.get(DONE, 0)} of {len(outcomes)} acts: {stopped}.",
            "Run it again when that is over; it goes on with the rest.",
            details,
        )
    locked = [item for item in outcomes if item.outcome == LOCKED]
    if locked:
        names = ", ".join(item.act.title for item in locked[:5])
        raise OpsError(
            "maintenance_locked",
            f"{len(locked)} of {len(outcomes)} acts were not done, because somebody holds {names}: "
            f"{'; '.join(locked[0].said) or 'locked'}.",
            "See who with the verb sessions, and run maintenance again; it does only the rest.",
            details,
        )


def left_of(act: Act, why: str) -> dict[str, object]:
    return {"database": act.database, "table": act.title, "kind": act.kind, "reason": act.reason, "left": why}


def evidence_of(surveys: Sequence[Survey], decision: Decision) -> dict[str, object]:
    return {
        "databases": [one.database for one in surveys],
        "tables": decision.scope,
        "acts": [],
        "gained": {},
        "cleaned": [],
        "left": [left_of(act, why) for act, why in decision.left],
    }


def _kinds(acts: Sequence[Act]) -> str:
    counts = Counter(act.kind for act in acts)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def nothing(surveys: Sequence[Survey], decision: Decision) -> str:
    where = f"{len(surveys)} databases" if len(surveys) > 1 else surveys[0].database
    return f"Nothing to do: none of {decision.scope:,} tables in {where} needs anything now."


def would(decision: Decision) -> str:
    seconds = sum(act.seconds for act in decision.acts) / max(1, decision.budget.jobs)
    return f"Would do {_kinds(decision.acts)}; about {max(1, round(seconds))} s."


def told(gained: Mapping[str, int], counts: Mapping[str, int]) -> str:
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if name != DONE)
    return (
        f"{counts.get(DONE, 0)} acts done: {gained['dead_rows_removed']:,} dead rows removed, "
        f"{human_size(gained['bytes_freed'])} freed, {gained['blocks_read']:,} blocks read"
        + (f"; {others}" if others else "")
        + "."
    )
