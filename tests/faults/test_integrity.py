# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A suspicion outlives what goes wrong while it is recorded, or says loudly that it was not recorded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import acts, disk, processes
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def hosts(server: Server, database: str, tmp_path: Path) -> Path:
    server.psql("CREATE EXTENSION amcheck; CREATE TABLE items AS SELECT 1 AS id", database)
    return written(server, database, tmp_path, tmp_path / "store")


def written(server: Server, database: str, folder: Path, store: Path) -> Path:
    return inventory(
        folder,
        {
            "saasops_system": "doubt",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store), "create": True},
            "databases": database,
            "tables": "public.*",
        },
    )


def test_a_run_that_ends_right_after_the_hold_leaves_the_hold_and_the_next_one_keeps_the_evidence(
    hosts: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    # what stands in the way of the evidence ends the run right after the hold
    store.mkdir(mode=0o700)
    blocked = store / "integrity"
    blocked.write_text("no folder yet", encoding="utf-8")
    with start("integrity", hosts, "-e", "suspected='the disk complains'") as controller:
        output, _none = controller.communicate(timeout=60)
    assert controller.returncode != 0
    assert "evidence could not be kept" in output
    assert list(store.glob("open/integrity-*.json"))
    blocked.unlink()
    run = play("integrity", hosts)
    assert run.code == 0, run.output
    assert run.changed == 1
    assert len(list(store.glob("integrity/*.json"))) == 1
    assert play("integrity", hosts).changed == 0


def test_a_module_that_is_killed_leaves_the_hold_and_the_next_run_has_the_evidence(
    server: Server, database: str, hosts: Path, tmp_path: Path
) -> None:
    held = server.connect(database)
    held.autocommit = False
    with held.cursor() as cursor:
        cursor.execute("LOCK TABLE items")
    store = tmp_path / "store"
    with start("integrity", hosts, "-e", "suspected='the disk complains'") as controller:
        deadline = time.monotonic() + 60
        while not list(store.glob("open/integrity-*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        processes.end([processes.identity(pid) for pid in processes.modules(controller.pid)])
        controller.communicate(timeout=60)
    held.close()
    assert list(store.glob("open/integrity-*.json"))
    run = play("integrity", hosts)
    assert run.code == 0, run.output
    assert len(list(store.glob("integrity/*.json"))) == 1


def test_a_full_store_is_said_with_what_was_found(server: Server, database: str, tmp_path: Path) -> None:
    with disk.small(8) as small:
        store = small / "store"
        store.mkdir(mode=0o700)
        disk.fill(small)
        run = play("integrity", written(server, database, tmp_path, store), "-e", "suspected='the disk'")
    assert run.code != 0
    assert "could NOT be recorded" in run.output
    assert "Found: the disk" in run.output
