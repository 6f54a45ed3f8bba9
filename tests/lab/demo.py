# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `demo` system's database: a dozen tenants, and one of everything that a backup or a restore can lose.

    python -m ansible_collections.saasops.runbook.tests.lab.demo --version 18 --megabytes 300

Made in the server (generate_series), the same for the same seed, and of text and JSON that compress as such do.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.tests.lab import postgres

SQL = Path(__file__).parent / "demo_sql"

# bytes of tables and indexes for one campaign with all that follows from it, measured
BYTES_PER_CAMPAIGN = 15_000


@dataclass(frozen=True)
class Tenant:
    """An organisation: its slug, its schema and its share of the data in percent."""

    slug: str
    schema: str
    share: int


TENANTS = (
    Tenant("acme", "org_acme", 22),
    Tenant("podcastflow_pro", "org_podcastflow_pro", 16),
    Tenant("MixedCase", "org_MixedCase", 12),
    Tenant('café "Zoë" & co', 'org_café "Zoë" & co', 10),
    Tenant("northwind", "org_northwind", 9),
    Tenant("bluebird", "org_bluebird", 8),
    Tenant("harbour", "org_harbour", 7),
    Tenant("lantern", "org_lantern", 5),
    Tenant("meadow", "org_meadow", 4),
    Tenant("quarry", "org_quarry", 3),
    Tenant("thicket", "org_thicket", 2),
    Tenant("willow", "org_willow", 2),
)


@dataclass(frozen=True)
class Parameters:
    """What the data depend on.

    megabytes:    of tables and indexes, about (beside the 8 MB of an empty database and of empty tables)
    seed:         the same seed gives the same rows
    as_of:        newest moment in the data; rules that purge by age need it near the present
    app_password: of the login roles demo_app, demo_readonly and demo_migrator
    """

    megabytes: float = 5
    seed: int = 1
    as_of: str = "2026-03-01 12:00:00+00"
    app_password: str = "demo"


def create(server: postgres.Server, name: str = "demo", jobs: int = 2, parameters: Parameters | None = None) -> None:
    """Create and fill the database; it must not exist. jobs: tenants filled at the same time.

    Raises OpsError tool_failed with psql's words.
    """
    given = parameters or Parameters()
    common = {"seed": str(given.seed), "as_of": given.as_of, "app_password": given.app_password}
    _run(server, "postgres", "roles.sql", common)
    server.createdb(name)
    _run(server, name, "words.sql", common)
    _run(server, name, "shared.sql", common)
    with ThreadPoolExecutor(jobs) as pool:
        # the largest first, so that both workers end at about the same time
        list(pool.map(lambda numbered: _fill(server, name, given, common, *numbered), enumerate(TENANTS, 1)))
    _run(server, name, "crossing.sql", common)
    apply_database_settings(server, name)
    server.tool("vacuumdb", "--quiet", "--analyze", "--freeze", f"--jobs={jobs}", name)


def apply_database_settings(server: postgres.Server, name: str) -> None:
    """Owner, ACL, settings, connection limit and comment of the database, which a copy by TEMPLATE lacks."""
    _run(server, name, "database.sql", {})


def _fill(
    server: postgres.Server, name: str, given: Parameters, common: dict[str, str], number: int, tenant: Tenant
) -> None:
    campaigns = max(8, round(given.megabytes * 1_000_000 * tenant.share / 100 / BYTES_PER_CAMPAIGN))
    own = {"tenant_no": str(number), "tenant": tenant.slug, "schema": tenant.schema, "campaigns": str(campaigns)}
    _run(server, name, "tenant.sql", {**common, **own})


def _run(server: postgres.Server, database: str, file: str, variables: dict[str, str]) -> None:
    """Run one script with psql variables, which psql itself quotes as identifiers and literals."""
    lines = [f"\\set {name} {_argument(value)}" for name, value in variables.items()]
    server.psql("\n".join([*lines, (SQL / file).read_text(encoding="utf-8")]), database)


def _argument(value: str) -> str:
    """One argument of a psql command."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def main(arguments: list[str]) -> int:
    """Start a server with the demo database, print how to reach it, and stop it on Enter or Ctrl-C."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--version", type=int, default=18)
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with postgres.running(options.version, durable=True) as server:
        started = time.monotonic()
        create(server, parameters=Parameters(options.megabytes, options.seed))
        size = server.psql("SELECT pg_size_pretty(pg_database_size('demo'))")
        print(f"{size} in {time.monotonic() - started:.1f} s", flush=True)
        login = f"-h {server.host} -p {server.port} -U {server.user} demo"
        print(f"PGPASSFILE={server.passfile} {server.bin / 'psql'} {login}", flush=True)
        try:
            sys.stdin.readline()
        except KeyboardInterrupt:
            print("stopping")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
