# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes and tables that are mostly air, what broken rebuilds left, and who must not be kept waiting for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance_build
from ansible_collections.saasops.runbook.tests.lab import acts, postgres, upkeep
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

BOTH = pytest.mark.parametrize("server", [15, 18], indirect=True)
ALL = pytest.mark.parametrize("server", [15, 17, 18], indirect=True)
NEWEST = pytest.mark.parametrize("server", [18], indirect=True)
REINDEX = {"measures": ["reindex"], "thresholds": {"index_waste": 100_000}}
REWRITE = {"measures": ["rewrite"], "thresholds": {"table_waste": 100_000}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def bloated(server: Server, database: str) -> str:
    """A table of 20,000 rows of which one in ten is left, vacuumed: table and index are nine tenths air."""
    upkeep.bloat(server, database)
    return database


def here(server: Server) -> dict[str, object]:
    return {"space": str(server.data), **REWRITE}


@ALL
@pytest.mark.parametrize("how", ["estimated", "measured"])
def test_an_index_that_is_mostly_air_is_built_anew_once(server: Server, bloated: str, store: Path, how: str) -> None:
    if how == "measured":
        server.psql("CREATE EXTENSION pgstattuple", db=bloated)
    before = upkeep.size(server, bloated, "orders_pkey")
    result = maintain(server, store, bloated, **REINDEX)
    (act,) = done(result).values()
    assert (act["kind"], act["table"]) == ("reindex", "public.orders_pkey")
    assert f"({how})" in str(act["reason"])
    after = upkeep.size(server, bloated, "orders_pkey")
    assert after < before / 4
    assert (act["index_bytes_before"], act["index_bytes_after"]) == (before, after)
    assert planned(maintain(server, store, bloated, **REINDEX)) == []


@NEWEST
def test_an_index_whose_estimate_stays_wrong_is_not_built_anew_for_ever(
    server: Server, database: str, store: Path
) -> None:
    server.psql(
        "CREATE TABLE t (a text) WITH (autovacuum_enabled = off);"
        "INSERT INTO t SELECT md5(g::text) || md5((-g)::text) FROM generate_series(1, 20000) g;"
        "CREATE INDEX t_a ON t (a)",
        db=database,
    )
    upkeep.vacuum(server, database)
    # statistics that say one byte a row make any index look like air
    server.psql("UPDATE pg_statistic SET stawidth = 1 WHERE starelid = 't'::regclass", db=database)
    assert list(done(maintain(server, store, database, **REINDEX))) == [("reindex", "public.t_a")]
    assert planned(maintain(server, store, database, **REINDEX)) == []


@BOTH
def test_what_a_broken_rebuild_left_is_dropped_and_what_is_being_built_is_not(
    server: Server, bloated: str, store: Path
) -> None:
    only = {"measures": ["reindex"], "thresholds": {"index_waste": 10**12}}
    upkeep.break_rebuild(server, bloated, "orders", "orders_pkey")
    names = "SELECT string_agg(indexrelid::regclass::text, ',') FROM pg_index WHERE NOT indisvalid"
    assert server.psql(names, db=bloated) == "orders_pkey_ccnew"
    with (
        upkeep.transaction(server, bloated, "INSERT INTO orders VALUES (-1)"),
        upkeep.at_work(server, bloated, "REINDEX INDEX CONCURRENTLY orders_pkey"),
    ):
        upkeep.wait_until(server, "SELECT count(*) = 1 FROM pg_stat_progress_create_index")
        assert planned(maintain(server, store, bloated, **only)) == []
        assert "orders_pkey_ccnew" in server.psql(names, db=bloated)
    upkeep.wait_until(server, "SELECT count(*) = 0 FROM pg_stat_progress_create_index")
    result = maintain(server, store, bloated, **only)
    assert {kind for kind, _name in done(result)} == {"drop leftover"}
    assert server.psql(names, db=bloated) == ""
    assert planned(maintain(server, store, bloated, **only)) == []


@NEWEST
def test_a_rebuild_that_runs_out_of_time_is_removed_by_the_next_run(server: Server, bloated: str, store: Path) -> None:
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    # the writer began less than a minute ago, so that the rebuild is begun, and waits for it
    with upkeep.transaction(server, bloated, "INSERT INTO orders VALUES (-1)"):
        began = time.monotonic()
        result = maintain(server, store, bloated, budget="2s", **REINDEX)
        assert time.monotonic() - began < 30
        assert done(result) == {}
        assert server.psql("SELECT count(*) FROM pg_stat_progress_create_index") == "0"
    assert server.psql(invalid, db=bloated) == "1"
    assert {kind for kind, _name in done(maintain(server, store, bloated, **REINDEX))} == {"drop leftover", "reindex"}
    assert server.psql(invalid, db=bloated) == "0"


@NEWEST
def test_a_table_is_rewritten_in_a_window_and_its_bytes_are_told(server: Server, bloated: str, store: Path) -> None:
    result = maintain(server, store, bloated, windows=("night",), **here(server))
    (act,) = done(result).values()
    assert "VACUUM FULL" in str(act["reason"])
    assert int(str(act["bytes_after"])) < int(str(act["bytes_before"])) / 4
    assert planned(maintain(server, store, bloated, windows=("night",), **here(server))) == []


@NEWEST
def test_without_a_window_no_table_is_rewritten(server: Server, bloated: str, store: Path) -> None:
    result = maintain(server, store, bloated, **here(server))
    assert planned(result) == []
    assert result.plan is not None
    assert "needs an open window" in result.plan.warnings[0]


def test_a_server_elsewhere_whose_free_space_nobody_can_tell_is_not_rewritten(store: Path) -> None:
    # another address of this machine, which nothing says to be its own
    with postgres.running(18, settings={"listen_addresses": "127.0.0.1,127.0.0.2"}) as server:
        upkeep.bloat(server, "postgres")
        login = acts.connection(server, host="127.0.0.2")
        result = maintain(server, store, "postgres", windows=("night",), connection=login, **REWRITE)
    assert planned(result) == []
    assert result.plan is not None
    assert "nobody can tell how much space is free" in result.plan.warnings[0]


@NEWEST
def test_a_table_that_somebody_reads_is_not_rewritten(server: Server, bloated: str, store: Path) -> None:
    reading = ["SELECT count(*) FROM orders; SELECT pg_sleep(0.05)"] * 400
    with upkeep.at_work(server, bloated, *reading):
        result = maintain(server, store, bloated, windows=("night",), **here(server))
    assert done(result) == {}
    assert [item["outcome"] for item in result.evidence["acts"]] == ["in use"]  # type: ignore[attr-defined]


@NEWEST
def test_a_rewrite_is_given_up_when_somebody_waits_for_the_table(server: Server, bloated: str, store: Path) -> None:
    body = "LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {sleep} RETURN $1; END $$"
    server.psql(f"CREATE FUNCTION slow(int) RETURNS int {body.format(sleep='')}", db=bloated)
    server.psql("CREATE INDEX orders_slow ON orders (slow(id))", db=bloated)
    server.psql(
        f"CREATE OR REPLACE FUNCTION slow(int) RETURNS int {body.format(sleep='PERFORM pg_sleep(0.02);')}", db=bloated
    )
    before = upkeep.size(server, bloated, "orders")
    oid = server.psql("SELECT 'orders'::regclass::oid", db=bloated)
    waited: list[float] = []

    def read() -> None:
        upkeep.wait_until(
            server,
            f"SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = {oid}",
            bloated,
            60,
        )
        began = time.monotonic()
        server.psql("SELECT 1 FROM orders LIMIT 1", db=bloated)
        waited.append(time.monotonic() - began)

    reader = threading.Thread(target=read)
    reader.start()
    lines: list[str] = []
    result = maintain(server, store, bloated, windows=("night",), lines=lines, **here(server))
    reader.join(20)
    assert any(line.startswith("maintenance: 0 of 1 acts (0 %); rewrite public.orders") for line in lines), lines
    assert [item["outcome"] for item in result.evidence["acts"]] == ["in use"]  # type: ignore[attr-defined]
    assert waited[0] < 15
    assert upkeep.size(server, bloated, "orders") == before


@pytest.mark.parametrize("server", [15], indirect=True)
def test_pg_repack_is_used_where_it_is_installed_and_needs_no_window(server: Server, bloated: str, store: Path) -> None:
    server.psql("CREATE EXTENSION pg_repack", db=bloated)
    result = maintain(server, store, bloated, **here(server))
    (act,) = done(result).values()
    assert "by pg_repack" in str(act["reason"])
    assert int(str(act["bytes_after"])) < int(str(act["bytes_before"])) / 4
    assert server.psql("SELECT count(*) FROM orders", db=bloated) == "2000"
    assert planned(maintain(server, store, bloated, **here(server))) == []


@NEWEST
def test_a_rebuild_that_waits_too_long_for_somebody_is_given_up(
    server: Server, bloated: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upkeep.transaction(server, bloated, "INSERT INTO orders VALUES (-1)"):
        monkeypatch.setattr(maintenance_build, "SNAPSHOT", 1.5)
        with pytest.raises(OpsError) as caught:
            maintain(server, store, bloated, **REINDEX)
        assert caught.value.code == "maintenance_locked"
        assert server.psql("SELECT count(*) FROM pg_stat_progress_create_index") == "0"
