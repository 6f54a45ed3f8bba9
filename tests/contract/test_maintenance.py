# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What maintenance finds, does and proves on real servers, one condition at a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Act
from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance_run
from ansible_collections.saasops.runbook.tests.lab import acts, upkeep
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

BOTH = pytest.mark.parametrize("server", [15, 18], indirect=True)
ALL = pytest.mark.parametrize("server", [15, 17, 18], indirect=True)
NEWEST = pytest.mark.parametrize("server", [18], indirect=True)
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)"
FILL = "INSERT INTO orders SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, 3000) g"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def shop(server: Server, database: str) -> str:
    """A table without anything to do; each step in a session of its own, so that its counters are there."""
    server.psql(f"{ORDERS}; {FILL}", db=database)
    upkeep.vacuum(server, database)
    return database


@BOTH
def test_a_healthy_database_needs_nothing(server: Server, shop: str, store: Path) -> None:
    result = maintain(server, store, shop)
    assert (planned(result), result.changed) == ([], False)


@ALL
def test_dead_rows_below_the_threshold_stay_and_above_it_go(server: Server, shop: str, store: Path) -> None:
    # autovacuum's own is 50 + 20 % of the rows, and we wait for half of the share: 318 <= 50 + 10 % of 2,682 that live
    server.psql("DELETE FROM orders WHERE id <= 318", db=shop)
    assert planned(maintain(server, store, shop, measures=["vacuum"])) == []
    server.psql("DELETE FROM orders WHERE id = 319", db=shop)
    found = done(maintain(server, store, shop, measures=["vacuum"]))
    assert list(found) == [("vacuum", "public.orders")]
    assert (found["vacuum", "public.orders"]["dead_before"], found["vacuum", "public.orders"]["dead_after"]) == (319, 0)


@BOTH
def test_the_tables_own_storage_parameters_go_before_the_servers(server: Server, shop: str, store: Path) -> None:
    server.psql(
        "ALTER TABLE orders SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20)", db=shop
    )
    server.psql("DELETE FROM orders WHERE id <= 21", db=shop)
    assert planned(maintain(server, store, shop, measures=["vacuum"], check=True)) == [("vacuum", "public.orders")]


@NEWEST
def test_changed_rows_make_an_analyze_and_a_second_run_nothing(server: Server, shop: str, store: Path) -> None:
    server.psql("UPDATE orders SET note = 'x' WHERE id <= 250", db=shop)
    assert planned(maintain(server, store, shop, check=True)) == [("analyze", "public.orders")]
    assert ("analyze", "public.orders") in done(maintain(server, store, shop))
    assert planned(maintain(server, store, shop)) == []


@NEWEST
def test_rows_inserted_since_the_last_vacuum_make_a_vacuum(server: Server, shop: str, store: Path) -> None:
    server.psql("INSERT INTO orders SELECT g, 'x' FROM generate_series(10000, 12000) g", db=shop)
    (action,) = [a for a in maintain(server, store, shop, check=True).plan.actions if a.kind == "vacuum"]  # type: ignore[union-attr]
    assert "2,001 rows inserted" in action.reason


@NEWEST
def test_dead_long_values_make_a_vacuum(server: Server, database: str, store: Path) -> None:
    server.psql(
        "CREATE TABLE files (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);"
        "ALTER TABLE files ALTER body SET STORAGE EXTERNAL;"
        "INSERT INTO files SELECT g, repeat(md5(g::text), 300) FROM generate_series(1, 500) g",
        db=database,
    )
    upkeep.vacuum(server, database)
    # few rows, many pieces: 30 of 500 rows have 5 pieces each
    server.psql("UPDATE files SET body = reverse(body) WHERE id <= 120", db=database)
    (action,) = maintain(
        server, store, database, measures=["vacuum"], thresholds={"dead_rows": 1000}, check=True
    ).plan.actions  # type: ignore[union-attr]
    assert "long values" in action.reason
    assert done(maintain(server, store, database, measures=["vacuum"], thresholds={"dead_rows": 1000}))
    assert planned(maintain(server, store, database, measures=["vacuum"], thresholds={"dead_rows": 1000})) == []


@ALL
def test_a_partitioned_parent_gets_statistics_and_again_after_its_partitions_changed(
    server: Server, database: str, store: Path
) -> None:
    server.psql(
        "CREATE TABLE log (id int, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (1000) WITH (autovacuum_enabled = off);"
        "CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (1000) TO (2000) WITH (autovacuum_enabled = off);"
        "INSERT INTO log SELECT g, 'x' FROM generate_series(0, 1999) g",
        db=database,
    )
    server.psql("VACUUM ANALYZE log_1; VACUUM ANALYZE log_2", db=database)
    assert planned(maintain(server, store, database)) == [("analyze", "public.log")]
    assert server.psql("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'log' AND inherited", db=database) == "t"
    assert planned(maintain(server, store, database)) == []
    server.psql("UPDATE log_1 SET note = 'y' WHERE id < 100", db=database)
    assert planned(maintain(server, store, database, measures=["analyze"], check=True)) == []
    server.psql("UPDATE log SET note = 'z'", db=database)
    assert ("analyze", "public.log") in planned(maintain(server, store, database, measures=["analyze"]))
    assert planned(maintain(server, store, database, measures=["analyze"])) == []


@NEWEST
def test_materialized_and_unlogged_tables_are_maintained_temporary_and_foreign_ones_are_not(
    server: Server, database: str, store: Path
) -> None:
    server.psql(
        "CREATE UNLOGGED TABLE quick AS SELECT g AS id FROM generate_series(1, 3000) g;"
        "CREATE MATERIALIZED VIEW seen AS SELECT id FROM quick;"
        "CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA;"
        "CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;"
        "CREATE FOREIGN TABLE far (id int) SERVER elsewhere",
        db=database,
    )
    with upkeep.transaction(
        server, database, "CREATE TEMP TABLE mine AS SELECT generate_series(1, 3000) AS id"
    ) as other:
        other.commit()
        found = planned(maintain(server, store, database, check=True))
    assert {name for _kind, name in found} == {"public.quick", "public.seen"}


@ALL
def test_a_table_of_somebody_else_is_named_with_its_owner_and_fails_the_run(
    server: Server, shop: str, store: Path
) -> None:
    server.psql(
        "CREATE ROLE keeper LOGIN PASSWORD 'k' ; GRANT SELECT ON ALL TABLES IN SCHEMA public TO keeper", db=shop
    )
    try:
        server.psql(
            "CREATE TABLE hers AS SELECT generate_series(1, 3000) AS id; ALTER TABLE hers OWNER TO keeper", db=shop
        )
        server.psql("DELETE FROM orders", db=shop)
        login = acts.connection(server, user="keeper", password="k")
        with pytest.raises(OpsError) as caught:
            maintain(server, store, shop, connection=login)
        assert caught.value.code == "maintenance_not_permitted"
        assert "public.orders" in caught.value.cause
        assert "postgres" in caught.value.remedy
        # what was hers to do is done
        assert server.psql("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'hers'", db=shop) == "1"
    finally:
        server.psql("DROP TABLE IF EXISTS hers; DROP OWNED BY keeper; DROP ROLE keeper", db=shop)


@pytest.mark.parametrize("kind", ["psycopg", "psql"])
@BOTH
def test_a_vacuum_that_only_warns_is_found_out(
    server: Server, shop: str, store: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right may go between the plan and the act."""
    server.psql(
        "CREATE ROLE keeper LOGIN PASSWORD 'k'; ALTER TABLE orders OWNER TO keeper; DELETE FROM orders", db=shop
    )
    try:
        login = acts.connection(server, user="keeper", password="k", session=kind)
        real = maintenance_run.statement

        def late(version: int, act: Act, *, busy: bool, truncate: str) -> str:
            server.psql("ALTER TABLE orders OWNER TO postgres", db=shop)
            return real(version, act, busy=busy, truncate=truncate)

        monkeypatch.setattr(maintenance_run, "statement", late)
        with pytest.raises(OpsError) as caught:
            maintain(server, store, shop, connection=login, measures=["vacuum"])
        assert caught.value.code == "maintenance_not_permitted"
        assert upkeep_dead(server, shop) == 3000
    finally:
        server.psql("ALTER TABLE orders OWNER TO postgres; DROP OWNED BY keeper; DROP ROLE keeper", db=shop)


def upkeep_dead(server: Server, database: str) -> int:
    return int(server.psql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'orders'", db=database))


@BOTH
def test_a_long_transaction_is_named_as_what_keeps_dead_rows_and_no_vacuum_is_repeated_for_nothing(
    server: Server, shop: str, store: Path
) -> None:
    with upkeep.transaction(
        server, shop, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM orders"
    ):
        server.psql("DELETE FROM orders WHERE id % 3 = 0", db=shop)
        lines: list[str] = []
        first = maintain(server, store, shop, measures=["vacuum"], lines=lines)
        assert done(first)[("vacuum", "public.orders")]["dead_after"] == 1000
        assert any("1,000 dead rows of 1 tables stay: session" in line for line in lines)
        time.sleep(0.1)
        second = maintain(server, store, shop, measures=["vacuum"])
        assert planned(second) == []
        assert second.plan is not None
        assert "would bring nothing: session" in second.plan.warnings[0]
    assert done(maintain(server, store, shop, measures=["vacuum"]))[("vacuum", "public.orders")]["dead_after"] == 0


@NEWEST
def test_a_prepared_transaction_is_named_as_what_keeps_dead_rows(server: Server, shop: str, store: Path) -> None:
    server.psql("BEGIN; INSERT INTO orders VALUES (-1); PREPARE TRANSACTION 'forgotten one'", db=shop)
    try:
        server.psql("DELETE FROM orders WHERE id % 3 = 0", db=shop)
        lines: list[str] = []
        maintain(server, store, shop, measures=["vacuum"], lines=lines)
        assert any("prepared transaction forgotten one" in line for line in lines)
        assert planned(maintain(server, store, shop, measures=["vacuum"])) == []
    finally:
        server.psql("ROLLBACK PREPARED 'forgotten one'", db=shop)


@ALL
def test_a_table_that_somebody_holds_does_not_keep_the_others_and_is_done_by_the_next_run(
    server: Server, shop: str, store: Path
) -> None:
    server.psql("CREATE TABLE other AS SELECT generate_series(1, 3000) AS id", db=shop)
    upkeep.vacuum(server, shop)
    server.psql("DELETE FROM orders WHERE id % 3 = 0; DELETE FROM other WHERE id % 3 = 0", db=shop)
    with upkeep.transaction(server, shop, "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"):
        began = time.monotonic()
        with pytest.raises(OpsError) as caught:
            maintain(server, store, shop, measures=["vacuum"], lock_wait="1s")
        assert time.monotonic() - began < 30
    assert caught.value.code == "maintenance_locked"
    assert "public.orders" in caught.value.cause
    rest = maintain(server, store, shop, measures=["vacuum"])
    assert planned(rest) == [("vacuum", "public.orders")]


@BOTH
def test_a_vacuum_of_somebody_else_on_the_table_is_not_disturbed(server: Server, shop: str, store: Path) -> None:
    server.psql("DELETE FROM orders WHERE id % 3 = 0", db=shop)
    slow = "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1"
    with upkeep.at_work(server, shop, slow, "VACUUM orders") as other:
        upkeep.wait_until(server, "SELECT count(*) = 1 FROM pg_stat_progress_vacuum")
        result = maintain(server, store, shop, measures=["vacuum"])
        assert planned(result) == []
        assert result.plan is not None
        assert "Autovacuum works on public.orders" in result.plan.warnings[0]
        assert other.is_alive()
