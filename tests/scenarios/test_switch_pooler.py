# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that come through a PgBouncer wait while databases are exchanged, and go on in the other one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import LOOKER, NOBODY, PgBouncer, pgbouncer
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    databases,
    drop_family,
    fact,
    record,
    restore,
    swap,
    until,
)
from ansible_collections.saasops.runbook.tests.lab.traffic import Pooled, Prober, Writer

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


def ids(server: Server, database: str) -> set[int]:
    return {int(n) for n in server.psql("SELECT id FROM marker WHERE writer LIKE 'pooled%'", database).split()}


def test_clients_of_a_transaction_pooler_see_a_wait_and_no_error(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pooled(pooler.dsn(live), f"pooled{n}")) for n in range(6)]
        newcomers = stack.enter_context(Prober(pooler.dsn(live)))
        time.sleep(0.3)
        switched = swap(server, store, live, "switched", poolers=[pooler.option()])
        after = time.monotonic()
        until(lambda: all(client.last_begun > after for client in clients))
    aside = fact(switched, "aside")
    assert [client.errors for client in clients] == [[]] * len(clients)
    assert newcomers.failures == []
    gap = max(*(client.largest_gap for client in clients), newcomers.largest_gap)
    print(f"largest gap {gap:.3f} s, paused {switched.evidence['paused_seconds']} s")
    assert gap < 2
    assert not pooler.paused(live)
    assert record(store)["paused"] == []
    # what was confirmed after the switch is in the restored database, what was before in the one aside
    server.psql(f'ALTER DATABASE "{aside}" ALLOW_CONNECTIONS true')
    there, before = ids(server, live), ids(server, aside)
    for client in clients:
        assert {number for number, at in client.committed if at > after}, "wrote nothing after the switch"
        assert {number for number, at in client.committed if at > after} <= there
        assert {number for number, _at in client.committed} <= there | before
    assert not there & before


def test_an_undo_holds_the_clients_too(server: Server, live: str, store: Path, pooler: PgBouncer) -> None:
    oid = databases(server)[live]
    swap(server, store, live, "switched", poolers=[pooler.option()])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pooled(pooler.dsn(live), writes=False)) for _n in range(4)]
        undone = swap(server, store, live, "undone", poolers=[pooler.option()])
        done = [client.transactions for client in clients]
        until(lambda: all(client.transactions > before for client, before in zip(clients, done)))
    assert undone.evidence["paused"] == [f"{live} at 127.0.0.1:{pooler.port}"]
    assert [client.errors for client in clients] == [[]] * len(clients)
    assert all(client.transactions > before for client, before in zip(clients, done))
    assert databases(server)[live] == oid
    assert not pooler.paused(live)


def test_without_poolers_the_same_clients_are_cut_off(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    """The yardstick: the traffic of the first test notices a switch that pauses nothing."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pooled(pooler.dsn(live), f"pooled{n}", pause=0)) for n in range(6)]
        swap(server, store, live, "switched")
        until(lambda: any(client.errors for client in clients))
    assert any(client.errors for client in clients)


def test_clients_of_a_session_pooler_are_ended_and_come_back_into_the_restored_database(
    server: Server, live: str, store: Path
) -> None:
    with pgbouncer(server, "session") as pooler:
        with Writer(pooler.dsn(live), "pooled") as writer:
            time.sleep(0.2)
            switched = swap(server, store, live, "switched", poolers=[pooler.option()])
            after = time.monotonic()
            until(lambda: any(at > after for _number, at in writer.committed))
        assert not pooler.paused(live)
    assert "pools sessions" in " ".join(switched.plan.warnings)  # type: ignore[union-attr]
    # cut off once, and held when it came back
    assert writer.refused == 1
    late = {number for number, at in writer.committed if at > after}
    assert late
    assert late <= ids(server, live)


def test_a_transaction_that_does_not_end_is_ended_by_the_switch_and_nobody_else_is(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    with contextlib.closing(psycopg2.connect(pooler.dsn(live))) as stuck, Pooled(pooler.dsn(live)) as client:
        stuck.cursor().execute("SELECT 1")
        switched = swap(server, store, live, "switched", poolers=[pooler.option(pause_timeout=1)])
        time.sleep(0.2)
        with pytest.raises(psycopg2.Error):
            stuck.cursor().execute("SELECT 1")
    assert client.errors == []
    assert 1 < client.largest_gap < 15
    assert "still ran through" in " ".join(switched.plan.warnings)  # type: ignore[union-attr]
    assert not pooler.paused(live)


def test_all_poolers_are_paused_before_the_first_rename(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    with pgbouncer(server, "transaction", f"shop = {{server}} dbname={live}") as other, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pooled(pooler.dsn(live))), stack.enter_context(Pooled(other.dsn("shop")))]
        both = [pooler.option(), other.option(database="shop")]
        switched = swap(server, store, live, "switched", poolers=both)
        time.sleep(0.2)
        assert not pooler.paused(live)
        assert not other.paused("shop")
    assert [client.errors for client in clients] == [[], []]
    kinds = [action.kind for action in switched.plan.actions]  # type: ignore[union-attr]
    assert kinds.count("pause") == kinds.count("resume") == 2
    assert kinds.index("rename") > len(kinds) - 1 - kinds[::-1].index("pause")


def test_check_mode_names_what_would_be_paused_and_pauses_nothing(
    server: Server, live: str, store: Path, pooler: PgBouncer
) -> None:
    with Pooled(pooler.dsn(live)) as client:
        would = swap(server, store, live, "switched", poolers=[pooler.option()], check=True)
        time.sleep(0.1)
    assert f"pause {live} at 127.0.0.1:{pooler.port}" in would.message
    assert client.errors == []
    assert not any(f"PAUSE '{live}'" in line for line in pooler.log)


def test_what_somebody_else_paused_stays_paused(server: Server, live: str, store: Path, pooler: PgBouncer) -> None:
    pooler.console(f'PAUSE "{live}"')
    switched = swap(server, store, live, "switched", poolers=[pooler.option()])
    assert pooler.paused(live)
    assert "somebody else" in " ".join(switched.plan.warnings)  # type: ignore[union-attr]
    assert "paused" not in switched.evidence


REFUSALS = {
    "pooler_unreachable": {"port": 1},
    "pooler_wrong_password": {"password": "wrong"},
    "pooler_not_admin": {"user": LOOKER},
    "pooler_database_unknown": {"database": "elsewhere"},
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_pooler_that_cannot_be_paused_is_refused_and_nothing_is_changed(
    server: Server, live: str, store: Path, code: str
) -> None:
    oid = databases(server)[live]
    with pgbouncer(server, "transaction", f"{live} = {{server}}\nelse = {{server}} dbname=postgres") as pooler:
        for check in (True, False):
            with pytest.raises(OpsError) as refused:
                swap(server, store, live, "switched", poolers=[pooler.option(**REFUSALS[code])], check=check)
            assert refused.value.code == code
            assert refused.value.remedy
            assert pooler.password not in refused.value.message
        assert not pooler.paused(live)
    assert databases(server)[live] == oid
    assert record(store)["state"] == "verified"


def test_a_user_that_may_do_nothing_and_a_database_that_is_not_served_are_refused_together(
    server: Server, live: str, store: Path
) -> None:
    with pgbouncer(server, "transaction", "postgres = {server}") as one, pytest.raises(OpsError) as refused:
        swap(server, store, live, "switched", poolers=[one.option(), one.option(user=NOBODY)])
    assert refused.value.details["codes"] == ["pooler_database_unknown", "pooler_not_admin"]


def test_a_pooler_of_any_database_that_nobody_has_used_yet_serves_it(server: Server, live: str, store: Path) -> None:
    with pgbouncer(server, "transaction", "* = {server}") as pooler:
        switched = swap(server, store, live, "switched", poolers=[pooler.option()])
    assert switched.evidence["paused"] == [f"{live} at 127.0.0.1:{pooler.port}"]


def test_the_same_through_psql_sessions(server: Server, live: str, store: Path, pooler: PgBouncer) -> None:
    with Pooled(pooler.dsn(live)) as client:
        swap(server, store, live, "switched", poolers=[pooler.option()], connection=connection(server, session="psql"))
        time.sleep(0.2)
    assert client.errors == []


def test_the_inventory_names_the_poolers(
    server: Server, live: str, store: Path, pooler: PgBouncer, tmp_path: Path
) -> None:
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": live,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_poolers": [pooler.option()],
        },
    )
    with Pooled(pooler.dsn(live), writes=False) as client:
        done = play("restore", hosts, "-e", "switch=true", "-vvv", timeout=120)
        undone = play("undo", hosts, timeout=120)
    assert (done.code, undone.code) == (0, 0), done.output + undone.output
    assert f'"{live} at 127.0.0.1:{pooler.port}"' in done.output
    assert pooler.password not in done.output
    assert client.errors == []
