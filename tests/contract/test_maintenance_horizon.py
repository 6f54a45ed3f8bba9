# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby that tells what it still reads, and a slot that remembers it, are named as what keeps dead rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres, standby, upkeep
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, planned

FEEDBACK = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
READS = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM org_1.orders")
ONLY: dict[str, object] = {"measures": ["vacuum"], "tables": ["org_1.orders"]}
ORDERS = ("vacuum", "org_1.orders")


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with postgres.running(15, settings={"autovacuum": "off"}) as server:
        yield server


@pytest.fixture
def shop(primary: Server) -> Iterator[str]:
    primary.createdb("shop")
    upkeep.tenants(primary, "shop", count=1, rows=3000)
    yield "shop"
    primary.dropdb("shop")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def in_vain(server: Server, store: Path, database: str, who: str) -> None:
    """A vacuum keeps what died, names why, and is not repeated for nothing."""
    upkeep.delete_a_third(server, database, ["org_1.orders"])
    lines: list[str] = []
    assert done(maintain(server, store, database, lines=lines, **ONLY))[ORDERS]["dead_after"] == 1000
    assert any("1,000 dead rows of 1 tables stay: " + who in line for line in lines), lines
    second = maintain(server, store, database, **ONLY)
    assert planned(second) == []
    assert second.plan is not None
    assert "would bring nothing: " + who in second.plan.warnings[0]


def test_a_standby_whose_feedback_keeps_dead_rows_is_named(primary: Server, shop: str, store: Path) -> None:
    with standby.following(primary) as copy:
        copy.configure(FEEDBACK)
        copy.reload()
        upkeep.wait_until(
            copy, "SELECT pg_last_wal_replay_lsn() >= '" + primary.psql("SELECT pg_current_wal_lsn()") + "'", seconds=30
        )
        with upkeep.transaction(copy, shop, *READS):
            told = "SELECT count(*) = 1 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
            upkeep.wait_until(primary, told, seconds=30)
            in_vain(primary, store, shop, "standby standby ")
        now = primary.psql("SELECT pg_current_xact_id()")
        over = f"SELECT count(*) = 1 FROM pg_stat_replication WHERE backend_xmin::text::bigint >= {now}"
        upkeep.wait_until(primary, over, seconds=30)
        assert done(maintain(primary, store, shop, **ONLY))[ORDERS]["dead_after"] == 0


def test_a_slot_that_remembers_a_standby_that_is_gone_is_named(primary: Server, shop: str, store: Path) -> None:
    primary.psql("SELECT pg_create_physical_replication_slot('keeper')")
    try:
        with standby.following(primary) as copy:
            copy.configure({**FEEDBACK, "primary_slot_name": "keeper"})
            copy.reload()
            told = "SELECT count(*) = 1 FROM pg_replication_slots WHERE xmin IS NOT NULL AND active"
            upkeep.wait_until(primary, told, seconds=30)
            copy.stop("immediate")
            upkeep.wait_until(primary, "SELECT NOT active FROM pg_replication_slots", seconds=30)
            in_vain(primary, store, shop, "replication slot keeper (physical, inactive) ")
    finally:
        primary.psql("SELECT pg_drop_replication_slot('keeper')")
    assert done(maintain(primary, store, shop, **ONLY))[ORDERS]["dead_after"] == 0
