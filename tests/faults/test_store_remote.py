# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store on another host when the connection is cut, its disk is full or closed, or its writer is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import disk, processes, sshd
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

MIB = 1024 * 1024
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

WRITER = """
import json, sys, time
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

def chunks():
    for number in range(8):
        yield b"x" * 1048576
    print("written", flush=True)
    time.sleep(60)

open_store(json.loads(sys.argv[1])).put("backups/a/objects/0000.zst", chunks(), if_absent=sys.argv[2] == "exclusive")
"""


@pytest.fixture
def host() -> Iterator[sshd.Server]:
    """A server of the test's own, since its sessions are killed."""
    with sshd.running() as server:
        yield server


def code(act: Callable[[], object]) -> str:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value.code


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def content(store: Store, key: str) -> bytes:
    with store.get(key) as chunks:
        return b"".join(chunks)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize("when", ["early", "late"])
def test_a_connection_cut_in_the_middle_of_a_put_makes_no_object(host: sshd.Server, if_absent: bool, when: str) -> None:
    root = host.store_folder()
    store = open_store(host.options(root))

    def chunks() -> Iterator[bytes]:
        for number in range(40):
            if number == 20 and when == "early":
                until(lambda: list(root.glob(".tmp/*")))
                assert host.cut()
            yield os.urandom(MIB)
        if when == "late":
            # everything was sent; only the end of the stream is missing
            until(lambda: list(root.glob(".tmp/*")))
            assert host.cut()

    assert code(lambda: store.put("backups/a/1", chunks(), if_absent=if_absent)) == "stream_cut"
    assert store.list("") == []
    until(lambda: not host.far_processes("saasops-store"))
    assert not any(name.startswith("backups/") for name in files(root))
    assert list(store.sweep("", time.time() - 3600)) == []
    store.sweep("", time.time() + 60)
    assert files(root) == []
    store.put("backups/a/1", [b"again"], if_absent=True)
    assert content(store, "backups/a/1") == b"again"


def test_a_connection_cut_in_the_middle_of_a_put_leaves_the_older_object(host: sshd.Server) -> None:
    store = open_store(host.options(host.store_folder()))
    store.put("a", [b"older"])

    def chunks() -> Iterator[bytes]:
        yield bytes(5 * MIB)
        host.cut()
        yield bytes(5 * MIB)

    assert code(lambda: store.put("a", chunks())) == "stream_cut"
    assert content(store, "a") == b"older"


def test_a_connection_cut_in_the_middle_of_a_get_is_never_a_short_read(host: sshd.Server) -> None:
    store = open_store(host.options(host.store_folder()))
    store.put("a", [os.urandom(MIB) for _number in range(40)])
    received = 0

    def read() -> None:
        nonlocal received
        with store.get("a") as chunks:
            for chunk in chunks:
                received += len(chunk)
                if received > 5 * MIB:
                    host.cut()

    assert code(read) == "stream_cut"
    assert received < 40 * MIB
    assert len(content(store, "a")) == 40 * MIB


def test_a_killed_client_of_a_get_is_never_a_short_read(host: sshd.Server) -> None:
    store = open_store(host.options(host.store_folder()))
    store.put("a", [os.urandom(MIB) for _number in range(40)])

    def read() -> None:
        with store.get("a") as chunks:
            next(chunks)
            (client,) = (pid for pid in processes.running("ssh", below=os.getpid()) if _reads(pid))
            os.kill(client, signal.SIGKILL)
            for _chunk in chunks:
                pass

    assert code(read) == "stream_cut"


def _reads(pid: int) -> bool:
    return any("exec cat" in part and "saasops-store" in part for part in processes.command_line(pid))


@pytest.mark.parametrize("kind", ["ordinary", "exclusive"])
def test_a_killed_writer_leaves_nothing_visible_and_no_connection_and_sweep_finds_the_rest(
    host: sshd.Server, kind: str
) -> None:
    root = host.store_folder()
    store = PosixStore(str(root))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, json.dumps(host.options(root)), kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert store.list("") == []
        assert list(open_store(host.options(root)).sweep("", time.time() + 60)) == [], "the writer lives"
    finally:
        writer.kill()
        writer.communicate()
    # nobody but the kernel tells the far side
    until(lambda: not host.sessions())
    until(lambda: not host.far_processes("saasops-store"))
    assert store.list("") == []
    again = open_store(host.options(root))
    assert list(again.sweep("", time.time() - 3600)) == [], "it is young"
    assert list(again.sweep("backups/b/", time.time() + 60)) == [], "it belongs to another set"
    (left,) = again.sweep("backups/a/", time.time() + 60)
    assert left.startswith(".tmp/backups+a+objects+0000.zst+")
    assert files(root) == []
    again.put("backups/a/objects/0000.zst", [b"again"], if_absent=True)


def test_a_server_that_stops_answering_ends_a_put_after_the_read_timeout(host: sshd.Server) -> None:
    root = host.store_folder()
    store = open_store(host.options(root, read_timeout=4))
    stopped: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield bytes(MIB)
        stopped.extend(host.sessions())
        for pid in stopped:
            processes.freeze(pid)
        while True:
            yield bytes(MIB)

    begun = time.monotonic()
    try:
        assert code(lambda: store.put("a", chunks())) == "stream_cut"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
    assert time.monotonic() - begun < 60
    assert store.list("") == []


@needs_root
@pytest.mark.parametrize("size", [1, 64 * MIB])
def test_a_full_disk_is_told_and_leaves_nothing_and_works_again_with_room(host: sshd.Server, size: int) -> None:
    with disk.small(24) as point:
        store = open_store(host.options(point))
        store.put("backups/a/1", [b"kept"])
        fillers = [disk.fill(point), point / "filler-2"] if size == 1 else []
        if fillers:
            fillers[1].write_bytes(bytes(os.statvfs(point).f_bavail * 4096))
            assert code(lambda: store.check(write=True)) == "store_full"
        assert code(lambda: store.put("backups/a/2", (bytes(min(size, MIB)) for _n in range(max(1, size // MIB))))) == (
            "store_full"
        )
        assert [info.key for info in store.list("backups/")] == ["backups/a/1"]
        assert list(store.sweep("", time.time() + 60)) == []
        for filler in fillers:
            filler.unlink()
        store.put("backups/a/2", [b"fits"])
        assert content(store, "backups/a/1") == b"kept"


@needs_root
def test_a_volume_mounted_read_only_is_found_by_check_and_put(host: sshd.Server) -> None:
    with disk.small(8) as point:
        store = open_store(host.options(point))
        store.put("a", [b"x"])
        subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
        store.check(write=False)
        assert code(lambda: store.check(write=True)) == "store_not_writable"
        assert code(lambda: store.put("b", [b"x"])) == "store_not_writable"
        assert code(lambda: store.put("b", [bytes(MIB)])) == "store_not_writable"
        assert code(lambda: store.delete(["a"])) == "store_not_writable"
        assert content(store, "a") == b"x"


@needs_root
def test_a_folder_of_another_user_is_refused_by_what_is_missing(host: sshd.Server) -> None:
    with disk.small(8) as point:
        root = point / "store"
        root.mkdir(mode=0o755)
        PosixStore(str(root)).put("a", [b"x"])
        store = open_store(host.options(root))
        store.check(write=False)
        assert code(lambda: store.check(write=True)) == "store_not_writable"
        assert code(lambda: store.put("b", [b"x"])) == "store_not_writable"
        assert code(lambda: store.delete(["a"])) == "store_not_writable"
        assert code(lambda: content(store, "a")) == "store_denied"
        assert code(lambda: open_store(host.options(root / "new", create=True)).check(write=True)) == (
            "store_not_writable"
        )
        root.chmod(0o700)
        assert code(lambda: store.check(write=False)) == "store_denied"
        assert code(lambda: store.list("")) == "store_denied"
        point.chmod(0o700)
        assert code(lambda: store.check(write=False)) == "store_denied"


def test_a_temporary_file_that_is_taken_away_ends_the_put_with_an_error(host: sshd.Server) -> None:
    root = host.store_folder()
    store = open_store(host.options(root))

    def chunks(earlier: frozenset[Path]) -> Iterator[bytes]:
        yield bytes(MIB)

        def written() -> list[Path]:
            # what the put before has left is not the one, and an empty one may still be made again
            return [path for path in set(root.glob(".tmp/*")) - earlier if path.stat().st_size]

        until(written)
        for path in written():
            path.unlink()

    def there() -> frozenset[Path]:
        return frozenset(root.glob(".tmp/*"))

    assert code(lambda: store.put("a", chunks(there()))) == "store_not_writable"
    assert code(lambda: store.put("a", chunks(there()), if_absent=True)) == "store_not_writable"
    assert store.list("") == []


@needs_root
def test_a_volume_that_is_unmounted_in_the_middle_is_not_written_beside(host: sshd.Server) -> None:
    with disk.small(16) as point:
        root = point / "store"
        root.mkdir()
        host.give(root)
        store = open_store(host.options(root))

        def chunks() -> Iterator[bytes]:
            yield bytes(MIB)
            until(lambda: list(root.glob(".tmp/*")))
            subprocess.run(["umount", "-l", str(point)], check=True)

        assert code(lambda: store.put("backups/a/1", chunks())) in ("store_missing", "store_not_writable")
        assert list(point.iterdir()) == []


@pytest.mark.parametrize("server", [18], indirect=True)
@pytest.mark.parametrize("victim", ["module", "connection"])
def test_a_backup_that_dies_in_a_put_leaves_no_set_and_the_next_run_cleans_up(
    server: Server, database: str, host: sshd.Server, tmp_path: Path, victim: str
) -> None:
    server.psql(
        "CREATE TABLE t AS SELECT i, (SELECT string_agg(md5((i * 100 + j)::text), ' ') FROM generate_series(1, 30) j)"
        " FROM generate_series(1, 60000) i",
        database,
    )
    root = host.store_folder()
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": database,
            "saasops_connection": connection(server),
            "saasops_store": host.options(root),
        },
    )
    with start("backup", hosts) as run:
        until(lambda: any("objects" in path.name for path in root.glob(".tmp/*")))
        if victim == "connection":
            # again and again, as a bad link does: between two steps of a put a new connection would do
            until(lambda: not host.cut() and run.poll() is not None, 60)
        else:
            victims = processes.modules(run.pid)
            assert victims
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
        output, _none = run.communicate(timeout=60)
        assert run.returncode != 0
        if victim == "connection":
            assert "[stream_cut]" in output or "[host_unreachable]" in output
    until(lambda: not host.far_processes("saasops-store"))
    seen = PosixStore(str(root))
    assert not [entry for entry in sets.entries(seen, "test") if entry.state == "complete"]
    old = time.time() - 2 * 86400
    for path in root.glob(".tmp/*"):
        os.utime(path, (old, old))
    again = play("backup", hosts)
    assert again.code == 0, again.output
    assert [entry.state for entry in sets.entries(seen, "test")] == ["complete"]
    assert not list(root.glob(".tmp/*"))
