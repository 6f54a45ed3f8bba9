# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence between changing verbs: one advisory lock for each database of a system, and one of its own for repair.

It is a session lock in the maintenance database, so it outlives every transaction, does not stand in the way
of a rename, and the server frees it when the session ends, however the module ended.
"""

from __future__ import annotations

import hashlib
import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

REPAIR = "repair"  # what cures an incident must not wait for a backup of two hours


def lock_key(system: str, database: str, part: str = "") -> int:
    """The lock's number: a signed 64-bit integer made from the names.

    part: a lock beside the database's own, for a verb that must not wait for those that hold that one.
    """
    names = [system, database, part] if part else [system, database]
    digest = hashlib.sha256("\0".join(["saasops", *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def hold(session: Session, system: str, database: str, wait: float = 3.0, part: str = "") -> None:
    """Take the lock for as long as the session lives. The session is one of the maintenance database.

    wait, in seconds, lets the server notice that a killed run is gone.
    Raises OpsError database_busy naming the holder.
    """
    if session.version >= 140000:
        # a server that ends idle sessions would free the lock in the middle of a long restore
        session.run("SET idle_session_timeout = 0")
    key = lock_key(system, database, part)
    deadline = time.monotonic() + wait
    while not session.value(render("SELECT pg_try_advisory_lock({key}) AS got", key=key)):
        if time.monotonic() >= deadline:
            raise _busy(database, holder(session, system, database, part))
        time.sleep(0.2)


def release(session: Session, system: str, database: str) -> None:
    """Give the lock back before the session ends."""
    session.value(render("SELECT pg_advisory_unlock({key}) AS freed", key=lock_key(system, database)))


def confirm(session: Session, system: str, database: str, part: str = "") -> None:
    """Prove right before a point of no return that the lock is still ours. Raises OpsError lock_lost."""
    held = holder(session, system, database, part)
    if held is None or held["pid"] != session.pid:
        raise OpsError(
            "lock_lost",
            f"The advisory lock on database {database!r} is no longer held by this run.",
            "Nothing of this step was done; run the verb again.",
        )


def holder(session: Session, system: str, database: str, part: str = "") -> Row | None:
    """Who holds the lock: pid, application, user, age in seconds and state; None when nobody does."""
    key = lock_key(system, database, part) & 0xFFFFFFFFFFFFFFFF
    found = session.rows(
        render(
            "SELECT l.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename, '') AS user,"
            " coalesce(extract(epoch FROM now() - a.backend_start)::bigint, 0) AS age, coalesce(a.state, '') AS state"
            " FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND l.classid::bigint = {high} AND l.objid::bigint = {low}",
            high=key >> 32,
            low=key & 0xFFFFFFFF,
        )
    )
    return found[0] if found else None


def _busy(database: str, held: Row | None) -> OpsError:
    if held is None:
        who, remedy = "another run that just ended", "Run the verb again."
    else:
        who = f"{held['application'] or 'another session'} (pid {held['pid']}, for {held['age']} s)"
        remedy = (
            "Wait until that run has ended. If nobody runs it any more, end its session with "
            f"SELECT pg_terminate_backend({held['pid']}), and run the verb again."
        )
    return OpsError(
        "database_busy", f"Database {database!r} is held by {who}.", remedy, {"holder": dict(held) if held else {}}
    )
