# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fifth of a large table goes while clients work in it: in archived batches, by one DELETE, and not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, Value
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError, run_module
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, postgres, scratch

# one row in five is older than the cut-off; 5 million rows are about 750 MB with their indexes
ROWS, VERSION, CLIENTS, RATE = 5_000_000, 18, 4, 500
TEMPLATE, DATABASE = "cleanup_template", "cleanup"
OURS, DELETE, QUIET = "cleanup, archived, in batches", "one DELETE, no archive", "undisturbed"
SLOW = 50.0  # milliseconds
QUIET_SECONDS = 20.0
# undisturbed runs that differ by more show that something else was at work
STEADY = 1.3
LOCK_LIMIT = 1000

_MAKE = """
CREATE TABLE events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int NOT NULL, at timestamptz NOT NULL, kind text NOT NULL,
  email text NOT NULL, body jsonb NOT NULL
);
INSERT INTO events (tenant, at, kind, email, body)
SELECT i % 100, timestamptz '2024-01-01' + i * interval '1 second', 'open', 'user' || i % 90000 || '@example.org',
  jsonb_build_object('agent', 'Mozilla/5.0 ' || i % 977, 'ip', '10.0.' || i % 256 || '.' || i % 199)
FROM generate_series(1, {rows}) AS i;
CREATE INDEX ON events (tenant, at);
CREATE INDEX ON events (at);
CREATE TABLE seen (tenant int PRIMARY KEY, opens bigint NOT NULL);
INSERT INTO seen SELECT i, 0 FROM generate_series(0, 99) AS i;
VACUUM (FREEZE, ANALYZE) events;
VACUUM (FREEZE, ANALYZE) seen;
"""
# what an application does, one statement a transaction: mostly reads of the newest rows, some new ones, a counter
_STATEMENTS = {
    "newest": "SELECT count(*) FROM (SELECT FROM events WHERE tenant = :tenant ORDER BY at DESC LIMIT 20) AS newest;",
    "one": "SELECT kind FROM events WHERE id = :id;",
    "insert": "INSERT INTO events (tenant, at, kind, email, body) VALUES (:tenant, now(), 'click', 'new@e.org', '{}');",
    "update": "UPDATE events SET kind = 'read' WHERE id = :id;",
    "counter": "UPDATE seen SET opens = opens + 1 WHERE tenant = :tenant;",
}
_VARIABLES = "\\set tenant random(0, 99)\n\\set id random({low}, {rows})\n"
# how long the transactions of a cleanup, or the one DELETE, have written, and so held rows, until now
_HOLDING = """
SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - xact_start)) * 1000, 0) FROM pg_stat_activity
WHERE datname = '{database}' AND backend_xid IS NOT NULL AND application_name <> 'pgbench'
"""
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class _Traffic:
    """What clients saw in a span, statement by statement; latencies in milliseconds."""

    statements: int
    slow: int
    worst: float
    median: float
    p99: float
    rate: float

    def facts(self) -> dict[str, Value]:
        share = self.slow / self.statements if self.statements else 1.0
        return {
            "statements": self.statements,
            "slow_share": round(share, 5),
            "worst_ms": round(self.worst, 1),
            "median_ms": round(self.median, 2),
            "p99_ms": round(self.p99, 1),
            "per_second": round(self.rate, 1),
        }


class _Watch(threading.Thread):
    """Looks from outside, every 20 ms, how long a writing transaction has been open: its longest, in milliseconds."""

    def __init__(self, server: postgres.Server) -> None:
        super().__init__(daemon=True)
        self._server, self._over = server, threading.Event()
        self.longest = 0.0
        self.samples = 0

    def run(self) -> None:
        with contextlib.closing(self._server.connect("postgres")) as connection, connection.cursor() as cursor:
            while not self._over.wait(SAMPLE_SECONDS):
                cursor.execute(_HOLDING.format(database=DATABASE))
                (found,) = cursor.fetchone() or (0,)
                self.longest = max(self.longest, float(found))
                self.samples += 1

    def finish(self) -> dict[str, Value]:
        """Raises FailedError when it saw nothing."""
        self._over.set()
        self.join(10)
        if not self.samples:
            raise FailedError("nobody looked at the locks from outside")
        return {"seen_writing_ms": round(self.longest, 1), "looks": self.samples}


class _Place:
    """A server, a template of the table, and clients whose every statement is logged."""

    def __init__(self, server: postgres.Server, folder: Path, rows: int) -> None:
        self.server, self.folder, self.rows = server, folder, rows
        server.createdb(TEMPLATE)
        server.psql(_MAKE.format(rows=rows), TEMPLATE, timeout=1800)
        self.old = rows // 5
        # row number i is i seconds after this moment
        self.cutoff = server.psql(f"SELECT timestamptz '2024-01-01' + {self.old} * interval '1 second'")
        self.scripts = []
        for name, statement in _STATEMENTS.items():
            self.scripts.append(folder / f"{name}.sql")
            text = _VARIABLES.format(low=self.old + 1, rows=rows) + statement + "\n"
            self.scripts[-1].write_text(text, encoding="ascii")

    def fresh(self) -> None:
        """The same rows again, nothing to be written any more, and an empty store."""
        self.server.dropdb(DATABASE)
        self.server.createdb(DATABASE, TEMPLATE)
        for name in ("store", "log"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        self.server.psql("SELECT count(*) FROM events", DATABASE)
        self.server.psql("CHECKPOINT")
        os.sync()

    @contextlib.contextmanager
    def clients(self) -> Iterator[None]:
        """pgbench at a steady rate, each statement logged with its time."""
        argv = [str(self.server.bin / "pgbench"), "-n", "-c", str(CLIENTS), "-j", "2", "-T", "36000", "-R", str(RATE)]
        argv += ["-l", "--log-prefix", str(self.folder / "log" / "t")]
        argv += [option for script in self.scripts for option in ("-f", str(script))] + [DATABASE]
        environment = self.server.environment(DATABASE)
        with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
            try:
                time.sleep(2.0)
                if bench.poll() is not None:
                    raise FailedError("pgbench ended before it was asked to")
                yield
                time.sleep(1.0)
            finally:
                bench.send_signal(signal.SIGTERM)

    def seen(self, began: float, ended: float) -> _Traffic:
        """What the logs say of statements that ended in a span of POSIX seconds. Raises FailedError."""
        found: list[float] = []
        for path in (self.folder / "log").glob("t.*"):
            for line in path.read_text(encoding="ascii").splitlines():
                fields = line.split()
                # client, number, latency in microseconds, script, seconds, microseconds, lag
                if len(fields) >= 6 and began <= int(fields[4]) + int(fields[5]) / 1e6 <= ended:
                    found.append(int(fields[2]) / 1000)
        if not found:
            raise FailedError("the clients did nothing meanwhile")
        found.sort()
        return _Traffic(
            statements=len(found),
            slow=sum(item > SLOW for item in found),
            worst=found[-1],
            median=found[len(found) // 2],
            p99=found[int(len(found) * 0.99)],
            rate=len(found) / (ended - began),
        )

    def beside(self, act: Callable[[], Mapping[str, Value]]) -> tuple[float, Mapping[str, Value]]:
        """An act beside the clients: its seconds, what it says, what they saw."""
        watch = _Watch(self.server)
        with self.clients():
            watch.start()
            began, start = time.time(), time.monotonic()
            said = act()
            seconds, ended = time.monotonic() - start, time.time()
            held = watch.finish()
        return seconds, {**said, **held, **self.seen(began, ended).facts()}

    def ours(self) -> Mapping[str, Value]:
        rule = {
            "name": "events",
            "table": "events",
            "where": f"t.at <= '{self.cutoff}'",
            "limit": self.rows,
            "lock_limit": f"{LOCK_LIMIT}ms",
        }
        ran = run_module(
            "pg_purge",
            {
                "system": f"benchmarks-{os.getpid()}",
                "database": DATABASE,
                "connection": acts.connection(self.server),
                "store": {"type": "posix", "path": str(self.folder / "store")},
                "rules": [rule],
            },
        )
        (told,) = cast("list[dict[str, Value]]", ran.answer["rules"])
        self._prove()
        names = ("batches", "kept", "retries", "longest_lock_ms", "batches_over_limit")
        return {name: told[name] for name in names}

    def _prove(self) -> None:
        """Every old row is gone and in the archive. Raises FailedError."""
        left = int(self.server.psql(f"SELECT count(*) FROM events WHERE at <= '{self.cutoff}'", DATABASE))
        store = PosixStore(str(self.folder / "store"))
        kept = 0
        for archive in archives.ids(store):
            outcome = archives.read(store, archive).outcome
            for entry in outcome.batches if outcome is not None else ():
                kept += archives.get(store, archive, entry.key, entry)[0].rows
        if (left, kept) != (0, self.old):
            raise FailedError(f"{left} old rows are left, {kept} of {self.old} are in the archive")

    def delete(self) -> Mapping[str, Value]:
        self.server.psql(f"DELETE FROM events WHERE at <= '{self.cutoff}'", DATABASE, timeout=1800)
        return {}

    @staticmethod
    def nothing() -> Mapping[str, Value]:
        time.sleep(QUIET_SECONDS)
        return {}


@contextlib.contextmanager
def _place(rows: int) -> Iterator[_Place]:
    folder = scratch.claim("cleanup")
    try:
        with postgres.running(VERSION, durable=True, settings={"shared_buffers": "512MB"}) as server:
            yield _Place(server, folder, rows)
    finally:
        scratch.release(folder)


def voided(samples: Sequence[Sample]) -> list[Sample]:
    """The samples; all of them failed when the undisturbed runs differ too much from each other."""
    quiet = [item.facts for item in samples if item.side == QUIET and not item.failed]
    for what, name in (("median latencies", "median_ms"), ("rates", "per_second")):
        found = [float(str(facts[name])) for facts in quiet]
        if found and max(found) > STEADY * min(found):
            why = f"undisturbed {what} differ by {max(found) / min(found):.2f}: something else was at work"
            return [replace(item, failed=item.failed or why) for item in samples]
    return list(samples)


def measure(pairs: int, tell: Callable[[str], None], rows: int = ROWS) -> Row:
    tell(f"making a table of {rows:,} rows")
    with _place(rows) as place:
        samples = interleave(
            {
                QUIET: lambda: place.beside(place.nothing),
                DELETE: lambda: place.beside(place.delete),
                OURS: lambda: place.beside(place.ours),
            },
            pairs,
            tell,
            place.fresh,
        )
        return Row(
            "cleanup",
            f"Cleanup of {place.old:,} of {rows:,} rows while clients work in the table",
            voided(samples),
            [
                Goal("at most", "batches_over_limit", 0, OURS),
                Goal("at most", "seen_writing_ms", LOCK_LIMIT, OURS),
                Goal("at most", "slow_share", 0.01, OURS),
            ],
            [
                f"pgbench with {CLIENTS} clients at {RATE} statements a second, by chance one of five: the newest rows"
                " of a tenant, one row, a new one, a changed one, a counter.",
                f"slow_share: statements above {SLOW:.0f} ms, the wait for their turn in them, so a stall counts for"
                f" all that it delays. The row is void when undisturbed runs differ by more than {STEADY}.",
                f"lock_limit is {LOCK_LIMIT} ms; seen_writing_ms is the longest open transaction with writes that a"
                f" session beside it saw, looking every {SAMPLE_SECONDS * 1000:.0f} ms.",
                "Our time has the archive (zstd, fsync) and, after it, the proof that reads every archived row again;"
                " one DELETE keeps nothing to go back to.",
            ],
        )
