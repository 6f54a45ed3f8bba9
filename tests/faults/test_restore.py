# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a restore half-way, the live database is whole, and the next run finds and clears what was left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import broken_tools, disk, playbooks, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.demo import Parameters, create
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
def live(server: Server, demo_database: str, store: Path) -> Iterator[str]:
    take_backup(server, store, demo_database)
    yield demo_database
    drop_family(server, demo_database)


def building(server: Server) -> dict[str, int]:
    return databases(server, "saasops_building_")


def hanging(server: Server, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of client tools whose pg_restore hangs, and the file that says that it does."""
    folder = broken_tools.make(tmp_path / "tools", server.bin, "pg_restore", "hang")
    return folder, folder / "hanging"


def given(server: Server, store: Path, live: str, staging: Path, **changes: object) -> dict[str, object]:
    return parameters(server, store, live, {**RESTORE, "staging": str(staging), **changes})


def assert_next_run_clears(server: Server, store: Path, live: str, staging: Path, before: str) -> None:
    """The live database is untouched, and a restore succeeds, says what it cleared and leaves nothing else."""
    assert content(server, live) == before
    lines: list[str] = []
    result = restore(server, store, live, staging=str(staging), lines=lines)
    assert fact(result, "state") == "verified"
    assert any("did not end well" in line for line in lines), lines
    assert building(server) == {}
    assert list(staging.iterdir()) == []
    assert content(server, fact(result, "target")) == before


def test_a_killed_module_leaves_a_half_made_database_that_the_next_run_drops(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    before = content(server, live)
    tools, flag = hanging(server, tmp_path)
    with process(
        "pg_restore", given(server, store, live, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        assert len(building(server)) == 1
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert record(store)["state"] == "building"
    orphans = processes.mentioning(tools / "pg_restore")
    assert orphans
    assert_next_run_clears(server, store, live, staging, before)
    assert not any(Path(f"/proc/{pid}").exists() for pid in orphans)


def test_a_module_killed_while_it_fetches_leaves_nothing_after_the_next_run(
    server: Server, live: str, store: Path, staging: Path
) -> None:
    before = content(server, live)
    with process("pg_restore", given(server, store, live, staging)) as child:
        until(lambda: any(staging.iterdir()))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert_next_run_clears(server, store, live, staging, before)


def test_ctrl_c_cleans_up_at_once(server: Server, live: str, store: Path, staging: Path, tmp_path: Path) -> None:
    tools, flag = hanging(server, tmp_path)
    with process(
        "pg_restore", given(server, store, live, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        child.send_signal(signal.SIGINT)
        child.wait(20)
    assert building(server) == {}
    assert list(staging.iterdir()) == []
    assert record(store)["state"] == "failed"


def test_a_killed_playbook_run_is_cleared_by_the_next(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    before = content(server, live)
    tools, flag = hanging(server, tmp_path)
    hosts = playbooks.inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": live,
            "saasops_connection": connection(server, client_bin=str(tools)),
            "saasops_store": {"path": str(store)},
            "saasops_staging": str(staging),
        },
    )
    with playbooks.start("restore", hosts) as run:
        until(flag.exists, seconds=60)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=20)
    # the module outlives Ansible; as this one hangs for ever, the refusal says how to end it
    with pytest.raises(OpsError) as busy:
        restore(server, store, live, staging=str(staging))
    assert busy.value.code == "database_busy"
    remedy = re.search(r"SELECT pg_terminate_backend\(\d+\)", busy.value.remedy)
    assert remedy
    server.psql(remedy.group())
    until(lambda: not processes.mentioning(tools / "pg_restore"))
    assert_next_run_clears(server, store, live, staging, before)


def test_a_module_that_outlives_ansible_ends_its_work_and_the_next_run_finds_it_done(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    hosts = playbooks.inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": live,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_staging": str(staging),
        },
    )
    with playbooks.start("restore", hosts) as run:
        until(lambda: building(server), seconds=60)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=20)
    until(lambda: not building(server), seconds=60)
    again = restore(server, store, live, staging=str(staging))
    assert (again.changed, fact(again, "state")) == (False, "verified")


def test_pg_restore_that_is_killed_fails_the_restore_and_leaves_nothing(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    tools, flag = hanging(server, tmp_path)
    with process(
        "pg_restore", given(server, store, live, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        for pid in processes.children(child.pid):
            os.kill(pid, signal.SIGKILL)
        answer = outcome(child)
    assert answer["code"] == "tool_killed"
    assert building(server) == {}
    assert list(staging.iterdir()) == []


def test_pg_restore_that_fails_leaves_nothing(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    tools = broken_tools.make(tmp_path / "tools", server.bin, "pg_restore", "fail")
    with pytest.raises(OpsError) as failed:
        restore(server, store, live, staging=str(staging), connection=connection(server, client_bin=str(tools)))
    assert failed.value.code == "tool_failed"
    assert building(server) == {}
    assert record(store)["state"] == "failed"


def test_a_dump_that_was_cut_and_called_good_is_seen_by_its_rows(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    """A pg_restore that loses one table's rows and exits 0."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in server.bin.iterdir():
        if tool.name != "pg_restore":
            (folder / tool.name).symlink_to(tool)
    wrapper = folder / "pg_restore"
    wrapper.write_text(
        f'#!/bin/sh\n{server.bin}/pg_restore "$@" || exit\n'
        f'case "$*" in *--version*|*--list*) exit;; esac\n'
        f"exec {server.bin}/psql -qc 'DELETE FROM marker WHERE id = 1'\n"
    )
    wrapper.chmod(0o755)
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, staging=str(staging), connection=connection(server, client_bin=str(folder)))
    assert refused.value.code == "restore_differs"
    assert "public.marker" in refused.value.cause
    assert building(server) == {}


def test_a_grant_that_the_restore_lost_is_seen(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in server.bin.iterdir():
        if tool.name != "pg_restore":
            (folder / tool.name).symlink_to(tool)
    wrapper = folder / "pg_restore"
    wrapper.write_text(
        f'#!/bin/sh\n{server.bin}/pg_restore "$@" || exit\n'
        f'case "$*" in *--version*) exit;; esac\n'
        f"exec {server.bin}/psql -qc 'REVOKE SELECT ON org_acme.\"Campaign\" FROM demo_app'\n"
    )
    wrapper.chmod(0o755)
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, staging=str(staging), connection=connection(server, client_bin=str(folder)))
    assert refused.value.code == "restore_differs"
    assert "table Campaign demo_app" in refused.value.cause
    assert building(server) == {}


def test_a_backend_that_is_ended_fails_the_restore_and_leaves_nothing(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    """The session that holds the advisory lock is ended by somebody: the restore must not go on without it."""
    before = content(server, live)
    tools, flag = hanging(server, tmp_path)
    with process(
        "pg_restore", given(server, store, live, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-guard%'"
        )
        answer = outcome(child)
    assert answer["failed"]
    assert_next_run_clears(server, store, live, staging, before)


def objects(store: Path) -> list[Path]:
    """The packs of the only set, the largest first."""
    return sorted((store / "backups").glob("*/objects/*"), key=lambda path: -path.stat().st_size)


def flip(store: Path) -> None:
    path = objects(store)[0]
    path.chmod(0o600)
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))


def cut(store: Path) -> None:
    path = objects(store)[0]
    os.truncate(path, path.stat().st_size - 1)


def remove(store: Path) -> None:
    objects(store)[0].unlink()


def swap_manifest(store: Path) -> None:
    first, second = sorted((store / "backups").iterdir())
    shutil.copy(first / "manifest.json", second / "manifest.json")


def edit_manifest(store: Path) -> None:
    path = next((store / "backups").glob("*/manifest.json"))
    body = json.loads(path.read_text())
    body["rows"] += 1
    path.write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (flip, "object_damaged"),
        (cut, "set_incomplete"),
        (remove, "set_incomplete"),
        (edit_manifest, "manifest_damaged"),
    ],
)
def test_a_damaged_set_is_refused_before_a_database_is_made(
    server: Server, live: str, store: Path, staging: Path, damage: object, code: str
) -> None:
    set_id = next((store / "backups").iterdir()).name
    damage(store)  # type: ignore[operator]
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, staging=str(staging), set=set_id)
    assert refused.value.code == code
    assert set(databases(server, live)) == {live}
    assert building(server) == {}
    assert list(staging.iterdir()) == []


def test_the_manifest_of_another_set_is_refused(server: Server, live: str, store: Path, staging: Path) -> None:
    take_backup(server, store, live, key="second")
    newest = sorted((store / "backups").iterdir())[-1].name
    swap_manifest(store)
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, staging=str(staging), set=newest)
    assert refused.value.code == "manifest_damaged"


def test_a_full_staging_disk_fails_the_restore_and_leaves_nothing(server: Server, live: str, store: Path) -> None:
    with disk.small(64) as point:
        folder = point / "staging"
        folder.mkdir()
        # the plan finds room, and then somebody else takes it
        with process("pg_restore", given(server, store, live, folder)) as child:
            until(lambda: any(folder.iterdir()), every=0.0005)
            processes.freeze(child.pid)
            disk.fill(point)
            child.send_signal(signal.SIGCONT)
            answer = outcome(child)
        assert answer.get("code") == "staging_full", answer
        assert list(folder.iterdir()) == []
        assert building(server) == {}


def test_a_staging_disk_that_is_too_small_is_refused_beforehand(server: Server, live: str, store: Path) -> None:
    with disk.small(2) as point:
        with pytest.raises(OpsError) as refused:
            restore(server, store, live, staging=str(point))
        assert refused.value.code == "disk_too_small"
        assert "staging" in refused.value.remedy
        assert record_count(store) == 0


def record_count(store: Path) -> int:
    return len(list((store / "restores").glob("*.json"))) if (store / "restores").exists() else 0


def test_a_second_restore_at_the_same_time_is_refused_and_names_the_holder(
    server: Server, live: str, store: Path, staging: Path, tmp_path: Path
) -> None:
    tools, flag = hanging(server, tmp_path)
    with process(
        "pg_restore", given(server, store, live, staging, connection=connection(server, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        with pytest.raises(OpsError) as refused:
            restore(server, store, live, staging=str(staging))
        assert refused.value.code == "database_busy"
        assert "saasops-guard" in refused.value.cause
        child.send_signal(signal.SIGINT)
        child.wait(20)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server of the test's own, which may be killed, with a backed-up database named demo."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    with postgres.running(18) as own:
        create(own, "demo", parameters=Parameters(3))
        take_backup(own, store, "demo")
        yield own, store


def test_a_server_that_dies_in_a_restore_has_its_live_database_whole_and_the_next_run_clears(
    server: Server, fragile: tuple[Server, Path], staging: Path, tmp_path: Path
) -> None:
    own, store = fragile
    before = content(own, "demo")
    tools, flag = hanging(own, tmp_path)
    with process(
        "pg_restore", given(own, store, "demo", staging, connection=connection(own, client_bin=str(tools)))
    ) as child:
        until(flag.exists)
        own.kill()
        child.send_signal(signal.SIGINT)
        child.wait(30)
    (own.data / "postmaster.pid").unlink(missing_ok=True)
    own.start()
    assert_next_run_clears(own, store, "demo", staging, before)


def test_a_full_data_disk_fails_the_restore_and_the_live_database_goes_on(server: Server, tmp_path: Path) -> None:
    store, staging = tmp_path / "store", tmp_path / "staging"
    store.mkdir()
    staging.mkdir()
    with disk.small(400) as point, postgres.running(18, data=point / "data", settings={"max_wal_size": "64MB"}) as own:
        create(own, "demo", parameters=Parameters(3))
        take_backup(own, store, "demo")
        before = content(own, "demo")
        with process("pg_restore", given(own, store, "demo", staging)) as child:
            until(lambda: databases(own, "saasops_building_"))
            filler = fill_beside_a_writer(point)
            answer = outcome(child)
        assert answer["failed"], answer
        filler.unlink()
        if not own.is_running:
            own.start()
        assert_live_goes_on(own, before)
        result = restore(own, store, "demo", staging=str(staging))
        assert content(own, fact(result, "target")) == before
        assert building(own) == {}


def fill_beside_a_writer(point: Path) -> Path:
    """Fill a disk that somebody else is writing to."""
    while True:
        with contextlib.suppress(OSError):
            return disk.fill(point, leave=500_000)


def assert_live_goes_on(server: Server, before: str) -> None:
    ask, environment = [server.bin / "pg_isready"], server.environment()
    until(lambda: subprocess.run(ask, env=environment, check=False).returncode == 0)
    assert content(server, "demo") == before
    server.psql("INSERT INTO marker (writer) VALUES ('after')", "demo")
    server.psql("DELETE FROM marker WHERE writer = 'after'", "demo")
