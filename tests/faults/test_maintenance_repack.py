# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pg_repack that is killed or runs out of time leaves nothing on its table; an open transaction makes it wait."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import maintenance_repack
from ansible_collections.saasops.runbook.tests.lab import processes, upkeep
from ansible_collections.saasops.runbook.tests.lab.playbooks import start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.upkeep import done, maintain, outcomes, planned

# Debian has pg_repack for its own version
pytestmark = pytest.mark.parametrize("server", [15], indirect=True)
LEFT = """
SELECT (SELECT count(*) FROM pg_trigger WHERE tgname = 'repack_trigger')
     + (SELECT count(*) FROM pg_class WHERE relnamespace = 'repack'::regnamespace AND relname ~ '^(log|table)_[0-9]+$')
     + (SELECT count(*) FROM pg_type WHERE typnamespace = 'repack'::regnamespace AND typname ~ '^pk_[0-9]+$')
"""
WAITS = "SELECT count(*) > 0 FROM pg_class WHERE relnamespace = 'repack'::regnamespace AND relname ~ '^table_[0-9]+$'"
LIMITS = {"table_waste": 100_000, "index_waste": 10**12}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def bloated(server: Server, database: str) -> str:
    upkeep.bloat(server, database)
    server.psql("CREATE EXTENSION pg_repack", db=database)
    return database


def options(server: Server, **more: object) -> dict[str, object]:
    return {"measures": ["rewrite"], "thresholds": LIMITS, "space": str(server.data), **more}


def left(server: Server, database: str) -> int:
    return int(server.psql(LEFT, db=database))


def rewritten_at_last(server: Server, store: Path, database: str) -> None:
    assert list(done(maintain(server, store, database, **options(server)))) == [("rewrite", "public.orders")]
    assert left(server, database) == 0
    assert server.psql("UPDATE orders SET note = 'x' WHERE id = 10; SELECT count(*) FROM orders", db=database) == "2000"


@pytest.mark.parametrize("limit", [{"rewrite_timeout": "2s"}, {"budget": "6s"}], ids=["rewrite_timeout", "budget"])
def test_a_pg_repack_that_runs_out_of_time_is_ended_and_leaves_nothing(
    server: Server, bloated: str, store: Path, limit: dict[str, str]
) -> None:
    with upkeep.transaction(server, bloated, "SELECT 1"):
        result = maintain(server, store, bloated, **options(server, **limit))
        assert outcomes(result) == [("rewrite", "out of time")]
        assert "pg_repack was ended" in str(result.evidence["acts"])
        assert left(server, bloated) == 0
    rewritten_at_last(server, store, bloated)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_module_killed_in_a_pg_repack_leaves_nothing_or_the_next_run_removes_it(
    server: Server, bloated: str, store: Path, number: signal.Signals
) -> None:
    with upkeep.transaction(server, bloated, "SELECT 1"):
        with start("maintenance", upkeep.inventory_of(server, store, bloated, options(server))) as run:
            upkeep.wait_until(server, WAITS, bloated, 60)
            if number == signal.SIGKILL:
                # it dies of its next word to a module that is gone; one that says nothing lives on
                for pid in processes.running("pg_repack", below=run.pid):
                    processes.freeze(pid)
            for pid in processes.modules(run.pid):
                os.kill(pid, number)
            output, _none = run.communicate(timeout=60)
        assert run.returncode != 0
        if number == signal.SIGTERM:
            assert "[interrupted]" in output
            assert left(server, bloated) == 0
        else:
            assert left(server, bloated) == 4
            result = maintain(server, store, bloated, **options(server, rewrite_timeout="2s"))
            assert f"what pg_repack left on a table of {bloated} removed" in str(result.evidence["cleaned"])
            assert left(server, bloated) == 0
    rewritten_at_last(server, store, bloated)


def kill_by_hand(server: Server, database: str) -> None:
    """Somebody's pg_repack and its backends die."""
    command = [str(server.bin / "pg_repack"), "--no-order", "--table", "public.orders"]
    with upkeep.transaction(server, database, "SELECT 1"):
        ours = subprocess.Popen(command, env=server.environment(database), stderr=subprocess.DEVNULL)
        try:
            upkeep.wait_until(server, WAITS, database, 30)
        finally:
            ours.kill()
            ours.wait(30)
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_repack'")
    upkeep.wait_until(
        server, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pg_repack'", seconds=30
    )


def test_what_a_killed_pg_repack_left_is_removed_though_nothing_else_is_due(
    server: Server, bloated: str, store: Path
) -> None:
    kill_by_hand(server, bloated)
    assert left(server, bloated) == 4
    only = {"measures": ["reindex"], "thresholds": LIMITS}
    assert planned(maintain(server, store, bloated, check=True, **only)) == [("drop leftover", "public.orders")]
    assert list(done(maintain(server, store, bloated, **only))) == [("drop leftover", "public.orders")]
    assert left(server, bloated) == 0
    assert planned(maintain(server, store, bloated, **only)) == []
    rewritten_at_last(server, store, bloated)


def test_a_pg_repack_of_somebody_else_keeps_what_it_made(server: Server, bloated: str, store: Path) -> None:
    command = [str(server.bin / "pg_repack"), "--no-order", "--table", "public.orders"]
    with upkeep.transaction(server, bloated, "SELECT 1"):
        theirs = subprocess.Popen(command, env=server.environment(bloated), stderr=subprocess.DEVNULL)
        try:
            upkeep.wait_until(server, WAITS, bloated, 30)
            assert planned(maintain(server, store, bloated, measures=["reindex"], thresholds=LIMITS)) == []
            with pytest.raises(OpsError) as caught:
                maintain(server, store, bloated, **options(server))
            assert caught.value.code == "maintenance_locked"
            assert "another pg_repack works on it" in caught.value.cause
        except BaseException:
            theirs.kill()
            raise
    assert theirs.wait(60) == 0
    assert left(server, bloated) == 0


def test_what_a_killed_pg_repack_left_waits_for_a_table_that_somebody_holds(
    server: Server, bloated: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_by_hand(server, bloated)
    monkeypatch.setattr(maintenance_repack, "SWEEPING", 0.5)
    with upkeep.transaction(server, bloated, "LOCK TABLE orders IN ACCESS SHARE MODE"):
        with pytest.raises(OpsError) as caught:
            maintain(server, store, bloated, measures=["reindex"], thresholds=LIMITS)
        assert caught.value.code == "maintenance_locked"
    assert left(server, bloated) == 4
    found = done(maintain(server, store, bloated, **options(server)))
    assert list(found) == [("drop leftover", "public.orders"), ("rewrite", "public.orders")]
    assert left(server, bloated) == 0
