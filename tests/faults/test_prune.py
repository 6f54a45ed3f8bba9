# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A prune that is killed, interrupted or refused by its store leaves nothing that is taken for good."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import remove, take_stock
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import disk, processes, scratch
from ansible_collections.saasops.runbook.tests.lab.backup_sets import (
    DAY,
    HOUR,
    complete,
    files,
    listing,
    make_set,
)
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play, start

OBJECTS = 900


def hosts_of(root: Path, folder: Path | None = None) -> Path:
    """An inventory, beside the store unless a folder is given."""
    place = folder or root.parent / "run"
    place.mkdir(exist_ok=True)
    return inventory(
        place, {"saasops_store": {"path": str(root)}, "saasops_retention": {"hourly": 2}, "saasops_rpo": "24h"}
    )


def prune(root: Path) -> Run:
    return play("prune", hosts_of(root))


def prune_module(root: int) -> list[int]:
    """Pids of the module's own process below ansible-playbook: the last of the chain."""
    return processes.modules(root)[-1:]


def expired(root: Path, count: int, objects: int = OBJECTS) -> tuple[list[str], list[str]]:
    """Sets that prune deletes, and the two that stay; all younger than the grace of partial sets."""
    now = time.time()
    goes = [make_set(root, now - 600 - hour * HOUR, objects=objects, size=10) for hour in range(count + 1, 1, -1)]
    stays = [make_set(root, now - 600 - hour * HOUR, size=10) for hour in (1, 0)]
    return goes, stays


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def root() -> Iterator[Path]:
    """A store in memory, where thousands of small files are made quickly."""
    folder = scratch.claim("store", in_memory=True)
    (folder / "store").mkdir()
    yield folder / "store"
    scratch.release(folder)


@pytest.fixture
def small_root() -> Iterator[Path]:
    """A store on a disk of its own."""
    with disk.small(64) as point:
        (point / "store").mkdir()
        yield point / "store"


def trusted(root: Path) -> set[str]:
    """Sets that a listing would call complete."""
    return {held.set_id for held in take_stock(PosixStore(str(root)), "demo") if held.facts.state == "complete"}


def interrupt(root: Path, goes: list[str], whom: str, number: signal.Signals) -> str:
    """Start a prune and send a signal as soon as the first manifest is gone; returns what the operator saw."""
    first = root / "backups" / goes[0] / "manifest.json"
    module: list[int] = []
    with start("prune", hosts_of(root)) as process:
        deadline = time.monotonic() + 60
        while first.exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            # looked for beforehand: once deletions have begun every millisecond counts
            module = module or prune_module(process.pid)
            time.sleep(0.0005)
        if whom != "ansible-playbook":
            assert module, "the module was not found in time"
        targets = {"module": module, "ansible-playbook": [process.pid], "everything": [*module, process.pid]}[whom]
        for pid in targets:
            os.kill(pid, number)
        names = [processes.identity(pid) for pid in module]
        try:
            output = process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    deadline = time.monotonic() + 30
    while any(processes.alive(name) for name in names):
        assert time.monotonic() < deadline, "the module runs on"
        time.sleep(0.01)
    return output


@pytest.mark.parametrize(
    ("whom", "number"),
    [
        ("module", signal.SIGKILL),
        ("module", signal.SIGTERM),
        ("ansible-playbook", signal.SIGKILL),
        ("ansible-playbook", signal.SIGINT),
        ("everything", signal.SIGKILL),
    ],
)
def test_an_interrupted_prune_is_ended_by_the_next_one(root: Path, whom: str, number: signal.Signals) -> None:
    goes, stays = expired(root, 20)
    interrupt(root, goes, whom, number)

    left = {path.name for path in (root / "backups").iterdir()}
    # a module whose playbook alone was told may have come to its end before it heard of that
    if whom != "ansible-playbook":
        assert left - set(stays), "nothing was left to go on with: make the sets larger"
        assert complete(root, goes) != set(goes)
    whole = {set_id for set_id in left if len(files(root, set_id)) >= (3 if set_id in stays else OBJECTS + 2)}
    assert complete(root, left) <= whole
    assert trusted(root) <= whole
    assert trusted(root) >= set(stays)

    done = prune(root)
    assert done.code == 0, done.output
    assert {path.name for path in (root / "backups").iterdir()} == set(stays)
    assert trusted(root) == set(stays)


class Watching(PosixStore):
    """A store that looks at a set after every single deletion."""

    def __init__(self, root: Path, set_id: str, whole: int) -> None:
        super().__init__(str(root))
        self.folder, self.whole, self.deletions = root / "backups" / set_id, whole, 0

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().delete([key])
            self.deletions += 1
            objects = len(list(self.folder.glob("objects/*")))
            assert objects in (0, self.whole) or not (self.folder / "manifest.json").exists()
            assert (self.folder / "pruning.json").exists() or not self.folder.exists()


def test_at_no_moment_of_a_deletion_is_there_a_manifest_without_its_objects(root: Path) -> None:
    set_id = make_set(root, time.time() - DAY, objects=250, size=10)
    held = take_stock(PosixStore(str(root)), "demo")[0]
    store = Watching(root, set_id, whole=250)
    assert list(remove(store, held, "demo", time.time())) == [201, 252]
    assert store.deletions == 253
    assert not store.folder.exists()


def test_a_half_deleted_set_is_listed_as_such_and_goes_before_its_grace(root: Path) -> None:
    goes, stays = expired(root, 1, objects=3)
    folder = root / "backups" / goes[0]
    (folder / "manifest.json").unlink()
    (folder / "objects" / "0001.zst").unlink()
    (folder / "pruning.json").write_text('{"system": "demo", "at": "2026-11-22T20:17:47.000000Z"}')
    listed = play("backups", hosts_of(root))
    assert "a prune was interrupted in it" in listed.output
    assert "PARTIAL" in listed.output
    done = prune(root)
    assert "an earlier prune was interrupted while it deleted this set" in done.output
    assert {path.name for path in (root / "backups").iterdir()} == set(stays)


@needs_root
def test_a_store_that_turned_read_only_is_listed_and_keeps_every_set(small_root: Path, tmp_path: Path) -> None:
    goes, stays = expired(small_root, 3, objects=3)
    before = listing(small_root)
    hosts = hosts_of(small_root, tmp_path)
    remount(small_root.parent, "ro")
    try:
        refused = play("prune", hosts)
        checked = play("prune", hosts, "--check")
        listed = play("backups", hosts)
    finally:
        remount(small_root.parent, "rw")
    assert refused.code == 2
    assert "[store_not_writable]" in refused.output
    assert listing(small_root) == before
    assert checked.code == 0, checked.output
    assert "3 of 5 sets would be deleted" in checked.output
    assert listed.code == 0, listed.output
    assert play("prune", hosts).code == 0
    assert complete(small_root, goes + stays) == set(stays)


def remount(point: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(point)], check=True)


@needs_root
def test_a_full_store_is_pruned(small_root: Path, tmp_path: Path) -> None:
    goes, stays = expired(small_root, 3, objects=3)
    disk.fill(small_root.parent)
    done = play("prune", hosts_of(small_root, tmp_path))
    assert done.code == 0, done.output
    assert {path.name for path in (small_root / "backups").iterdir()} == set(stays)
    assert trusted(small_root) == set(stays)
    assert complete(small_root, goes) == set()


def test_what_a_dead_writer_left_is_swept_and_what_lives_stays(root: Path) -> None:
    goes, _stays = expired(root, 1, objects=3)
    temporary = root / ".tmp"
    temporary.mkdir(exist_ok=True)
    old, young = temporary / "backups+x+0001", temporary / "backups+x+0002"
    for path in (old, young):
        path.write_bytes(b"cut")
    os.utime(old, (time.time() - 3 * DAY,) * 2)
    done = prune(root)
    assert done.code == 0, done.output
    assert (old.exists(), young.exists()) == (False, True)
    assert complete(root, goes) == set()
    assert prune(root).changed == 0
