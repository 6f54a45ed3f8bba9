# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the full set of built-in checks takes on a database of 2,000 tables, with what it must find planted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import cast

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError, run_module
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.tests.lab import acts, postgres

DATABASE, VERSION, TABLES, BATCH = "many", 18, 2000, 100
# every so many-th table has it; a large one is beyond the size from which bloat and foreign keys are looked at
DUPLICATE, BARE_KEY, LARGE = 100, 250, 100
ROWS, LARGE_ROWS = 100, 60_000
OURS = "health_check, built-in set"
LIMIT = 5.0


def _tables(first: int, last: int) -> str:
    """Tables first..last-1 with three indexes each, and what is planted."""
    return f"""
DO $$
BEGIN
  FOR n IN {first}..{last - 1} LOOP
    EXECUTE format('CREATE TABLE t%1$s (id bigserial PRIMARY KEY, parent_id int REFERENCES parent, name text,'
      ' created timestamptz DEFAULT now(), state text)', n);
    EXECUTE format('INSERT INTO t%1$s (parent_id, name, state) SELECT 1 + g %% 10, repeat(md5(g::text), 4), ''new'''
      ' FROM generate_series(1, %2$s) g', n, CASE WHEN n % {LARGE} = 0 THEN {LARGE_ROWS} ELSE {ROWS} END);
    EXECUTE format('CREATE INDEX ON t%1$s (created); CREATE INDEX ON t%1$s (state, name)', n);
    IF n % {BARE_KEY} <> 0 THEN EXECUTE format('CREATE INDEX ON t%1$s (parent_id)', n); END IF;
    IF n % {DUPLICATE} = 0 THEN EXECUTE format('CREATE INDEX t%1$s_again ON t%1$s (created)', n); END IF;
  END LOOP;
END $$;
"""


def _fill(server: postgres.Server) -> None:
    server.createdb(DATABASE)
    server.psql("CREATE TABLE parent AS SELECT g AS id FROM generate_series(1, 10) g", DATABASE)
    server.psql("ALTER TABLE parent ADD PRIMARY KEY (id)", DATABASE)
    for first in range(0, TABLES, BATCH):
        server.psql(_tables(first, first + BATCH), DATABASE)
    server.psql("VACUUM (ANALYZE)", DATABASE)


def _side(server: postgres.Server) -> tuple[float, Mapping[str, Value]]:
    """One call of the module as Ansible makes it. Raises FailedError when it did not see what was planted."""
    given = {"system": f"health-{os.getpid()}", "database": DATABASE, "connection": acts.connection(server)}
    ran = run_module("health_check", given)
    checks = {str(item["name"]): item for item in cast("list[dict[str, object]]", ran.answer["checks"])}
    # at most 20 of a kind are told apart; 20 duplicates are planted, and of the bare keys those of large tables count
    planted = {"duplicate_indexes": TABLES // DUPLICATE, "foreign_keys_without_index": TABLES // BARE_KEY // 2}
    for name, count in planted.items():
        if checks[name]["not_ok"] != count:
            raise FailedError(f"{name}: {checks[name]['not_ok']} of {count} were found")
    blind = [name for name, item in checks.items() if item["level"] == "inconclusive"]
    allowed = {"recovery_point", "unused_indexes", "slow_statements"}
    if set(blind) - allowed:
        raise FailedError(f"not seen: {sorted(set(blind) - allowed)}")
    return ran.seconds, {"checks": len(checks), "look": round(ran.seconds, 3)}


def measure(pairs: int, tell: Callable[[str], None]) -> Row:
    with postgres.running(VERSION, durable=True, settings={"max_locks_per_transaction": "256"}) as server:
        tell(f"making a database of {TABLES:,} tables")
        _fill(server)
        size = int(server.psql(f"SELECT pg_database_size('{DATABASE}')"))
        samples = interleave({OURS: lambda: _side(server)}, pairs, tell, lambda: None)
    return Row(
        "health",
        f"The full built-in set on {TABLES:,} tables",
        samples,
        [Goal("at most", "look", LIMIT, OURS)],
        [
            f"One call of the module, from its process to its end: {TABLES:,} tables with four or five indexes each,"
            f" {size / 1e6:,.0f} MB, one session. It must find {TABLES // DUPLICATE} duplicate indexes and"
            f" {TABLES // BARE_KEY // 2} foreign keys of large tables without an index that were planted, and be blind"
            " in nothing but the store, the statements and the age of the counters.",
        ],
    )
