# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom nobody ends: what a session is, whether it may be ended at all, and whether it belongs to a pool."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import IDLE, like

CLIENT, WALSENDER, AUTOVACUUM, PARALLEL = "client backend", "walsender", "autovacuum worker", "parallel worker"
# how the sessions and tools of this collection are named (postgres/leftovers.mark_of)
MARK = re.compile(r"saasops-[a-z_-]+-[0-9a-f]{12}\Z")
# as many sessions that look alike are a pool: nobody opens three of the same by hand
POOL_LEAST = 3
# programs that people sit before: their idle sessions are nobody's pool
PEOPLE = ("psql", "pgAdmin*", "DBeaver*", "DataGrip*", "TablePlus*", "Postico*", "pgcli")
_BACKUP_NAMES = (
    "pg_dump*",
    "pg_restore*",
    "pg_basebackup*",
    "pg_receivewal*",
    "pg_probackup*",
    "pgbackrest*",
    "barman*",
    "wal-g*",
)
_BACKUP_WORK = re.compile(
    r"\A\s*(?:COPY\b.*\bTO\s+STDOUT\b|LOCK\s+TABLE\b.*\bIN\s+ACCESS\s+SHARE\s+MODE\b)"
    r"|\bpg_export_snapshot\b|\bSET\s+TRANSACTION\s+SNAPSHOT\b",
    re.IGNORECASE | re.DOTALL,
)
# a session stays in backup mode between two statements, outside of any transaction
_BACKUP_MODE = re.compile(r"\bpg_(?:backup_start|start_backup)\b", re.IGNORECASE)
_WRAPAROUND = "(to prevent wraparound)"
_HIDDEN = "<insufficient privilege>"

NEVER, NAMED = "never", "named"


@dataclass(frozen=True)
class Login:
    """What this run may do. superuser: it is one; reaches: roles whose sessions it may end (no superusers)."""

    user: str
    superuser: bool = False
    reaches: frozenset[str] = frozenset()
    superusers: frozenset[str] = frozenset()
    autovacuum: bool = False


@dataclass(frozen=True)
class Ground:
    """What is known beside the list of sessions.

    own: pids of this run. locked: pids that hold an advisory lock of this collection on a database of this system.
    backing_up: pids of base backups. pool_applications, pool_users: patterns of the inventory for members of pools.
    wanted: pid -> relations that it waits for.
    """

    login: Login
    own: frozenset[int] = frozenset()
    locked: frozenset[int] = frozenset()
    backing_up: frozenset[int] = frozenset()
    pool_applications: tuple[str, ...] = ()
    pool_users: tuple[str, ...] = ()
    wanted: Mapping[int, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shield:
    """Why a session is not ended. strength: NEVER, or NAMED when whoever names it by its pid may end it."""

    why: str
    strength: str = NEVER


def hidden(backend: Backend) -> bool:
    """Whether what it does may not be seen by this login."""
    return not backend.started or backend.query == _HIDDEN


def shield(backend: Backend, ground: Ground) -> Shield | None:
    """Why this session is to be left alone; None when it may be ended."""
    if backend.pid in ground.own:
        return Shield("it is this run itself")
    if backend.kind == WALSENDER or backend.pid in ground.backing_up:
        return Shield("it is a walsender: replication or a base backup")
    if backend.pid in ground.locked or MARK.match(backend.application):
        # whether a marked one is what a dead run left is known to the next run of that verb, which has its lock
        return Shield("it belongs to a run of this collection; stop that run, or run its verb again if it is dead")
    if hidden(backend):
        return Shield("what it does cannot be seen: GRANT pg_read_all_stats (or pg_monitor)")
    return _server_shield(backend) if backend.kind != CLIENT else _hinted_shield(backend)


def _server_shield(backend: Backend) -> Shield:
    if backend.kind == AUTOVACUUM:
        if _WRAPAROUND in backend.query or not backend.query:
            return Shield("it is an autovacuum that prevents wraparound")
        return Shield("it is an autovacuum, which gives way by itself", NAMED)
    if backend.kind == PARALLEL:
        return Shield("it is a parallel worker; its leader is ended instead")
    return Shield(f"it is a process of the server ({backend.kind})")


def _hinted_shield(backend: Backend) -> Shield | None:
    if like(_BACKUP_NAMES, backend.application.lower()):
        return Shield(f"it looks like a backup: its name is {backend.application!r}", NAMED)
    if _BACKUP_MODE.search(backend.query) or (_BACKUP_WORK.search(backend.query) and backend.state != IDLE):
        return Shield("it looks like a backup: it streams or locks tables as a dump does", NAMED)
    return None


def superuser_shield(backend: Backend, ground: Ground, users: Collection[str]) -> Shield | None:
    """A superuser is ended only when users names him, without a pattern."""
    if backend.user in ground.login.superusers and backend.user not in users:
        return Shield(f"{backend.user} is a superuser", NAMED)
    return None


def unreachable(backend: Backend, ground: Ground) -> str:
    """The right that is missing to end this session, as a sentence; "" when nothing is missing."""
    login = ground.login
    if login.superuser:
        return ""
    if backend.kind == AUTOVACUUM:
        return (
            "" if login.autovacuum else f"GRANT pg_signal_autovacuum_worker TO {login.user}, or log in as a superuser"
        )
    if backend.user in login.superusers:
        return f"{backend.user} is a superuser: log in as one"
    return "" if backend.user in login.reaches else f"GRANT pg_signal_backend TO {login.user}"


def pools(backends: Sequence[Backend], ground: Ground) -> dict[int, str]:
    """pid -> why it is taken for a member of a connection pool, which is idle because that is its work.

    The inventory says so, or at least POOL_LEAST client sessions look alike: same user, database and application (the
    instances of an application), or same user and address (the pools of one machine). Programs that people use are
    no pools. In doubt a session is a member.
    """
    clients = [b for b in backends if b.kind == CLIENT and not hidden(b)]
    alike: Counter[tuple[str, ...]] = Counter()
    for b in clients:
        if not like(PEOPLE, b.application):
            alike.update([("app", b.user, b.database, b.application), ("host", b.user, b.client)])
    found: dict[int, str] = {}
    for b in clients:
        app, host = ("app", b.user, b.database, b.application), ("host", b.user, b.client)
        if ground.pool_applications and like(ground.pool_applications, b.application):
            found[b.pid] = f"the inventory says that {b.application!r} is a pool"
        elif ground.pool_users and like(ground.pool_users, b.user):
            found[b.pid] = f"the inventory says that {b.user} has a pool"
        elif like(PEOPLE, b.application):
            continue
        elif alike[app] >= POOL_LEAST:
            found[b.pid] = f"{alike[app]} sessions of {b.user} have the same database and application"
        elif alike[host] >= POOL_LEAST:
            found[b.pid] = f"{alike[host]} sessions of {b.user} come from {b.client or 'the same machine'}"
    return found
