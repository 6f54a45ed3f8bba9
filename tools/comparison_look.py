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
# one statement a table, made by the server and run by psql; each prints a JSON list
_TABLES = r"""
SELECT format('SELECT json_build_array(%L, count(*)) FROM %I.%I', format('%I.%I', n.nspname, c.relname), n.nspname,
              c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \gexec
"""
_CONSTRAINTS = (
    "SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace"
    " WHERE c.contype IN ('p', 'u', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
)


@dataclass(frozen=True)
class Sight:
    """What is true of a database. rows: table -> number of rows; constraints: primary, unique and foreign keys."""

    rows: dict[str, int]
    constraints: int
    application_works: bool
    stranger_kept_out: bool

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def missing_rows(self, before: Sight) -> int:
        """Rows of before that are not here, table by table."""
        return sum(max(0, rows - self.rows.get(table, 0)) for table, rows in before.rows.items())


def look(server: Server, database: str) -> Sight:
    """Ask psql; nothing of what is compared takes part."""
    return Sight(
        rows=dict(json.loads(line) for line in server.psql(_TABLES, database).splitlines()),
        constraints=int(server.psql(_CONSTRAINTS, database)),
        application_works=_works(server, database, APPLICATION, APPLICATION_PASSWORD, APPLICATION_QUERY),
        stranger_kept_out=not _works(server, database, STRANGER, STRANGER_PASSWORD, "SELECT 1"),
    )


def exists(server: Server, database: str) -> bool:
    return server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{database}'") == "1"


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
