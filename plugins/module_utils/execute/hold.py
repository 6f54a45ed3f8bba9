# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep clients out of a database for a time, and let them in again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Opening
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.hold import (
    LONGEST,
    SHORTEST,
    Database,
    decide_hold,
    decide_release,
    limit_before,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import parse_moment
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.timer_unit import moment, name_of
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.hold import (
    end_clients,
    read_database,
    release_sql,
    set_limit,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store import open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.transport import systemd


def _until(params: Mapping[str, object], now: float) -> float | None:
    """When it ends by itself: POSIX seconds, whole; None when it does not. Raises bad_moment, bad_duration."""
    length, text = params.get("for"), params.get("until")
    if text:
        try:
            until = parse_moment(str(text))
        except ValueError as error:
            raise OpsError("bad_moment", f"until: {error}.", "Write a time in UTC that ends in Z.") from error
    elif length:
        until = float(int(now) + parse_duration(str(length), "for"))
    else:
        return None
    if not SHORTEST <= until - now <= LONGEST and not (text and now < until <= now + LONGEST):
        raise OpsError(
            "bad_moment",
            f"A hold that ends {utc(until)} is too short, too long or over already.",
            f"Give at least {SHORTEST} seconds and at most {LONGEST // 86400} days, for instance for=30m.",
        )
    return until


def _recorded(params: Mapping[str, object], database: Database, context: Context) -> OpenItem | None:
    """The open item; None without one, and when the store does not answer and that may be gone past."""
    try:
        return open_items.look(open_store(cast("dict[str, object]", params["store"])), database.item_id)
    except OpsError as error:
        if not context.go_past(error, "what is recorded as open could not be read"):
            raise
        return None


def revert_of(target: Target, database: Database, limit: int) -> dict[str, object]:
    """What ends the hold without us: argv, environment and user for a timer on this host; no secret is in it."""
    psql = target.program("psql")
    argv = [shutil.which(psql) or psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", release_sql(database, limit)]
    environment = target.connection.to(target.connection.maintenance_database).environment()
    return {"argv": argv, "environment": environment, "user": pwd.getpwuid(os.geteuid()).pw_name}


def _refuse_without_actor(target: Target, database: Database, until: float | None, check_mode: bool) -> None:
    """A hold for a time needs its timer before it; one without an end must not be ended by an older one."""
    if target.transport.name != "local":
        if until is not None:
            raise OpsError(
                "expiry_without_actor",
                "The database is reached through a container, where no timer of this host would end the hold.",
                "Leave the length of time out and end it yourself (state=released); status shows it until then.",
            )
        return
    error = systemd.missing()
    if until is not None and error is not None and error.code == "expiry_without_actor":
        raise error
    if check_mode:
        return
    if until is not None and not systemd.stands(target.transport, database.item_id, until):
        raise OpsError(
            "expiry_missing",
            f"No timer {name_of(database.item_id)} waits for {moment(until)}, so nobody would end the hold.",
            "The verb hold makes it first; by hand, make it with saasops.runbook.expiry_timer out of what this module "
            "returns in check mode, or leave the length of time out.",
        )
    if until is None and systemd.exists(database.item_id):
        raise OpsError(
            "expiry_stands",
            f"The timer {name_of(database.item_id)} of an earlier hold is there and would end this one.",
            "Remove it with saasops.runbook.expiry_timer (state=absent), as the verb hold does.",
        )


def opening(database: Database, reason: str, limit: int, until: float | None) -> Opening:
    """What is recorded before the hold."""
    undo: dict[str, Json] = {
        "state": "released",
        "database": database.name,
        "oid": database.oid,
        "server": database.server,
        "limit": limit,
    }
    return Opening(
        database.item_id,
        f"clients are kept out of {database.name}: {reason}",
        "pg_hold",
        undo,
        expiry=until,
        outlives=True,
        actor="" if until is None else f"{name_of(database.item_id)}.timer",
    )


def release(session: Session, item: OpenItem) -> str:
    """Put back what an open item tells of; a sentence. Nothing is changed when it was put back already.

    Raises OpsError hold_elsewhere for a record of another server.
    """
    undo = item.undo
    database = Database(str(undo["database"]), int(str(undo["oid"])), str(undo["server"]), 0)
    server = str(session.value("SELECT system_identifier::text FROM pg_control_system()"))
    if server != database.server:
        raise OpsError(
            "hold_elsewhere",
            f"{item.id} speaks of the server {database.server}, and this connection leads to {server}.",
            "Run it with the connection of that server.",
        )
    found = session.rows(
        f"SELECT datname::text AS name, datconnlimit AS lim FROM pg_database WHERE oid = {database.oid}"
    )
    if not found:
        return f"The database {database.name} that was held is gone."
    name, limit = found[0]["name"], int(str(found[0]["lim"]))
    if limit != 0:
        return f"Clients were let into {name} already (CONNECTION LIMIT {limit})."
    set_limit(session, database, int(str(undo["limit"])))
    return f"Clients are let into {name} again."


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_hold."""
    system, name, state = str(params["system"]), str(params["database"]), str(params["state"])
    target = Target.from_params(cast("dict[str, object]", params["connection"]), mark_of("hold", system, name))
    given = None if params.get("limit") is None else int(str(params["limit"]))
    with contextlib.closing(target.session()) as session:
        database = read_database(session, name)
        item = _recorded(params, database, context)
        if state == "released":
            return _released(session, target, database, item, given, context)
        until = _until(params, context.now)
        reason = str(params.get("reason") or "").strip()
        if not reason:
            raise OpsError(
                "reason_missing", "Clients are not kept out without a reason.", "Say why: -e reason='<why>'."
            )
        _refuse_without_actor(target, database, until, context.check_mode)
        plan = decide_hold(database, item, reason, until, given)
        limit = limit_before(database, item, given)
        evidence: dict[str, object] = {
            "id": database.item_id,
            "until": None if until is None else moment(until).replace(" UTC", "Z").replace(" ", "T"),
            "revert": revert_of(target, database, limit),
            "ended": 0,
        }
        lasts = "until it is released (state=released)" if until is None else f"until {utc(until)}"
        if plan.empty or context.check_mode:
            word = "are kept" if plan.empty else "would be kept"
            return Result(plan, not plan.empty, f"Clients {word} out of {name} {lasts}.", evidence)
        context.authorise(plan)
        context.admission.opens(opening(database, reason, limit, until))
        context.admission.confirm()
        if database.limit != 0:
            set_limit(session, database, 0)
        try:
            evidence["ended"] = end_clients(session, database)
        except OpsError as error:
            context.warn(f"Connections that were there stay: {error.cause}")
    return Result(
        plan,
        True,
        f"Clients are kept out of {name} {lasts}; {evidence['ended']} connections were ended.",
        evidence,
        undo={"verb": "hold", "state": "released", "database": name},
    )


def _released(
    session: Session, target: Target, database: Database, item: OpenItem | None, given: int | None, context: Context
) -> Result:
    plan: Plan = decide_release(database, item, given)
    evidence: dict[str, object] = {"id": database.item_id, "until": None, "revert": {}, "ended": 0}
    if plan.empty:
        return Result(plan, False, f"Clients are let into {database.name}.", evidence)
    if context.check_mode:
        return Result(plan, True, f"Clients would be let into {database.name} again.", evidence)
    context.authorise(plan)
    if database.limit == 0:
        set_limit(session, database, limit_before(database, item, given))
    context.admission.closes(database.item_id, "released")
    return Result(plan, True, f"Clients are let into {database.name} again.", evidence)
