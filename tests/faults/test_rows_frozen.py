# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup, a repair or an undo that is stopped dead (SIGSTOP) right before its commit gives its locks back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain import purge as limits
from ansible_collections.saasops.runbook.plugins.module_utils.execute import put_back_batch, repair, repair_undo
from ansible_collections.saasops.runbook.tests.lab import acts, podcastflow, row_kill, rows
from ansible_collections.saasops.runbook.tests.lab.clients import until
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)
SMALL = rows.rule(batch_rows=90)
FIXES = [{**fix, "lock_timeout": "1s"} for fix in podcastflow.shipped("repairs.yml", "saasops_repairs")]
# transactions of this database that have touched a row or a table and are still open
OPEN = (
    "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
    " WHERE d.datname = current_database()"
    " AND l.pid <> pg_backend_pid() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # the limits themselves are a matter of patience; the child that is forked takes these
    monkeypatch.setattr(limits, "_IDLE_LEAST", 1500)
    monkeypatch.setattr(put_back_batch, "_COMPARING", 1500)
    monkeypatch.setattr(repair_undo, "_LOCK_LIMIT", 750)
    (folder := tmp_path / "store").mkdir()
    return folder


def archives_of(store: Path) -> list[str]:
    return sorted(path.parent.name for path in store.glob("archives/*/begun.json"))


def freeze(server: Server, database: str, act: Callable[[], object], log: Path) -> None:
    """Stop the act right before its commit: the server takes its locks from it, and it ends with an error."""
    with row_kill.frozen(act, log, "COMMIT") as process:
        until(lambda: server.psql(OPEN, database) == "0", 30)
        status = process.go_on()
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 1


def test_a_cleanup_that_is_stopped_dead_before_a_commit_keeps_no_row_locked(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    rows.make(server, database)
    before = rows.picture(server, database)
    freeze(server, database, lambda: rows.clean(server, store, database, rules=[SMALL]), tmp_path / "log")
    assert rows.picture(server, database) == before
    assert rows.clean(server, store, database, rules=[SMALL]).changed
    freeze(server, database, lambda: rows.put_back(server, store, database, archives_of(store)), tmp_path / "log")
    rows.put_back(server, store, database, archives_of(store))
    assert rows.picture(server, database) == before


def test_a_cleanup_that_is_stopped_dead_while_it_drops_a_partition_keeps_nobody_out(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    server.psql(
        "CREATE TABLE m (id int, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE old PARTITION OF m FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');"
        "INSERT INTO m SELECT i, date '2000-01-01' + i FROM generate_series(1, 9) i",
        database,
    )
    rule = {"name": "m", "table": "m", "age_column": "at", "older_than": "90d"}
    freeze(server, database, lambda: rows.clean(server, store, database, rules=[rule]), tmp_path / "log")
    assert server.psql("SELECT count(*) FROM old", database) == "9"
    assert rows.clean(server, store, database, rules=[rule]).changed
    assert server.psql("SELECT to_regclass('old')", database) == ""
    freeze(server, database, lambda: rows.put_back(server, store, database, archives_of(store)), tmp_path / "log")
    rows.put_back(server, store, database, archives_of(store))
    assert server.psql("SELECT count(*) FROM old", database) == "9"


def test_a_repair_and_its_undo_that_are_stopped_dead_before_the_commit_keep_no_row_locked(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    podcastflow.make(server, database)

    def act(**changes: object) -> object:
        return repair.execute(acts.parameters(server, store, database, changes), acts.context())

    def mend() -> object:
        given = {"id": "a-a1", "decision": "approved"}
        return act(fixes=FIXES, fix="decide_approval", parameters=given, reason="test", tenant_schemas=["org_*"])

    def back() -> object:
        return act(state="put_back", archives=archives_of(store))

    status = """SELECT status FROM org_a."CampaignApproval" WHERE id = 'a-a1'"""
    freeze(server, database, mend, tmp_path / "log")
    assert server.psql(status, database) == "pending"
    mend()
    assert server.psql(status, database) == "approved"
    freeze(server, database, back, tmp_path / "log")
    assert server.psql(status, database) == "approved"
    back()
    assert server.psql(status, database) == "pending"
