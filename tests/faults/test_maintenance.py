# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance that is killed, starved or locked out leaves nothing running, and the next run does the rest."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import acts, disk, postgres, processes, standby, upkeep
from ansible_collections.saasops.runbook.tests.lab.playbooks import start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

NEWEST = pytest.mark.parametrize("server", [18], indirect=True)
WORKING = "SELECT count(*) {compared} FROM pg_stat_activity WHERE application_name LIKE 'saasops-maintenance-%' {more}"
RUNS = WORKING.format(compared="> 0", more="AND query LIKE 'VACUUM%'")
GONE = WORKING.format(compared="= 0", more="")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def due(server: Server, database: str) -> str:
    """quick is vacuumed in a moment and gains most; slow takes minutes at the cost delay of the tests."""
    for name, rows in (("quick", 3000), ("slow", 40000)):
        server.psql(
            f"CREATE TABLE {name} (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off);"
            f"INSERT INTO {name} SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, {rows}) g",
            db=database,
        )
    upkeep.vacuum(server, database)
    server.psql("DELETE FROM quick; DELETE FROM slow WHERE id % 3 = 0", db=database)
    return database


SLOWLY = {"measures": ["vacuum"], "jobs": 1, "cost_delay": 50, "cost_limit": 50}


def the_rest(server: Server, store: Path, database: str) -> None:
    """What was done is not done again, what was not is."""
    assert list(done(maintain(server, store, database, measures=["vacuum"]))) == [("vacuum", "public.slow")]
    assert planned(maintain(server, store, database, measures=["vacuum"])) == []


SLOW_RUNS = (
    "SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = (SELECT oid FROM pg_class WHERE relname = 'slow')"
)


@NEWEST
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_module_leaves_the_rest_to_the_next_run(
    server: Server, due: str, store: Path, number: signal.Signals
) -> None:
    with start("maintenance", upkeep.inventory_of(server, store, due, SLOWLY)) as run:
        upkeep.wait_until(server, SLOW_RUNS, due, 60)
        for pid in processes.modules(run.pid):
            os.kill(pid, number)
        output, _none = run.communicate(timeout=60)
    assert run.returncode != 0
    if number == signal.SIGTERM:
        assert "[interrupted]" in output
        upkeep.wait_until(server, GONE, due, 20)
    the_rest(server, store, due)
    upkeep.wait_until(server, GONE, seconds=20)


@NEWEST
def test_beside_a_run_that_lives_on_without_its_controller_a_second_one_is_refused(
    server: Server, due: str, store: Path
) -> None:
    with start("maintenance", upkeep.inventory_of(server, store, due, SLOWLY)) as run:
        upkeep.wait_until(server, SLOW_RUNS, due, 60)
        left = processes.modules(run.pid)
        assert left
        for pid in left:
            processes.freeze(pid)
        run.kill()
        run.wait(30)
    try:
        with pytest.raises(OpsError) as caught:
            maintain(server, store, due, measures=["vacuum"])
        assert caught.value.code == "database_busy"
        assert "saasops-maintenance" in caught.value.cause
    finally:
        for pid in left:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
    upkeep.wait_until(server, GONE, due, 20)
    maintain(server, store, due, measures=["vacuum"])
    assert planned(maintain(server, store, due, measures=["vacuum"])) == []


def test_a_server_that_dies_in_the_middle_is_told_and_the_next_run_does_the_rest(store: Path) -> None:
    with postgres.running(18, settings={"autovacuum": "off"}) as server:
        database = "shop"
        server.createdb(database)
        for name in ("quick", "slow"):
            server.psql(
                f"CREATE TABLE {name} (id int PRIMARY KEY, note text);"
                f"INSERT INTO {name} SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, 40000) g",
                db=database,
            )
        upkeep.vacuum(server, database)
        server.psql("DELETE FROM quick; DELETE FROM slow WHERE id % 3 = 0", db=database)
        assert done(maintain(server, store, database, measures=["vacuum"], tables=["public.quick"]))
        killer = threading.Thread(
            target=lambda: (upkeep.wait_until(server, SLOW_RUNS, database, 20), server.kill()), daemon=True
        )
        killer.start()
        with pytest.raises(OpsError) as caught:
            maintain(server, store, database, **SLOWLY)
        assert caught.value.code in ("session_ended", "server_unreachable", "server_starting")
        killer.join(20)
        server.start()
        found = done(maintain(server, store, database, tables=["public.*"]))
        assert ("vacuum", "public.slow") in found
        assert ("vacuum", "public.quick") not in found
        assert planned(maintain(server, store, database, tables=["public.*"])) == []


@NEWEST
def test_a_lost_connection_is_told_and_the_next_run_does_the_rest(server: Server, due: str, store: Path) -> None:
    def cut() -> None:
        upkeep.wait_until(server, SLOW_RUNS, due, 20)
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_vacuum")

    threading.Thread(target=cut, daemon=True).start()
    with pytest.raises(OpsError) as caught:
        maintain(server, store, due, **SLOWLY)
    assert caught.value.code == "session_ended"
    assert "1 of 2 acts were done before" in caught.value.cause
    upkeep.wait_until(server, GONE, due, 10)
    the_rest(server, store, due)


@NEWEST
def test_the_budget_ends_what_takes_longer_than_was_thought_and_the_next_run_does_it(
    server: Server, database: str, store: Path
) -> None:
    body = "LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {sleep} RETURN $1; END $$"
    server.psql(
        "CREATE TABLE t (id int) WITH (autovacuum_enabled = off); CREATE TABLE u (id int);"
        f"CREATE FUNCTION slow(int) RETURNS int {body.format(sleep='')};"
        "INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO u SELECT generate_series(1, 2000);"
        "CREATE INDEX t_slow ON t (slow(id));"
        f"CREATE OR REPLACE FUNCTION slow(int) RETURNS int {body.format(sleep='PERFORM pg_sleep(0.005);')}",
        db=database,
    )
    began = time.monotonic()
    result = maintain(server, store, database, measures=["analyze"], budget="2s", jobs=2)
    assert time.monotonic() - began < 9
    assert list(done(result)) == [("analyze", "public.u")]
    upkeep.wait_until(server, GONE, seconds=20)
    server.psql(f"CREATE OR REPLACE FUNCTION slow(int) RETURNS int {body.format(sleep='')}", db=database)
    assert planned(maintain(server, store, database, measures=["analyze"])) == [("analyze", "public.t")]


@NEWEST
def test_a_role_whose_statements_time_out_maintains_all_the_same(server: Server, due: str, store: Path) -> None:
    server.psql(
        "CREATE ROLE hasty LOGIN SUPERUSER PASSWORD 'h'; ALTER ROLE hasty SET statement_timeout = '150ms';"
        "ALTER ROLE hasty SET lock_timeout = '1ms'; ALTER ROLE hasty SET default_transaction_read_only = on"
    )
    try:
        login = acts.connection(server, user="hasty", password="h")
        # about a second at this pace
        slow = {**SLOWLY, "cost_delay": 20, "cost_limit": 100}
        result = maintain(server, store, due, connection=login, **slow)
        assert len(done(result)) == 2
        assert max(float(str(item["seconds"])) for item in done(result).values()) > 0.3
    finally:
        server.psql("DROP ROLE hasty")


@NEWEST
def test_a_storm_of_locks_delays_nobody_and_is_named(server: Server, due: str, store: Path) -> None:
    with upkeep.transaction(server, due, "LOCK TABLE slow IN ACCESS EXCLUSIVE MODE"):
        waiting = [upkeep.at_work(server, due, "BEGIN; LOCK TABLE slow; COMMIT") for _number in range(8)]
        for one in waiting:
            one.__enter__()
        try:
            upkeep.wait_until(server, "SELECT count(*) = 8 FROM pg_locks WHERE NOT granted", due)
            began = time.monotonic()
            with pytest.raises(OpsError) as caught:
                maintain(server, store, due, measures=["vacuum"], lock_wait="1s")
            assert time.monotonic() - began < 30
            assert caught.value.code == "maintenance_locked"
            # we never stood in that queue
            assert server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted", db=due) == "8"
        finally:
            for one in waiting:
                one.__exit__(None, None, None)
    the_rest(server, store, due)


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with postgres.running(15, settings={"autovacuum": "off"}) as server:
        yield server


def test_nothing_is_begun_while_a_standby_lags_and_the_next_run_goes_on(primary: Server, store: Path) -> None:
    primary.createdb("shop")
    upkeep.tenants(primary, "shop", count=1, rows=3000)
    with standby.following(primary) as copy:
        upkeep.wait_until(primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
        copy.psql("SELECT pg_wal_replay_pause()")
        upkeep.delete_a_third(primary, "shop", ["org_1.orders"])
        options = {"measures": ["vacuum"], "tables": ["org_*.*"], "max_lag": 10_000, "patience": "1s"}
        with pytest.raises(OpsError) as caught:
            maintain(primary, store, "shop", **options)
        assert caught.value.code == "maintenance_stopped"
        assert "standby standby lags" in caught.value.cause
        assert upkeep.dead(primary, "shop") == {"org_1.orders": 1000}
        threading.Timer(1.5, lambda: copy.psql("SELECT pg_wal_replay_resume()")).start()
        result = maintain(primary, store, "shop", **{**options, "patience": "20s"})
        assert list(done(result)) == [("vacuum", "org_1.orders")]
        with pytest.raises(OpsError) as caught:
            maintain(copy, store, "shop")
        assert caught.value.code == "server_is_standby"


@NEWEST
def test_nothing_is_begun_while_the_server_is_busy(server: Server, due: str, store: Path) -> None:
    with upkeep.at_work(server, due, "SELECT pg_sleep(20)"):
        upkeep.wait_until(server, "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)'")
        with pytest.raises(OpsError) as caught:
            maintain(server, store, due, measures=["vacuum"], max_active=0, patience="1s")
        assert caught.value.code == "maintenance_stopped"
        assert "sessions are at work, 0 may be" in caught.value.cause
    the_rest_of_both = done(maintain(server, store, due, measures=["vacuum"], max_active=50))
    assert len(the_rest_of_both) == 2


def test_a_full_disk_stops_a_rewrite_before_it_begins_and_a_vacuum_gives_space_back(store: Path) -> None:
    with disk.small(250) as point, postgres.running(18, data=point / "data", settings={"autovacuum": "off"}) as server:
        server.psql(
            "CREATE TABLE big (id int PRIMARY KEY, note text);"
            "INSERT INTO big SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 150000) g"
        )
        server.psql("DELETE FROM big WHERE id % 10 <> 0 OR id > 20000")
        server.psql("ANALYZE big")
        filler = disk.fill(point, 20_000_000)
        size = int(server.psql("SELECT pg_total_relation_size('big')"))
        result = maintain(
            server, store, "postgres", measures=["vacuum", "rewrite"], tables=["public.*"], windows=("night",),
            truncate="on", thresholds={"table_waste": 1_000_000},
        )  # fmt: skip
        assert [kind for kind, _name in done(result)] == ["vacuum"]
        assert result.plan is not None
        assert "a copy needs up to" in result.plan.warnings[0]
        assert int(server.psql("SELECT pg_total_relation_size('big')")) < size / 2
        filler.unlink()
