# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring what an interrupted restore, switch or undo left to a state that has a name.

It is called by whoever holds the database's advisory lock: a record that says "under way" then speaks of a run that
is dead. A half-made database is dropped, a rename is looked up in the catalog: it happened whole or not at all.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import drop_database
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import (
    database_of_oid,
    database_oid,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import Rename, close_database, exchange
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save


def _discard(session: Session, target: Target, record: Restoration) -> list[str]:
    """Remove a half-made database, the roles made for it and its staging folder; says what was removed.

    Only the name that carries the record's id is dropped: nobody but that restore gave it.
    """
    said = []
    if database_oid(session, record.building) is not None:
        drop_database(session, record.building)
        said.append(f"the half-restored database {record.building} was dropped")
    for role in record.roles_created:
        # one that got grants elsewhere meanwhile stays
        with contextlib.suppress(OpsError):
            session.run(f"DROP ROLE IF EXISTS {ident(role)}")
    if record.staging:
        target.transport.remove_tree(record.staging)
    return said


def named(record: Restoration) -> Restoration:
    """The record once the verified database has its name; in place that is the live one."""
    if record.in_place:
        return replace(record, state="switched", switched_at=record.verified_at, aside="", aside_oid=0)
    return replace(record, state="verified")


def conclude_building(session: Session, target: Target, record: Restoration, reason: str) -> tuple[Restoration, str]:
    """The record of a restore that ended before it was done, and a sentence; nothing half-made is left.

    A database that has its final name is whole: it gets it as the last step, after it was verified.
    """
    if record.target_oid and database_of_oid(session, record.target_oid) == record.target:
        return named(record), f"Restore {record.id} ended right after its database {record.target} was verified."
    said = _discard(session, target, record)
    if record.in_place and record.aside_oid and database_of_oid(session, record.aside_oid) == record.aside:
        exchange(target, [Rename(record.aside_oid, record.aside, record.database)])
        said.append(f"{record.database} has its name again")
    elif record.in_place and record.aside_oid:
        said.append(f"{record.database} had been dropped already: restore it with a set")
    sentence = "; ".join(said) or "nothing was left of it"
    return replace(record, state="failed", reason=reason), f"Restore {record.id} did not end well: {sentence}."


def conclude_switch(session: Session, record: Restoration, now: float) -> Restoration:
    """The record after a switch whose commit the catalog shows; closes the old database."""
    if record.aside_oid and database_of_oid(session, record.aside_oid) == record.aside:
        close_database(session, record.aside, record.aside_oid)
    return replace(record, state="switched", switched_at=record.switched_at or iso(now))


def undone(record: Restoration, now: float) -> Restoration:
    """The record after an undo: what was restored stands aside now."""
    return replace(
        record,
        state="undone",
        undone_at=record.undone_at or iso(now),
        aside=record.newer,
        aside_oid=record.target_oid if record.newer else 0,
        newer="",
    )


def conclude_undo(session: Session, record: Restoration, now: float) -> Restoration:
    """The record after an undo whose commit the catalog shows; closes the newer database."""
    if record.newer and database_of_oid(session, record.target_oid) == record.newer:
        close_database(session, record.newer, record.target_oid)
    return undone(record, now)


def concluded(session: Session, target: Target, record: Restoration, now: float) -> tuple[Restoration, str]:
    """The record of a run that ended on the way, in a state that has a name, and a sentence on what was found."""
    after, sentence = outlook(session, record, now)
    if record.state == "building":
        return conclude_building(session, target, record, "interrupted")
    if after.state == "switched" and record.state in ("undoing", "switched"):
        if record.aside_oid and database_of_oid(session, record.aside_oid) == record.aside:
            close_database(session, record.aside, record.aside_oid)
    elif after.state == "switched":
        after = conclude_switch(session, record, now)
    elif after.state == "undone":
        after = conclude_undo(session, record, now)
    return after, sentence


def outlook(session: Session, record: Restoration, now: float) -> tuple[Restoration, str]:
    """What concluded would make of the record, as the catalog has it; nothing is changed."""
    live = database_oid(session, record.database)
    if record.state == "building":
        return replace(record, state="failed", reason="interrupted"), f"Restore {record.id} was interrupted."
    if record.state in ("switching", "verified"):
        if live is not None and live == record.target_oid:
            after = replace(record, state="switched", switched_at=record.switched_at or iso(now))
            return after, f"The switch of restore {record.id} had been committed when its run ended."
        text = f"The switch of restore {record.id} was interrupted before its commit; nothing had changed."
        return replace(record, state="verified"), text
    if live is not None and live == record.aside_oid:
        return undone(record, now), f"The undo of restore {record.id} had been committed when its run ended."
    text = f"The undo of restore {record.id} was interrupted before its commit; nothing had changed."
    return replace(record, state="switched", newer=""), text


def under_way(session: Session, record: Restoration) -> bool:
    """Whether a run ended on the way; the catalog knows of a commit that the record does not."""
    if record.state in ("building", "switching", "undoing"):
        return True
    if record.state == "verified" and record.aside:
        return database_oid(session, record.database) == record.target_oid
    return False


def reconcile(
    session: Session, target: Target, store: Store, records: list[Restoration], now: float, *, check_mode: bool
) -> tuple[list[Restoration], list[str]]:
    """The records with every "under way" concluded, and sentences on what was found.

    In check mode they are as the next run will make them, and nothing is changed.
    """
    said = [] if check_mode else end_leftovers(target, session, target.connection.application_name, [session.pid])
    result = []
    for record in records:
        if not under_way(session, record):
            result.append(record)
            continue
        if check_mode:
            after, sentence = outlook(session, record, now)
        else:
            after, sentence = concluded(session, target, record, now)
            save(store, after)
        result.append(after)
        said.append(sentence)
    return result, said
