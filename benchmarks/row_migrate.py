# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long readers wait behind a migration, beside psql."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, Value
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import migrations, postgres, scratch
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

VERSION, DATABASE, ROWS = 18, "migrated", 200_000
TABLES = ("campaigns", "events", "tenants")
# seconds: how long another session's transaction holds the third table, how long the long file lasts, our limit
HELD, LONG, LIMIT = 4.0, 6.0, 2.0
PSQL, VERB = "psql -1, lock_timeout 3 s", "migrate"
READERS = 4


class _Place:
    def __init__(self, server: postgres.Server, folder: Path) -> None:
        self.server, self._store = server, folder / "store"
        self._store.mkdir()
        self._files: dict[str, str] = {}
        self._number = 0
        server.createdb(DATABASE)
        for table in TABLES:
            server.psql(f"CREATE TABLE {table} AS SELECT g AS id, g AS n FROM generate_series(1, {ROWS}) g", DATABASE)
            server.psql(f"CREATE INDEX ON {table} (id)", DATABASE)
        self._apply("SELECT 1;", baseline=0)

    def _apply(self, text: str, lock_limit: float = LIMIT, baseline: int | None = None) -> bool:
        """Whether the file was applied; one that was over its limit is taken away again."""
        self._number += 1
        name = f"{self._number:03}_file.sql"
        try:
            migrations.run(
                self.server,
                self._store,
                DATABASE,
                {**self._files, name: text},
                lock_limit=f"{int(lock_limit * 1000)}ms",
                baseline=baseline,
            )
        except OpsError as error:
            if error.code != "over_lock_limit":
                raise FailedError(error.message) from error
            return False
        self._files[name] = text
        return True

    def psql(self, text: str) -> bool:
        """As a careful operator types it: one transaction, and a lock_timeout; tried again until it is through."""
        argv = [str(self.server.bin / "psql"), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c"]
        for _try in range(5):
            done = subprocess.run(
                [*argv, f"SET lock_timeout = '3s'; {text}"],
                env=self.server.environment(),
                capture_output=True,
                timeout=60,
                check=False,
            )
            if done.returncode == 0:
                return True
        raise FailedError(done.stderr.decode())

    def measured(self, act: Callable[[str], bool], text: str, held: float) -> tuple[float, Mapping[str, Value]]:
        """Seconds of the migration; the longest wait of readers of the three tables, and whether it was applied."""
        with ExitStack() as stack:
            readers = [
                stack.enter_context(
                    Readers(self.server.dsn(DATABASE), f"SELECT n FROM {TABLES[number % 3]} WHERE id = {number + 1}")
                )
                for number in range(READERS)
            ]
            if held:
                stack.enter_context(_holder(self.server, held))
            began = time.monotonic()
            applied = act(text)
            seconds = time.monotonic() - began
            time.sleep(0.3)
        longest = max(one.longest for one in readers)
        return seconds, {"longest_wait": round(longest, 3), "applied": applied}

    def ours(self, text: str) -> bool:
        return self._apply(text)

    def columns(self) -> Iterator[str]:
        """Files that add one column to each table, never the same one."""
        number = 0
        while True:
            number += 1
            yield " ".join(f"ALTER TABLE {table} ADD COLUMN c{number} int;" for table in TABLES)


@contextmanager
def _holder(server: postgres.Server, seconds: float) -> Iterator[None]:
    """A report that reads the third table in a transaction that stays open so long."""
    connection = psycopg2.connect(server.dsn(DATABASE))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLES[2]}")
    timer = threading.Timer(seconds, connection.close)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def measure(pairs: int, tell: Callable[[str], None]) -> list[Row]:
    folder = scratch.claim("migrate")
    try:
        with postgres.running(VERSION) as server:
            place = _Place(server, folder)
            files = place.columns()
            behind = interleave(
                {
                    PSQL: lambda: place.measured(place.psql, next(files), HELD),
                    VERB: lambda: place.measured(place.ours, next(files), HELD),
                },
                pairs,
                tell,
                _nothing,
            )
            long = interleave(
                {
                    PSQL: lambda: place.measured(place.psql, f"{next(files)} SELECT pg_sleep({LONG});", 0),
                    VERB: lambda: place.measured(place.ours, f"{next(files)} SELECT pg_sleep({LONG});", 0),
                },
                pairs,
                tell,
                _nothing,
            )
    finally:
        scratch.release(folder)
    traffic = f"{READERS} readers ask for a row by its key every 5 ms, on three tables of {ROWS:,} rows."
    return [
        Row(
            "migrate",
            "Readers behind a migration that does not get its locks",
            behind,
            [Goal("at most", "longest_wait", LIMIT, VERB)],
            [
                traffic,
                f"The file adds a column to each of them, in one transaction. Another session's transaction reads the "
                f"third table and stays open for {HELD:g} s. lock_limit is {LIMIT:g} s, lock_timeout 500 ms.",
                f"longest_wait is the slowest answer that any reader got; behind psql it was {_longest(behind)} s.",
            ],
            {PSQL: "psql -1 -c \"SET lock_timeout = '3s'; ALTER TABLE ...; ALTER TABLE ...; ALTER TABLE ...\""},
        ),
        Row(
            "migrate-long",
            "Readers behind a migration that lasts too long",
            long,
            [Goal("at most", "longest_wait", LIMIT, VERB)],
            [
                traffic,
                f"The same file, and {LONG:g} s of other work in its transaction. The verb rolls it back at its limit "
                f"of {LIMIT:g} s and refuses it; psql goes on to the end: readers waited {_longest(long)} s behind it.",
            ],
        ),
    ]


def _longest(samples: Sequence[Sample]) -> float:
    """The longest wait behind psql, in seconds."""
    return max((float(str(one.facts["longest_wait"])) for one in samples if one.side == PSQL), default=0.0)


def _nothing() -> None:
    """Nothing is to be done between two runs."""
