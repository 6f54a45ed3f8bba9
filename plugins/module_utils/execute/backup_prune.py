# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete expired backup sets: take stock, decide, prove what the decision rests on, delete manifests first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.listing import Line, prune_lines
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import read_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    KEEP,
    Decision,
    Group,
    Policy,
    by_age,
    decide_retention,
    in_future,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import (
    Held,
    as_damaged,
    damage,
    remove,
    take_stock,
    unchanged,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import folder

_ABANDONED = 86400.0


def _pillars(stock: Sequence[Held], decisions: Sequence[Decision], policy: Policy) -> list[Held]:
    """The sets whose soundness justifies the deletions: the newest proven ones of each group that loses a set."""
    going = {decision.set_id for decision in decisions if not decision.keeps}
    losing = {item.facts.group for item in stock if item.set_id in going and item.facts.state == "complete"}
    proven: dict[Group | None, list[Held]] = {}
    by_id = {item.set_id: item for item in stock}
    for facts in by_age(item.facts for item in stock):
        if facts.group in losing and policy.proves(facts) and facts.set_id not in going:
            proven.setdefault(facts.group, []).append(by_id[facts.set_id])
    return [item for members in proven.values() for item in members[-policy.minimum_proven :]]


def settle(
    store: Store, system: str, stock: list[Held], policy: Policy, now: float
) -> tuple[list[Held], list[Decision]]:
    """Stock and decisions after every set that they rest on was found whole.

    A set that turns out to be damaged is kept as such and the decision is made again without it.
    """
    checked: set[str] = set()
    while True:
        decisions = decide_retention([item.facts for item in stock], policy, now)
        suspects = [item for item in _pillars(stock, decisions, policy) if item.set_id not in checked]
        if not suspects:
            return stock, decisions
        problems = {}
        for item in suspects:
            checked.add(item.set_id)
            problem = damage(store, item, system)
            if problem:
                problems[item.set_id] = problem
        stock = [as_damaged(i, problems[i.set_id]) if i.set_id in problems else i for i in stock]


def _check_named(stock: Sequence[Held], named: Sequence[str]) -> None:
    """Refuse names of sets that are no damaged or foreign ones; a set that is gone already is no error."""
    for set_id in named:
        folder(set_id)
    wrong = [item for item in stock if item.set_id in named and item.facts.state not in ("damaged", "foreign")]
    if wrong:
        raise OpsError(
            "set_not_damaged",
            f"Set {wrong[0].set_id} is {wrong[0].facts.state}; also_delete is for damaged and foreign sets.",
            "Leave it out: the retention decides on complete and partial sets.",
            {"sets": [item.set_id for item in wrong]},
        )


def _refuse_excess(going: Sequence[Decision], stock: Sequence[Held], ceiling: int | None, lines: list[str]) -> None:
    """Refuse to delete everything that could be a backup, or more than the operator's ceiling."""
    ids = {decision.set_id for decision in going}
    worth = {item.set_id for item in stock if item.facts.state != "partial"}
    if worth and worth <= ids:
        raise OpsError(
            "prune_everything",
            f"Nothing but partial sets would be left: all {len(worth)} sets of the store would go.",
            "Make a proven backup first, or leave a set out of also_delete.",
            {"lines": lines},
        )
    if ceiling is not None and len(ids) > ceiling:
        raise OpsError(
            "prune_over_ceiling",
            f"{len(ids)} sets would be deleted, max_delete allows {ceiling}; none was deleted.",
            "Look at the list (check mode) and raise max_delete for this run when it is right.",
            {"planned": len(ids), "max_delete": ceiling, "lines": lines},
        )


def _warnings(stock: Sequence[Held], decisions: Sequence[Decision], named: Sequence[str], now: float) -> list[str]:
    """One sentence for each set that waits for a person."""
    warnings = []
    for item, decision in zip(sorted(stock, key=lambda i: (i.facts.started, i.set_id)), decisions):
        facts = item.facts
        if decision.keeps and facts.state in ("damaged", "foreign"):
            warnings.append(
                f"Set {item.set_id} is {facts.state} and was left alone: {facts.problem}. "
                "Look at it; to delete it, name it in also_delete."
            )
        elif in_future(facts, now):
            warnings.append(f"Set {item.set_id} is dated in the future and was left alone: check the clocks.")
    gone = sorted(set(named) - {item.set_id for item in stock})
    warnings += [f"Set {set_id} of also_delete is not in the store." for set_id in gone]
    return warnings


def _apply(store: Store, system: str, going: Sequence[Held], context: Context) -> tuple[list[Held], list[Held]]:
    """Delete sets; returns those that are gone and those that changed meanwhile and were left.

    Raises the store's OpsError with what was deleted before in its details.
    """
    goes_on = "The next prune goes on from there."
    gone: list[Held] = []
    left: list[Held] = []
    try:
        for number, item in enumerate(going, 1):
            if not unchanged(store, item):
                left.append(item)
                continue
            size = human_size(item.entry.stored_bytes)
            context.admission.confirm()
            context.progress(f"deleting {item.set_id} ({number} of {len(going)}, {size})")
            for objects in remove(store, item, system, context.now):
                context.progress(f"deleting {item.set_id}: {objects} of {len(item.entry.keys)} objects")
            gone.append(item)
    except OpsError as error:
        raise OpsError(
            error.code,
            f"{error.cause} {len(gone)} of {len(going)} sets were deleted before.",
            "Run prune again: it goes on from there." if error.code == "interrupted" else f"{error.remedy} {goes_on}",
            {**error.details, "deleted": [item.set_id for item in gone]},
        ) from error
    return gone, left


def _of_archive(item: archives.Archive) -> Action:
    begun = item.begun
    return Action("delete_archive", item.id, f"{begun.verb} {begun.name}: its time (keep_archive) is over")


def _summary(stock: Sequence[Held], going: Sequence[Held], freed: int, check_mode: bool) -> str:
    stay = len(stock) - len(going)
    if not stock:
        return "The store holds no sets."
    if not going:
        return f"Nothing to delete: {'the set stays' if stay == 1 else f'all {stay} sets stay'}."
    of = f"{len(going)} of {len(stock)} sets"
    if check_mode:
        return f"{of} would be deleted, which frees {human_size(freed)}; {stay} stay."
    return f"{of} deleted, {human_size(freed)} freed; {stay} stay."


def _as_left(decisions: Sequence[Decision], left: Sequence[Held]) -> list[Decision]:
    ids = {item.set_id for item in left}
    changed = ("it changed while prune ran",)
    return [Decision(d.set_id, KEEP, changed) if d.set_id in ids else d for d in decisions]


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_backup_prune."""
    named = [str(item) for item in cast("list[object]", params.get("also_delete") or [])]
    policy = read_policy(cast(Mapping[str, object], params["retention"]), named)
    ceiling = None if params.get("max_delete") is None else int(str(params["max_delete"]))
    system = str(params["system"])
    store = open_store(cast("dict[str, object]", params["store"]))
    try:
        store.check(write=not context.check_mode)
    except OpsError as error:
        if error.code != "store_full":  # which is what a prune may cure
            raise
    stock = take_stock(store, system)
    _check_named(stock, named)
    stock, decisions = settle(store, system, stock, policy, context.now)
    sizes = {item.set_id: item.entry.stored_bytes for item in stock}
    lines = [Line(item.facts, sizes[item.set_id]) for item in stock]
    doomed = [decision for decision in decisions if not decision.keeps]
    _refuse_excess(doomed, stock, ceiling, prune_lines(lines, decisions, context.now))
    # rows that cleanup and repair archived, for as long as their rules say
    over = archives.expired(store, system, context.now)
    plan = Plan(
        verb="prune",
        actions=(
            *(Action("delete", d.set_id, d.sentence, {"bytes": sizes[d.set_id]}) for d in doomed),
            *(_of_archive(item) for item in over),
        ),
        ceilings={"sets": len(doomed) if ceiling is None else ceiling},
        warnings=tuple(_warnings(stock, decisions, named, context.now)),
    )
    by_id = {item.set_id: item for item in stock}
    going = [by_id[decision.set_id] for decision in doomed]
    swept: Sequence[str] = []
    if not context.check_mode:
        if not plan.empty:
            context.authorise(plan)
        going, left = _apply(store, system, going, context)
        decisions = _as_left(decisions, left)
        for item in over:
            context.admission.confirm()
            archives.remove(store, item)
        swept = store.sweep("", context.now - max(_ABANDONED, policy.partial_grace))
    freed = sum(item.entry.stored_bytes for item in going)
    return Result(
        plan=plan,
        changed=bool(going or swept or over),
        message=_summary(stock, going, freed, context.check_mode)
        + (f" {len(over)} archives of rows whose time is over, too." if over else ""),
        evidence={
            "sets": [
                {
                    "set": d.set_id,
                    "state": by_id[d.set_id].facts.state,
                    "decision": d.decision,
                    "reasons": list(d.reasons),
                    "bytes": sizes[d.set_id],
                }
                for d in decisions
            ],
            "deleted": [] if context.check_mode else [item.set_id for item in going],
            "deleted_archives": [item.id for item in over],
            "freed_bytes": freed,
            "swept": list(swept),
            "lines": prune_lines(lines, decisions, context.now),
        },
    )
