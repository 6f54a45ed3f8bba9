# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a switch that holds a pooler's clients, they go on: nothing stays paused."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import write_json
from ansible_collections.saasops.runbook.tests.lab import postgres, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.demo import Parameters, create
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import PgBouncer, pgbouncer
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    databases,
    drop_family,
    outcome,
    process,
    record,
    restore,
    swap,
    until,
)
from ansible_collections.saasops.runbook.tests.lab.stuck import Stuck, renaming
from ansible_collections.saasops.runbook.tests.lab.traffic import Pooled, Prober

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def live(server: Server, demo_database: str, store: Path) -> Iterator[str]:
    """A live database with a verified restore beside it."""
    take_backup(server, store, demo_database)
    restore(server, store, demo_database)
    yield demo_database
    drop_family(server, demo_database)


@pytest.fixture
def pooler(server: Server, live: str) -> Iterator[PgBouncer]:
    # an entry for any database (*) would forget, with its last client, that it is paused
    with pgbouncer(server, "transaction", f"{live} = {{server}}") as running:
        yield running


def goes_on(clients: list[Pooled], since: float, seconds: float = 10.0) -> None:
    """Every client has finished a transaction that it began after this moment.

    One that had its server before the pause began ends well while everybody else waits.
    """
    until(lambda: all(client.last_begun > since for client in clients), max(0.1, since + seconds - time.monotonic()))


def kill_group(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


@pytest.mark.parametrize("session", ["psycopg", "psql"])
def test_clients_go_on_when_the_module_and_its_group_are_killed_between_pause_and_resume(
    server: Server, live: str, store: Path, pooler: PgBouncer, session: str
) -> None:
    oid = databases(server)[live]
    given = parameters(server, store, live, {"state": "switched", "poolers": [pooler.option()]})
    given["connection"] = connection(server, session=session)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pooled(pooler.dsn(live), f"pooled{n}")) for n in range(4)]
        stack.enter_context(Stuck(server, live))
        child = stack.enter_context(process("pg_swap", given))
        until(lambda: renaming(server))
        assert pooler.paused(live)
        below = processes.running("psql", below=child.pid)
        consoles = [pid for pid in below if processes.command_line(pid)[-1:] == ["--csv"]]
        assert consoles
        kill_group(child.pid)
        killed = time.monotonic()
        goes_on(clients, killed)
        assert not pooler.paused(live)
        until(lambda: not any(processes.command_line(pid) for pid in consoles), 20)
    print(f"largest gap {max(client.largest_gap for client in clients):.3f} s")
    assert [client.errors for client in clients] == [[]] * len(clients)
    assert databases(server)[live] == oid
    login_retry = {row["key"]: row["value"] for row in pooler.console("SHOW CONFIG")}["server_login_retry"]
    assert float(str(login_retry)) == 15
    # what was cut off goes on as if nothing had been
    assert swap(server, store, live, "switched", poolers=[pooler.option()]).changed
    assert record(store)["paused"] == []


def test_clients_go_on_when_the_module_is_killed_while_the_pause_waits_for_a_transaction(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    options = {"state": "switched", "poolers": [pooler.option(pause_timeout=10)]}
    with contextlib.closing(psycopg2.connect(pooler.dsn(live))) as busy, contextlib.ExitStack() as stack:
        busy.cursor().execute("SELECT 1")
        clients = [stack.enter_context(Pooled(pooler.dsn(live), f"pooled{n}")) for n in range(3)]
        child = stack.enter_context(process("pg_swap", parameters(server, store, live, options)))
        until(lambda: pooler.paused(live))
        kill_group(child.pid)
        goes_on(clients, time.monotonic())
        assert not pooler.paused(live)
        busy.cursor().execute("SELECT 1")
        busy.rollback()
    assert [client.errors for client in clients] == [[]] * len(clients)
    # the psql whose PAUSE was never answered is found and ended, and ends nobody else's pause
    assert swap(server, store, live, "switched", poolers=[pooler.option()]).changed
    pooler.console(f'PAUSE "{live}"')
    time.sleep(0.5)
    assert pooler.paused(live)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_resumes_before_the_module_ends(
    server: Server, live: str, store: Path, pooler: PgBouncer, number: signal.Signals
) -> None:
    options = {"state": "switched", "poolers": [pooler.option(pause_timeout=10)]}
    with contextlib.closing(psycopg2.connect(pooler.dsn(live))) as busy:
        busy.cursor().execute("SELECT 1")
        with process("pg_swap", parameters(server, store, live, options)) as child:
            until(lambda: pooler.paused(live))
            child.send_signal(number)
            answer = outcome(child)
        assert answer["code"] == "interrupted"
        assert not pooler.paused(live)
        busy.cursor().execute("SELECT 1")
    assert record(store)["state"] == "verified"
    assert record(store)["paused"] == []


def test_an_exchange_that_fails_resumes_and_no_client_sees_an_error(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    with Pooled(pooler.dsn(live)) as client, Stuck(server, live):
        with pytest.raises(OpsError) as refused:
            swap(server, store, live, "switched", poolers=[pooler.option()])
        goes_on([client], time.monotonic())
    assert refused.value.code == "connections_not_held_off"
    assert client.errors == []
    assert not pooler.paused(live)
    assert record(store)["paused"] == []


def test_a_pooler_that_dies_in_between_does_not_stop_the_switch(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    oid = databases(server)[live]
    given = parameters(server, store, live, {"state": "switched", "poolers": [pooler.option()]})
    with Stuck(server, live) as backend, process("pg_swap", given) as child:
        until(lambda: renaming(server))
        pooler.kill()
        backend.let_go()
        answer = outcome(child)
    assert answer.get("failed") is None, answer
    assert databases(server)[live] != oid
    assert "was not seen resumed" in str(answer["plan"])
    assert record(store)["paused"] == [f"{live} at 127.0.0.1:{pooler.port}"]
    pooler.start()
    with Prober(pooler.dsn(live)):
        # it has nothing to do any more but to see that nothing is paused
        swap(server, store, live, "switched", poolers=[pooler.option()])
    assert record(store)["paused"] == []


def test_a_pooler_that_is_restarted_in_between_is_not_paused(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    given = parameters(server, store, live, {"state": "switched", "poolers": [pooler.option()]})
    with Stuck(server, live) as backend, process("pg_swap", given) as child:
        until(lambda: renaming(server))
        pooler.kill()
        pooler.start()
        backend.let_go()
        answer = outcome(child)
    assert answer.get("failed") is None, answer
    assert "was not seen resumed" not in str(answer["plan"])
    assert record(store)["paused"] == []
    with Prober(pooler.dsn(live)) as prober:
        time.sleep(0.1)
    assert prober.failures == []


def test_a_server_that_dies_in_between_leaves_no_pool_paused(tmp_path: Path, server: Server) -> None:
    store = tmp_path / "store"
    store.mkdir()
    settings = "server_login_retry = 1"
    with postgres.running(15) as own, pgbouncer(own, "transaction", "demo = {server}", settings) as before:
        create(own, "demo", parameters=Parameters(3))
        take_backup(own, store, "demo")
        restore(own, store, "demo")
        given = parameters(own, store, "demo", {"state": "switched", "poolers": [before.option()]})
        with Stuck(own, "demo"), process("pg_swap", given) as child:
            until(lambda: renaming(own))
            assert before.paused("demo")
            own.kill()
            killed = time.monotonic()
            answer = outcome(child)
        assert answer["failed"]
        assert time.monotonic() - killed < 15
        assert not before.paused("demo")
        (own.data / "postmaster.pid").unlink(missing_ok=True)
        own.start()
        until(lambda: _answers(before), 10)
        assert swap(own, store, "demo", "switched", poolers=[before.option()]).changed


def _answers(pooler: PgBouncer) -> bool:
    try:
        with contextlib.closing(psycopg2.connect(pooler.dsn("demo"), connect_timeout=2)) as connected:
            connected.cursor().execute("SELECT 1")
    except psycopg2.Error:
        return False
    return True


def test_what_a_dead_run_left_paused_is_resumed_by_the_next_run(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    """The last net: the host of the module lost its power, and with it both psql; planted."""
    swap(server, store, live, "switched", poolers=[pooler.option()])
    body = record(store)
    planted = {**body, "paused": [f"{live} at 127.0.0.1:{pooler.port}"]}
    write_json(PosixStore(str(store)), f"restores/{body['id']}.json", planted)  # type: ignore[arg-type]
    pooler.console(f'PAUSE "{live}"')
    assert pooler.paused(live)
    swap(server, store, live, "switched", poolers=[pooler.option()], check=True)
    assert pooler.paused(live)
    found = swap(server, store, live, "switched", poolers=[pooler.option()])
    assert "had been left paused" in str(found.evidence["cleaned"])
    assert not pooler.paused(live)
    assert record(store)["paused"] == []


def test_both_consoles_are_logged_in_before_anything_is_paused(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    """By the pooler's own log: a resumer that still has to log in may find its password file gone."""
    swap(server, store, live, "switched", poolers=[pooler.option()])
    log = pooler.log
    paused = next(number for number, line in enumerate(log) if f"PAUSE '{live}' command" in line)
    resumed = next(number for number, line in enumerate(log) if f"RESUME '{live}' command" in line)
    came = [line for line in log[:paused] if "login attempt: db=pgbouncer" in line]
    went = [line for line in log[:paused] if "C-" in line and "pgbouncer/pool_admin" in line and "closing" in line]
    assert len(came) - len(went) == 2
    assert not any("login attempt: db=pgbouncer" in line for line in log[paused:resumed])


def test_a_login_that_the_pause_cut_short_does_not_make_clients_wait_for_the_login_retry(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    """Clients that leave in the middle of a transaction keep the pool logging in to the server all the time."""
    with Pooled(pooler.dsn(live)) as client, contextlib.ExitStack() as stack:
        for _n in range(3):
            stack.enter_context(Prober(pooler.dsn(live), every=0.005))
        swap(server, store, live, "switched", poolers=[pooler.option()])
    assert client.errors == []
    assert client.largest_gap < 10, "the login retry is 15 s"


def test_nobody_is_held_until_the_pooler_sends_him_away(server: Server, live: str, store: Path) -> None:
    """Whatever the module is stuck in: the pool is resumed before query_wait_timeout makes errors of the waits."""
    with pgbouncer(server, "transaction", f"{live} = {{server}}", "query_wait_timeout = 6") as pooler:
        given = parameters(server, store, live, {"state": "switched", "poolers": [pooler.option()]})
        with Stuck(server, live) as backend, process("pg_swap", given) as child:
            until(lambda: pooler.paused(live))
            began = time.monotonic()
            until(lambda: not pooler.paused(live), 20)
            assert time.monotonic() - began < 6
            assert child.poll() is None
            backend.let_go()
            answer = outcome(child)
        assert answer.get("failed") is None, answer
        assert "resumed after" in str(answer["plan"])
        assert not pooler.paused(live)
