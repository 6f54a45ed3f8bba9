# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in a folder when the disk is full, closed or read-only, and when its writer is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import disk, processes

MIB = 1024 * 1024
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and changing the user need root")

WRITER = """
import sys, time
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore

def chunks():
    for number in range(10):
        yield b"x" * 1000
    print("written", flush=True)
    time.sleep(60)

PosixStore(sys.argv[1]).put("backups/a/objects/0000.zst", chunks(), if_absent=sys.argv[2] == "exclusive")
"""


def code(act: Callable[[], object]) -> str:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value.code


def endless(limit: int = 64) -> Iterator[bytes]:
    for _number in range(limit):
        yield os.urandom(MIB)


def as_another_user(act: Callable[[], object]) -> str:
    """The code of the OpsError that act ends with as an unprivileged user, or "none"; in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "died"
        try:
            user = processes.unprivileged()
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            act()
            answer = "none"
        except OpsError as error:
            answer = error.code
        finally:
            os.write(writer, answer.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@needs_root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_is_told_and_leaves_nothing_and_works_again_with_room(kind: str) -> None:
    with disk.small(24, kind) as point:
        store = PosixStore(str(point))
        store.put("backups/a/1", [b"kept"])
        assert code(lambda: store.put("backups/a/2", endless())) == "store_full"
        assert [info.key for info in store.list("")] == ["backups/a/1"]
        assert list(store.sweep("", time.time() + 60)) == []
        filler = disk.fill(point, leave=MIB // 2)
        assert (store.free_bytes() or 0) < MIB
        assert code(lambda: store.put("backups/a/2", endless(2))) == "store_full"
        filler.unlink()
        store.put("backups/a/2", [b"fits"])
        with store.get("backups/a/1") as chunks:
            assert b"".join(chunks) == b"kept"


@needs_root
def test_a_check_finds_a_disk_that_is_full_to_the_last_byte() -> None:
    with disk.small(8) as point:
        disk.fill(point)
        (point / "filler-2").write_bytes(bytes(os.statvfs(point).f_bavail * 4096))
        store = PosixStore(str(point))
        store.check(write=False)
        assert code(lambda: store.check(write=True)) == "store_full"


@needs_root
def test_a_volume_mounted_read_only_is_found_by_check_and_put() -> None:
    with disk.small(8) as point:
        store = PosixStore(str(point))
        store.put("a", [b"x"])
        subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
        store.check(write=False)
        assert code(lambda: store.check(write=True)) == "store_not_writable"
        assert code(lambda: store.put("b", [b"x"])) == "store_not_writable"
        assert code(lambda: store.delete(["a"])) == "store_not_writable"
        with store.get("a") as chunks:
            assert b"".join(chunks) == b"x"


@needs_root
def test_a_folder_of_another_user_is_refused_by_what_is_missing() -> None:
    with disk.small(8) as point:
        root = point / "store"
        root.mkdir(mode=0o755)
        store = PosixStore(str(root))
        store.put("a", [b"x"])
        (root / "open").write_text("x")
        assert as_another_user(lambda: store.check(write=False)) == "none"
        assert as_another_user(lambda: store.check(write=True)) == "store_not_writable"
        assert as_another_user(lambda: store.put("b", [b"x"])) == "store_not_writable"
        assert as_another_user(lambda: store.delete(["a"])) == "store_not_writable"
        assert as_another_user(lambda: store.get("a").__enter__()) == "store_denied"
        assert as_another_user(lambda: PosixStore(str(root / "new"), create=True).check(write=True)) == (
            "store_not_writable"
        )
        root.chmod(0o700)
        assert as_another_user(lambda: store.check(write=False)) == "store_denied"
        assert as_another_user(lambda: store.list("")) == "store_denied"
        point.chmod(0o700)
        assert as_another_user(lambda: store.check(write=False)) == "store_denied"


@pytest.mark.parametrize("kind", ["ordinary", "exclusive"])
def test_a_killed_writer_leaves_nothing_visible_and_sweep_finds_the_rest(tmp_path: Path, kind: str) -> None:
    store = PosixStore(str(tmp_path))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert store.list("") == []
        assert list(store.sweep("", time.time() + 60)) == [], "the writer lives"
    finally:
        writer.kill()
        writer.communicate()
    assert store.list("") == []
    assert list(store.sweep("", time.time() - 3600)) == [], "it is young"
    assert list(store.sweep("backups/b/", time.time() + 60)) == [], "it belongs to another set"
    (left,) = store.sweep("backups/a/", time.time() + 60)
    assert left.startswith(".tmp/backups+a+objects+0000.zst+")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    store.put("backups/a/objects/0000.zst", [b"again"], if_absent=True)


def test_a_temporary_file_that_is_taken_away_ends_the_put_with_an_error(tmp_path: Path) -> None:
    store = PosixStore(str(tmp_path))

    def chunks() -> Iterator[bytes]:
        yield b"x"
        for path in (tmp_path / ".tmp").iterdir():
            path.unlink()

    assert code(lambda: store.put("a", chunks())) == "store_not_writable"
    assert code(lambda: store.put("a", chunks(), if_absent=True)) == "store_not_writable"
    assert store.list("") == []


@needs_root
def test_a_volume_that_is_unmounted_in_the_middle_is_not_written_beside() -> None:
    with disk.small(16) as point:
        root = point / "store"
        root.mkdir()
        store = PosixStore(str(root))

        def chunks() -> Iterator[bytes]:
            yield b"x"
            subprocess.run(["umount", "-l", str(point)], check=True)

        # the lazy unmount keeps the open file alive; its name is gone, and no folder may be made in its stead
        assert code(lambda: store.put("backups/a/1", chunks())) in ("store_missing", "store_not_writable")
        assert list(point.iterdir()) == []
