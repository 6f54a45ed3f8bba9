# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""undo -e run=<id> goes back from what that run did, or says why not; status shows what is open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)


def newest_run(store: Path, verb: str) -> str:
    entries = [json.loads(entry.text) for entry in read_chain(PosixStore(str(store))).entries]
    return str([one["run"] for one in entries if one.get("verb") == verb][-1])


def test_a_switch_is_undone_by_its_run_and_a_backup_says_what_to_do_instead(
    server: Server, database: str, tmp_path: Path
) -> None:
    (store := tmp_path / "store").mkdir()
    server.psql("CREATE TABLE t AS SELECT 1 AS id", database)
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "undone",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
        },
    )

    def run(verb: str, *arguments: str) -> Run:
        return play(verb, hosts, *arguments, timeout=120)

    assert run("backup").code == 0
    server.psql("DELETE FROM t", database)
    switched = run("restore", "-e", "switch=true")
    assert switched.code == 0, switched.output
    assert server.psql("SELECT count(*) FROM t", database) == "1"
    refused = run("undo", "-e", f"run={newest_run(store, 'backup')}")
    assert refused.code != 0
    assert "[no_way_back]" in refused.output
    assert "verb prune" in refused.output
    undone = run("undo", "-e", f"run={newest_run(store, 'restore')}")
    assert undone.code == 0, undone.output
    assert server.psql("SELECT count(*) FROM t", database) == "0"
    held = run("hold", "-e", "reason=repair")
    assert held.code == 0, held.output
    status = run("status")
    assert "clients are kept out of" in status.output
    assert "routine work may run at any time" in status.output
    released = run("undo", "-e", f"run={newest_run(store, 'hold')}")
    assert released.code == 0, released.output
    limit = f"SELECT datconnlimit FROM pg_database WHERE datname = '{database}'"
    assert server.psql(limit) == "-1"
    timed = run("hold", "-e", "reason=repair", "-e", "for=30m")
    assert "[expiry_without_actor]" in timed.output
    assert server.psql(limit) == "-1"
