# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module that restores or exchanges databases begins: store, lock, and the conclusion of what was left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reach import reach_store
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reconcile import reconcile
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_catalog import adopted
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import unbound
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import system_identifier
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import read_restorations

LOCK_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Guard:
    """What such a run works with. session is one of the maintenance database and holds the advisory lock.

    server: the system identifier. records: restores of this database, oldest first, none of them under way.
    cleaned: what was found of interrupted runs, a sentence each; concluded: whether something was changed by that.
    """

    target: Target
    store: Store
    session: Session
    server: str
    records: list[Restoration]
    cleaned: list[str]
    concluded: bool
    warnings: tuple[str, ...]


@contextlib.contextmanager
def guarded(params: dict[str, object], context: Context) -> Iterator[Guard]:
    """Connect, refuse a pooler, hold the lock, conclude what interrupted runs left.

    In check mode nothing is changed, and a lock that somebody else holds is only reported.
    Raises OpsError: store's, database_busy, pooled_connection, record_unreadable, and the server's.
    """
    system, database = str(params["system"]), str(params["database"])
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    store = reach_store(params, context)
    # under a mark of its own: whoever else carries the verb's mark while we hold the lock is a leftover
    holder = anyone.named(mark_of("guard", system, database))
    with contextlib.ExitStack() as stack:
        session = holder.session()
        stack.callback(session.close)
        unbound(session)
        with contextlib.closing(holder.session()) as other:
            refuse_pooler(session, other)
        warnings: tuple[str, ...] = ()
        try:
            hold(session, system, database, wait=0.0 if context.check_mode else LOCK_WAIT_SECONDS)
        except OpsError as error:
            if not context.check_mode or error.code != "database_busy":
                raise
            warnings = (error.cause,)
        target = anyone.named(mark_of("restore", system, database, read_server(session)))
        server = system_identifier(session)
        before = read_restorations(store, system, database, server)
        known, said = adopted(store, before, check_mode=context.check_mode)
        records, cleaned = reconcile(session, target, store, known, context.now, check_mode=context.check_mode)
        cleaned = [*said, *cleaned]
        for line in cleaned:
            context.progress(line)
        yield Guard(target, store, session, server, records, cleaned, records != before, warnings)
