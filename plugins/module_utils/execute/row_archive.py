# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One archive while it is written, and what becomes of one whose run was killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import (
    ABORTED,
    COMMITTED,
    FORGOTTEN,
    RUNNING,
    Batch,
    Begun,
    Entry,
    Outcome,
    Part,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import new_set_id
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import present_sql, status_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.table_facts import read_tables
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.archives import Archive
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import Codec

_PATIENCE = 10.0  # seconds that a killed run's backend is given to end


def new_id(now: float) -> str:
    return new_set_id(now, os.urandom(4))


def fate(session: Session, xid: str, server: str, here: str) -> str:
    """What became of a batch's transaction; forgotten also when it was one of another server.

    server and here are what facts.read_server gives. The port is left aside: a standby that took over knows what it
    replayed.
    """
    if server.partition(" ")[0] != here.partition(" ")[0]:
        return FORGOTTEN
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            status = session.value(status_sql(session.version, xid))
        except OpsError as error:
            # an id of the future: the server crashed before anything of the transaction reached its disk, or was set
            # back behind it
            if error.details.get("sqlstate") != "22023":
                raise
            return ABORTED
        if status is None:
            return FORGOTTEN
        if status != RUNNING or time.monotonic() > deadline:
            return str(status)
        time.sleep(0.2)


class Recorder:
    """Writes one archive. An entry counts once its transaction is known to be committed."""

    def __init__(self, store: Store, codec: Codec, begun: Begun) -> None:
        self._store, self._codec, self.begun = store, codec, begun
        self.entries: list[Entry] = []
        self.raw = 0
        self._number = 0
        self._pending: list[Entry] = []
        self._started = False
        self._xid = ""

    @property
    def used(self) -> bool:
        """Whether anything was written."""
        return self._started

    def put(self, xid: str, parts: Sequence[Part]) -> None:
        """Make a batch durable before its transaction acts on the rows."""
        if not self._started:
            archives.begin(self._store, self.begun)
            self._started = True
        self._number += 1
        self._xid = xid
        batch = Batch(self.begun.archive, self._number, xid, self.begun.server, tuple(parts))
        self._pending.append(archives.put(self._store, self._codec, batch))

    def add(self, parts: Sequence[Part]) -> None:
        """A batch that belongs to the transaction of the last one, which was committed."""
        xid = self._xid
        self.put(xid, parts)
        self.committed()

    def committed(self) -> None:
        """The transaction of the last batches came through."""
        self.entries += self._pending
        self._pending = []

    def rolled_back(self) -> None:
        """It did not: they stand for nothing."""
        pending, self._pending = self._pending, []
        for entry in pending:
            archives.drop(self._store, self.begun.archive, entry)

    def settle(self, connect: Callable[[], Session]) -> None:
        """Ask the server what became of a transaction whose end we did not see. Raises OpsError."""
        if not self._pending:
            return
        session = connect()
        try:
            status = fate(session, self._xid, self.begun.server, self.begun.server)
        finally:
            session.close()
        if status == COMMITTED:
            self.committed()
        elif status == ABORTED:
            self.rolled_back()
        else:
            raise OpsError("outcome_unknown", f"The last batch is {status}.", "The next run looks again.")

    def finish(self, state: str, now: float) -> Outcome:
        """Write the manifest."""
        outcome = Outcome(self.begun, state, now, tuple(self.entries))
        if self._started:
            archives.finish(self._store, outcome)
        return outcome


def _still_there(session: Session, batch: Batch) -> bool:
    """Whether a row of the batch is in its table as it was archived, so that the batch was not deleted.

    After a crash the server may give the id of a transaction that left no trace to another one, which then comes
    through; a batch is deleted whole or not at all, so one row tells.
    """
    for part in batch.parts:
        facts = read_tables(session, [(part.schema, part.table)]).get((part.schema, part.table))
        if facts is None or not all(facts.has(column.name) for column in part.columns):
            continue
        found = session.rows(present_sql(part, facts)) if part.kind == "deleted" and part.rows else []
        if any(tuple(cast("list[str | None]", row["v"])) == part.rows[int(str(row["n"])) - 1] for row in found):
            return True
    return False


def resolve(session: Session, store: Store, archive: Archive, here: str, now: float) -> Outcome:
    """What an archive without a manifest stands for, out of the server's commit log. Nothing is written.

    Raises OpsError archive_unclear when the server does not know a transaction any more.
    """
    entries = []
    for key in sorted(key for key in archive.keys if key.startswith(archives.ROWS)):
        batch, entry = archives.get(store, archive.id, key)
        status = fate(session, batch.xid, batch.server, here)
        if status in (COMMITTED, FORGOTTEN) and _still_there(session, batch):
            status = ABORTED
        if status == COMMITTED:
            entries.append(entry)
        elif status != ABORTED:
            raise OpsError(
                "archive_unclear",
                f"Archive {archive.id} has no manifest, and what became of transaction {batch.xid} of its batch "
                f"{batch.number} is not known here ({status}).",
                "See whether its rows are in the table; what is not can be loaded out of it by hand (docs/cleanup.md).",
                {"archive": archive.id, "batch": batch.number},
            )
    return Outcome(archive.begun, "recovered", now, tuple(entries))


def recover(
    session: Session, store: Store, verb: str, system: str, database: str, names: Sequence[str], here: str, now: float
) -> tuple[list[Outcome], list[OpsError]]:
    """Bring archives of killed runs of a verb to their end: their manifests are written. Also why one could not be.

    Call it while holding the lock that keeps other runs of the verb out: a run at work has no manifest either.
    """
    found, unclear = [], []
    for archive in archives.without_end(store, verb, system, database, names):
        try:
            outcome = resolve(session, store, archive, here, now)
        except OpsError as error:
            if error.code not in ("archive_unclear", "archive_damaged", "archive_newer"):
                raise
            unclear.append(error)
            continue
        archives.finish(store, outcome)
        found.append(outcome)
    return found, unclear
