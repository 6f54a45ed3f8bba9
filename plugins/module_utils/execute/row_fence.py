# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence of a run that acts on rows: a session that holds the advisory lock, and the session that acts behind it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import locks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import prepare
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session


@dataclass(frozen=True)
class Fence:
    """guard holds the lock; worker acts. server is what facts.read_server gives; part is that of postgres.locks."""

    context: Context
    guard: Session
    worker: Session
    server: str
    system: str
    database: str
    part: str

    def confirm(self) -> None:
        """Right before the rows are touched: lease and lock are still ours, the window has not ended."""
        self.context.admission.confirm()
        locks.confirm(self.guard, self.system, self.database, self.part)


def fenced(
    stack: contextlib.ExitStack,
    anyone: Target,
    context: Context,
    reader: Session,
    verb: str,
    system: str,
    database: str,
    part: str = "",
) -> Fence:
    """Take the lock, end what a dead run of the verb left at work. The stack closes the sessions.

    Raises OpsError database_busy, pooler_refused.
    """

    def opened(server: Target, name: str | None) -> Session:
        session = server.session(name)
        stack.callback(session.close)
        return session

    server = read_server(reader)
    holder = anyone.named(mark_of(f"{verb}-guard", system, database))
    with contextlib.closing(holder.session(database)) as other:
        refuse_pooler(reader, other)
    guard = opened(holder, None)
    prepare(guard)
    locks.hold(guard, system, database, part=part)
    target = anyone.named(mark_of(verb, system, database, server))
    end_leftovers(target, reader, target.connection.application_name, [reader.pid])
    worker = opened(target, database)
    prepare(worker)
    return Fence(context, guard, worker, server, system, database, part)
