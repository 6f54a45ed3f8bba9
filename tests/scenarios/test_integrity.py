# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""AE-19: a damaged page is found, prune is refused whatever is said, until somebody releases it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_set
from ansible_collections.saasops.runbook.tests.lab.damage import turn_bytes
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


@pytest.fixture
def damaged() -> Iterator[Server]:
    with postgres.running(18) as server:
        server.psql("CREATE EXTENSION amcheck; CREATE TABLE items AS SELECT i FROM generate_series(1, 5000) i")
        turn_bytes(server, "postgres", "items", page=2)
        yield server


@pytest.mark.essential
def test_prune_is_refused_from_the_suspicion_until_its_release(damaged: Server, tmp_path: Path) -> None:
    stores = [tmp_path / "store", tmp_path / "copy"]
    now = time.time()
    for store in stores:
        for age in (3 * DAY + HOUR, 3 * DAY, 2 * DAY, HOUR):
            make_set(store, now - age, size=10, system="empire")
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "empire",
            "saasops_database": "postgres",
            "saasops_connection": connection(damaged),
            "saasops_store": {"path": str(stores[0])},
            "saasops_store_copies": [{"path": str(stores[1])}],
            "saasops_retention": {"daily": 1},
            "saasops_integrity_budget": "1m",
        },
    )

    def sets(store: Path) -> int:
        return len(list(store.glob("backups/*/manifest.json")))

    checked = play("integrity", hosts, "--check")
    assert "public.items page 2" in checked.output
    assert not list(stores[0].glob("open/*"))

    found = play("integrity", hosts)
    assert found.code != 0
    assert "[integrity_suspected]" in found.output
    assert "last proven set from before the suspicion" in found.output
    (evidence,) = stores[0].glob("integrity/*.json")
    assert json.loads(evidence.read_text(encoding="utf-8"))["findings"]

    for words in (("-e", "break_glass='room'", "-e", "saasops_guard=none"), ("-e", "copy=1")):
        refused = play("prune", hosts, *words)
        assert refused.code != 0, refused.output
        assert "[integrity_suspected]" in refused.output, refused.output
    assert [sets(store) for store in stores] == [4, 4]
    assert "would be refused: [integrity_suspected]" in play("prune", hosts, "--check").output

    again = play("integrity", hosts)
    assert again.changed == 0, again.output

    damaged.psql("DROP TABLE items")
    released = play("integrity", hosts, "-e", "state=released", "-e", "reason='restored from a set'")
    assert (released.code, released.changed) == (0, 1), released.output
    run = play("prune", hosts, "-e", "copy=1")
    assert (run.code, run.changed) == (0, 1), run.output
    assert evidence.exists()
    assert not list(tmp_path.glob("*/open/*"))
