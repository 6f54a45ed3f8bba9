# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill that is killed or interrupted does no harm, and the next one clears what it left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import broken_tools, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


def hosts(server: Server, tmp_path: Path, database: str, bin_folder: Path) -> Path:
    folder = tmp_path / bin_folder.name
    folder.mkdir(exist_ok=True)
    return inventory(
        folder,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": connection(server, client_bin=str(bin_folder)),
            "saasops_store": {"path": str(tmp_path / "store")},
            "saasops_staging": str(tmp_path / "staging"),
        },
    )


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["kill-module", "ctrl-c"])
def test_the_next_drill_clears_what_an_interrupted_one_left(
    server: Server, database: str, tmp_path: Path, way: str
) -> None:
    server.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i", database)
    (tmp_path / "store").mkdir()
    (tmp_path / "staging").mkdir()
    take_backup(server, tmp_path / "store", database)
    # pg_dump is what the comparison runs on the scratch database
    hanging = broken_tools.make(tmp_path / "hanging-bin", server.bin, "pg_dump", "hang")
    with start("restore_drill", hosts(server, tmp_path, database, hanging)) as run:
        until((hanging / "hanging").exists)
        if way == "ctrl-c":
            os.killpg(run.pid, signal.SIGINT)
        else:
            victims = processes.modules(run.pid)
            assert victims
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
        run.communicate(timeout=60)
        assert run.returncode != 0
    assert server.psql("SELECT count(*) FROM t", database).strip() == "1000"
    assert not (tmp_path / "store" / "drills").exists()
    again = play("restore_drill", hosts(server, tmp_path, database, server.bin))
    assert again.code == 0, again.output
    (ledger,) = (json.loads(path.read_bytes()) for path in (tmp_path / "store" / "drills").iterdir())
    assert ledger["outcome"] == "passed"
    assert server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{database}_drill'", database).strip() == "0"
    assert list((tmp_path / "staging").iterdir()) == []
    left = [p for p in Path("/proc").iterdir() if p.name.isdigit() and str(hanging) in _command(p)]
    assert left == [], "the next drill ends the processes of the dead one"


def test_the_next_drill_clears_what_a_killed_one_left_on_the_scratch_server(
    server: Server, server17: Server, database: str, tmp_path: Path
) -> None:
    server17.psql("CREATE ROLE made_for_the_drill")
    server17.createdb("shop")
    server17.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i", "shop")
    server17.psql("ALTER TABLE t OWNER TO made_for_the_drill", "shop")
    for name in ("store", "staging"):
        (tmp_path / name).mkdir()
    take_backup(server17, tmp_path / "store", "shop")
    hanging = broken_tools.make(tmp_path / "hanging-bin", server.bin, "pg_restore", "hang")

    def scratch(bin_folder: Path) -> Path:
        variables = {
            "saasops_system": "test",
            "saasops_database": "shop",
            "saasops_connection": connection(server17),
            "saasops_drill_connection": connection(server, client_bin=str(bin_folder)),
            "saasops_store": {"path": str(tmp_path / "store")},
            "saasops_staging": str(tmp_path / "staging"),
        }
        return inventory(tmp_path, variables)

    try:
        with start("restore_drill", scratch(hanging)) as run:
            until((hanging / "hanging").exists)
            victims = processes.modules(run.pid)
            assert victims
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            run.communicate(timeout=60)
            assert run.returncode != 0
        half_made = "SELECT count(*) FROM pg_database WHERE datname LIKE 'saasops_building%'"
        assert server.psql(half_made) == "1"
        assert list((tmp_path / "staging").iterdir()) != []
        again = play("restore_drill", scratch(server.bin))
        assert again.code == 0, again.output
        assert server.psql(half_made) == "0"
        assert server.psql("SELECT count(*) FROM pg_database WHERE datname = 'shop_drill'") == "0"
        assert server.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'made_for_the_drill'") == "0"
        assert list((tmp_path / "staging").iterdir()) == []
        left = [p for p in Path("/proc").iterdir() if p.name.isdigit() and str(hanging) in _command(p)]
        assert left == [], "the next drill ends the processes of the dead one"
    finally:
        server17.dropdb("shop")
        server17.psql("DROP ROLE made_for_the_drill")


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
