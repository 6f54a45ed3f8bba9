# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sessions are ended, in which order, and which are left alone and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend, Prepared, Tree, trees
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.query_shape import shape
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import (
    IDLE,
    Policy,
    in_scope,
    like,
    matches,
    noticed,
    why,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sessions import (
    AUTOVACUUM,
    CLIENT,
    NEVER,
    PARALLEL,
    Ground,
    Shield,
    hidden,
    pools,
    shield,
    superuser_shield,
    unreachable,
)

# what has to be over: the statement, the transaction, or the session
QUERY, TRANSACTION, SESSION = "query", "transaction", "session"
_RUNNING = ("active", "fastpath function call")
_RANK = {"idle in transaction": 0, "idle in transaction (aborted)": 0, "active": 1}
END, ROLL_BACK = "end", "roll back prepared"


@dataclass(frozen=True)
class Chosen:
    """A session to end. object: what it is agreed under (policy, age, pid, user). goal: what has to be over.

    blocks: sessions that wait for it. stamp: the moment that tells this statement, transaction or idleness from a
    later one of the same session, "" when the session itself is meant.
    """

    backend: Backend
    object: str
    why: str
    goal: str
    blocks: int = 0

    @property
    def stamp(self) -> str:
        if self.object.startswith(("pid ", "user ")):
            return ""
        moments = {QUERY: self.backend.query_start, TRANSACTION: self.backend.transaction_start}
        return moments.get(self.goal, self.backend.state_change)

    @property
    def cancels(self) -> bool:
        """Whether a cancel comes first: it does nothing to who runs no statement."""
        return self.backend.state in _RUNNING or self.backend.kind == AUTOVACUUM

    @property
    def terminates(self) -> bool:
        """Whether it may be terminated: an autovacuum that is cancelled comes again, and that is enough."""
        return self.backend.kind != AUTOVACUUM

    @property
    def identity(self) -> tuple[int, str, str]:
        """What must still be so when it is ended."""
        return self.backend.pid, self.backend.started, self.stamp

    def tell(self) -> str:
        """One line: who, since when, what; values of the statement are left out."""
        b = self.backend
        who = f"pid {b.pid} {b.user or b.kind}@{b.database or '-'}"
        app = f" ({b.application})" if b.application else ""
        where = f" from {b.client}" if b.client else ""
        blocks = f", blocks {self.blocks}" if self.blocks else ""
        query = f": {shape(b.query)}" if b.query else ""
        return f"{who}{app}{where}, connected {b.started}, {self.why}{blocks}{query}"


@dataclass(frozen=True)
class Decision:
    """chosen: in the order in which they are ended. spared: meant, but left alone, and why. listed: shown only.

    beyond: how many more a policy means than its limit lets one run end. prepared: prepared transactions that others
    wait for and that are only reported; missing: rights without which spared ones could not be ended.
    """

    chosen: tuple[Chosen, ...] = ()
    spared: tuple[tuple[Backend, str], ...] = ()
    listed: tuple[Backend, ...] = ()
    beyond: int = 0
    prepared: tuple[Tree, ...] = ()
    missing: tuple[str, ...] = ()
    unseen: int = 0
    ceilings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Everything that was read of the server, and what follows from it."""

    backends: tuple[Backend, ...]
    prepared: tuple[Prepared, ...]
    ground: Ground

    @property
    def trees(self) -> list[Tree]:
        return trees(self.backends, self.prepared)

    @property
    def blocked(self) -> int:
        """Sessions that wait for another one's lock."""
        return sum(1 for b in self.backends if b.waits_for)


def _roots(scene: Scene, policy: Policy) -> dict[int, int]:
    """pid of each session that blocks others as the policy says -> how many wait."""
    found = {}
    for tree in scene.trees:
        if isinstance(tree.root, Backend):
            wanted = {name for _depth, b in tree.waiting for name in scene.ground.wanted.get(b.pid, ())}
            if not policy.relations or any(like(policy.relations, name) for name in wanted):
                found[tree.root.pid] = tree.blocked
    return found


def _held_up(scene: Scene, policy: Policy) -> list[Tree]:
    """Prepared transactions that block others as the policy says."""
    found = []
    for tree in scene.trees:
        if isinstance(tree.root, Prepared) and tree.blocked:
            wanted = {name for _depth, b in tree.waiting for name in scene.ground.wanted.get(b.pid, ())}
            if not policy.relations or any(like(policy.relations, name) for name in wanted):
                found.append(tree)
    return found


def _goal(policy: Policy, backend: Backend) -> str:
    if policy.blocking:
        return TRANSACTION if backend.transaction_start else SESSION
    if backend.state in _RUNNING:
        return QUERY if policy.query_over is not None else TRANSACTION
    return SESSION if backend.state == IDLE else TRANSACTION


def _order(item: Chosen) -> tuple[int, int, float, int]:
    b = item.backend
    age = b.state_age if b.state == IDLE else b.transaction_age
    return -item.blocks, _RANK.get(b.state, 2), -(age or 0.0), b.pid


def choose(policies: Sequence[Policy], scene: Scene, most: int | None = None) -> Decision:
    """What some policies mean. most: fewer sessions than the policies' own limits."""
    chosen: list[Chosen] = []
    spared: dict[int, tuple[Backend, str]] = {}
    listed: dict[int, Backend] = {}
    held_up: list[Tree] = []
    missing: list[str] = []
    beyond = limits = 0
    members = pools(scene.backends, scene.ground)
    for policy in policies:
        limit = policy.limit if most is None else min(policy.limit, most)
        limits += limit
        roots = _roots(scene, policy) if policy.blocking else {}
        if policy.blocking:
            held_up += [tree for tree in _held_up(scene, policy) if tree not in held_up]
        taken = {item.backend.pid for item in chosen}
        here: list[Chosen] = []
        for b in scene.backends:
            if b.pid in taken or (policy.blocking and b.pid not in roots):
                continue
            stop = shield(b, scene.ground)
            if stop is None:
                stop = superuser_shield(b, scene.ground, policy.users)
            meant = matches(policy, b) or (policy.blocking and hidden(b) and in_scope(policy, b))
            if not meant:
                if noticed(policy, b) and stop is None:
                    listed[b.pid] = b
                continue
            if b.kind == PARALLEL or b.pid in scene.ground.own:
                continue
            if stop is None and b.state == IDLE and b.pid in members:
                stop = Shield(f"it is idle as a member of a pool: {members[b.pid]}")
            right = "" if stop else unreachable(b, scene.ground)
            if right:
                missing.append(right)
            if stop or right:
                spared[b.pid] = (b, stop.why if stop else right)
                continue
            here.append(Chosen(b, policy.agreed, why(policy, b), _goal(policy, b), roots.get(b.pid, 0)))
        here.sort(key=_order)
        chosen += here[:limit]
        beyond += len(here) - len(here[:limit])
    picked = {item.backend.pid for item in chosen}
    return Decision(
        tuple(chosen),
        tuple(pair for pid, pair in spared.items() if pid not in picked),
        tuple(b for pid, b in listed.items() if pid not in picked and pid not in spared),
        beyond,
        tuple(held_up),
        tuple(dict.fromkeys(missing)),
        sum(1 for b in scene.backends if b.user and hidden(b) and any(in_scope(p, b) for p in policies)),
        {"sessions": limits},
    )


def _blocks(scene: Scene, pid: int) -> int:
    return next((t.blocked for t in scene.trees if isinstance(t.root, Backend) and t.root.pid == pid), 0)


def by_pid(pid: int, scene: Scene) -> Decision:
    """One session that somebody names. A parallel worker stands for its leader; one that is gone is no error.

    Raises OpsError session_protected, not_permitted.
    """
    by = {b.pid: b for b in scene.backends}
    backend = by.get(pid)
    if backend is not None and backend.kind == PARALLEL and backend.leader in by:
        backend = by[backend.leader]
    if backend is None:
        return Decision()
    stop = shield(backend, scene.ground)
    if stop is not None and stop.strength == NEVER:
        raise OpsError(
            "session_protected",
            f"pid {backend.pid} ({backend.application or backend.kind}) is not ended: {stop.why}.",
            "Nothing was changed.",
            {"pid": backend.pid},
        )
    right = unreachable(backend, scene.ground)
    if right:
        raise not_permitted(scene.ground, (right,))
    said = f"named by its pid, {backend.state or backend.kind}"
    chosen = Chosen(backend, f"pid {backend.pid} of {backend.started}", said, SESSION, _blocks(scene, backend.pid))
    return Decision((chosen,), ceilings={"sessions": 1})


def by_user(user: str, scene: Scene, most: int) -> Decision:
    """All sessions of one user, by its exact name; at most so many of them."""
    spared: list[tuple[Backend, str]] = []
    missing: list[str] = []
    chosen: list[Chosen] = []
    for b in scene.backends:
        if b.user != user or b.kind == PARALLEL or b.pid in scene.ground.own:
            continue
        stop = shield(b, scene.ground)
        right = "" if stop else unreachable(b, scene.ground)
        if right:
            missing.append(right)
        if stop or right:
            spared.append((b, stop.why if stop else right))
            continue
        chosen.append(Chosen(b, f"user {user}", f"of {user}, {b.state}", SESSION, _blocks(scene, b.pid)))
    chosen.sort(key=_order)
    return Decision(
        tuple(chosen[:most]),
        tuple(spared),
        beyond=len(chosen) - len(chosen[:most]),
        missing=tuple(dict.fromkeys(missing)),
        unseen=sum(1 for b in scene.backends if b.user == user and hidden(b)),
        ceilings={"sessions": most},
    )


def by_gid(gid: str, scene: Scene) -> tuple[Prepared | None, int]:
    """A prepared transaction and how many wait for it; None when there is none of that name."""
    item = next((p for p in scene.prepared if p.gid == gid), None)
    blocked = next((t.blocked for t in scene.trees if isinstance(t.root, Prepared) and t.root.gid == gid), 0)
    return item, blocked


def not_permitted(ground: Ground, rights: Collection[str]) -> OpsError:
    """The refusal that names what is missing."""
    return OpsError(
        "not_permitted",
        f"{ground.login.user} may not end the sessions that are meant; none was ended.",
        "; ".join(sorted(set(rights))) + ".",
        {"rights": sorted(set(rights))},
    )


def plan_of(decision: Decision, warnings: Sequence[str] = ()) -> Plan:
    """What is agreed: the policy (or the name that was given) and at most so many sessions; pids come and go."""
    actions = []
    for item in decision.chosen:
        b = item.backend
        numbers: dict[str, object] = {"blocks": item.blocks} if item.blocks else {}
        if b.transaction_age is not None:
            numbers["transaction"] = human_duration(b.transaction_age)
        actions.append(Action(END, item.object, item.tell(), numbers))
    return Plan("sessions", tuple(actions), decision.ceilings if actions else {}, tuple(warnings))


def reached(item: Chosen, now: Backend | None, blocking: Collection[int]) -> bool:
    """Whether what had to be over is over. now: the session of the same pid and start, None when it is gone.

    blocking: pids that others wait for.
    """
    if now is None:
        return True
    if item.backend.kind == AUTOVACUUM:
        return now.query_start != item.backend.query_start
    if not item.stamp:
        return False
    if item.goal == QUERY:
        return now.state not in _RUNNING or now.query_start != item.backend.query_start
    if item.goal == TRANSACTION:
        freed = item.blocks > 0 and now.pid not in blocking
        return freed or now.transaction_start != item.backend.transaction_start
    return now.state_change != item.backend.state_change and now.kind == CLIENT
