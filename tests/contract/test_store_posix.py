# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store in a folder promises beside the common contract."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def refusal(act: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value


def test_a_root_that_does_not_exist_is_refused_with_a_remedy_and_not_made(tmp_path: Path) -> None:
    store = PosixStore(str(tmp_path / "not-mounted"))
    for act in (
        lambda: store.check(write=False),
        lambda: store.check(write=True),
        lambda: store.put("a", [b"x"]),
        lambda: store.list(""),
        lambda: store.sweep("", 0),
        store.free_bytes,
        lambda: store.get("a").__enter__(),
    ):
        error = refusal(act)
        assert error.code == "store_missing"
        assert "Mount" in error.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert refusal(lambda: PosixStore(str(tmp_path / "file")).check(write=True)).code == "store_missing"
    assert refusal(lambda: PosixStore(str(tmp_path / "file" / "below")).check(write=True)).code == "store_missing"


# a loop without an end was found here
@pytest.mark.timeout(20)
def test_a_folder_that_is_there_and_takes_nothing_is_refused_and_not_tried_for_ever(root: Path) -> None:
    (root / ".tmp").symlink_to(root / "gone")
    error = refusal(lambda: PosixStore(str(root)).put("a", [b"x"]))
    assert error.code == "store_not_writable"
    assert "takes no file" in error.cause


def test_create_makes_the_root_at_the_first_put_and_not_before(tmp_path: Path) -> None:
    store = PosixStore(str(tmp_path / "srv" / "backups"), create=True)
    store.check(write=True)
    assert store.list("") == []
    assert store.free_bytes()
    assert list(tmp_path.iterdir()) == []
    store.put("a", [b"x"])
    assert (tmp_path / "srv" / "backups" / "a").read_bytes() == b"x"


def test_folders_are_closed_to_others_and_so_are_files(root: Path) -> None:
    old = os.umask(0)
    try:
        PosixStore(str(root)).put("backups/a/manifest.json", [b"{}"])
    finally:
        os.umask(old)
    modes = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {".tmp": 0o700, "backups": 0o700, "backups/a": 0o700, "backups/a/manifest.json": 0o600}


def test_what_is_no_object_is_not_listed(root: Path) -> None:
    store = PosixStore(str(root))
    store.put("a", [b"x"])
    (root / "lost+found").mkdir()
    (root / ".snapshot").mkdir()
    (root / "name with space").write_text("x")
    assert [info.key for info in store.list("")] == ["a"]


def test_a_delete_removes_the_folders_it_empties_and_no_others(root: Path) -> None:
    store = PosixStore(str(root))
    store.put("backups/a/objects/1", [b"x"])
    store.put("backups/b/objects/1", [b"x"])
    store.delete(["backups/a/objects/1"])
    assert sorted(path.name for path in (root / "backups").iterdir()) == ["b"]
    store.delete(["backups/b/objects/1"])
    assert not (root / "backups").exists()
    assert root.exists()


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(root: Path) -> None:
    store = PosixStore(str(root))
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _time in range(150):
                store.put(f"deep/er/{name}", [b"x"], if_absent=True)
                store.delete([f"deep/er/{name}"])
        except OpsError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert store.list("") == []


def test_a_reader_sees_one_version_whole_while_another_is_put(root: Path) -> None:
    store = PosixStore(str(root))
    store.put("a", [b"0" * 300_000])
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            store.put("a", [(b"%d" % (number % 10)) * 300_000])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        with store.get("a") as chunks:
            body = b"".join(chunks)
        assert body == body[:1] * 300_000
    writer.join()


def test_sweep_leaves_what_a_living_writer_holds_however_old_it_is(root: Path) -> None:
    store = PosixStore(str(root))
    swept: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield b"x"
        (temporary,) = (root / ".tmp").iterdir()
        os.utime(temporary, (0, 0))
        swept.extend(PosixStore(str(root)).sweep("", time.time()))
        yield b"y"

    store.put("a", chunks())
    assert not swept
    assert (root / "a").read_bytes() == b"xy"


def test_sweep_takes_what_is_old_and_below_its_prefix_only(root: Path) -> None:
    store = PosixStore(str(root))
    (root / ".tmp").mkdir()
    for name, age in (("backups+a+1+aaaa", 100), ("backups+b+1+bbbb", 100), ("backups+a+2+cccc", 0)):
        path = root / ".tmp" / name
        path.write_text("x")
        os.utime(path, (time.time() - age, time.time() - age))
    assert list(store.sweep("backups/a/", time.time() - 50)) == [".tmp/backups+a+1+aaaa"]
    assert list(store.sweep("", time.time() - 50)) == [".tmp/backups+b+1+bbbb"]
    assert sorted(path.name for path in (root / ".tmp").iterdir()) == ["backups+a+2+cccc"]


def test_a_temporary_file_is_below_the_root_so_that_the_rename_stays_on_one_volume(root: Path) -> None:
    seen: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield b"x"
        seen.extend(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    PosixStore(str(root)).put("backups/a", chunks())
    assert len(seen) == 1
    assert seen[0].startswith(".tmp/backups+a+")


def test_an_object_that_shrinks_while_it_is_read_is_damaged(root: Path) -> None:
    store = PosixStore(str(root))
    store.put("a", [bytes(5 * 1024 * 1024)])
    with store.get("a") as chunks:
        next(chunks)
        os.truncate(root / "a", 2 * 1024 * 1024)
        error = refusal(lambda: list(chunks))
    assert error.code == "object_damaged"
    assert "a" in error.cause


def test_a_folder_in_the_place_of_an_object_is_no_object(root: Path) -> None:
    store = PosixStore(str(root))
    store.put("a/b", [b"x"])
    assert refusal(lambda: store.get("a").__enter__()).code == "object_damaged"
    assert refusal(lambda: store.put("a", [b"x"])).code == "store_unreachable"


@pytest.mark.parametrize("if_absent", [False, True])
def test_bytes_are_on_the_device_before_the_name_is_and_the_name_before_the_put_returns(
    root: Path, monkeypatch: pytest.MonkeyPatch, if_absent: bool
) -> None:
    calls: list[str] = []

    def recorded(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            on = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else str(arguments[0])
            calls.append(f"{name} {'file' if '.tmp/' in on else os.path.basename(on)}")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "link", "replace"):
        recorded(name)
    PosixStore(str(root)).put("backups/a", [b"x"], if_absent=if_absent)
    publish = "link file" if if_absent else "replace file"
    assert calls[-4:] == ["fsync file", "fsync store", publish, "fsync backups"]
