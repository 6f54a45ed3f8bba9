# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep clients out of a database, and let them in again."""

from __future__ import annotations

import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.hold import Database
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render

# a backend that was let in right before the limit appears within this time; it is looked for every PAUSE seconds
SETTLE_SECONDS, PAUSE = 1.0, 0.1
_NAME = "SELECT datname::text FROM pg_database WHERE oid = {:d}::oid"
_CLIENTS = (
    " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
    " WHERE a.datid = {oid}::oid AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL"
    " AND a.backend_type = 'client backend'"
)


def read_database(session: Session, name: str) -> Database:
    """How it is. session is one of the maintenance database. Raises OpsError database_missing."""
    found = session.rows(
        render(
            "SELECT oid::bigint AS oid, datconnlimit AS limit,"
            " (SELECT system_identifier::text FROM pg_control_system()) AS server"
            " FROM pg_database WHERE datname::text = {name}",
            name=name,
        )
    )
    if not found:
        raise OpsError("database_missing", f"There is no database {name!r}.", "Check saasops_database.")
    oid, limit = int(str(found[0]["oid"])), int(str(found[0]["limit"]))
    counted = session.rows(
        render(
            "SELECT count(*) FILTER (WHERE NOT coalesce(r.rolsuper, false)) AS clients,"
            " count(*) FILTER (WHERE r.rolsuper) AS superusers" + _CLIENTS,
            oid=oid,
        )
    )[0]
    return Database(
        name, oid, str(found[0]["server"]), limit, int(str(counted["clients"])), int(str(counted["superusers"]))
    )


def set_limit(session: Session, database: Database, limit: int) -> bool:
    """Give the database of this oid a limit, whatever its name is by now; False when it is gone.

    Raises the server's OpsErrors.
    """
    session.run("BEGIN")
    try:
        name = session.value(_NAME.format(database.oid))
        if name is not None:
            session.run(f"ALTER DATABASE {ident(str(name))} CONNECTION LIMIT {int(limit)}")
            if session.value(_NAME.format(database.oid)) != name:
                raise OpsError("database_moved", f"{name} was renamed meanwhile.", "Run the verb again.")
        session.run("COMMIT")
    except BaseException:
        session.run("ROLLBACK")
        raise
    return name is not None


def end_clients(session: Session, database: Database) -> int:
    """End the connections of everybody but superusers, and of those that were on their way in; how many.

    Who may not end them (a role without pg_signal_backend) gets an OpsError of the server.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = session.rows(
            render(
                "SELECT a.pid, pg_terminate_backend(a.pid) AS told" + _CLIENTS + " AND NOT coalesce(r.rolsuper, false)",
                oid=database.oid,
            )
        )
        ended |= {int(str(row["pid"])) for row in found}
        if not found or time.monotonic() > deadline:
            return len(ended)
        time.sleep(PAUSE)


def release_sql(database: Database, limit: int) -> str:
    """One statement that ends the hold, for an actor that knows nothing else; it changes nothing when it is over."""
    return render(
        "DO $saasops$ DECLARE held name; BEGIN SELECT datname INTO held FROM pg_database"
        " WHERE oid = {oid} AND datconnlimit = 0; IF FOUND THEN"
        " EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT %s', held, {limit}); END IF; END $saasops$",
        oid=database.oid,
        limit=limit,
    )
