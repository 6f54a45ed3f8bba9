# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuilds, rewrites and drops that are killed, starved of time or space, or whose lock or standby is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance, maintenance_build
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab import disk, postgres, processes, standby, upkeep
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, outcomes, planned

REINDEX: dict[str, object] = {"measures": ["reindex"], "thresholds": {"index_waste": 100_000}}
GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'saasops-maintenance-%'"
INVALID = "SELECT coalesce(string_agg(indexrelid::regclass::text, ','), '') FROM pg_index WHERE NOT indisvalid"
BUILDS = "SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE phase = 'waiting for {}'"
SLOW = "LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {sleep} RETURN $1; END $$"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server of this file's own, which may be killed and may have a standby."""
    with postgres.running(18, settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture
def bloated(mortal: Server) -> Iterator[str]:
    mortal.createdb("shop")
    upkeep.bloat(mortal, "shop")
    yield "shop"
    mortal.dropdb("shop")


def rewrite(server: Server) -> dict[str, object]:
    wanted = {"table_waste": 100_000}
    return {"measures": ["rewrite"], "thresholds": wanted, "space": str(server.data), "windows": ("night",)}


@contextlib.contextmanager
def slow_index(server: Server, database: str) -> Iterator[None]:
    """Whoever builds all indexes of orders takes minutes; afterwards a moment."""
    server.psql(f"CREATE FUNCTION slow(int) RETURNS int {SLOW.format(sleep='')}", db=database)
    server.psql("CREATE INDEX orders_slow ON orders (slow(id))", db=database)
    server.psql(
        f"CREATE OR REPLACE FUNCTION slow(int) RETURNS int {SLOW.format(sleep='PERFORM pg_sleep(0.1);')}", db=database
    )
    try:
        yield
    finally:
        server.psql(f"CREATE OR REPLACE FUNCTION slow(int) RETURNS int {SLOW.format(sleep='')}", db=database)


@contextlib.contextmanager
def leftover_in_use(server: Server, database: str) -> Iterator[None]:
    upkeep.break_rebuild(server, database, "orders", "orders_pkey")
    with upkeep.transaction(server, database, "SELECT count(*) FROM orders"):
        yield


def _blocked_by(sql: str) -> Callable[[Server, str], contextlib.AbstractContextManager[object]]:
    return lambda server, database: upkeep.transaction(server, database, sql)


def _held(server: Server, database: str) -> str:
    oid = server.psql("SELECT 'orders'::regclass::oid", db=database)
    return f"SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = {oid}"


@dataclass(frozen=True)
class Case:
    """An act that is in its middle for as long as `blocked` lasts, and what is left of it there."""

    blocked: Callable[[Server, str], contextlib.AbstractContextManager[object]]
    options: Callable[[Server], dict[str, object]]
    middle: Callable[[Server, str], str]
    invalid: str = ""


CASES = {
    "reindex before its build": Case(
        _blocked_by("INSERT INTO orders VALUES (-1)"),
        lambda _server: REINDEX,
        lambda _server, _database: BUILDS.format("writers before build"),
        "orders_pkey_ccnew",
    ),
    "reindex after its swap": Case(
        _blocked_by("SELECT count(*) FROM orders"),
        lambda _server: REINDEX,
        lambda _server, _database: BUILDS.format("readers before marking dead"),
        "orders_pkey_ccold",
    ),
    "rewrite": Case(slow_index, rewrite, _held),
    "drop of a leftover": Case(
        leftover_in_use,
        lambda _server: {"measures": ["reindex"], "thresholds": {"index_waste": 10**12}},
        lambda _server, _database: (
            "SELECT count(*) > 0 FROM pg_stat_activity"
            " WHERE query LIKE 'DROP INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
        ),
        "orders_pkey_ccnew",
    ),
}


def _forked(act: Callable[[], object]) -> int:
    """A process of its own that does the act; its pid."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        act()
    os._exit(0)


def _all_well(server: Server, store: Path, database: str, options: dict[str, object]) -> None:
    maintain(server, store, database, **options)
    assert planned(maintain(server, store, database, **options)) == []
    assert server.psql(INVALID, db=database) == ""
    assert server.psql("SELECT count(*) FROM orders WHERE id > 0", db=database) == "2000"


# a server takes some seconds to see that its client died
@pytest.mark.parametrize(
    ("case", "victim"),
    [*((case, "server") for case in CASES), ("reindex after its swap", "module"), ("rewrite", "module")],
)
def test_an_act_that_is_killed_in_its_middle_is_made_whole_by_the_next_run(
    mortal: Server, bloated: str, store: Path, case: str, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_build, "STILL", 0.1)
    act = CASES[case]
    options = act.options(mortal)
    with contextlib.ExitStack() as stack:
        stack.enter_context(act.blocked(mortal, bloated))
        child = _forked(lambda: maintain(mortal, store, bloated, **options))
        try:
            upkeep.wait_until(mortal, act.middle(mortal, bloated), bloated, 30)
            if victim == "server":
                mortal.kill()
                mortal.start()
        finally:
            if victim == "module":
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        # ends by itself, once the server has looked for its client
        upkeep.wait_until(mortal, GONE, seconds=30)
        assert mortal.psql(INVALID, db=bloated) == act.invalid
    _all_well(mortal, store, bloated, options)


def test_a_rewrite_that_runs_out_of_its_time_leaves_the_table_as_it_was(
    mortal: Server, bloated: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_build, "STILL", 0.1)
    options = rewrite(mortal)
    before = upkeep.size(mortal, bloated, "orders")
    with slow_index(mortal, bloated):
        result = maintain(mortal, store, bloated, rewrite_timeout="1s", **options)
    assert outcomes(result) == [("rewrite", "out of time")]
    assert upkeep.size(mortal, bloated, "orders") == before
    _all_well(mortal, store, bloated, options)
    assert upkeep.size(mortal, bloated, "orders") < before / 4


def test_a_rebuild_that_meets_a_full_disk_is_named_and_the_rest_is_done(
    mortal: Server, bloated: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk.small(32) as point:
        folder = point / "tight"
        folder.mkdir()
        owner = processes.unprivileged()
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        mortal.psql(f"CREATE TABLESPACE tight LOCATION '{folder}'")
        try:
            mortal.psql(
                "CREATE TABLE narrow (id int PRIMARY KEY USING INDEX TABLESPACE tight, note text) TABLESPACE tight;"
                "INSERT INTO narrow SELECT g, 'x' FROM generate_series(1, 20000) g",
                db=bloated,
            )
            mortal.psql("DELETE FROM narrow WHERE id % 10 <> 0", db=bloated)
            upkeep.vacuum(mortal, bloated)
            filler: list[Path] = []
            real = maintenance_build.run

            def full(session: Session, sql: str, seconds: float | None) -> tuple[str, list[str]]:
                """Somebody else takes the space after it was looked at."""
                if not filler:
                    filler.append(disk.fill(point))
                return real(session, sql, seconds)

            monkeypatch.setattr(maintenance_build, "run", full)
            with pytest.raises(OpsError) as caught:
                maintain(mortal, store, bloated, **REINDEX)
            assert caught.value.code == "maintenance_failed"
            assert "1 of 2 acts failed, first reindex public.narrow_pkey" in caught.value.cause
            assert "No space left on device" in caught.value.cause
            # nothing of it is left, and the index is used as before
            assert mortal.psql(INVALID, db=bloated) == ""
            filler[0].unlink()
            assert list(done(maintain(mortal, store, bloated, **REINDEX))) == [("reindex", "public.narrow_pkey")]
            _all_well(mortal, store, bloated, REINDEX)
        finally:
            mortal.psql("DROP TABLE IF EXISTS narrow", db=bloated)
            mortal.psql("DROP TABLESPACE tight")


SLOWLY: dict[str, object] = {"measures": ["vacuum"], "jobs": 1, "cost_delay": 100, "cost_limit": 1}
VACUUMS = "SELECT count(*) > 0 FROM pg_stat_progress_vacuum"


@contextlib.contextmanager
def _in_the_middle(server: Server, database: str, kind: str) -> Iterator[tuple[dict[str, object], str]]:
    """(options of an act that takes minutes, how to see it at work)."""
    if kind == "vacuum":
        server.psql("UPDATE orders SET note = note WHERE id % 3 = 0", db=database)
        yield SLOWLY, VACUUMS
        return
    with upkeep.transaction(server, database, "INSERT INTO orders VALUES (-1)"):
        yield REINDEX, BUILDS.format("writers before build")


def _when(server: Server, database: str, condition: str, act: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        upkeep.wait_until(server, condition, database, 30)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["vacuum", "reindex"])
def test_what_runs_is_cancelled_when_the_lock_on_the_database_is_lost(
    mortal: Server, bloated: str, store: Path, kind: str
) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with _in_the_middle(mortal, bloated, kind) as (options, middle):
        thread = _when(mortal, bloated, middle, lambda: mortal.psql(cut))
        with pytest.raises(OpsError) as caught:
            maintain(mortal, store, bloated, **options)
        thread.join(30)
        assert caught.value.code in ("lock_lost", "session_ended")
        assert "0 of 1 acts were done before" in caught.value.cause
        upkeep.wait_until(mortal, GONE, seconds=30)
    options = {key: value for key, value in options.items() if not key.startswith("cost")}
    _all_well(mortal, store, bloated, options)


@pytest.mark.parametrize("kind", ["vacuum", "reindex"])
def test_what_runs_is_cancelled_when_a_standby_lags_for_too_long_which_is_so_by_default(
    mortal: Server, bloated: str, store: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 256 MB would take long to write
    monkeypatch.setattr(maintenance, "LAG", 200_000)
    with standby.following(mortal) as copy, _in_the_middle(mortal, bloated, kind) as (options, middle):
        upkeep.wait_until(mortal, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'", seconds=30)

        def lag() -> None:
            copy.psql("SELECT pg_wal_replay_pause()")
            mortal.psql("CREATE TABLE noise AS SELECT repeat('x', 500) FROM generate_series(1, 5000)", db=bloated)

        thread = _when(mortal, bloated, middle, lag)
        with pytest.raises(OpsError) as caught:
            maintain(mortal, store, bloated, patience="1s", tables=["public.orders"], **options)
        thread.join(30)
        assert caught.value.code == "maintenance_stopped"
        assert "standby standby lags" in caught.value.cause
        assert [item["outcome"] for item in caught.value.details["acts"]] == ["stopped"]  # type: ignore[attr-defined]
        assert mortal.psql(GONE) == "t"
    # the standby is gone, and with it its lag
    options = {key: value for key, value in options.items() if not key.startswith("cost")}
    _all_well(mortal, store, bloated, {**options, "tables": ["public.orders"]})


def test_an_emergency_is_brought_to_its_end_while_a_standby_lags(mortal: Server, bloated: str, store: Path) -> None:
    mortal.psql("CREATE TABLE other AS SELECT generate_series(1, 3000) AS id", db=bloated)
    upkeep.vacuum(mortal, bloated)
    mortal.psql("DELETE FROM other WHERE id % 3 = 0", db=bloated)
    with standby.following(mortal) as copy:
        upkeep.wait_until(mortal, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'", seconds=30)
        copy.psql("SELECT pg_wal_replay_pause()")
        mortal.psql("CREATE TABLE noise AS SELECT repeat('x', 500) FROM generate_series(1, 5000)", db=bloated)
        with pytest.raises(OpsError) as caught:
            maintain(
                mortal,
                store,
                bloated,
                measures=["vacuum"],
                tables=["public.orders", "public.other"],
                rules=[{"tables": ["public.orders"], "emergency_age": 1}],
                jobs=1,
                # long enough for the patience to end before it
                cost_delay=100,
                cost_limit=200,
                max_lag=200_000,
                patience="1s",
            )
    assert caught.value.code == "maintenance_stopped"
    found = [(item["kind"], item["outcome"]) for item in caught.value.details["acts"]]  # type: ignore[attr-defined]
    assert found == [("freeze", "done"), ("vacuum", "stopped")]
