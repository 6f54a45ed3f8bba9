# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ages of transactions and multixacts, emergencies, and statistics that were lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres, upkeep
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

# the lowest that the server takes, so that ages are reached in a second
SETTINGS = {
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "100000",
    "autovacuum_multixact_freeze_max_age": "10000",
    "vacuum_freeze_table_age": "100000",
}
BURN = "DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with postgres.running(request.param, settings=SETTINGS) as found:
        yield found


@pytest.fixture
def shop(server: Server) -> Iterator[str]:
    server.createdb("shop")
    for name in ("orders", "events"):
        server.psql(
            f"CREATE TABLE {name} (id int PRIMARY KEY, note text);"
            f"INSERT INTO {name} SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g",
            db="shop",
        )
    server.psql("VACUUM (FREEZE, ANALYZE)", db="shop")
    yield "shop"
    server.dropdb("shop")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def burn(server: Server, count: int) -> None:
    """Use up transaction ids."""
    server.psql(BURN.format(count=count))


def age(server: Server, table: str) -> int:
    return int(server.psql(f"SELECT age(relfrozenxid) FROM pg_class WHERE relname = '{table}'", db="shop"))


def test_a_table_is_frozen_from_three_quarters_of_the_age_at_which_autovacuum_must(
    server: Server, shop: str, store: Path
) -> None:
    server.psql("VACUUM (FREEZE)", db="shop")
    burn(server, 70_000)
    only = {"tables": ["public.*"], "measures": ["vacuum"]}
    assert planned(maintain(server, store, shop, check=True, **only)) == []
    server.psql("VACUUM (FREEZE) events", db="shop")
    burn(server, 5_100)
    result = maintain(server, store, shop, **only)
    assert list(done(result)) == [("freeze", "public.orders")]
    assert age(server, "orders") < 1000
    assert planned(maintain(server, store, shop, **only)) == []


def test_in_an_emergency_the_oldest_table_is_first_and_indexes_are_left_alone(
    server: Server, shop: str, store: Path
) -> None:
    burn(server, 1_000)
    server.psql("VACUUM (FREEZE) events", db="shop")
    burn(server, 3_000)
    server.psql("DELETE FROM orders WHERE id > 1000", db="shop")
    result = maintain(
        server, store, shop, tables=["public.*"], thresholds={"emergency_age": 2_500}, jobs=1, budget="1s"
    )
    frozen = [item for item in done(result).values() if item["kind"] == "freeze"]
    assert [item["table"] for item in frozen] == ["public.orders", "public.events"]
    assert all("INDEX_CLEANUP off" in str(item["statement"]) for item in frozen)
    assert age(server, "orders") < 1000


def test_what_holds_an_old_table_is_named_instead_of_freezing_it_for_nothing(
    server: Server, shop: str, store: Path
) -> None:
    with upkeep.transaction(server, shop, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"):
        burn(server, 3_000)
        result = maintain(
            server, store, shop, check=True, tables=["public.orders"], thresholds={"emergency_age": 2_900}
        )
        assert planned(result) == []
        assert result.plan is not None
        assert "public.orders would bring nothing: session" in result.plan.warnings[0]


def test_multixacts_age_like_transactions(server: Server, shop: str, store: Path) -> None:
    server.psql(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM 1 FROM orders WHERE id = i FOR KEY SHARE;"
        " BEGIN UPDATE orders SET note = 'y' WHERE id = i; EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$",
        db="shop",
    )
    old = server.psql("SELECT max(mxid_age(relminmxid)) FROM pg_class WHERE relname = 'events'", db="shop")
    assert int(old) >= 3000
    # 30 % of 10,000
    result = maintain(server, store, shop, tables=["public.events"], thresholds={"freeze": 0.3}, check=True)
    (action,) = result.plan.actions  # type: ignore[union-attr]
    assert (action.kind, "multixacts old" in action.reason) == ("freeze", True)
    assert planned(maintain(server, store, shop, tables=["public.events"], thresholds={"freeze": 0.9})) == []


def crash(server: Server) -> None:
    server.kill()
    server.start()


def test_after_a_crash_tables_are_sampled_and_only_what_the_sample_finds_is_vacuumed(
    server: Server, shop: str, store: Path
) -> None:
    server.psql("DELETE FROM orders WHERE id % 3 = 0", db="shop")
    crash(server)
    assert server.psql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'orders'", db="shop") == "0"
    checked = planned(maintain(server, store, shop, tables=["public.*"], check=True))
    assert {name for _kind, name in checked} == {"public.orders", "public.events"}
    result = maintain(server, store, shop, tables=["public.*"])
    assert planned(result) == checked
    assert set(done(result)) == {
        ("analyze", "public.orders"),
        ("vacuum", "public.orders"),
        ("analyze", "public.events"),
    }
    assert planned(maintain(server, store, shop, tables=["public.*"])) == []


def test_after_a_crash_dead_rows_are_counted_where_pgstattuple_is_installed(
    server: Server, shop: str, store: Path
) -> None:
    server.psql("CREATE EXTENSION pgstattuple; DELETE FROM orders WHERE id % 3 = 0", db="shop")
    crash(server)
    result = maintain(server, store, shop, tables=["public.*"], measures=["vacuum"], check=True)
    assert planned(result) == [("vacuum", "public.orders")]
    assert "1,000 rows" in result.plan.actions[0].reason  # type: ignore[union-attr]


def test_a_crash_in_the_middle_has_nothing_done_twice(server: Server, shop: str, store: Path) -> None:
    server.psql("DELETE FROM orders WHERE id % 3 = 0", db="shop")
    assert ("vacuum", "public.orders") in done(maintain(server, store, shop, tables=["public.orders"]))
    crash(server)
    left = planned(maintain(server, store, shop, tables=["public.*"], check=True))
    assert {name for _kind, name in left} == {"public.events"}


def test_autovacuum_against_wraparound_is_never_disturbed(store: Path) -> None:
    with postgres.running(18, settings={**SETTINGS, "autovacuum": "on", "autovacuum_naptime": "1s"}) as server:
        server.createdb("shop")
        server.psql(
            "CREATE TABLE orders (id int) WITH (autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100,"
            " autovacuum_vacuum_cost_limit = 1); INSERT INTO orders SELECT generate_series(1, 30000)",
            db="shop",
        )
        server.psql("DELETE FROM orders WHERE id % 3 = 0", db="shop")
        burn(server, 101_000)
        # it is switched off for the table, and starts against wraparound all the same
        against = "backend_type = 'autovacuum worker' AND query LIKE '%public.orders (to prevent wraparound)'"
        upkeep.wait_until(server, f"SELECT count(*) > 0 FROM pg_stat_activity WHERE {against}", seconds=30)
        result = maintain(server, store, "shop", tables=["public.*"])
        assert planned(result) == []
        assert result.plan is not None
        assert "Autovacuum works on public.orders" in result.plan.warnings[-1]
        assert server.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {against}") == "1"
