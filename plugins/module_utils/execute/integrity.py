# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for data corruption; on suspicion hold back what would lose more, and keep the evidence until it is settled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Opening
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.integrity import (
    HOLDS,
    MOST,
    SUSPECT,
    Before,
    Survey,
    decide,
    decide_release,
    evidence_key,
    fresh,
    item_id,
    lines,
    sets_before,
    since,
    to_pin,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.databases import databases
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.integrity import (
    Gathering,
    read_database,
    read_server,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items, suspicions
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import take_stock
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

BUDGET = "10m"


@dataclass(frozen=True)
class _Ground:
    """The store, the stores of copies, the suspicion that stands there and its evidence."""

    system: str
    store: Store
    copies: tuple[Store, ...]
    item: OpenItem | None
    evidence: dict[str, Json] | None

    @property
    def key(self) -> str:
        """Where the evidence of the suspicion that stands is kept."""
        return str(self.item.undo["evidence"]) if self.item else ""


def _ground(params: Mapping[str, object], system: str, context: Context) -> _Ground | None:
    """None when the store does not answer and break glass goes past that."""
    store = open_store(cast("dict[str, object]", params["store"]))
    copies = tuple(open_store(one) for one in cast("list[dict[str, object]]", params.get("copies") or []))
    try:
        item = open_items.look(store, item_id(system))
        evidence = suspicions.read(store, str(item.undo["evidence"])) if item else None
    except OpsError as error:
        released = params.get("state") == "released"
        if released or not context.go_past(error, "what is recorded of a suspicion could not be read"):
            raise
        return None
    return _Ground(system, store, copies, item, evidence)


def _survey(params: Mapping[str, object], system: str, released: float, context: Context) -> Survey:
    """Read every database that can be read, within the budget. Raises OpsError: the server's, bad_duration."""
    budget = parse_duration(str(params.get("budget") or BUDGET), "budget")
    deadline = time.monotonic() + budget
    only = [str(name) for name in cast("list[object]", params.get("databases") or [])]
    patterns = [str(name) for name in cast("list[object]", params.get("tables") or [])]
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("integrity", system, ""))
    gathered = Gathering()
    with contextlib.closing(target.session()) as session:
        read_server(session, gathered, released)
        found = databases(session)
    missing = sorted(set(only) - {one.name for one in found})
    if missing:
        raise OpsError("unknown_database", f"There is no database {missing[0]!r}.", "Check the names.")
    for one in found:
        if only and one.name not in only:
            continue
        try:
            session = target.session(one.name)
        except OpsError as error:
            gathered.unchecked.append((one.name, error.cause))
            continue
        with contextlib.closing(session):
            read_database(session, one.name, patterns, deadline, gathered, context.progress)
    return gathered.done()


def _told(survey: Survey, evidence: dict[str, object], spent: float, before: Sequence[Before]) -> None:
    evidence.update(
        lines=lines(survey, spent, before),
        findings=[item.as_json() for item in survey.findings[:MOST]],
        checked=survey.checked,
        unchecked=[{"name": name, "why": why} for name, why in survey.unchecked],
        sets=to_pin(before),
    )


def _body(ground: _Ground, survey: Survey, why: str, before: Sequence[Before], now: float) -> dict[str, Json]:
    """The evidence: what was kept before, and what is new."""
    old = dict(ground.evidence or {})
    known = [one for one in cast("list[Json]", old.get("findings") or []) if isinstance(one, dict)]
    findings = [*known, *(item.as_json() for item in fresh(survey.findings, known))]
    return {
        "format": 1,
        "system": ground.system,
        "at": old.get("at") or iso(now),
        "updated": iso(now),
        "why": old.get("why") or why,
        "findings": cast("list[Json]", findings[:MOST]),
        "more_findings": max(0, len(findings) - MOST),
        "unchecked": [f"{name}: {reason}" for name, reason in survey.unchecked[:MOST]],
        "server": dict(survey.facts) or old.get("server") or {},
        "sets_before": old.get("sets_before") or [one.tell() for one in before],
    }


def _hold(ground: _Ground, why: str, key: str, before: Sequence[Before], context: Context) -> None:
    """First the hold, in every store that is pruned; whoever is killed after it leaves everything as it is."""
    opening = Opening(
        item_id(ground.system),
        f"data corruption is suspected: {why[:300]}",
        "pg_integrity",
        {"state": "released", "evidence": key, "sets": cast("list[Json]", to_pin(before))},
        outlives=True,
        holds=HOLDS,
    )
    context.admission.opens(opening)
    for store in ground.copies:
        try:
            suspicions.hold(store, ground.system, opening, context.now)
        except OpsError as error:
            context.warn(f"{store.url} could not be told: a prune there is not held back. {error.message}")


def _pinned(ground: _Ground, sets: Sequence[str], context: Context) -> None:
    for set_id in sets:
        try:
            suspicions.pin(ground.store, set_id, item_id(ground.system), context.now)
        except OpsError as error:
            context.warn(f"Set {set_id} could not be pinned: {error.message}")


def _refused(error: OpsError, survey: Survey, why: str) -> OpsError:
    """What could not be recorded is told anyway: the findings are what an operator must know."""
    found = " ".join(item.tell() for item in survey.findings[:5]) or why
    return OpsError(
        error.code,
        f"Data corruption is suspected, and that could NOT be recorded, so nothing is held back: {error.cause}",
        f"{error.remedy} Run nothing that deletes meanwhile. Found: {found}",
        {**error.details, "findings": [item.as_json() for item in survey.findings[:MOST]]},
    )


def _record(ground: _Ground, plan: Plan, survey: Survey, why: str, before: Sequence[Before], context: Context) -> None:
    """Hold, then evidence, then pins: each is repeated by the next run when this one is killed between them."""
    key = ground.key or evidence_key(ground.system, context.now)
    try:
        context.authorise(plan)
        if ground.item is None:
            _hold(ground, why, key, before, context)
    except OpsError as error:
        raise _refused(error, survey, why) from error
    context.progress(f"held back from now on: {', '.join(HOLDS)}")
    try:
        suspicions.write(ground.store, key, _body(ground, survey, why, before, context.now))
    except OpsError as error:
        if not context.go_past(error, "the evidence could not be kept"):
            raise OpsError(
                error.code,
                f"What is suspected holds the dangerous verbs back, but its evidence could not be kept: {error.cause}",
                f"{error.remedy} Run integrity again: it keeps the evidence then.",
                {**error.details, "findings": [item.as_json() for item in survey.findings[:MOST]]},
            ) from error
    _pinned(ground, to_pin(before), context)


def _released(ground: _Ground, reason: str, context: Context) -> Result:
    if not reason:
        raise OpsError("reason_missing", "A suspicion is not released without a reason.", "Say why: -e reason='<why>'.")
    plan = decide_release(ground.system, ground.item, reason)
    evidence: dict[str, object] = {"suspected": False, "lines": [], "findings": [], "evidence": ground.key, "sets": []}
    if plan.empty or ground.item is None:
        return Result(plan, False, "Nothing is suspected, and nothing is held back.", evidence)
    if context.check_mode:
        return Result(plan, True, "The suspicion would be released.", evidence)
    context.authorise(plan)
    # what was counted until now is settled; a failure that comes later is a new one
    suspicions.write_release(ground.store, ground.system, ground.item, reason, context.now)
    for set_id in cast("list[Json]", ground.item.undo.get("sets") or []):
        try:
            suspicions.unpin(ground.store, str(set_id), ground.item.id)
        except OpsError as error:
            context.warn(f"Set {set_id} stays pinned: {error.message}")
    for store in ground.copies:
        try:
            suspicions.release(store, ground.item.id, context.now)
        except OpsError as error:
            context.warn(f"{store.url} could not be told: a prune there stays held back. {error.message}")
    context.admission.closes(ground.item.id, f"released: {reason}")
    return Result(plan, True, "The suspicion is released; nothing is held back any more.", evidence)


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_integrity."""
    system, suspected = str(params["system"]), str(params.get("suspected") or "").strip()
    ground = _ground(params, system, context)
    if ground is None:
        survey = _survey(params, system, 0.0, context)
        evidence: dict[str, object] = {"suspected": bool(survey.findings), "evidence": ""}
        _told(survey, evidence, 0.0, ())
        told = "Looked; nothing could be recorded."
        if survey.findings or suspected:
            evidence["suspected"] = True
            told = "Data corruption is suspected, and that could NOT be recorded: run nothing that deletes."
        return Result(Plan("integrity", ()), False, told, evidence)
    if params.get("state") == "released":
        return _released(ground, str(params.get("reason") or "").strip(), context)
    stock = [held.facts for held in take_stock(ground.store, system)]
    evidence = {"suspected": bool(ground.item), "evidence": ground.key}
    changed = False
    plan = decide(system, Survey(), suspected, ground.item, ground.evidence)
    if not plan.empty and not context.check_mode:
        # somebody who suspects is believed before anything is read: that may take minutes
        _record(ground, plan, Survey(), suspected, sets_before(stock, context.now), context)
        changed, ground = True, cast("_Ground", _ground(params, system, context))
    began = time.monotonic()
    survey = _survey(params, system, suspicions.released_at(ground.store, system), context)
    before = sets_before(stock, since(survey, ground.item.opened if ground.item else context.now))
    _told(survey, evidence, time.monotonic() - began, before)
    later = decide(system, survey, suspected, ground.item, ground.evidence)
    plan = plan if later.empty else later
    evidence["suspected"] = bool(ground.item) or any(action.kind == SUSPECT for action in later.actions)
    if not later.empty and not context.check_mode:
        why = suspected or later.actions[0].reason
        _record(ground, later, survey, why, before, context)
        changed = True
        ground = cast("_Ground", _ground(params, system, context))
    evidence["evidence"] = ground.key
    if not evidence["suspected"]:
        rest = f" {len(survey.unchecked)} things were not checked." if survey.unchecked else ""
        return Result(plan, False, f"No sign of corruption in {survey.checked} relations.{rest}", evidence)
    if context.check_mode and not later.empty:
        return Result(later, True, "Data corruption is suspected; that would be recorded.", evidence)
    held = f"{', '.join(HOLDS)} are held back until integrity -e state=released -e reason='<why>'"
    return Result(plan, changed, f"Data corruption is suspected; {held}. Evidence: {ground.key}.", evidence)
