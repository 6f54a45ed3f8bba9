# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make or remove the timer that ends something at its time, whatever became of the run that opened it."""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import parse_moment
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.timer_unit import Expiry, name_of, refuse_bad
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import passfile_line
from ansible_collections.saasops.runbook.plugins.module_utils.transport import systemd
from ansible_collections.saasops.runbook.plugins.module_utils.transport.open import open_transport

_Words = Sequence[object]


def _wanted(params: Mapping[str, object], now: float) -> Expiry:
    identifier, text = str(params["id"]), str(params["at"])
    try:
        at = parse_moment(text)
    except ValueError as error:
        raise OpsError("bad_moment", f"at: {error}.", "Write a time in UTC that ends in Z.") from error
    if at <= now:
        raise OpsError("bad_moment", f"at: {text} is past.", "Give a later time.")
    environment = dict(cast("Mapping[str, str]", params.get("environment") or {}))
    if params.get("pgpass") is not None:
        environment["PGPASSFILE"] = systemd.paths(identifier).secret
    wanted = Expiry(
        identifier,
        at,
        tuple(str(word) for word in cast(_Words, params["argv"])),
        str(params["user"]),
        {str(name): str(value) for name, value in environment.items()},
        str(params.get("description") or ""),
    )
    refuse_bad(wanted)
    return wanted


def execute(params: dict[str, object], context: Context) -> Result:
    """The module expiry_timer."""
    transport, identifier = open_transport({}), str(params["id"])
    unit = f"{name_of(identifier)}.timer"
    if params["state"] == "absent":
        if not systemd.exists(identifier):
            return Result(Plan("expiry", ()), False, f"There is no {unit}.", {"unit": unit})
        plan = Plan("expiry", (Action("remove timer", unit, "what it was to end is over"),))
        error = systemd.missing()
        if error is not None and error.code == "expiry_needs_root":
            raise error
        if not context.check_mode:
            context.authorise(plan)
            systemd.remove(transport, identifier)
        return Result(plan, True, f"{unit} is removed.", {"unit": unit})
    wanted = _wanted(params, context.now)
    error = systemd.missing()
    if error is not None:
        raise error
    try:
        owner = pwd.getpwnam(wanted.user)
    except KeyError as missing:
        raise OpsError("user_missing", f"There is no user {wanted.user}.", "Name who is to run it.") from missing
    folder = systemd.PERSISTENT if params.get("persistent", True) else systemd.TRANSIENT
    secret = "" if params.get("pgpass") is None else passfile_line(str(params["pgpass"]))
    if systemd.same(transport, wanted, secret, folder):
        return Result(Plan("expiry", ()), False, f"{unit} waits for {utc(wanted.at)} already.", {"unit": unit})
    plan = Plan("expiry", (Action("timer", unit, f"{wanted.description or identifier}; at {utc(wanted.at)}"),))
    if not context.check_mode:
        context.authorise(plan)
        systemd.install(transport, wanted, secret, (owner.pw_uid, owner.pw_gid), folder)
    return Result(plan, True, f"{unit} waits for {utc(wanted.at)}.", {"unit": unit})
