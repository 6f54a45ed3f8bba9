# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application's migrator does on the server while it runs: found by its mark, stopped when readers wait.

Drivers differ in what they take of PGOPTIONS and of an address, so the limits are enforced from here as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate_command import LedgerTable
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# sessions of the mark: how long each waits for a lock, and how long the longest of the others waits behind it
_SEEN = """
SELECT a.pid,
       CASE WHEN a.wait_event_type = 'Lock' THEN extract(epoch FROM clock_timestamp() - coalesce(
            (SELECT min({since}) FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted), a.query_start))
            ELSE 0 END AS waits,
       coalesce((SELECT max(extract(epoch FROM clock_timestamp() - b.query_start)) FROM pg_stat_activity b
                  WHERE b.wait_event_type = 'Lock' AND b.pid <> a.pid AND a.pid = ANY (pg_blocking_pids(b.pid))), 0)
         AS behind
  FROM pg_stat_activity a
 WHERE a.application_name = {mark} AND a.datname = {database}
"""


class Watch:
    """Looks at the sessions of a mark in a database. seen: whether there ever was one; stopped: why one was ended.

    hold: seconds that somebody may wait behind it (lock_limit); queue: seconds that it may wait for a lock.
    """

    def __init__(self, session: Session, mark: str, database: str, queue: float, hold: float) -> None:
        since = "l.waitstart" if session.version >= 140000 else "NULL::timestamptz"
        self._session, self._queue, self._hold = session, queue, hold
        self._query = render(_SEEN.replace("{since}", since), mark=mark, database=database)
        self._cancelled: set[int] = set()
        self.seen = False
        self.longest_wait = 0.0
        self.stopped: list[str] = []

    def look(self) -> None:
        """One look. Raises the server's OpsError."""
        for row in self._session.rows(self._query):
            self.seen = True
            pid, waits, behind = int(str(row["pid"])), float(str(row["waits"])), float(str(row["behind"]))
            self.longest_wait = max(self.longest_wait, waits)
            why = ""
            if waits > self._queue + 1.0:
                why = f"it waited {waits:.1f} s for a lock"
            elif behind > self._hold:
                why = f"others waited {behind:.1f} s behind it"
            if why:
                again = pid in self._cancelled
                self._cancelled.add(pid)
                # what does not listen to a cancel, or sits idle in its transaction, is ended
                function = "pg_terminate_backend" if again else "pg_cancel_backend"
                self._session.value(render("SELECT {act:raw}({pid}) AS sent", act=function, pid=pid))
                if not again:
                    self.stopped.append(why)


def looks_for_clients(session: Session) -> bool:
    """Whether the server can look, while a statement runs, if its client is there: 14 on, not on every platform."""
    name = "client_connection_check_interval"
    if session.version < 140000:
        return False
    try:
        session.value(render("SELECT set_config({name}, '1s', true) AS taken", name=name))
    except OpsError:
        return False
    return True


def read(session: Session, ledger: LedgerTable) -> list[str]:
    """What the migrator's ledger has, in its order; [] when it is not there. Raises OpsError ledger_unreadable."""
    there = session.value(render("SELECT to_regclass({name})::text AS found", name=_sql(ledger.parts)))
    if there is None:
        return []
    try:
        rows = session.rows(
            render(
                "SELECT {column:I}::text AS version FROM {table:I} ORDER BY {order:I}",
                column=ledger.version_column,
                table=ledger.parts,
                order=ledger.order,
            )
        )
    except OpsError as error:
        raise OpsError(
            "ledger_unreadable",
            f"The migrator's ledger {ledger.table} cannot be read: {error.cause}",
            "Check command.ledger (table, version_column, order), and grant SELECT on it.",
            error.details,
        ) from error
    return [str(row["version"]) for row in rows]


def exists(session: Session, ledger: LedgerTable) -> bool:
    """Whether the table is there."""
    return session.value(render("SELECT to_regclass({name})::text AS found", name=_sql(ledger.parts))) is not None


def _sql(parts: Sequence[str]) -> str:
    return render("{name:I}", name=tuple(parts))
