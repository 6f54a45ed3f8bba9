# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store promises (store/base.py), held by a folder, by one behind a real sshd and by a real S3 server."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab import s3, sshd

MIB = 1024 * 1024
PART = 8 * MIB
_prefixes = itertools.count(1)
Opener = Callable[[], Store]


@pytest.fixture(scope="session")
def bucket(s3_server: s3.Server) -> str:
    return s3_server.create_bucket()


@pytest.fixture(params=["posix", "ssh", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same empty store again and again, as several runs do."""
    if request.param == "posix":
        root = tmp_path / "store"
        root.mkdir()
        return lambda: open_store({"type": "posix", "path": str(root)})
    if request.param == "ssh":
        host: sshd.Server = request.getfixturevalue("ssh_server")
        folder = host.store_folder()
        return lambda: open_store(host.options(folder))
    server: s3.Server = request.getfixturevalue("s3_server")
    params: dict[str, object] = {
        "type": "s3",
        "bucket": request.getfixturevalue("bucket"),
        "prefix": f"contract-{next(_prefixes)}",
        "endpoint_url": server.endpoint,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    return lambda: open_store(params)


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


def pieces(body: bytes, size: int = MIB) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def content(store: Store, key: str) -> bytes:
    with store.get(key) as chunks:
        return b"".join(chunks)


def code(act: Callable[[], object]) -> str:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value.code


@pytest.mark.parametrize("length", [0, 1, MIB, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 12345])
def test_what_is_put_comes_back_with_its_length_and_hash(store: Store, length: int) -> None:
    body = os.urandom(length)
    stored = store.put("backups/a/objects/0000.zst", pieces(body))
    assert (stored.key, stored.length) == ("backups/a/objects/0000.zst", length)
    assert stored.sha256 == hashlib.sha256(body).hexdigest()
    assert content(store, "backups/a/objects/0000.zst") == body


@pytest.mark.parametrize("size", [7, 3 * MIB + 1, 30 * MIB])
def test_the_size_of_the_chunks_does_not_matter(store: Store, size: int) -> None:
    body = os.urandom(20 * MIB) if size > MIB else os.urandom(5000)
    store.put("a", itertools.chain([b""], pieces(body, size), [b""]))
    assert content(store, "a") == body


def test_chunks_that_are_read_are_about_a_mebibyte(store: Store) -> None:
    store.put("a", pieces(bytes(5 * MIB)))
    with store.get("a") as chunks:
        assert max(len(chunk) for chunk in chunks) <= MIB


def test_a_second_put_replaces_the_object(store: Store) -> None:
    store.put("a", [b"first, and longer"])
    store.put("a", [b"second"])
    assert content(store, "a") == b"second"


def test_an_exclusive_put_is_refused_when_the_object_is_there_and_reads_nothing(store: Store) -> None:
    store.put("a", [b"first"], if_absent=True)
    read = []

    def chunks() -> Iterator[bytes]:
        read.append(1)
        yield b"second"

    assert code(lambda: store.put("a", chunks(), if_absent=True)) == "object_exists"
    assert content(store, "a") == b"first"
    assert not read


@pytest.mark.parametrize("length", [1, 20 * MIB])
def test_an_exclusive_put_that_loses_late_leaves_the_winner(store: Store, length: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield from pieces(bytes(length))
        store.put("a", [b"winner"])

    assert code(lambda: store.put("a", chunks(), if_absent=True)) == "object_exists"
    assert content(store, "a") == b"winner"


def test_of_two_exclusive_writers_exactly_one_wins_a_hundred_times(opener: Opener) -> None:
    stores = [opener(), opener()]
    meeting = threading.Barrier(2)

    def write(number: int, key: str) -> bool:
        meeting.wait(30)
        try:
            stores[number].put(key, [b"writer %d" % number], if_absent=True)
        except OpsError as error:
            return error.code != "object_exists"
        return True

    with ThreadPoolExecutor(2) as pool:
        for attempt in range(100):
            key = f"leases/{attempt}"
            won = list(pool.map(write, (0, 1), (key, key)))
            assert sorted(won) == [False, True]
            assert content(stores[0], key) == b"writer %d" % won.index(True)


@pytest.mark.parametrize("length", [0, 1, 20 * MIB])
def test_when_the_chunks_fail_nothing_appears_and_nothing_is_left(store: Store, length: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield from pieces(bytes(length))
        raise KeyError("the dump")

    with pytest.raises(KeyError, match="the dump"):
        store.put("backups/a/objects/0000.zst", chunks())
    assert store.list("") == []
    assert list(store.sweep("", time.time() + 60)) == []


def test_when_the_chunks_fail_the_older_object_stays(store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield from pieces(bytes(10 * MIB))
        raise KeyError("the dump")

    store.put("a", [b"older"])
    with pytest.raises(KeyError):
        store.put("a", chunks())
    assert content(store, "a") == b"older"


def test_an_object_is_not_seen_before_it_is_whole(store: Store) -> None:
    seen: list[object] = []

    def chunks() -> Iterator[bytes]:
        for chunk in pieces(bytes(18 * MIB)):
            yield chunk
            seen.extend(store.list(""))

    store.put("a", chunks())
    assert not seen
    assert [info.key for info in store.list("")] == ["a"]


def test_a_listing_gives_keys_lengths_and_times_below_the_prefix_in_order(store: Store) -> None:
    before = time.time() - 5
    for key in ("backups/b/2", "backups/b/10", "backups/a/x", "backups/ab", "drills/1.json"):
        store.put(key, [key.encode()])
    keys = [info.key for info in store.list("")]
    assert keys == ["backups/a/x", "backups/ab", "backups/b/10", "backups/b/2", "drills/1.json"]
    assert [info.key for info in store.list("backups/b/")] == ["backups/b/10", "backups/b/2"]
    assert [info.key for info in store.list("backups/a")] == ["backups/a/x", "backups/ab"]
    assert store.list("backups/c") == []
    assert store.list("nothing/at/all/") == []
    info = store.list("drills/")[0]
    assert info.length == len("drills/1.json")
    assert before < info.modified < time.time() + 5


def test_more_than_a_thousand_objects_are_listed_and_deleted(store: Store) -> None:
    keys = [f"exports/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, [b"x"]), keys))
    assert [info.key for info in store.list("exports/")] == keys
    store.delete(keys)
    assert store.list("") == []


def test_deleting_what_is_gone_is_no_error_and_spares_the_rest(store: Store) -> None:
    store.put("a/1", [b"1"])
    store.put("a/2", [b"2"])
    store.delete(["a/1", "a/1", "never/there", "a/2/below"])
    assert [info.key for info in store.list("")] == ["a/2"]
    store.delete([])


def test_an_object_that_is_not_there_is_missing(store: Store) -> None:
    store.put("a/1", [b"1"])
    assert code(lambda: content(store, "a/2")) == "object_missing"
    assert code(lambda: content(store, "a/1/2")) == "object_missing"
    assert code(lambda: content(store, "b")) == "object_missing"


KEYS = [
    "",
    "/etc/passwd",
    "../up",
    "a/../../b",
    "a//b",
    "a/",
    ".tmp/x",
    "a/.hidden",
    "a b",
    "a\n",
    "ä",
    "a\x00b",
    "x" * 901,
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_could_leave_the_store_is_refused(store: Store, key: str) -> None:
    assert code(lambda: store.put(key, [b"x"])) == "bad_key"
    assert code(lambda: content(store, key)) == "bad_key"
    assert code(lambda: store.delete([key])) == "bad_key"
    assert store.list("") == []


def test_a_check_finds_nothing_wrong_and_leaves_nothing(store: Store) -> None:
    store.check(write=False)
    store.check(write=True)
    assert store.list("") == []
    assert list(store.sweep("", time.time() + 60)) == []


def test_a_reader_may_stop_in_the_middle(store: Store) -> None:
    store.put("a", pieces(bytes(20 * MIB)))
    for _time in range(20):
        with store.get("a") as chunks:
            assert next(chunks)
    assert len(content(store, "a")) == 20 * MIB


def test_several_threads_may_use_one_store(store: Store) -> None:
    bodies = {f"objects/{number}": os.urandom(3 * MIB + number) for number in range(12)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, pieces(bodies[key])), bodies))
        assert list(pool.map(lambda key: content(store, key), bodies)) == list(bodies.values())


def test_no_credential_is_in_what_a_store_says_of_itself(store: Store, s3_server: s3.Server) -> None:
    shown = f"{store!r} {store!s} {store.url}"
    assert s3_server.access_key not in shown
    assert s3_server.secret_key not in shown


def test_free_space_is_told_in_bytes_or_not_at_all(store: Store) -> None:
    free = store.free_bytes()
    assert free is None or free > 0
