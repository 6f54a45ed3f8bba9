# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup that is killed, cut or starved leaves nothing that is taken for good, and the next run cleans up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import broken_tools, disk, processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup, verify_sets
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-%'"


@pytest.fixture
def filled(server: Server, database: str) -> str:
    server.psql(
        "CREATE TABLE t (id int PRIMARY KEY, body text);"
        "INSERT INTO t SELECT i, (SELECT string_agg(md5((i * 100 + j)::text), ' ') FROM generate_series(1, 30) j)"
        " FROM generate_series(1, 20000) i",
        database,
    )
    return database


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def hanging(tmp_path: Path, server: Server) -> Path:
    """A bin folder whose pg_dump writes a few bytes and waits."""
    return broken_tools.make(tmp_path / "bin", server.bin, "pg_dump", "hang")


def hosts(server: Server, store: Path, database: str, bin_folder: Path) -> Path:
    folder = store.parent / "run"
    folder.mkdir(exist_ok=True)
    return inventory(
        folder,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": connection(server, client_bin=str(bin_folder)),
            "saasops_store": {"path": str(store)},
        },
    )


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def entries(store: Path) -> list[sets.SetEntry]:
    return sets.entries(PosixStore(str(store)), "test")


def recovers(server: Server, store: Path, database: str) -> list[str]:
    """The next run makes a good set, and nothing of the dead one is left; returns what it says it cleaned."""
    result = take_backup(server, store, database)
    assert [entry.state for entry in entries(store)] == ["complete"]
    verify_sets(server, store, database)
    assert server.psql("SELECT count(*) FROM t", database).strip() == "20000"
    assert server.psql(OURS, database).strip() == "0"
    cleaned = result.evidence["cleaned"]
    assert isinstance(cleaned, list)
    return [str(line) for line in cleaned]


def test_a_killed_module_leaves_no_set_and_the_next_run_ends_its_processes(
    server: Server, filled: str, store: Path, hanging: Path
) -> None:
    with start("backup", hosts(server, store, filled, hanging)) as run:
        until((hanging / "hanging").exists)
        dumps = [p for p in processes.descendants(run.pid) if str(hanging / "pg_dump") in processes.command_line(p)]
        assert dumps
        victims = processes.modules(run.pid)
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        run.communicate(timeout=30)
        assert run.returncode != 0
    assert all(entry.state == "partial" for entry in entries(store))
    said = recovers(server, store, filled)
    assert any("partial set" in line for line in said)
    assert not any(Path(f"/proc/{pid}").exists() for pid in dumps)


def test_ctrl_c_leaves_no_set_and_no_process(server: Server, filled: str, store: Path, hanging: Path) -> None:
    with start("backup", hosts(server, store, filled, hanging)) as run:
        until((hanging / "hanging").exists)
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=30)
        assert run.returncode != 0
    until(lambda: server.psql(OURS, filled).strip() == "0")
    assert not any(entry.state == "complete" for entry in entries(store))
    recovers(server, store, filled)


def test_a_killed_ansible_playbook_leaves_a_run_that_ends_or_is_named(
    server: Server, filled: str, store: Path, hanging: Path
) -> None:
    with start("backup", hosts(server, store, filled, hanging)) as run:
        until((hanging / "hanging").exists)
        left = processes.modules(run.pid)
        run.kill()
        run.wait(30)
    try:
        # while the module lives it holds the lock, and a second run is told who has it
        if server.psql(OURS, filled).strip() != "0":
            with pytest.raises(OpsError) as caught:
                take_backup(server, store, filled)
            assert caught.value.code == "database_busy"
            assert "saasops-backup" in caught.value.cause
    finally:
        for pid in left:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGTERM)
    until(lambda: server.psql(OURS, filled).strip() == "0")
    recovers(server, store, filled)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_killed_pg_dump_fails_the_run_and_leaves_nothing(
    server: Server, filled: str, store: Path, hanging: Path, number: signal.Signals
) -> None:
    caught: list[OpsError] = []

    def work() -> None:
        try:
            take_backup(server, store, filled, connection=connection(server, client_bin=str(hanging)))
        except OpsError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until((hanging / "hanging").exists)
    for pid in processes.descendants(os.getpid()):
        if any(str(hanging / "pg_dump") in part for part in processes.command_line(pid)):
            os.kill(pid, number)
    thread.join(30)
    assert [error.code for error in caught] == ["tool_killed"]
    assert entries(store) == []
    recovers(server, store, filled)


def test_a_server_that_dies_fails_the_run_and_leaves_nothing(
    server: Server, filled: str, store: Path, hanging: Path
) -> None:
    caught: list[OpsError] = []

    def work() -> None:
        try:
            take_backup(server, store, filled, connection=connection(server, client_bin=str(hanging)))
        except OpsError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until((hanging / "hanging").exists)
    server.kill()
    for pid in processes.descendants(os.getpid()):
        if any(str(hanging / "pg_dump") in part for part in processes.command_line(pid)):
            os.kill(pid, signal.SIGKILL)
    thread.join(30)
    server.start()
    assert len(caught) == 1
    assert entries(store) == []
    server.psql("CHECKPOINT", filled)
    recovers(server, store, filled)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with disk.small(4) as folder:
        yield folder


def test_a_full_store_is_said_and_nothing_is_taken_for_good(
    server: Server, filled: str, store: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OpsError) as caught:
        take_backup(server, small_disk, filled)
    assert caught.value.code in ("disk_too_small", "store_full")
    # the estimate refuses first; without it the disk fills up in the middle of the stream
    monkeypatch.setattr(PosixStore, "free_bytes", lambda self: None)
    with pytest.raises(OpsError) as caught:
        take_backup(server, small_disk, filled, codec="none")
    assert caught.value.code == "store_full"
    assert entries(small_disk) == []
    monkeypatch.undo()
    recovers(server, store, filled)


def test_a_full_staging_volume_is_said(server: Server, filled: str, store: Path, small_disk: Path) -> None:
    os.chmod(small_disk, 0o700)
    with pytest.raises(OpsError) as caught:
        take_backup(server, store, filled, staging=str(small_disk))
    assert caught.value.code in ("disk_too_small", "staging_full")
    assert entries(store) == []


def damage_flip(folder: Path) -> None:
    victim = max(folder.glob("objects/*"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))


def damage_truncate(folder: Path) -> None:
    victim = max(folder.glob("objects/*"), key=lambda path: path.stat().st_size)
    os.truncate(victim, victim.stat().st_size - 1)


def damage_remove(folder: Path) -> None:
    max(folder.glob("objects/*"), key=lambda path: path.stat().st_size).unlink()


def damage_edit(folder: Path) -> None:
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    body["rows"] += 1
    path.write_text(json.dumps(body))


def damage_contents(folder: Path) -> None:
    path = folder / "contents.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":20000', b'"rows":19999'))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (damage_flip, "object_damaged"),
        (damage_truncate, "set_incomplete"),
        (damage_remove, "set_incomplete"),
        (damage_edit, "manifest_damaged"),
        (damage_contents, "manifest_damaged"),
    ],
    ids=["flipped-bit", "truncated", "missing", "edited-manifest", "edited-contents"],
)
def test_a_damaged_set_is_found_by_verify(
    server: Server, filled: str, store: Path, damage: Callable[[Path], None], code: str
) -> None:
    take_backup(server, store, filled)
    damage(store / "backups" / entries(store)[0].set_id)
    with pytest.raises(OpsError) as caught:
        verify_sets(server, store, filled, set=entries(store)[0].set_id)
    assert caught.value.code == "set_damaged"
    damaged = caught.value.details["damaged"]
    assert isinstance(damaged, dict)
    assert [item["code"] for item in damaged.values()] == [code]


def test_a_manifest_swapped_between_two_sets_is_found(server: Server, filled: str, store: Path) -> None:
    take_backup(server, store, filled)
    take_backup(server, store, filled)
    one, two = (store / "backups" / entry.set_id for entry in entries(store))
    shutil.copy(one / "manifest.json", two / "manifest.json")
    with pytest.raises(OpsError) as caught:
        verify_sets(server, store, filled, set="all")
    assert caught.value.code == "set_damaged"
    states = {entry.set_id: entry.state for entry in entries(store)}
    assert states == {one.name: "complete", two.name: "damaged"}


@pytest.mark.essential
def test_no_password_shows_anywhere(server: Server, filled: str, store: Path, tmp_path: Path) -> None:
    """The planted password is looked for in the output at high verbosity, the store, argv and temporary folders."""
    server.psql("CREATE ROLE planted SUPERUSER LOGIN PASSWORD 'Pl4nted-Secret-9'", filled)
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        seen.append((entry / "cmdline").read_bytes().decode("utf-8", "replace"))
                    except OSError:
                        continue
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        path = hosts(server, store, filled, server.bin)
        body = json.loads(path.read_text())
        body["all"]["vars"]["saasops_connection"] = connection(server, user="planted", password="Pl4nted-Secret-9")
        path.write_text(json.dumps(body))
        run = play("backup", path, "-vvv", "--diff")
    finally:
        stop.set()
        watcher.join()
        server.psql("DROP ROLE planted", filled)
    assert run.code == 0, run.output
    assert "Pl4nted-Secret-9" not in run.output
    assert not any("Pl4nted-Secret-9" in line for line in seen)
    for path in store.rglob("*"):
        assert not path.is_file() or b"Pl4nted-Secret-9" not in path.read_bytes()
    remote = tmp_path / "run" / "ansible"
    assert not any(p.is_file() and b"Pl4nted-Secret-9" in p.read_bytes() for p in remote.rglob("*"))
