# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases a server has that one can work in."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session


@dataclass(frozen=True)
class DatabaseEntry:
    """A database that takes connections. bytes: its size, None where the role may not connect."""

    name: str
    oid: int
    template: bool
    bytes: int | None
    may_connect: bool


_DATABASES = """
SELECT datname::text AS name, oid::bigint AS oid, datistemplate AS template,
       has_database_privilege(oid, 'CONNECT') AS may_connect,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END AS bytes
  FROM pg_database WHERE datallowconn ORDER BY datname
"""


def databases(session: Session) -> list[DatabaseEntry]:
    """All databases that take connections, templates among them, in order of their names."""
    return [
        DatabaseEntry(
            name=str(row["name"]),
            oid=int(str(row["oid"])),
            template=bool(row["template"]),
            bytes=None if row["bytes"] is None else int(str(row["bytes"])),
            may_connect=bool(row["may_connect"]),
        )
        for row in session.rows(_DATABASES)
    ]
