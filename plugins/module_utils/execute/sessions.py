# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""End sessions that do harm: read who is there, decide, keep the evidence, cancel, terminate, look again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import (
    Chosen,
    Decision,
    Scene,
    by_pid,
    by_user,
    choose,
    not_permitted,
    plan_of,
    reached,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import (
    MOST,
    Policy,
    forgotten,
    parse_policies,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_report import (
    Outcome,
    decided_lines,
    outcome_lines,
    scene_lines,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.sessions_prepared import roll_back
from ansible_collections.saasops.runbook.plugins.module_utils.execute.sessions_way_in import enter, targets
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.activity import (
    Slots,
    cancel,
    read_ground,
    read_scene,
    slots,
    terminate,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

PAUSE = 0.2  # seconds between two looks at whether a session is gone


@dataclass(frozen=True)
class _Wish:
    """What the operator asked for; nothing at all means: show only."""

    policies: tuple[Policy, ...]
    pid: int | None
    user: str
    gid: str
    most: int | None
    known: tuple[Policy, ...]

    @property
    def nothing(self) -> bool:
        return not (self.policies or self.pid or self.user or self.gid)

    def decide(self, scene: Scene) -> Decision:
        if self.pid:
            return by_pid(self.pid, scene)
        if self.user:
            return by_user(self.user, scene, self.most or MOST)
        return choose(self.policies or self.known, scene, self.most)


def _wish(params: Mapping[str, object]) -> _Wish:
    """Raises OpsError bad_policy, unknown_policy, bad_duration, bad_limit."""
    known = parse_policies(cast("list[Mapping[str, object]]", params.get("policies") or []))
    names = [str(name) for name in cast("list[object]", params.get("policy") or [])]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OpsError(
            "unknown_policy",
            f"There is no policy {unknown[0]!r}.",
            f"Take {', '.join(sorted(known))}, or write it into saasops_session_policies.",
            {"policies": sorted(known)},
        )
    most = None if params.get("limit") is None else int(str(params["limit"]))
    if most is not None and most < 1:
        raise OpsError("bad_limit", f"limit is {most}.", "Give a number of sessions, at least 1.")
    pid = None if params.get("pid") is None else int(str(params["pid"]))
    user, gid = str(params.get("user") or ""), str(params.get("gid") or "")
    policies = [known[name] for name in dict.fromkeys(names)]
    if params.get("idle_in_transaction"):
        over = float(parse_duration(str(params["idle_in_transaction"]), "idle_in_transaction"))
        policies.append(forgotten(over, most or MOST))
    return _Wish(tuple(policies), pid, user, gid, most, tuple(known.values()))


def _refuse_blind(decision: Decision, scene: Scene) -> None:
    """Nothing to do is only said when everybody could be seen and reached."""
    if decision.chosen:
        return
    if decision.missing:
        raise not_permitted(scene.ground, decision.missing)
    if decision.unseen:
        raise OpsError(
            "sessions_hidden",
            f"What {decision.unseen} sessions do cannot be seen by {scene.ground.login.user}, so nobody knows whether "
            "they are meant.",
            f"GRANT pg_read_all_stats (or pg_monitor) TO {scene.ground.login.user}.",
            {"unseen": decision.unseen},
        )


def _warnings(decision: Decision, scene: Scene) -> list[str]:
    found = []
    if decision.beyond:
        found.append(f"{decision.beyond} more sessions are meant than one run may end; run the verb again for them.")
    if decision.unseen:
        found.append(
            f"{decision.unseen} sessions cannot be seen by {scene.ground.login.user}: GRANT pg_read_all_stats."
        )
    if decision.missing and decision.chosen:
        found.append(f"Some sessions may not be ended by this login: {'; '.join(decision.missing)}.")
    return found


def _measures(scene: Scene, now: Slots) -> dict[str, int]:
    return {"blocked": scene.blocked, "free_slots": now.free, "used_slots": now.used, "max_connections": now.most}


def _living(session: Session, scene: Scene) -> tuple[dict[tuple[int, str], Backend], set[int]]:
    """Sessions by pid and start as they are now, and the pids that others wait for."""
    seen = read_scene(session, scene.ground).backends
    return {(b.pid, b.started): b for b in seen}, {pid for b in seen for pid in b.waits_for}


class _Ending:
    """One run's acts on the sessions that were chosen."""

    def __init__(self, session: Session, scene: Scene, context: Context, patience: float) -> None:
        self._session, self._scene, self._context, self._patience = session, scene, context, patience
        self.outcomes: dict[tuple[int, str, str], Outcome] = {}

    def _remaining(self, items: Sequence[Chosen], how: str) -> list[Chosen]:
        """Wait until what was told is over, at most patience seconds; those that are not."""
        deadline = time.monotonic() + self._patience
        waiting = list(items)
        while True:
            now, blocking = _living(self._session, self._scene)
            rest = []
            for item in waiting:
                found = now.get((item.backend.pid, item.backend.started))
                if reached(item, found, blocking):
                    self.outcomes[item.identity] = Outcome(item, how, True, found)
                else:
                    rest.append(item)
                    self.outcomes[item.identity] = Outcome(item, how, False, found)
            waiting = rest
            if not waiting or time.monotonic() >= deadline:
                return waiting
            time.sleep(PAUSE)

    def _act(
        self, items: Sequence[Chosen], how: str, act: Callable[[Session, Sequence[Chosen]], set[int]]
    ) -> list[Chosen]:
        """Signal them; those that are still to be ended afterwards."""
        if not items:
            return []
        self._context.admission.confirm()
        told = act(self._session, items)
        for item in items:
            if item.backend.pid not in told:
                self.outcomes.setdefault(item.identity, Outcome(item, "moved on", True, None))
        self._context.progress(f"{how}: {', '.join(f'pid {pid}' for pid in sorted(told)) or 'nobody any more'}")
        return self._remaining([item for item in items if item.backend.pid in told], how)

    def end(self, items: Sequence[Chosen]) -> None:
        """Cancel those that run a statement; terminate the others, and those that a cancel did not move."""
        first = [item for item in items if item.cancels]
        rest = self._act(first, "cancelled", cancel)
        later = [item for item in items if not item.cancels]
        self._act([*later, *(item for item in rest if item.terminates)], "terminated", terminate)


def _listing(wish: _Wish, scene: Scene, before: dict[str, int], evidence: dict[str, object]) -> Result:
    """Nothing was asked for: show who is there and what each policy would do."""
    lines = scene_lines(scene, before)
    for policy in wish.known:
        found = choose((policy,), scene, wish.most)
        lines.append(f"-e policy={policy.name} would end {len(found.chosen)}, leave {len(found.spared)} alone")
        lines += [f"  {line}" for line in decided_lines(found)]
    evidence["lines"] = lines
    return Result(
        Plan("sessions", ()), False, "Nothing was asked for: name a policy, a pid, a user or a gid.", evidence
    )


def _brief(backend: Backend, **more: str) -> dict[str, object]:
    return {"pid": backend.pid, "user": backend.user, "application": backend.application, **more}


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_sessions."""
    wish = _wish(params)
    system, database = str(params["system"]), str(params.get("database") or "")
    ways = targets(params, mark_of("sessions", system, database))
    pools = cast("Mapping[str, list[str]]", params.get("pools") or {})
    target, session = enter(ways, database)
    with contextlib.closing(session):
        ground = read_ground(session, system, pools.get("application") or (), pools.get("user") or ())
        scene = read_scene(session, ground)
        before = _measures(scene, slots(session))
        evidence: dict[str, object] = {
            "before": before,
            "after": before,
            "ended": [],
            "spared": [],
            "listed": [],
            "rescued": target is not ways[0],
        }
        if wish.gid:
            return roll_back(target, session, scene, wish.gid, before, evidence, context)
        if wish.nothing:
            return _listing(wish, scene, before, evidence)
        decision = wish.decide(scene)
        _refuse_blind(decision, scene)
        plan = plan_of(decision, _warnings(decision, scene))
        lines = [*scene_lines(scene, before), *decided_lines(decision)]
        evidence.update(
            lines=lines,
            spared=[_brief(b, why=why) for b, why in decision.spared],
            listed=[_brief(b) for b in decision.listed],
        )
        if plan.empty:
            return Result(plan, False, "No session is to be ended.", evidence)
        if context.check_mode:
            return Result(plan, True, f"{len(decision.chosen)} sessions would be ended.", evidence)
        context.authorise(plan)
        context.admission.says("note", {"code": "sessions_evidence", "lines": lines})
        return _ended(session, wish, scene, decision, plan, before, evidence, params, context)


def _ended(
    session: Session,
    wish: _Wish,
    scene: Scene,
    decision: Decision,
    plan: Plan,
    before: dict[str, int],
    evidence: dict[str, object],
    params: Mapping[str, object],
    context: Context,
) -> Result:
    # a lease may have been waited for: whoever is not meant any more is left alone
    again = {item.identity for item in wish.decide(read_scene(session, scene.ground)).chosen}
    ending = _Ending(session, scene, context, float(str(params.get("patience") or 5)))
    for item in decision.chosen:
        if item.identity not in again:
            ending.outcomes[item.identity] = Outcome(item, "moved on", True, None)
    ending.end([item for item in decision.chosen if item.identity in again])
    outcomes = list(ending.outcomes.values())
    later = read_scene(session, scene.ground)
    after = _measures(later, slots(session))
    done = [item for item in outcomes if item.over and item.how != "moved on"]
    lines = outcome_lines(outcomes, before, after)
    evidence.update(
        after=after,
        ended=[item.as_dict() for item in outcomes],
        lines=[*cast("list[str]", evidence["lines"]), *lines],
    )
    remaining = [item for item in outcomes if not item.over]
    if remaining:
        raise OpsError(
            "sessions_remain",
            f"{len(remaining)} of {len(outcomes)} sessions are still there after they were told to end: "
            + "; ".join(item.tell() for item in remaining)
            + ".",
            "The server gave the order, and they do not follow it: look at these processes on the server's host (a "
            "hung disk or network, foreign code). Never kill -9 one: the whole server would restart. Run the verb "
            "again.",
            {"lines": evidence["lines"], "ended": evidence["ended"], "before": before, "after": after},
        )
    symptom = (
        f"blocked {before['blocked']} -> {after['blocked']}, free slots {before['free_slots']} -> {after['free_slots']}"
    )
    return Result(plan, bool(done), f"{len(done)} sessions were ended: {symptom}.", evidence)
