# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way in when ordinary ones are closed: slots that are taken, a database that lets nobody in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# seconds: what is made for 3 a.m. does not wait longer for one way before it tries the next
CONNECT_SECONDS = 4
# seconds: a server in trouble may not keep us waiting for its own views
STATEMENT_SECONDS = 10
# somebody may have locked a catalog of the one database, which keeps everybody out of it
_OTHER_DATABASE = ("unknown_database", "no_free_connection", "login_refused", "not_permitted", "server_unreachable")
# what the login role's own settings must not do to this run
_SETTINGS = {
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": "2s",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}


def _quick(target: Target) -> Target:
    connection = target.connection
    return replace(
        target, connection=replace(connection, connect_timeout=min(connection.connect_timeout, CONNECT_SECONDS))
    )


def targets(params: Mapping[str, object], mark: str) -> list[Target]:
    """The ways in that the inventory names, in order: connection, rescue_connection."""
    given = [params["connection"], params.get("rescue_connection")]
    return [_quick(Target.from_params(cast("dict[str, object]", item), mark)) for item in given if item is not None]


def _prepare(session: Session) -> None:
    """Set what this server's version knows of _SETTINGS."""
    wanted = ", ".join(render("({name}, {value})", name=name, value=value) for name, value in _SETTINGS.items())
    session.rows(
        f"SELECT set_config(s.name, w.value, false) AS done FROM (VALUES {wanted}) w (name, value)"
        " JOIN pg_settings s ON s.name = w.name"
    )


def enter(ways: list[Target], database: str) -> tuple[Target, Session]:
    """The first way in that opens: into the database, else into the maintenance database of the same server.

    Raises the OpsError of the ordinary way; when it is no_free_connection, its remedy names the rescue connection.
    """
    errors: list[OpsError] = []
    for target in ways:
        for name in dict.fromkeys((database, target.connection.maintenance_database)):
            try:
                session = target.session(name or None)
            except OpsError as error:
                errors.append(error)
                if error.code not in _OTHER_DATABASE:
                    break
                continue
            _prepare(session)
            return target, session
    first = errors[0]
    if first.code == "no_free_connection":
        said = "The rescue connection found none either." if len(ways) > 1 else "No rescue connection is set."
        raise OpsError(
            first.code,
            f"{first.cause} {said}",
            "Set saasops_rescue_connection to a superuser's login, or from PostgreSQL 16 on one that has "
            "pg_use_reserved_connections.",
            first.details,
        )
    raise first
