# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the application's migrator does not come to its end: its sessions are ended, and its ledger says what it did."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain import migrate_command as domain
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate_command import Command
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import Place
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import migrator_watch
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# how long a server that died may take to come back before its ledger is given up, and sessions to end; seconds
PATIENCE = 15.0


def _fresh(place: Place) -> Session:
    """A session of the database, also while the server comes back. Raises the server's OpsError."""
    target = place.target.named(mark_of("migrate-guard", place.system, place.database))
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return target.session(place.database)
        except OpsError as error:
            if error.code == "interrupted" or time.monotonic() >= deadline:
                raise
        time.sleep(0.3)


def _end(session: Session, mark: str, database: str) -> str:
    """End what works under the mark, and wait until it is gone: its locks are free only then. A sentence, or ""."""
    query = render(
        "SELECT count(pg_terminate_backend(pid)) AS found FROM pg_stat_activity"
        " WHERE application_name = {mark} AND datname = {database} AND pid <> pg_backend_pid()",
        mark=mark,
        database=database,
    )
    first = left = int(str(session.value(query)))
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = int(str(session.value(query)))
    if left:
        return f"{left} of its sessions on the server do not end."
    return f"{first} of its sessions on the server were ended." if first else ""


def end_sessions(place: Place) -> None:
    """End the migrator's sessions, wherever its process is. Raises the server's OpsError."""
    with contextlib.closing(_fresh(place)) as session:
        _end(session, place.target.connection.application_name, place.database)


def read_ledger(place: Place, command: Command) -> list[str]:
    """What the migrator's ledger has, by a new session when ours is gone. Raises OpsError."""
    with contextlib.suppress(OpsError):
        return migrator_watch.read(place.reader, command.ledger)
    with contextlib.closing(_fresh(place)) as session:
        return migrator_watch.read(session, command.ledger)


def told(
    place: Place, command: Command, before: Sequence[str], pending: Sequence[str] | None, error: OpsError
) -> OpsError:
    """The error of a command that was cut, with what was applied, what remains and what was ended on the server."""
    said: list[str] = []
    details = dict(error.details)
    try:
        with contextlib.closing(_fresh(place)) as session:
            try:
                said.append(_end(session, place.target.connection.application_name, place.database))
            except OpsError as kept:
                said.append(f"Its sessions on the server could not be ended ({kept.cause}).")
            now = migrator_watch.read(session, command.ledger)
    except OpsError as lost:
        said.append(f"Its ledger could not be read ({lost.cause}), so what it applied is not known.")
        remedy = f"See what {command.ledger.table} has before anything else; then run the verb again."
        return OpsError(error.code, " ".join([error.cause, *filter(None, said)]), remedy, details)
    applied, _gone = domain.news(before, now)
    said.append(f"Applied by its ledger: {', '.join(applied) or 'nothing'}.")
    details["applied"] = applied
    if pending is not None:
        left = domain.left_of(command, pending, now)
        said.append(f"Left is: {', '.join(left) or 'nothing'}.")
        details["left"] = left
    remedy = f"{error.remedy} The next run goes on behind what is applied."
    return OpsError(error.code, " ".join([error.cause, *filter(None, said)]), remedy.strip(), details)
