# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An independent look at a database: psql, as the superuser, the application and a stranger."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comparison_faults import STRANGER, STRANGER_PASSWORD

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.lab.postgres import Server

APPLICATION, APPLICATION_PASSWORD = "demo_app", "demo"
# found through the search_path that ALTER ROLE ... IN DATABASE gives the application
APPLICATION_QUERY = 'SELECT count(*) FROM "Campaign"'
# one statement a table, made by the server and run by psql; each prints a JSON list: name, rows, sum of all values
_TABLES = r"""
SELECT format($$SELECT json_build_array(%L, count(*),
                         coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')) FROM %I.%I AS t$$,
                format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \gexec
"""
_CONSTRAINTS = (
    "SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace"
    " WHERE c.contype IN ('p', 'u', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
)


@dataclass(frozen=True)
class Sight:
    """What is true of a database.

    rows: table -> number of rows; sums: table -> checksum of all its values; constraints: primary, unique and
    foreign keys.
    """

    rows: dict[str, int]
    sums: dict[str, str]
    constraints: int
    application_works: bool
    stranger_kept_out: bool

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def missing_rows(self, before: Sight) -> int:
        """Rows of before that are not here, table by table."""
        return sum(max(0, rows - self.rows.get(table, 0)) for table, rows in before.rows.items())

    def altered_tables(self, before: Sight) -> int:
        """Tables that have as many rows as before, with other values."""
        return sum(
            rows == self.rows.get(table) and self.sums[table] != before.sums[table]
            for table, rows in before.rows.items()
        )


def look(server: Server, database: str) -> Sight:
    """Ask psql; nothing of what is compared takes part."""
    tables = [json.loads(line) for line in server.psql(_TABLES, database).splitlines()]
    return Sight(
        rows={name: rows for name, rows, _checksum in tables},
        sums={name: checksum for name, _rows, checksum in tables},
        constraints=int(server.psql(_CONSTRAINTS, database)),
        application_works=_works(server, database, APPLICATION, APPLICATION_PASSWORD, APPLICATION_QUERY),
        stranger_kept_out=not _works(server, database, STRANGER, STRANGER_PASSWORD, "SELECT 1"),
    )


def siblings(server: Server, database: str) -> list[str]:
    """Other databases whose names begin with this one's: what a restore that failed has left."""
    pattern = database.replace("_", r"\_")
    return server.psql(rf"SELECT datname FROM pg_database WHERE datname LIKE '{pattern}\_%' ORDER BY 1").split()


def _works(server: Server, database: str, user: str, password: str, sql: str) -> bool:
    done = subprocess.run(
        [str(server.bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": user,
            "PGPASSWORD": password,
            "PGDATABASE": database,
            "PGCONNECT_TIMEOUT": "10",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode == 0
