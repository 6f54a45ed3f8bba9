# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One consistent view of a database, shared by pg_dump and by our counting sessions.

A snapshot without locks can lose a table and still pass: TRUNCATE is not MVCC-safe, so a table that is
truncated and reloaded after the export looks empty in the dump and in the count alike. Therefore the tables
are locked first and the snapshot is taken after that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import literal, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import Relation, relations

ATTEMPTS = 3
# what makes the text of values, and so their hashes, the same everywhere
FIXED_TEXT = (
    "SET LOCAL DateStyle = 'ISO, MDY'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL search_path = pg_catalog",
)


def _quiet(session: Session) -> None:
    """Switch off every timeout that could end a long-lived reader, and every filter on rows."""
    names = ["idle_in_transaction_session_timeout", "statement_timeout"]
    if session.version >= 170000:
        names.append("transaction_timeout")
    for name in names:
        session.run(f"SET LOCAL {name} = 0")
    # a table that forces row security would be counted and dumped in part without a word; off makes it an error
    session.run("SET LOCAL row_security = off")
    for statement in FIXED_TEXT:
        session.run(statement)


class Snapshot:
    """An exported snapshot that lives as long as its session's transaction.

    relations: tables and materialized views, all locked (materialized views cannot be; they are not dumped
    as rows). taken_at: the server's clock in POSIX seconds when the snapshot was taken.
    """

    def __init__(self, session: Session, identifier: str, taken_at: float, found: Sequence[Relation]) -> None:
        self.session = session
        self.identifier = identifier
        self.taken_at = taken_at
        self.relations = tuple(found)

    def release(self) -> None:
        """End the transaction and give the locks back; a session that was ended already has done so."""
        with contextlib.suppress(OpsError):
            self.session.run("ROLLBACK")

    def still_holds(self) -> bool:
        """True while the exporting session lives: what was read under a dead one proves nothing."""
        try:
            return self.session.value("SELECT 1 AS alive") == 1
        except OpsError:
            return False


def _lock(session: Session, found: Sequence[Relation], wait_seconds: int) -> None:
    tables = [item.sql for item in found if item.kind in "rp"]
    session.run(f"SET LOCAL lock_timeout = {literal(f'{wait_seconds}s')}")
    if tables:
        session.run("LOCK TABLE ONLY " + ", ONLY ".join(tables) + " IN ACCESS SHARE MODE")
    session.run("SET LOCAL lock_timeout = 0")


def take_snapshot(session: Session, other: Session, schemas: Sequence[str], wait_seconds: int = 30) -> Snapshot:
    """Lock every table, then export a snapshot; again when the list of tables changed meanwhile.

    other is a second session of the same database: the list is read through it, because a query in the
    exporting transaction would take its snapshot before the locks.
    Raises OpsError: lock_timeout, not_permitted, tables_keep_changing.
    """
    for attempt in range(ATTEMPTS):
        found = relations(other, "rpm", schemas)
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            _quiet(session)
            _lock(session, found, wait_seconds)
            row = session.rows(
                "SELECT pg_export_snapshot() AS id, extract(epoch FROM clock_timestamp())::float8 AS taken_at"
            )[0]
            same = {(r.oid, r.schema, r.name) for r in relations(other, "rpm", schemas)} == {
                (r.oid, r.schema, r.name) for r in found
            }
        except OpsError as error:
            session.run("ROLLBACK")
            # a table that was dropped or renamed between the list and the lock: read the list again
            if error.details.get("sqlstate") not in ("42P01", "3F000") or attempt == ATTEMPTS - 1:
                raise
            continue
        if same:
            return Snapshot(session, str(row["id"]), float(str(row["taken_at"])), found)
        session.run("ROLLBACK")
        time.sleep(0.5 * (attempt + 1))
    raise OpsError(
        "tables_keep_changing",
        f"Tables were created or dropped during each of {ATTEMPTS} attempts to lock them.",
        "Run the backup when no migration or tenant set-up is under way.",
    )


def join(session: Session, snapshot: Snapshot) -> None:
    """Let another session of the same database see exactly what the snapshot sees."""
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.run(render("SET TRANSACTION SNAPSHOT {identifier}", identifier=snapshot.identifier))
    _quiet(session)


def plain_view(session: Session) -> None:
    """A consistent view of a database that nobody else uses (a freshly restored one)."""
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    _quiet(session)
