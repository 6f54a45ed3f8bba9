# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying sets from one store into another: whole, proven, continued, and never over something else."""

from __future__ import annotations

import contextlib
import hashlib
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import backup_copy, backup_info
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import posix, sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.acts import context
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, files, listing, make_set, pin

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other"


def copy(root: Path, *others: Path, check: bool = False, lines: list[str] | None = None, **changes: object) -> Result:
    params: dict[str, object] = {
        "system": "demo",
        "set": ["latest"],
        "store": {"path": str(root)},
        "copies": [{"path": str(path), "create": True} for path in others],
        **changes,
    }
    return backup_copy.execute(params, context(check, lines))


def refused(code: str, root: Path, *others: Path, **changes: object) -> OpsError:
    with pytest.raises(OpsError) as caught:
        copy(root, *others, **changes)  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value.message
    return caught.value


def sealed(root: Path) -> dict[str, str]:
    """SHA-256 of every file of a store but the marks of whose set it was, by its path."""
    found = {name: hashlib.sha256(body).hexdigest() for name, body in listing(root).items()}
    return {name: checksum for name, checksum in found.items() if not name.endswith("begun.json")}


def test_a_copy_is_the_set_byte_for_byte_with_its_pin_and_proofs(root: Path, other: Path) -> None:
    now = time.time()
    make_set(root, now - 2 * DAY)
    newest = make_set(root, now - HOUR, objects=5)
    pin(root, newest, "before version 2")
    proof: dict[str, sets.Json] = {"level": "restored", "at": "2026-11-22T20:17:47.000000Z"}
    sets.write_json(PosixStore(str(root)), f"{sets.folder(newest)}proof-d1.json", proof)
    done = copy(root, other)
    assert done.changed
    mine = {name: checksum for name, checksum in sealed(root).items() if newest in name}
    assert len(mine) == 5 + 4
    assert sealed(other) == mine
    (found,) = sets.entries(PosixStore(str(other)), "demo")
    assert (found.state, found.pin and found.pin["reason"]) == ("complete", "before version 2")


def test_a_second_run_changes_nothing_and_reads_no_object(
    root: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(3):
        make_set(root, time.time() - HOUR - day * DAY)
    assert copy(root, other, set=["all"]).changed
    before = {path: path.stat().st_mtime_ns for path in files(other)}
    reading: list[str] = []
    true_get = PosixStore.get

    def noted(self: PosixStore, key: str) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        reading.append(key)
        return true_get(self, key)

    monkeypatch.setattr(posix.PosixStore, "get", noted)
    again = copy(root, other, set=["all"])
    assert not again.changed
    assert {path: path.stat().st_mtime_ns for path in files(other)} == before
    assert not [key for key in reading if "/objects/" in key or key.endswith("contents.json")]
    assert "has all 3 sets" in again.message


def test_check_mode_says_which_sets_and_how_much_and_writes_nothing(root: Path, other: Path) -> None:
    sizes = [make_set(root, time.time() - HOUR - day * DAY, size=4000, objects=3) for day in range(2)]
    planned = copy(root, other, check=True, set=["all"])
    assert planned.changed
    assert not other.exists()
    assert f"2 of 2 sets (24 kB) would be copied to {other}" in planned.message
    assert planned.plan is not None
    assert [(a.kind, a.object, a.measured) for a in planned.plan.actions] == [
        ("copy", set_id, {"objects": 3, "bytes": 12000}) for set_id in sorted(sizes)
    ]


def test_a_half_copied_set_is_continued_and_what_lies_there_is_not_trusted(
    root: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_id = make_set(root, time.time() - HOUR, objects=6)
    copy(root, other)
    folder = other / "backups" / set_id
    for name in ("manifest.json", "contents.json", "objects/0005.zst", "objects/0006.zst"):
        (folder / name).unlink()
    spoilt = folder / "objects/0002.zst"
    spoilt.write_bytes(bytes(spoilt.stat().st_size))
    written: list[str] = []
    true_put = PosixStore.put

    def noted(self: PosixStore, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> object:
        written.append(key.rpartition("/")[2])
        return true_put(self, key, chunks, if_absent=if_absent)

    monkeypatch.setattr(posix.PosixStore, "put", noted)
    copy(root, other)
    assert sorted(name for name in written if name.endswith(".zst")) == ["0002.zst", "0005.zst", "0006.zst"]
    assert written.index("manifest.json") == len(written) - 1, "the manifest is the last thing that is written"
    assert sealed(other) == sealed(root)


def test_an_object_that_a_complete_copy_lost_is_brought_again(root: Path, other: Path) -> None:
    set_id = make_set(root, time.time() - HOUR)
    copy(root, other)
    (other / "backups" / set_id / "objects/0001.zst").unlink()
    assert copy(root, other).changed
    assert sealed(other) == sealed(root)


@pytest.mark.parametrize("cut", [False, True], ids=["flipped", "cut"])
def test_an_object_that_is_damaged_in_the_first_store_does_not_appear_in_the_second(
    root: Path, other: Path, cut: bool
) -> None:
    set_id = make_set(root, time.time() - HOUR)
    sound = make_set(root, time.time() - 2 * HOUR, database="other")
    spoilt = root / "backups" / set_id / "objects/0002.zst"
    body = bytearray(spoilt.read_bytes())
    body[len(body) // 2] ^= 1
    spoilt.write_bytes(body[:-1] if cut else body)
    error = refused("set_incomplete" if cut else "object_damaged", root, other)
    assert str(root) in error.cause or set_id in error.cause
    assert "as good as before" not in error.remedy
    states = {entry.set_id: entry.state for entry in sets.entries(PosixStore(str(other)), "demo")}
    assert states == ({sound: "complete"} if cut else {sound: "complete", set_id: "partial"})
    assert not (other / "backups" / set_id / "objects/0002.zst").exists()


def test_an_object_that_the_second_store_gives_back_wrongly_is_no_copy(
    root: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_id = make_set(root, time.time() - HOUR)
    true_get = PosixStore.get

    @contextlib.contextmanager
    def spoilt(self: PosixStore, key: str) -> Iterator[Iterator[bytes]]:
        with true_get(self, key) as chunks:
            yield (bytes(len(chunk)) if self.root == str(other) and ".zst" in key else chunk for chunk in chunks)

    monkeypatch.setattr(posix.PosixStore, "get", spoilt)
    error = refused("object_damaged", root, other)
    assert str(other) in error.cause
    assert not (other / "backups" / set_id / "manifest.json").exists()


def test_a_set_with_another_manifest_is_never_written_over(root: Path, other: Path) -> None:
    set_id = make_set(root, time.time() - HOUR)
    copy(root, other)
    manifest = other / "backups" / set_id / "manifest.json"
    manifest.write_text(manifest.read_text().replace("34567", "34568"))
    before = listing(other)
    refused("copy_conflict", root, other)
    assert listing(other) == before


def test_one_store_that_fails_does_not_keep_the_others_from_their_copy(root: Path, other: Path, tmp_path: Path) -> None:
    make_set(root, time.time() - HOUR)
    gone = tmp_path / "not mounted"
    params = [{"path": str(gone)}, {"path": str(other), "create": True}]
    error = refused("store_missing", root, copies=params)
    assert "in the first store are as good as before; 1 were copied" in error.cause
    assert "Then run the verb copy" in error.remedy
    assert sealed(other) == sealed(root)


def test_a_pin_that_changes_and_proofs_that_come_later_follow(root: Path, other: Path) -> None:
    set_id = make_set(root, time.time() - HOUR)
    copy(root, other)
    pin(root, set_id, "an audit")
    drill: dict[str, sets.Json] = {"level": "restored", "at": "2099-01-01T00:00:00.000000Z"}
    sets.write_json(PosixStore(str(root)), f"{sets.folder(set_id)}proof-d1.json", drill)
    done = copy(root, other)
    assert [(a.object, a.measured["objects"]) for a in done.plan.actions if done.plan] == [(set_id, 0)]  # type: ignore[union-attr]
    assert sealed(other) == sealed(root)
    assert not copy(root, other).changed


def test_a_set_that_a_drill_disproved_is_known_as_such_in_the_copy(root: Path, other: Path) -> None:
    set_id = make_set(root, time.time() - HOUR)
    copy(root, other)
    record: dict[str, sets.Json] = {
        "set": set_id,
        "outcome": "failed",
        "differences": ["a row"],
        "at": "2099-01-01T00:00:00.000000Z",
    }
    sets.write_json(PosixStore(str(root)), "drills/d1.json", record)
    assert copy(root, other, set=[set_id]).changed
    params: dict[str, object] = {"system": "demo", "store": {"path": str(other)}, "rpo": "24h"}
    judged = backup_info.execute(params, context())
    assert judged.evidence["verdict"] == "critical"
    assert not copy(root, other, set=[set_id]).changed

    again: dict[str, sets.Json] = {"level": "restored", "at": "2026-11-22T00:00:00.000000Z"}
    sets.write_json(PosixStore(str(other)), f"{sets.folder(set_id)}proof-failed.json", again)
    assert copy(root, other, set=[set_id]).changed, "what counts is what the copy makes of its records"


def test_latest_takes_the_newest_good_set_of_each_database_and_tenant(root: Path, other: Path) -> None:
    now = time.time()
    for age in (3 * DAY, DAY):
        make_set(root, now - age)
    expected = {
        make_set(root, now - HOUR),
        make_set(root, now - 5 * DAY, tenant="org_a"),
        make_set(root, now - 9 * DAY, database="other"),
    }
    make_set(root, now - HOUR, system="foreign")
    copy(root, other)
    assert {entry.set_id for entry in sets.entries(PosixStore(str(other)), None)} == expected


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("20200101T000000Z-00000000", "set_unknown"), ("../../etc", "set_unknown")],
)
def test_a_set_that_is_not_there_is_refused(root: Path, other: Path, wanted: str, code: str) -> None:
    make_set(root, time.time() - HOUR)
    refused(code, root, other, set=[wanted])


def test_the_store_itself_is_no_copy(root: Path) -> None:
    make_set(root, time.time() - HOUR)
    refused("copy_is_the_store", root, root)


def test_copying_takes_no_more_memory_for_a_larger_object(root: Path, other: Path) -> None:
    make_set(root, time.time() - HOUR, objects=2, size=48 * MIB)
    tracemalloc.start()
    try:
        copy(root, other)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * MIB, f"{peak / MIB:.0f} MiB"


def test_a_folder_is_copied_into_a_bucket_and_back(root: Path, other: Path, s3_server: s3.Server) -> None:
    make_set(root, time.time() - HOUR, objects=2, size=9 * MIB)
    bucket: dict[str, object] = {
        "type": "s3",
        "bucket": s3_server.create_bucket(),
        "prefix": "offsite",
        "endpoint_url": s3_server.endpoint,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
    }
    assert copy(root, copies=[bucket]).changed
    assert not copy(root, copies=[bucket]).changed
    assert copy(root, other, store=bucket).changed
    assert sealed(other) == sealed(root)
