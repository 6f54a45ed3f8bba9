# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sessions take conflicting locks in turn: whatever becomes of the migration, readers do not wait for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import migrations
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import until
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

TABLE = {"001_t.sql": "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 9);"}
ALTERED = {**TABLE, "002_a.sql": "ALTER TABLE t ADD a int;\nALTER TABLE t ADD b int;"}
# mode and seconds that it is kept; the last three overlap, so that nearly always somebody has the table for long
STORM = [
    ("SHARE UPDATE EXCLUSIVE", 0.1),
    ("SHARE", 0.1),
    ("SHARE ROW EXCLUSIVE", 0.1),
    ("ROW EXCLUSIVE", 0.1),
    ("ROW SHARE", 20.0),
    ("ROW SHARE", 22.0),
    ("ROW SHARE", 24.0),
]
# readers wait for one try at most (0.3 s); who waited for longer than this waited for more than that
LONG = 10.0
_WAITING = (
    "SELECT count(*) FILTER (WHERE clock_timestamp() - l.waitstart > '{long} s'), count(*) FROM pg_locks l"
    " WHERE l.relation = 't'::regclass AND l.mode = 'AccessShareLock' AND NOT l.granted"
)


@contextlib.contextmanager
def storm(server: Server, database: str) -> Iterator[None]:
    """Sessions that lock the table, keep it and let go, again and again."""
    ending, holding = threading.Event(), threading.Barrier(len(STORM) + 1)

    def locker(mode: str, seconds: float) -> None:
        with contextlib.closing(psycopg2.connect(server.dsn(database))) as session, session.cursor() as cursor:
            holding.wait(30)
            while not ending.is_set():
                cursor.execute(f"LOCK TABLE t IN {mode} MODE")
                ending.wait(seconds)
                session.rollback()

    with ThreadPoolExecutor(len(STORM)) as pool:
        lockers = [pool.submit(locker, *one) for one in STORM]
        holding.wait(30)
        try:
            yield
        finally:
            ending.set()
    for one in lockers:
        one.result()


@pytest.mark.parametrize("server", [15], indirect=True)
def test_in_a_storm_of_locks_no_reader_waits_long_and_the_migration_is_whole_or_refused(
    server: Server, database: str, tmp_path: Path
) -> None:
    (store := tmp_path / "store").mkdir()
    migrations.run(server, store, database, TABLE)

    def migrate(wait: str) -> str:
        try:
            limits = {"lock_limit": "1s", "lock_timeout": "300ms", "lock_wait": wait}
            return str(migrations.run(server, store, database, ALTERED, **limits).changed)
        except OpsError as error:
            return error.code

    def altered() -> str:
        return server.psql(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname IN ('a', 'b')", database
        )

    long = seen = 0
    with contextlib.ExitStack() as stack:
        watcher = stack.enter_context(server.connect(database)).cursor()
        stack.enter_context(storm(server, database))
        kept = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'RowShareLock'"
        until(lambda: server.psql(kept, database) == "3")
        for _number in range(3):
            stack.enter_context(Readers(server.dsn(database), "SELECT count(*) FROM t"))
        running = stack.enter_context(ThreadPoolExecutor(1)).submit(migrate, "5s")
        while not running.done():
            watcher.execute(_WAITING.format(long=LONG))
            now_long, now_waiting = watcher.fetchone()
            long, seen = max(long, now_long), max(seen, now_waiting)
        ended = running.result()
    # readers did queue behind the tries, and none for long
    assert (seen > 0, long) == (True, 0)
    assert (ended, altered()) in (("lock_not_obtained", "0"), ("True", "2"))
    assert migrate("60s") == ("False" if ended == "True" else "True")
    assert altered() == "2"
