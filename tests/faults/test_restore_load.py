# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a restore while psql loads its tables: nothing half-made is left, and nothing half-loaded is taken."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import broken_tools, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    RESTORE,
    content,
    databases,
    drop_family,
    fact,
    outcome,
    process,
    record,
    restore,
    until,
)

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def staged(server: Server, demo_database: str, store: Path, staging: Path) -> Iterator[str]:
    """A database with a set in directory format, whose tables psql loads."""
    take_backup(server, store, demo_database, staging=str(staging))
    yield demo_database
    drop_family(server, demo_database)


def building(server: Server) -> dict[str, int]:
    return databases(server, "saasops_building_")


def given(server: Server, store: Path, live: str, staging: Path, **changes: object) -> dict[str, object]:
    return parameters(server, store, live, {**RESTORE, "staging": str(staging), **changes})


def running(tool: Path) -> list[int]:
    """Pids of a wrapped tool, which its interpreter runs."""
    pids = [int(entry.name) for entry in processes.PROC.iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if str(tool) in processes.command_line(pid)[:2]]


def test_a_load_whose_psql_is_killed_fails_the_restore_and_leaves_nothing(
    server: Server, staged: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    before = content(server, staged)
    tools = broken_tools.make(tmp_path / "tools", server.bin, "psql", "hang")
    with process(
        "pg_restore", given(server, store, staged, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists)
        assert len(building(server)) == 1
        os.kill(running(tools / "psql")[0], signal.SIGKILL)
        answer = outcome(child)
    assert answer["code"] == "tool_killed"
    assert "psql" in str(answer["msg"])
    assert building(server) == {}
    assert list(staging.iterdir()) == []
    assert running(tools / "psql") == []
    again = restore(server, store, staged, staging=str(staging))
    assert again.evidence["cleaned"] == []
    assert content(server, fact(again, "target")) == before


def test_a_module_killed_while_psql_loads_leaves_what_the_next_run_ends_and_drops(
    server: Server, staged: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    before = content(server, staged)
    tools = broken_tools.make(tmp_path / "tools", server.bin, "psql", "hang")
    with process(
        "pg_restore", given(server, store, staged, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    orphans = running(tools / "psql")
    assert orphans
    again = restore(server, store, staged, staging=str(staging))
    assert again.evidence["cleaned"]
    assert content(server, fact(again, "target")) == before
    assert (building(server), list(staging.iterdir())) == ({}, [])
    assert running(tools / "psql") == []


def test_ctrl_c_while_psql_loads_cleans_up_at_once(
    server: Server, staged: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    tools = broken_tools.make(tmp_path / "tools", server.bin, "psql", "hang")
    with process(
        "pg_restore", given(server, store, staged, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists)
        child.send_signal(signal.SIGINT)
        child.wait(20)
    assert building(server) == {}
    assert list(staging.iterdir()) == []
    assert running(tools / "psql") == []
    assert record(store)["reason"] == "interrupted"


def test_the_session_with_the_lock_that_is_ended_while_psql_loads_fails_the_restore(
    server: Server, staged: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    before = content(server, staged)
    tools = broken_tools.make(tmp_path / "tools", server.bin, "psql", "hang")
    with process(
        "pg_restore", given(server, store, staged, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until((tools / "hanging").exists)
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-guard%'"
        )
        answer = outcome(child)
    assert answer["code"] == "session_ended"
    assert running(tools / "psql") == []
    again = restore(server, store, staged, staging=str(staging))
    assert again.evidence["cleaned"]
    assert content(server, fact(again, "target")) == before
    assert (building(server), list(staging.iterdir())) == ({}, [])


def test_psql_that_loses_rows_and_calls_it_good_is_seen_by_its_rows(
    server: Server, staged: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in server.bin.iterdir():
        if tool.name != "psql":
            (folder / tool.name).symlink_to(tool)
    (folder / "psql").write_text("#!/bin/sh\nexec cat >/dev/null\n")
    (folder / "psql").chmod(0o755)
    with pytest.raises(OpsError) as refused:
        restore(server, store, staged, staging=str(staging), connection=connection(server, client_bin=str(folder)))
    assert refused.value.code == "restore_differs"
    assert building(server) == {}


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_set_that_is_damaged_while_it_is_loaded_leaves_no_database(
    server: Server, staged: str, store: Path, staging: Path, damage: str
) -> None:
    """Tables are loaded before the last object is fetched; one that is damaged ends it all."""
    path = max((store / "backups").glob("*/objects/*"), key=lambda item: item.stat().st_size)
    path.chmod(0o600)
    if damage == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(OpsError) as refused:
        restore(server, store, staged, staging=str(staging))
    assert refused.value.code in ("object_damaged", "set_incomplete")
    assert building(server) == {}
    assert set(databases(server, staged)) == {staged}
    assert list(staging.iterdir()) == []
