# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Member, StoredObject
from ansible_collections.saasops.runbook.plugins.module_utils.store import pack
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact

FOLDER = "backups/20261122T201747Z-1a2b3c4d/"
ZSTD = open_codec("zstd", 1)
files = st.dictionaries(
    st.text(alphabet="abcdefghij.0123456789/", min_size=1, max_size=12),
    st.one_of(st.binary(max_size=400), st.integers(0, 200_000).map(bytes)),
    max_size=12,
)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("saasops-")]


@pytest.fixture
def store(tmp_path: Path) -> PosixStore:
    return PosixStore(str(tmp_path))


def fact(name: str, body: bytes) -> FileFact:
    return FileFact(name, len(body), hashlib.sha256(body).hexdigest())


def source(name: str, body: bytes, sent: bytes | None = None, chunk: int = 1000) -> pack.Source:
    """A file whose fact is made from body; sent is what then comes, in chunks."""
    comes = body if sent is None else sent

    @contextmanager
    def opener() -> Iterator[Iterator[bytes]]:
        yield iter([comes[start : start + chunk] for start in range(0, len(comes), chunk)])

    return fact(name, body), opener


def collect(store: PosixStore, objects: tuple[StoredObject, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        found[member.name] = b"".join(chunks)

    pack.read_packs(store, FOLDER, objects, ZSTD, sink)
    return found


def spoil(store: PosixStore, key: str, how: str) -> None:
    path = Path(store.root) / FOLDER / key
    body = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        body[len(body) // 2] ^= 1
    elif how == "cut":
        del body[-len(body) // 3 :]
    elif how == "longer":
        body += b"x"
    path.write_bytes(bytes(body))


@settings(max_examples=40)
@given(files, st.integers(1, 3), st.sampled_from(["zstd", "none"]))
def test_any_files_come_back_as_they_were(bodies: dict[str, bytes], workers: int, codec_name: str) -> None:
    codec = open_codec(codec_name, 1)
    with tempfile.TemporaryDirectory() as folder:
        store = PosixStore(folder)
        sources = {name: source(name, body) for name, body in bodies.items()}
        planned = pack.plan_packs([one[0] for one in sources.values()], limit=1000, alone=300)
        objects = pack.write_packs(
            store, FOLDER, [[sources[one.name] for one in group] for group in planned], codec, workers=workers
        )
        found: dict[str, bytes] = {}
        pack.read_packs(
            store, FOLDER, objects, codec, lambda member, chunks: found.update({member.name: b"".join(chunks)})
        )
    assert found == bodies


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(100, 3000), st.integers(100, 3000))
def test_each_file_is_in_one_pack_and_no_bundle_is_above_its_limit(sizes: list[int], limit: int, alone: int) -> None:
    facts = [FileFact(f"{number}.dat", size, "") for number, size in enumerate(sizes)]
    packs = pack.plan_packs(facts, limit, alone)
    assert sorted(one.name for group in packs for one in group) == sorted(one.name for one in facts)
    large = [group for group in packs if group[0].length >= alone]
    bundles = packs[len(large) :]
    assert packs[: len(large)] == large
    assert all(len(group) == 1 for group in large)
    assert [group[0].length for group in large] == sorted((group[0].length for group in large), reverse=True)
    assert all(len(group) == 1 or sum(one.length for one in group) <= limit for group in bundles)
    assert [one.name for group in bundles for one in group] == sorted(one.name for group in bundles for one in group)


def test_four_mebibytes_is_where_a_file_stands_alone() -> None:
    below = FileFact("below", pack.ALONE - 1, "")
    at = FileFact("at", pack.ALONE, "")
    small = FileFact("small", 1, "")
    assert pack.plan_packs([small, below, at]) == [[at], [below, small]]


def test_an_object_names_its_members_and_its_own_length_and_hash(store: PosixStore) -> None:
    (stored,) = pack.write_packs(store, FOLDER, [[source("a", b"aa"), source("b", b"")]], ZSTD)
    lying = (Path(store.root) / FOLDER / stored.key).read_bytes()
    assert stored.key == "objects/0000.zst"
    assert (stored.length, stored.sha256) == (len(lying), hashlib.sha256(lying).hexdigest())
    assert [member.name for member in stored.members] == ["a", "b"]
    assert stored.members[0].sha256 == hashlib.sha256(b"aa").hexdigest()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"x" * 2999, "stream_cut"),
        (b"", "stream_cut"),
        (b"x" * 3001, "member_changed"),
        (b"x" * 2999 + b"y", "member_changed"),
    ],
)
def test_a_file_that_is_not_what_the_database_host_made_is_not_stored(
    store: PosixStore, sent: bytes, code: str
) -> None:
    with pytest.raises(OpsError) as caught:
        pack.write_packs(store, FOLDER, [[source("whole", b"1"), source("3455.dat", b"x" * 3000, sent)]], ZSTD)
    assert caught.value.code == code
    assert "3455.dat" in caught.value.cause
    assert store.list("") == []


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "missing"])
@pytest.mark.parametrize("codec_name", ["zstd", "none"])
def test_an_object_damaged_in_the_store_is_named_with_its_member(store: PosixStore, how: str, codec_name: str) -> None:
    codec = open_codec(codec_name, 1)
    body = b"".join(b"%d row\n" % (number * number) for number in range(50_000))
    groups = [[source("before.dat", body)], [source("3455.dat", body)]]
    objects = pack.write_packs(store, FOLDER, groups, codec)
    pack.verify_packs(store, FOLDER, objects, codec)
    spoil(store, objects[1].key, how)
    with pytest.raises(OpsError) as caught:
        pack.verify_packs(store, FOLDER, objects, codec)
    assert caught.value.code == ("object_missing" if how == "missing" else "object_damaged")
    assert objects[1].key in caught.value.cause
    if how in ("flipped", "cut"):
        assert "3455.dat" in caught.value.cause


def test_a_member_that_the_manifest_promises_otherwise_is_damaged(store: PosixStore) -> None:
    (stored,) = pack.write_packs(store, FOLDER, [[source("a", b"aaaa"), source("b", b"bbbb")]], ZSTD)
    for members in (
        (fact("a", b"aaaa"), fact("b", b"bbbx")),
        (fact("a", b"aaaa"), fact("b", b"bbbbb")),
        (fact("a", b"aaaa"),),
    ):
        promised = tuple(Member(one.name, one.length, one.sha256) for one in members)
        changed = StoredObject(stored.key, stored.length, stored.sha256, promised)
        with pytest.raises(OpsError) as caught:
            pack.verify_packs(store, FOLDER, [changed], ZSTD)
        assert caught.value.code == "object_damaged"


def test_an_object_of_other_stored_bytes_is_damaged_even_if_its_members_are_right(store: PosixStore) -> None:
    body = b"the same raw bytes " * 1000
    (stored,) = pack.write_packs(store, FOLDER, [[source("a", body)]], ZSTD)
    store.put(FOLDER + stored.key, open_codec("zstd", 9).compress([body]))
    with pytest.raises(OpsError, match="other bytes than the ones that were stored"):
        pack.verify_packs(store, FOLDER, [stored], ZSTD)


class _Forgetful(PosixStore):
    """A disk that acknowledges a write and keeps something else."""

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        stored = super().put(key, chunks, if_absent=if_absent)
        path = Path(self.root) / key
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 16
        path.write_bytes(bytes(body))
        return stored


def test_what_the_store_did_not_keep_is_found_while_it_is_written(tmp_path: Path) -> None:
    store = _Forgetful(str(tmp_path))
    with pytest.raises(OpsError) as caught:
        pack.write_packs(store, FOLDER, [[source("a", bytes(range(256)) * 100)]], ZSTD)
    assert caught.value.code == "object_damaged"


def test_a_sink_that_reads_nothing_still_has_the_object_verified(store: PosixStore) -> None:
    (stored,) = pack.write_packs(store, FOLDER, [[source("a", b"aa"), source("b", b"bb")]], ZSTD)
    seen: list[str] = []
    pack.read_pack(store, FOLDER, stored, ZSTD, lambda member, _chunks: seen.append(member.name))
    assert seen == ["a", "b"]
    spoil(store, stored.key, "flipped")
    with pytest.raises(OpsError):
        pack.read_pack(store, FOLDER, stored, ZSTD, lambda _member, _chunks: None)


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_bytes_that_were_proven_once_need_no_second_hash_of_what_they_hold(store: PosixStore, how: str) -> None:
    (stored,) = pack.write_packs(store, FOLDER, [[source("a", b"aa" * 5000), source("b", b"bb")]], ZSTD)
    read: dict[str, bytes] = {}

    def keep(member: Member, chunks: Iterator[bytes]) -> None:
        read[member.name] = b"".join(chunks)

    pack.read_pack(store, FOLDER, stored, ZSTD, keep, proven=True)
    assert read == {"a": b"aa" * 5000, "b": b"bb"}
    wrong = replace(stored, members=(replace(stored.members[0], length=9999), *stored.members[1:]))
    with pytest.raises(OpsError) as longer:
        pack.read_pack(store, FOLDER, wrong, ZSTD, keep, proven=True)
    spoil(store, stored.key, how)
    with pytest.raises(OpsError) as caught:
        pack.read_pack(store, FOLDER, stored, ZSTD, keep, proven=True)
    assert {longer.value.code, caught.value.code} == {"object_damaged"}


def test_the_first_bad_file_ends_all_workers(store: PosixStore) -> None:
    opened: list[str] = []

    def endless(name: str) -> pack.Source:
        @contextmanager
        def opener() -> Iterator[Iterator[bytes]]:
            opened.append(name)
            yield iter(lambda: bytes(1000), b"")

        return FileFact(name, 10**15, ""), opener

    groups = [[endless("a")], [source("bad", b"xx", b"x")], *[[endless(str(number))] for number in range(20)]]
    with pytest.raises(OpsError) as caught:
        pack.write_packs(store, FOLDER, groups, ZSTD, workers=2)
    assert caught.value.code == "stream_cut"
    assert opened == ["a"]
    assert not our_threads()
    assert store.list("") == []


def test_an_error_of_a_sink_passes_on(store: PosixStore) -> None:
    objects = pack.write_packs(store, FOLDER, [[source(str(number), b"x")] for number in range(5)], ZSTD)

    def sink(_member: Member, _chunks: Iterator[bytes]) -> None:
        raise OSError("no room in staging")

    with pytest.raises(OSError, match="no room"):
        pack.read_packs(store, FOLDER, objects, ZSTD, sink)
    assert not our_threads()


def test_a_stream_of_unknown_length_is_measured(store: PosixStore) -> None:
    body = bytes(range(256)) * 5000
    chunks = [body[start : start + 70_000] for start in range(0, len(body), 70_000)]
    stored = pack.write_stream(store, FOLDER, "objects/stream.zst", ZSTD, name="dump.custom", chunks=chunks, threads=2)
    (member,) = stored.members
    assert (member.name, member.length) == ("dump.custom", len(body))
    assert member.sha256 == hashlib.sha256(body).hexdigest()
    assert collect(store, (stored,)) == {"dump.custom": body}


def test_a_stream_that_breaks_off_with_an_error_is_not_stored(store: PosixStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OpsError("dump_failed", "pg_dump failed.", "Look.")

    with pytest.raises(OpsError, match="pg_dump failed"):
        pack.write_stream(store, FOLDER, "objects/stream.zst", ZSTD, name="dump.custom", chunks=chunks())
    assert store.list("") == []
