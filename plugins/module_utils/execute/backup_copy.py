# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_backup_copy: which sets other stores lack, and bringing them there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup_copy import Lack, choose
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import StoredObject
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.execute.leftovers import sweep
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.copies import Sender, compare
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import Held, take_stock
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

# of a store
Options = Mapping[str, object]

JOBS = 2
# what concerns one set alone: the others go on
_OF_ONE_SET = ("copy_conflict", "manifest_damaged", "object_damaged", "object_missing", "set_incomplete", "set_unknown")


@dataclass(frozen=True)
class Run:
    """What all copies share. chosen: the sets to copy, oldest first."""

    system: str
    source: Store
    chosen: Sequence[Held]
    jobs: int
    context: Context


@dataclass
class Outcome:
    """What became of one copy: what it lacked, which of it is there now, what went wrong."""

    url: str
    lacks: list[Lack] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    errors: list[OpsError] = field(default_factory=list)

    @property
    def wanting(self) -> list[Lack]:
        """The sets that something is missing of."""
        return [lack for lack in self.lacks if not lack.nothing]

    def as_dict(self) -> dict[str, object]:
        return {
            "store": self.url,
            "sets": [
                {
                    "set": lack.set_id,
                    "state": "present" if lack.nothing else "copied" if lack.set_id in self.done else "lacking",
                    "objects": len(lack.objects),
                    "bytes": lack.bytes,
                }
                for lack in self.lacks
            ],
            "bytes": sum(lack.bytes for lack in self.lacks),
            "code": self.errors[0].code if self.errors else None,
        }


def _refuse_small(copy: Store, lacks: Sequence[Lack]) -> None:
    needed, free = sum(lack.bytes for lack in lacks), copy.free_bytes()
    if free is not None and needed > free:
        raise OpsError(
            "store_full",
            f"The store {copy.url} has room for {human_size(free)}; the sets to copy take {human_size(needed)}.",
            "Free space there (verb prune with copy), or copy fewer sets (set=latest).",
            {"needed": needed, "free": free},
        )


@contextlib.contextmanager
def _of_one_set(outcome: Outcome) -> Iterator[None]:
    """Keeps an error that speaks of one set alone, and goes on."""
    try:
        yield
    except OpsError as error:
        if error.code not in _OF_ONE_SET:
            raise
        outcome.errors.append(error)


def _look(run: Run, copy: Store, outcome: Outcome) -> None:
    """What one store lacks of every chosen set; it stands in outcome, whatever is raised."""
    if copy.url == run.source.url:
        raise OpsError(
            "copy_is_the_store",
            f"The copy's address {copy.url} is the one of the store itself.",
            "Name another place in saasops_store_copies; a copy in the same place protects against nothing.",
        )
    copy.check(write=not run.context.check_mode)
    for held in run.chosen:
        with _of_one_set(outcome):
            disproven = held.facts.proof == "failed"
            outcome.lacks.append(compare(run.source, copy, held.set_id, run.system, disproven=disproven))
    _refuse_small(copy, outcome.lacks)


def _send(run: Run, copy: Store, outcome: Outcome) -> None:
    """Bring to one store what it lacks; what was done stands in outcome, whatever is raised."""
    sender = Sender(run.source, copy, run.system, run.context.now, run.jobs)
    total = sum(lack.bytes for lack in outcome.lacks)
    tick, sent = Ticker(run.context), 0

    def told(item: StoredObject) -> None:
        nonlocal sent
        sent += item.length
        tick(f"copying to {copy.url}: {human_size(sent)} of {human_size(total)} there and read back")

    for lack in outcome.wanting:
        with _of_one_set(outcome):
            sender.send(lack, told)
            outcome.done.append(lack.set_id)
    sweep(copy, run.context.now, run.context.warn)


def _failure(outcomes: Sequence[Outcome]) -> OpsError:
    """One error for all copies that failed, with the code of the first."""
    failed = [(outcome.url, error) for outcome in outcomes for error in outcome.errors]
    first = failed[0][1]
    done = sum(len(outcome.done) for outcome in outcomes)
    causes = " ".join(dict.fromkeys(error.cause for _url, error in failed))
    return OpsError(
        first.code,
        f"Not everything was copied: {causes} The sets in the first store are as good as before"
        + (f"; {done} were copied." if done else "."),
        f"{first.remedy} Then run the verb copy: it goes on where this run ended.",
        {
            "copies": [outcome.as_dict() for outcome in outcomes],
            "failures": [
                {"store": url, "code": error.code, "cause": error.cause, "remedy": error.remedy}
                for url, error in failed
            ],
        },
    )


def _message(outcomes: Sequence[Outcome], check_mode: bool) -> str:
    if not outcomes:
        return "There is no other store to copy to."
    parts = []
    for outcome in outcomes:
        count = len(outcome.wanting)
        if not count:
            parts.append(f"{outcome.url} has all {len(outcome.lacks)} sets")
            continue
        size = human_size(sum(lack.bytes for lack in outcome.lacks))
        verb = "would be copied" if check_mode else "copied and read back"
        parts.append(f"{count} of {len(outcome.lacks)} sets ({size}) {verb} to {outcome.url}")
    return "; ".join(parts) + "."


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_backup_copy."""
    system = str(params["system"])
    source = open_store(cast("dict[str, object]", params["store"]))
    copies = [open_store(options) for options in cast("list[Options]", params["copies"])]
    source.check(write=False)
    stock = take_stock(source, system)
    wanted = [str(name) for name in cast("list[object]", params["set"])]
    ids = set(choose([held.facts for held in stock], wanted))
    jobs = int(str(params.get("jobs") or 0)) or JOBS
    run = Run(system, source, [held for held in stock if held.set_id in ids], jobs, context)
    outcomes = [Outcome(copy.url) for copy in copies]
    _each(_look, run, copies, outcomes)
    plan = Plan("copy", _actions(outcomes), {"sets": len(ids)})
    if not context.check_mode:
        context.authorise(plan)
        _each(_send, run, copies, outcomes)
    if any(outcome.errors for outcome in outcomes):
        raise _failure(outcomes)
    return Result(
        plan=plan,
        changed=not plan.empty,
        message=_message(outcomes, context.check_mode),
        evidence={"copies": [outcome.as_dict() for outcome in outcomes]},
    )


def _each(step: Callable[[Run, Store, Outcome], None], run: Run, copies: Sequence[Store], found: list[Outcome]) -> None:
    """Do a step for every copy that is well so far; a bad one does not stop the others."""
    for copy, outcome in zip(copies, found):
        # an error that ended the look; those of one set alone did not
        if any(error.code not in _OF_ONE_SET for error in outcome.errors):
            continue
        try:
            step(run, copy, outcome)
        except OpsError as error:
            outcome.errors.append(error)
            if error.code == "interrupted":
                break


def _actions(outcomes: Sequence[Outcome]) -> tuple[Action, ...]:
    return tuple(
        Action(
            "copy", lack.set_id, f"{lack.reason} ({outcome.url})", {"objects": len(lack.objects), "bytes": lack.bytes}
        )
        for outcome in outcomes
        for lack in outcome.wanting
    )
