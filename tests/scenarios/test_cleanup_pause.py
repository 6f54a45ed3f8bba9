# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup that waits between batches, and ends before its end, by what its rule says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.execute import purge
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, rows, standby
from ansible_collections.saasops.runbook.tests.lab.clients import until
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)
LEFT = "SELECT count(*) FROM org_a.events"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def filled(server: Server, database: str) -> str:
    rows.make(server, database)
    return database


def paused_until(
    server: Server, store: Path, database: str, pause: dict[str, object], reason: str, end: Callable[[], object]
) -> None:
    """The cleanup waits for this reason with all rows in place; when it is gone, it goes on to its end."""
    said: list[str] = []
    done: list[Result] = []
    parameters = acts.parameters(
        server, store, database, {"rules": [rows.rule(batch_rows=90, pause={**pause, "longest": "120s"})]}
    )
    thread = threading.Thread(
        target=lambda: done.append(purge.execute(parameters, acts.context(lines=said))), daemon=True
    )
    thread.start()
    until(lambda: any("events waits: " in line and reason in line for line in said), 60)
    assert server.psql(LEFT, database) == str(rows.ROWS)
    end()
    thread.join(60)
    (result,) = done
    assert cast("list[dict[str, object]]", result.evidence["rules"])[0]["stopped"] == ""
    assert server.psql(LEFT, database) == str(rows.ROWS - rows.OLD)


@contextlib.contextmanager
def busy(server: Server, database: str, count: int) -> Iterator[None]:
    """So many sessions that work until they are ended."""

    def work() -> None:
        with contextlib.suppress(Exception), contextlib.closing(server.connect(database)) as client:
            client.cursor().execute("SELECT pg_sleep(300)")

    threads = [threading.Thread(target=work, daemon=True) for _number in range(count)]
    for thread in threads:
        thread.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'"
    until(lambda: server.psql(asleep) == str(count), 30)
    try:
        yield
    finally:
        idle(server)
        for thread in threads:
            thread.join(30)


def idle(server: Server) -> None:
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)'")


def test_a_cleanup_waits_while_more_sessions_are_busy_than_the_rule_allows(
    server: Server, filled: str, store: Path
) -> None:
    with busy(server, filled, 6):
        paused_until(server, store, filled, {"active_sessions": 4}, "sessions are busy", lambda: idle(server))


def test_a_cleanup_waits_while_the_condition_of_the_rule_holds(server: Server, filled: str, store: Path) -> None:
    server.psql("CREATE TABLE brake AS SELECT 1 AS n", filled)
    pause: dict[str, object] = {"condition": "EXISTS (SELECT FROM public.brake)"}
    paused_until(
        server,
        store,
        filled,
        pause,
        "the rule's pause condition holds",
        lambda: server.psql("DELETE FROM brake", filled),
    )


def test_a_cleanup_waits_while_a_replica_is_seconds_behind(server: Server, filled: str, store: Path) -> None:
    lag = "SELECT count(*) FROM pg_stat_replication WHERE replay_lag > interval '1 second'"
    with standby.following(server) as replica:
        replica.configure({"wal_receiver_status_interval": "1"})
        replica.reload()
        server.psql("CREATE TABLE bulk AS SELECT 1 AS n", filled)
        replica.psql("SELECT pg_wal_replay_pause()")
        server.psql("INSERT INTO bulk SELECT generate_series(1, 1000)", filled)
        until(lambda: server.psql(lag) == "1", 60)
        pause: dict[str, object] = {"replica_lag": "1s", "replica_bytes": ""}
        paused_until(
            server, store, filled, pause, "a replica is ", lambda: replica.psql("SELECT pg_wal_replay_resume()")
        )


# with the rows that refer to them, some of these end at the limit and some right below it
@pytest.mark.parametrize("limit", [100, 101, 102])
def test_a_run_that_ends_at_the_limit_is_not_complete_and_the_same_key_goes_on(
    server: Server, filled: str, store: Path, limit: int
) -> None:
    rule = rows.rule(limit=limit)
    for _turn in range(20):
        done = rows.clean(server, store, filled, rules=[rule], key="november")
        (told,) = cast("list[dict[str, object]]", done.evidence["rules"]) or ({"limit_reached": False},)
        if not told["limit_reached"]:
            break
        (archive,) = cast("list[str]", done.evidence["archives"])
        outcome = archives.read(PosixStore(str(store)), archive).outcome
        assert outcome is not None
        assert outcome.state == "stopped"
    assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)
