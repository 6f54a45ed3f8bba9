# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of sessions: connections, long ones, idle ones, who waits for whom, prepared transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import (
    Backend,
    Prepared,
    Tree,
    lines,
    tell,
    tell_prepared,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Level, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    MONITOR,
    PgCheck,
    Row,
    Survey,
    inner,
    needs,
    number,
    seen,
    statement,
    text,
    whole,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import Scene, choose
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import forgotten
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sessions import Ground, Login

CLIENT = "client backend"
OURS = "saasops"  # application_name of this collection's own runs begins so
MANY_IDLE = 0.25  # share of idle-in-transaction sessions from which ending those is worth a command
# how long they must have been idle (seconds): the patient one first, and no less than the last, which may be at work
IDLE_OVER = (300, 60, 10)
_WORST = 5


def _connections(survey: Survey) -> list[Measurement]:
    if not survey.facts.sees_sessions:
        return [needs(survey.facts, MONITOR)]
    found = []
    for row in survey.rows("connections"):
        kind, used, limit = text(row, "kind"), whole(row, "used"), whole(row, "lim")
        scope = "" if kind == "server" else f"{kind} {text(row, 'name')}"
        found.append(
            Measurement(
                value=round(100.0 * used / max(limit, 1), 4),
                samples=1,
                detail=_connection_lines(row, used, limit),
                scope=scope,
                remedy=_connection_remedy(survey, row, used),
            )
        )
    return found


def _connection_lines(row: Row, used: int, limit: int) -> tuple[str, ...]:
    if text(row, "kind") != "server":
        return (f"{used} of {limit} connections",)
    first = (
        f"{used} of {limit} ordinary slots (reserved ones taken off): {whole(row, 'active')} active,"
        f" {whole(row, 'idle')} idle, {whole(row, 'idle_in_transaction')} idle in transaction"
    )
    top = [
        f"{text(item, 'application')} as {text(item, 'role')}: {whole(item, 'sessions')}, {whole(item, 'idle')} idle"
        for item in inner(row, "top")
    ]
    return (first, *top)


def _connection_remedy(survey: Survey, row: Row, used: int) -> Remedy | None:
    if whole(row, "idle_in_transaction") >= max(1, MANY_IDLE * used):
        for seconds in IDLE_OVER:
            ended, meant = _idle_over(survey, row, seconds)
            if meant >= MANY_IDLE * used:
                return _end_idle(seconds, ended, meant, used)
    for item in inner(row, "top")[:1]:
        return Remedy(
            "",
            {},
            f"{text(item, 'application')} as {text(item, 'role')} has {whole(item, 'sessions')} connections,"
            f" {whole(item, 'idle')} of them idle: make its pool smaller",
        )
    return None


def _idle_over(survey: Survey, row: Row, seconds: float) -> tuple[int, int]:
    """How many the verb sessions would end in one run, and how many it means."""
    superusers = row.get("superusers")
    names = frozenset(str(name) for name in superusers) if isinstance(superusers, list) else frozenset()
    ground = Ground(Login("", superuser=True, superusers=names), own=survey.own)
    found = choose((forgotten(seconds),), Scene(tuple(seen(survey.backends)), (), ground))
    return len(found.chosen), len(found.chosen) + found.beyond


def _end_idle(seconds: int, ended: int, meant: int, used: int) -> Remedy:
    each = f"; one run ends the {ended} oldest, run it again for the rest" if meant > ended else ""
    return Remedy(
        "sessions",
        {"idle_in_transaction": f"{seconds}s"},
        f"{meant} of {used} connections are idle in transaction for more than {human_duration(seconds)}"
        f" and hold slots for nothing{each}",
    )


def _ended_by(backend: Backend, why: str) -> Remedy | None:
    """How a session is ended; nothing for our own runs, which end by themselves or by their own verb."""
    if backend.application.startswith(OURS):
        return Remedy("", {}, f"pid {backend.pid} is a run of this collection ({backend.application}): see status")
    return Remedy("sessions", {"pid": backend.pid}, why) if backend.kind == CLIENT else None


def shown_backend(backend: Backend) -> str:
    """A session in a line; nothing that looks like a secret."""
    query = statement(backend.query, 60)
    return tell(backend) + (f": {query}" if query else "")


def _oldest(survey: Survey, age: Callable[[Backend], float | None], why: str) -> list[Measurement]:
    """The worst sessions by an age in seconds; 0 without any."""
    if not survey.facts.sees_sessions:
        return [needs(survey.facts, MONITOR)]
    ages = [
        (seconds, backend)
        for backend in seen(survey.backends)
        if backend.kind == CLIENT and backend.pid not in survey.own and (seconds := age(backend)) is not None
    ]
    ages.sort(key=lambda item: (-item[0], item[1].pid))
    return [
        Measurement(
            value=round(seconds, 4),
            detail=(shown_backend(backend),),
            scope=f"pid {backend.pid}",
            remedy=_ended_by(backend, why.format(pid=backend.pid, age=human_duration(seconds))),
        )
        for seconds, backend in ages[:_WORST]
    ] or [Measurement(value=0, detail=("none",))]


def _query_age(backend: Backend) -> float | None:
    return backend.query_age if backend.state == "active" else None


def _idle_age(backend: Backend) -> float | None:
    return backend.state_age if backend.state.startswith("idle in transaction") else None


def _longest_query(survey: Survey) -> list[Measurement]:
    return _oldest(survey, _query_age, "pid {pid} has been running one statement for {age}")


def _longest_transaction(survey: Survey) -> list[Measurement]:
    return _oldest(
        survey, lambda b: b.transaction_age, "the transaction of pid {pid} is {age} old and holds dead rows back"
    )


def _idle_in_transaction(survey: Survey) -> list[Measurement]:
    return _oldest(survey, _idle_age, "pid {pid} has been idle in a transaction for {age}; a cancel does nothing to it")


def _tree_scope(root: Backend | Prepared | None) -> str:
    if root is None:
        return "circle"
    return f"pid {root.pid}" if isinstance(root, Backend) else f"gid {root.gid}"


def _tree_remedy(tree: Tree) -> Remedy | None:
    root = tree.root
    if isinstance(root, Prepared):
        return Remedy("sessions", {"gid": root.gid}, f"{tell_prepared(root)} blocks {tree.blocked} sessions")
    if root is None:
        return None
    return _ended_by(root, f"pid {root.pid} blocks {tree.blocked} sessions and waits for nobody itself")


def _blocked(survey: Survey) -> list[Measurement]:
    """Who blocks whom is visible to everybody; only the ages are not."""
    found = survey.trees()
    hidden = not survey.facts.sees_sessions
    if found and hidden:
        waiting = sum(tree.blocked for tree in found)
        return [
            Measurement(
                missing=needs(survey.facts, MONITOR, f"{waiting} sessions wait, for how long is not visible").missing,
                detail=tuple(lines(found)),
            )
        ]
    if not found:
        return [Measurement(value=0, detail=("nobody waits for a lock",))]
    return [
        Measurement(
            value=round(tree.longest, 4),
            samples=tree.blocked,
            detail=tuple(_tree_lines(tree)),
            scope=_tree_scope(tree.root),
            remedy=_tree_remedy(tree),
        )
        for tree in found[:_WORST]
    ]


def _tree_lines(tree: Tree) -> Sequence[str]:
    """The tree as domain.blocking tells it, with the root's statement, which is what one decides by."""
    told = lines([tree])
    if isinstance(tree.root, Backend) and tree.root.query:
        told = [f"{told[0]}; last: {statement(tree.root.query, 60)}", *told[1:]]
    return told


def _blocked_count(survey: Survey) -> list[Measurement]:
    found = survey.trees()
    # a session below two roots waits once
    waiting = {backend.pid for tree in found for _depth, backend in tree.waiting}
    remedies = [remedy for tree in found[:1] if (remedy := _tree_remedy(tree))]
    return [Measurement(value=len(waiting), remedy=remedies[0] if remedies else None)]


def _prepared(survey: Survey) -> list[Measurement]:
    return [
        Measurement(
            value=round(number(row, "seconds"), 4),
            detail=(
                f"{text(row, 'gid')!r} of {text(row, 'owner')}@{text(row, 'database')},"
                f" {whole(row, 'xids'):,} transactions ago",
            ),
            scope=f"gid {text(row, 'gid')}",
            remedy=Remedy(
                "sessions",
                {"gid": text(row, "gid")},
                f"{text(row, 'gid')!r} was prepared {human_duration(number(row, 'seconds'))} ago, and only its name"
                " ends it: ask the transaction manager first",
            ),
        )
        for row in survey.rows("prepared")[:_WORST]
    ] or [Measurement(value=0, detail=("no prepared transaction",))]


def _check(name: str, title: str, unit: str, warning: str, critical: str, priority: int) -> Check:
    return Check(name, "builtin", warning, critical, unit, title=title, when_down=Level.CRITICAL, priority=priority)


CHECKS = (
    PgCheck(
        _check("blocked_sessions", "longest wait for a lock", "s", "> 10 s", "> 60 s", 10),
        "cluster",
        MONITOR,
        (),
        _blocked,
    ),
    PgCheck(
        _check("blocked_count", "sessions that wait for a lock", "sessions", "> 5", "> 20", 11),
        "cluster",
        "",
        (),
        _blocked_count,
    ),
    PgCheck(
        _check("connections", "connections against the limit", "%", "> 80 %", "> 95 %", 20),
        "cluster",
        MONITOR,
        ("connections",),
        _connections,
    ),
    PgCheck(
        _check("idle_in_transaction", "longest idle in transaction", "s", "> 5 min", "> 30 min", 30),
        "cluster",
        MONITOR,
        (),
        _idle_in_transaction,
    ),
    PgCheck(
        _check("longest_transaction", "longest transaction", "s", "> 10 min", "> 1 h", 35),
        "cluster",
        MONITOR,
        (),
        _longest_transaction,
    ),
    PgCheck(
        _check("longest_query", "longest statement", "s", "> 5 min", "> 30 min", 40),
        "cluster",
        MONITOR,
        (),
        _longest_query,
    ),
    PgCheck(
        _check("prepared_transactions", "oldest prepared transaction", "s", "> 5 min", "> 1 h", 25),
        "cluster",
        "",
        ("prepared",),
        _prepared,
    ),
)
