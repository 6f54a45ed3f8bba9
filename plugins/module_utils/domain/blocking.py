# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits for whom: the tree of blocked sessions, and at its roots those that one would have to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PREPARED = 0  # pg_blocking_pids() gives 0 for a prepared transaction, which no process belongs to
SHOWN = 40  # lines of a tree


@dataclass(frozen=True)
class Backend:
    """A server process as pg_stat_activity has it. Ages in seconds, None where it has none or may not be seen.

    started: backend_start as ISO 8601, which tells a pid from a later one of the same number.
    waits_for: pids that block it, as pg_blocking_pids() gives them (PREPARED for a prepared transaction), and
    gids: the prepared transactions among them by name. leader: pid of the parallel group's leader, or None.
    transaction_start, query_start, state_change: the moments of the ages, ISO 8601, "" where there is none: they tell
    a transaction, a statement or a state from a later one of the same session.
    """

    pid: int
    started: str
    user: str
    database: str
    application: str
    client: str
    kind: str
    state: str
    query: str
    transaction_age: float | None
    query_age: float | None
    state_age: float | None
    wait: str = ""
    waits_for: tuple[int, ...] = ()
    gids: tuple[str, ...] = ()
    leader: int | None = None
    transaction_start: str = ""
    query_start: str = ""
    state_change: str = ""


@dataclass(frozen=True)
class Prepared:
    """A prepared transaction: its name, owner, database, and how long ago it was prepared, in seconds."""

    gid: str
    owner: str
    database: str
    age: float


@dataclass(frozen=True)
class Tree:
    """One root with everything that waits for it, directly or not.

    root: a Backend that waits for nobody, a Prepared, or None for a circle that has no beginning.
    waiting: (depth, backend), depth 1 for those that wait for the root itself; each backend once, the shallowest.
    """

    root: Backend | Prepared | None
    waiting: tuple[tuple[int, Backend], ...]

    @property
    def blocked(self) -> int:
        """How many sessions wait."""
        return len(self.waiting)

    @property
    def longest(self) -> float:
        """How long the oldest statement among them has waited, in seconds."""
        return max((b.query_age or 0.0 for _depth, b in self.waiting), default=0.0)


def _below(
    start: Sequence[Backend], waiters: Mapping[int, Sequence[Backend]], seen: set[int]
) -> Iterator[tuple[int, Backend]]:
    level, depth = [b for b in start if b.pid not in seen], 1
    while level:
        seen.update(b.pid for b in level)
        following: dict[int, Backend] = {}
        for backend in level:
            yield depth, backend
            for waiter in waiters.get(backend.pid, ()):
                if waiter.pid not in seen:
                    following[waiter.pid] = waiter
        level, depth = list(following.values()), depth + 1


def trees(backends: Sequence[Backend], prepared: Sequence[Prepared] = ()) -> list[Tree]:
    """The trees of blocked sessions, that with the most sessions below it first.

    A session that waits for two roots is shown below both: ending one of them does not free it.
    """
    known = {b.pid: b for b in backends}
    waiters: dict[int, list[Backend]] = {}
    for backend in backends:
        # the members of a parallel group wait for each other's locks only through their leader
        for pid in dict.fromkeys(known[p].leader or p if p in known else p for p in backend.waits_for):
            waiters.setdefault(pid, []).append(backend)
    found: list[Tree] = []
    for pid in waiters:
        root = known.get(pid)
        if pid != PREPARED and root is not None and not root.waits_for:
            found.append(Tree(root, tuple(_below(waiters[pid], waiters, {pid}))))
    for item in prepared:
        first = [b for b in waiters.get(PREPARED, ()) if item.gid in b.gids]
        if first:
            found.append(Tree(item, tuple(_below(first, waiters, set()))))
    told = {b.pid for tree in found for _depth, b in tree.waiting}
    rest = [b for b in backends if b.waits_for and b.pid not in told]
    while rest:
        # a circle that the deadlock detector has not met yet, or a root that ended between two looks
        tree = Tree(None, tuple(_below(rest[:1], waiters, set())))
        found.append(tree)
        told.update(b.pid for _depth, b in tree.waiting)
        rest = [b for b in rest if b.pid not in told]
    return sorted(found, key=lambda tree: (-tree.blocked, _order(tree.root)))


def _order(root: Backend | Prepared | None) -> str:
    return f"{root.pid:012d}" if isinstance(root, Backend) else root.gid if root else "~"


def roots(backends: Sequence[Backend], prepared: Sequence[Prepared] = ()) -> list[Backend]:
    """Sessions that block others and wait for nobody themselves."""
    return [tree.root for tree in trees(backends, prepared) if isinstance(tree.root, Backend)]


def _seconds(age: float | None) -> str:
    return "?" if age is None else f"{age:.1f} s" if age < 10 else f"{age:.0f} s"


def tell(backend: Backend) -> str:
    """A session in one line, without what it runs: a statement's values are people's data (domain/query_shape.py)."""
    who = f"pid {backend.pid} {backend.user or backend.kind}@{backend.database or '-'}"
    app = f" ({backend.application})" if backend.application else ""
    ages = f"{backend.state or 'state hidden'}, transaction {_seconds(backend.transaction_age)}"
    return f"{who}{app} {ages}"


def tell_prepared(item: Prepared) -> str:
    """A prepared transaction in one line."""
    return f"prepared transaction {item.gid!r} of {item.owner}@{item.database}, {_seconds(item.age)} old"


def lines(found: Sequence[Tree], most: int = SHOWN) -> list[str]:
    """The trees as a person reads them, at most so many lines and how many more there are."""
    text: list[str] = []
    for tree in found:
        if isinstance(tree.root, Backend):
            text.append(f"{tell(tree.root)} blocks {tree.blocked}")
        elif tree.root is not None:
            text.append(f"{tell_prepared(tree.root)} blocks {tree.blocked}")
        else:
            text.append(f"a circle of {tree.blocked} that wait for each other")
        text += [f"{'  ' * depth}{tell(b)}" for depth, b in tree.waiting]
    return text if len(text) <= most else [*text[: most - 1], f"and {len(text) - most + 1} more"]
