# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal in a folder and on a real S3 server: one chain, whoever writes and whenever they die."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, Head, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import Finding, read, verify
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store, Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_all
from ansible_collections.saasops.runbook.tests.lab import s3

T0 = 1795377600.0
IMPORT_ROOT = Path(__file__).resolve().parents[5]
RUN = "20261122T201747Z-1a2b3c4d"
_prefixes = itertools.count(1)


@pytest.fixture(scope="session")
def journal_bucket(s3_server: s3.Server) -> str:
    return s3_server.create_bucket()


@pytest.fixture(params=["posix", "s3"])
def params(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """The suboptions of an empty store."""
    if request.param == "posix":
        return {"type": "posix", "path": str(tmp_path / "store"), "create": True}
    server: s3.Server = request.getfixturevalue("s3_server")
    return {
        "type": "s3",
        "bucket": request.getfixturevalue("journal_bucket"),
        "prefix": f"journal-{next(_prefixes)}",
        "endpoint_url": server.endpoint,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@pytest.fixture
def store(params: dict[str, object]) -> Store:
    return open_store(params)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    """A store that costs nothing, for what does not depend on the kind of store."""
    return open_store({"type": "posix", "path": str(tmp_path / "folder"), "create": True})


class Counting:
    """A store that counts what it is asked for; it does the work of the real one."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return self.inner.url

    def check(self, write: bool) -> None:
        self.inner.check(write)

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        self.asked.append(f"put {key}")
        return self.inner.put(key, chunks, if_absent=if_absent)

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        self.asked.append(f"get {key}")
        return self.inner.get(key)

    def list(self, prefix: str) -> list[ObjectInfo]:
        self.asked.append(f"list {prefix}")
        return self.inner.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def sweep(self, prefix: str, older_than: float) -> list[str]:
        return list(self.inner.sweep(prefix, older_than))

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()


def event(number: int, kind: str = "outcome", **facts: object) -> Event:
    return Event(kind, T0 + number, new_id(hashlib.sha256(str(number).encode()).digest()), "shop", RUN, facts)


def findings(store: Store, anchor: Store | None = None) -> list[Finding]:
    chain = journal.read_chain(store)
    anchors = journal.read_anchors(anchor, "shop") if anchor else []
    return [*chain.strangers, *verify(chain.entries, [*anchors, *([chain.hint] if chain.hint else [])])]


def codes(store: Store, anchor: Store | None = None) -> set[tuple[int, str]]:
    return {(finding.number, finding.code) for finding in findings(store, anchor)}


def kinds(store: Store) -> list[str]:
    bodies = [read(entry.text) or {} for entry in journal.read_chain(store).entries]
    return [str(body.get("kind")) for body in bodies]


def test_a_batch_lies_in_order_and_verifies(store: Store) -> None:
    first = journal.append(store, [event(1, "run_started"), event(2, "intent")])
    second = journal.append(store, [event(3), event(4, "task")])
    assert (first.numbers, second.numbers) == ((1, 2), (3, 4))
    assert kinds(store) == ["run_started", "intent", "outcome", "task"]
    assert findings(store) == []
    last = read_all(store, "journal/00000004.json")
    assert (journal.current_head(store).sha256, second.head.number) == (hashlib.sha256(last).hexdigest(), 4)
    assert json.loads(last)["sequence"] == 4


def test_an_append_to_a_long_journal_takes_four_requests_and_no_listing(folder: Store) -> None:
    journal.append(folder, [event(number) for number in range(150)])
    counting = Counting(folder)
    journal.append(counting, [event(1000)])
    assert counting.asked == [
        "get journal/head.json",
        "get journal/00000150.json",
        "put journal/00000151.json",
        "put journal/head.json",
    ]


@pytest.mark.parametrize(
    "hint",
    [b"", b"\0", b"[]", b'{"number":0,"sha256":""}', b'{"number":"9"}', b'{"number":2,"sha256":"forged"}', None],
)
def test_a_wrong_hint_misleads_nobody(folder: Store, hint: bytes | None) -> None:
    journal.append(folder, [event(number) for number in range(40)])
    if hint is None:
        folder.delete([journal.HEAD])
    else:
        folder.put(journal.HEAD, [hint])
    assert journal.append(folder, [event(50)]).numbers == (41,)
    assert findings(folder) == []


WRITER = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[4])
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
store, name = open_store(json.loads(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    own = new_id(hashlib.sha256(f"{name} {number}".encode()).digest())
    kind = "outcome" if number else "run_started"
    journal.append(store, [Event(kind, 1795377600.0 + number, own, "shop", f"run-{name}", {"host": name})])
    print(number, flush=True)
"""


def writer(params: dict[str, object], name: str, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, json.dumps(params), name, str(count), str(IMPORT_ROOT)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, encoding="utf-8")


def test_two_processes_that_append_at_once_make_one_chain(params: dict[str, object], store: Store) -> None:
    writers = [writer(params, name, 100) for name in ("a", "b")]
    for process in writers:
        output, _none = process.communicate(timeout=240)
        assert process.returncode == 0, output
    chain = journal.read_chain(store)
    assert len(chain.entries) == 200
    assert findings(store) == []
    hosts = [str((read(entry.text) or {}).get("host")) for entry in chain.entries]
    assert (hosts.count("a"), hosts.count("b")) == (100, 100)


def test_a_writer_that_is_killed_leaves_a_chain_that_verifies_and_goes_on(
    params: dict[str, object], store: Store
) -> None:
    for attempt in range(4):
        process = writer(params, f"k{attempt}", 10_000)
        try:
            assert process.stdout is not None
            for _line in range(3 + attempt):
                process.stdout.readline()
            time.sleep(0.003 * attempt)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
        assert findings(store) == []
    before = journal.current_head(store).number
    assert before >= 4 * 3
    assert journal.append(store, [event(1)]).numbers == (before + 1,)
    assert findings(store) == []


def test_a_spooled_batch_that_was_written_in_part_is_completed_and_not_repeated(folder: Store) -> None:
    journal.append(folder, [event(0, "run_started")])
    waiting = journal.spooled([event(1), event(2), event(3)], T0 + 100, "shop")
    journal.append(folder, waiting[:2])
    journal.append(folder, [event(9)])
    done = journal.append(folder, waiting, again_since=T0 + 90)
    assert done.numbers == (2, 3, 5)
    assert journal.append(folder, waiting, again_since=T0 + 90).numbers == (2, 3, 5)
    assert len(journal.read_chain(folder).entries) == 5
    assert findings(folder) == []
    assert json.loads(read_all(folder, journal.key(5)))["spooled"]["merged"] == "2026-11-22T20:01:40.000000Z"


class Deaf(Counting):
    """The answer to a put is lost: the client sends it again and hears that the object exists."""

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        stored = self.inner.put(key, chunks, if_absent=if_absent)
        if if_absent:
            raise OpsError("object_exists", "There is one.", "Look.")
        return stored


def test_a_record_whose_acknowledgement_was_lost_is_not_written_twice(folder: Store) -> None:
    assert journal.append(Deaf(folder), [event(1), event(2)]).numbers == (1, 2)
    assert kinds(folder) == ["outcome", "outcome"]


def test_each_damage_in_the_store_is_found(store: Store) -> None:
    journal.append(store, [event(number) for number in range(1, 9)])
    store.put(journal.key(2), [read_all(store, journal.key(2)).replace(b'"changed"', b'"chanted"') + b" "])
    store.delete([journal.key(5)])
    store.put("journal/extra.json", [b"{}"])
    store.put("journal/000000007.json", [b"{}"])
    assert codes(store) == {(2, "edited"), (5, "missing"), (0, "foreign")}
    assert len([f for f in findings(store) if f.code == "foreign"]) == 2


def test_a_cut_end_is_told_by_the_head_object_and_noted_by_the_next_append(folder: Store) -> None:
    journal.append(folder, [event(number) for number in range(1, 9)])
    folder.delete([journal.key(7), journal.key(8)])
    assert codes(folder) == {(7, "truncated")}
    journal.append(folder, [event(20)])
    assert kinds(folder)[-2:] == ["note", "outcome"]
    assert codes(folder) == {(7, "head_lost")}


def test_a_cut_end_and_a_rewritten_one_are_found_against_the_anchor(store: Store, tmp_path: Path) -> None:
    place = journal.open_anchor(str(tmp_path / "anchor"), store)
    done = journal.append(store, [event(number) for number in range(1, 9)])
    journal.write_anchor(place, "shop", done.head, T0)
    assert findings(store, place) == []
    # whoever can write to the store takes the head object away as well
    store.delete([journal.key(7), journal.key(8), journal.HEAD])
    assert codes(store) == set()
    assert codes(store, place) == {(7, "truncated")}
    journal.append(store, [event(30), event(31)])
    assert codes(store) == set()
    assert codes(store, place) == {(8, "rewritten")}


def test_anchors_are_kept_by_system_and_never_overwritten(folder: Store, tmp_path: Path) -> None:
    place = journal.open_anchor({"type": "posix", "path": str(tmp_path / "b"), "create": True}, folder)
    journal.write_anchor(place, "shop", Head(3, "a" * 64), T0)
    journal.write_anchor(place, "shop", Head(3, "a" * 64), T0 + 9)
    journal.write_anchor(place, "shop", Head(3, "b" * 64), T0)
    journal.write_anchor(place, "../x y", Head(1, "c" * 64), T0)
    assert [anchor.sha256[0] for anchor in journal.read_anchors(place, "shop")] == ["a", "b"]
    assert [anchor.sha256[0] for anchor in journal.read_anchors(place, "../x y")] == ["c"]
    assert journal.read_anchors(place, "sho") == []


def test_the_store_itself_is_no_anchor(params: dict[str, object], store: Store) -> None:
    with pytest.raises(OpsError) as caught:
        journal.open_anchor(params, store)
    assert caught.value.code == "anchor_in_store"


def test_an_empty_journal_is_whole_and_has_an_empty_head(store: Store) -> None:
    assert findings(store) == []
    assert journal.current_head(store) == Head()
    assert journal.append(store, []).head == Head()


def test_reading_is_right_while_another_process_writes(folder: Store, tmp_path: Path) -> None:
    journal.append(folder, [event(1)])
    process = writer({"type": "posix", "path": folder.url}, "w", 200)
    try:
        while process.poll() is None:
            assert findings(folder) == []
    finally:
        process.kill()
        process.communicate()


def test_a_record_is_for_its_owner_alone(folder: Store) -> None:
    journal.append(folder, [event(1)])
    assert os.stat(os.path.join(folder.url, journal.key(1))).st_mode & 0o077 == 0
