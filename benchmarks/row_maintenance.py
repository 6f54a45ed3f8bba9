# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance of 500 tenants with four tables each, of which one in twenty needs it, beside vacuumdb over all."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.benchmarks.baselines import BASELINES, written
from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError, run_module, run_steps
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.tests.lab import acts, postgres, scratch

DATABASE, VERSION, SEED = "tenants", 18, 5
TENANTS, TABLES = 500, ("campaigns", "approvals", "orders", "reservations")
# of the --megabytes of the other rows: 4 GB at their 2,000
SHARE = 2.0
BASELINE, OURS = "vacuumdb -z -j2", "pg_maintenance, 2 connections"
# bytes on disk of a row with its entry in the primary key
ROW = 172
NEEDING = 0.05
SETTINGS = {"autovacuum": "off", "shared_buffers": "512MB", "max_wal_size": "4GB"}


@dataclass(frozen=True)
class Needs:
    """The list: tables that need a vacuum, and those that need an analyze; noise changed too little for either."""

    vacuum: frozenset[str]
    analyze: frozenset[str]
    noise: frozenset[str]


def needs(names: list[str]) -> Needs:
    """One table in twenty is due, of those one in five for an analyze alone; one in ten of the others changed a bit."""
    chosen = random.Random(SEED).sample(names, k=len(names))
    due = chosen[: int(len(names) * NEEDING)]
    stale = due[: len(due) // 5]
    noise = chosen[len(due) : len(due) + (len(names) - len(due)) // 10]
    return Needs(frozenset(due[len(stale) :]), frozenset(due), frozenset(noise))


class _Place:
    """A durable server with the tenants; every run finds the same tables in need, and nothing of them in memory."""

    def __init__(self, server: postgres.Server, folder: Path, megabytes: float, tell: Callable[[str], None]) -> None:
        self.server, self.folder = server, folder
        self.rows = max(400, int(megabytes * 1e6 / (TENANTS * len(TABLES)) / ROW))
        names = [f"org_{tenant}.{table}" for tenant in range(1, TENANTS + 1) for table in TABLES]
        self.needs = needs(names)
        server.createdb(DATABASE)
        tell(f"making {len(names):,} tables of {self.rows:,} rows")
        ranges = [range(first, first + 50) for first in range(1, TENANTS + 1, 50)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._make, ranges))
        size = int(server.psql(f"SELECT pg_database_size('{DATABASE}')"))
        tell(f"made {size / 1e6:,.0f} MB; {len(self.needs.vacuum)} need a vacuum, {len(self.needs.analyze)} an analyze")

    def _make(self, tenants: range) -> None:
        for tenant in tenants:
            self.server.psql(
                f"CREATE SCHEMA org_{tenant};"
                + "".join(
                    f"CREATE TABLE org_{tenant}.{table} (id int PRIMARY KEY, state int, note text, at timestamptz);"
                    f"INSERT INTO org_{tenant}.{table} SELECT g, g % 7, repeat(md5(g::text), 3), now()"
                    f" FROM generate_series(1, {self.rows}) g;"
                    for table in TABLES
                ),
                db=DATABASE,
            )

    def prepare(self) -> None:
        """Everything is in order, then the list is made to need it, then the server starts with nothing in memory."""
        self.vacuumdb()
        # dead rows of the statistics themselves are nobody's need here
        self.server.psql("VACUUM pg_catalog.pg_statistic", db=DATABASE)
        stale, noisy = 50 + int(0.075 * self.rows), 25 + int(0.025 * self.rows)
        statements = [f"UPDATE {name} SET state = state + 1 WHERE id % 10 < 3" for name in sorted(self.needs.vacuum)]
        statements += [
            f"UPDATE {name} SET state = state + 1 WHERE id <= {stale}"
            for name in sorted(self.needs.analyze - self.needs.vacuum)
        ]
        statements += [f"UPDATE {name} SET state = state + 1 WHERE id <= {noisy}" for name in sorted(self.needs.noise)]
        self.server.psql(";".join(statements), db=DATABASE)
        self.server.psql("CHECKPOINT")
        self.server.stop()
        os.sync()
        self.server.start()
        self.server.psql("SELECT pg_stat_reset_shared('io')")

    def vacuumdb(self) -> float:
        words = {"bin": str(self.server.bin), "database": DATABASE}
        steps = [step.filled(words) for step in BASELINES[BASELINE]]
        return run_steps(steps, {**self.server.environment(), "LC_ALL": "C"})

    def baseline(self) -> tuple[float, Mapping[str, Value]]:
        seconds = self.vacuumdb()
        return seconds, {"blocks": self.blocks()}

    def ours(self) -> tuple[float, Mapping[str, Value]]:
        """Raises FailedError for every table that was missed, or touched without need."""
        before = self.touched()
        ran = run_module(
            "pg_maintenance",
            {
                "system": f"benchmarks-{os.getpid()}",
                "database": DATABASE,
                "connection": acts.connection(self.server),
                "store": {"type": "posix", "path": str(self.folder)},
                "jobs": 2,
            },
        )
        blocks = self.blocks()
        after = self.touched()
        done = [{name for name in after if after[name][which] > before[name][which]} for which in (0, 1)]
        missed = (self.needs.vacuum - done[0]) | (self.needs.analyze - done[1])
        needless = (done[0] - self.needs.vacuum) | (done[1] - self.needs.analyze)
        if missed or needless:
            raise FailedError(f"missed {sorted(missed)[:5]}, needless {sorted(needless)[:5]}")
        return ran.seconds, {"blocks": blocks, "missed": len(missed), "needless": len(needless), "tables": len(done[1])}

    def touched(self) -> dict[str, tuple[int, int]]:
        """Vacuums and analyzes of every table so far, by the server's own count."""
        found = self.server.psql(
            "SELECT schemaname || '.' || relname, vacuum_count, analyze_count FROM pg_stat_user_tables", db=DATABASE
        )
        return {name: (int(v), int(a)) for name, v, a in (line.split("|") for line in found.splitlines())}

    def blocks(self) -> int:
        """Blocks that were read into memory, by anybody, catalogs included, since prepare()."""
        sql = "SELECT coalesce(sum(read_bytes), 0)::bigint / 8192 FROM pg_stat_io WHERE object = 'relation'"
        return int(self.server.psql(sql))


@contextlib.contextmanager
def _place(megabytes: float, tell: Callable[[str], None]) -> Iterator[_Place]:
    folder = scratch.claim("maintenance")
    try:
        with postgres.running(VERSION, durable=True, settings=SETTINGS) as server:
            yield _Place(server, folder, megabytes, tell)
    finally:
        scratch.release(folder)


def measure(megabytes: float, pairs: int, tell: Callable[[str], None]) -> Row:
    with _place(megabytes, tell) as place:
        samples = interleave({BASELINE: place.baseline, OURS: place.ours}, pairs, tell, place.prepare)
        listed = place.needs
        return Row(
            "maintenance",
            f"Maintenance of {TENANTS} tenants with {len(TABLES)} tables each",
            samples,
            [Goal("faster than", BASELINE, 1.0, OURS), Goal("blocks of", BASELINE, 0.2, OURS)],
            [
                f"{len(listed.analyze)} of {TENANTS * len(TABLES):,} tables need it: {len(listed.vacuum)} a vacuum and"
                f" an analyze, the others an analyze; {len(listed.noise)} more changed too little. A run of ours that"
                " misses one of them, or touches any other by the server's own count, voids the row.",
                "Before each run everything is vacuumed and analyzed, the same tables are made to need it, and the"
                " server is started anew. Blocks: read_bytes of pg_stat_io, catalogs included.",
                "pg_maintenance is a module's whole process: Python, login, measuring, deciding, doing, proving. What"
                " ansible-playbook and the guard add is in the row guard.",
            ],
            {BASELINE: written(BASELINE)},
        )
