# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in a bucket when the network, the server or its disk fails; the server is a real one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Member
from ansible_collections.saasops.runbook.plugins.module_utils.store import pack
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.http_proxy import HttpProxy, Rule
from ansible_collections.saasops.runbook.tests.lab.proxy import Fault, Proxy

MIB = 1024 * 1024
Make = Callable[..., Store]


@pytest.fixture
def bucket(s3_server: s3.Server) -> str:
    return s3_server.create_bucket()


@pytest.fixture
def make(s3_server: s3.Server, bucket: str) -> Make:
    """Opens a store in the test's bucket, through a proxy when its port is given."""

    def opened(port: int = 0, **changes: object) -> Store:
        params: dict[str, object] = {
            "type": "s3",
            "bucket": bucket,
            "endpoint_url": f"http://127.0.0.1:{port or s3_server.port}",
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
            "connect_timeout": 2,
            "read_timeout": 2,
            "retries": 2,
        }
        return open_store({**params, **changes})

    return opened


@pytest.fixture
def proxy(s3_server: s3.Server) -> Iterator[HttpProxy]:
    with HttpProxy(s3_server.port) as running:
        yield running


@pytest.fixture
def wire(s3_server: s3.Server) -> Iterator[Proxy]:
    with Proxy(s3_server.port) as running:
        yield running


def refusal(act: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value


def pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), MIB):
        yield body[start : start + MIB]


def content(store: Store, key: str) -> bytes:
    with store.get(key) as chunks:
        return b"".join(chunks)


def nothing_left(store: Store) -> bool:
    return store.list("") == [] and list(store.sweep("", time.time() + 60)) == []


def test_a_refused_connection_is_told_soon(make: Make) -> None:
    (port,) = s3.free_ports(1)
    began = time.monotonic()
    error = refusal(lambda: make(port).check(write=True))
    assert error.code == "store_unreachable"
    assert f":{port}" in error.cause
    assert time.monotonic() - began < 15


def test_a_name_that_nobody_knows_is_told(make: Make) -> None:
    assert refusal(lambda: make(endpoint_url="http://no-such-host.invalid").check(write=False)).code == (
        "store_unreachable"
    )


@pytest.mark.parametrize("length", [1000, 20 * MIB])
def test_a_few_answers_503_are_got_over(make: Make, proxy: HttpProxy, length: int) -> None:
    body = os.urandom(length)
    store = make(proxy.port)
    proxy.rules = [Rule("status", method="PUT", times=2), Rule("status", method="GET", times=2)]
    store.put("a", pieces(body))
    assert content(store, "a") == body
    assert [rule.hits for rule in proxy.rules] == [2, 2]


@pytest.mark.parametrize("length", [1000, 20 * MIB])
def test_a_server_that_answers_503_for_good_is_told_and_nothing_is_left(
    make: Make, proxy: HttpProxy, length: int
) -> None:
    proxy.rules = [Rule("status", method="PUT")]
    error = refusal(lambda: make(proxy.port).put("a", pieces(bytes(length))))
    assert error.code == "store_unreachable"
    assert "503" in error.cause
    assert nothing_left(make())


def test_an_upload_that_fails_in_its_last_part_is_aborted(make: Make, proxy: HttpProxy) -> None:
    proxy.rules = [Rule("status", method="PUT", contains="partNumber=3")]
    assert refusal(lambda: make(proxy.port).put("a", pieces(bytes(20 * MIB)))).code == "store_unreachable"
    assert ("DELETE" in [method for method, _path in proxy.requests]) is True
    assert nothing_left(make())


def test_a_store_that_fails_while_it_completes_leaves_no_object(make: Make, proxy: HttpProxy) -> None:
    proxy.rules = [Rule("status", method="POST", contains="uploadId=")]
    assert refusal(lambda: make(proxy.port).put("a", pieces(bytes(20 * MIB)))).code == "store_unreachable"
    assert nothing_left(make())


def test_an_object_that_alone_cannot_be_read_is_called_damaged(make: Make, proxy: HttpProxy) -> None:
    store = make(proxy.port)
    store.put("a", [b"x"])
    proxy.rules = [Rule("status", method="GET", contains="/a", status=500, code="InternalError")]
    assert refusal(lambda: content(store, "a")).code == "object_damaged"
    proxy.rules = [Rule("status", status=500, code="InternalError")]
    assert refusal(lambda: content(store, "a")).code == "store_unreachable"


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize("length", [1000, 20 * MIB])
def test_a_lost_answer_does_not_turn_our_own_object_into_another_writers(
    make: Make, proxy: HttpProxy, length: int, if_absent: bool
) -> None:
    store = make(proxy.port)
    store.check(write=True)
    last = Rule("lose", "POST", "uploadId=", times=1) if length > MIB else Rule("lose", "PUT", "/a", times=1)
    proxy.rules = [last]
    store.put("a", pieces(bytes(length)), if_absent=if_absent)
    assert last.hits == 1
    assert content(store, "a") == bytes(length)


def test_an_upload_whose_completion_was_done_and_forgotten_is_ours(make: Make, proxy: HttpProxy) -> None:
    """As at AWS: the answer is lost, and the second request is told that there is no such upload."""
    proxy.rules = [
        Rule("lose", "POST", "uploadId=", times=1),
        Rule("status", "POST", "uploadId=", status=404, code="NoSuchUpload", times=1),
    ]
    make(proxy.port).put("a", pieces(bytes(20 * MIB)))
    assert [rule.hits for rule in proxy.rules] == [1, 1]
    assert content(make(), "a") == bytes(20 * MIB)


@pytest.mark.parametrize("length", [1000, 20 * MIB])
def test_a_bit_turned_on_the_way_in_is_noticed_by_the_server_and_sent_again(
    make: Make, proxy: HttpProxy, length: int
) -> None:
    body = os.urandom(length)
    proxy.rules = [Rule("flip_up", "PUT", times=1)]
    make(proxy.port).put("a", pieces(body))
    assert proxy.rules[0].hits == 1
    assert content(make(), "a") == body


@pytest.mark.parametrize("length", [1000, 20 * MIB])
def test_a_way_that_turns_bits_again_and_again_is_told(make: Make, proxy: HttpProxy, length: int) -> None:
    proxy.rules = [Rule("flip_up", "PUT")]
    assert refusal(lambda: make(proxy.port).put("a", pieces(os.urandom(length)))).code == "store_unreachable"
    assert nothing_left(make())


def test_a_bit_turned_on_the_way_out_is_noticed_with_the_object_and_the_member(make: Make, proxy: HttpProxy) -> None:
    store, codec = make(proxy.port), open_codec("none")
    chunks = [os.urandom(1000)]
    stored = pack.write_stream(store, "backups/a/", "objects/0000.raw", codec, name="3455.dat", chunks=chunks)
    proxy.rules = [Rule("flip_down", "GET", "objects", times=1)]
    error = refusal(lambda: pack.verify_packs(store, "backups/a/", [stored], codec))
    assert error.code == "object_damaged"
    assert "objects/0000.raw" in error.cause
    assert "3455.dat" in error.cause


def test_an_answer_that_is_cut_is_taken_up_where_it_broke_off(make: Make, proxy: HttpProxy) -> None:
    body = os.urandom(6 * MIB)
    store = make(proxy.port)
    store.put("a", pieces(body))
    proxy.rules = [Rule("cut", "GET", times=2)]
    assert content(store, "a") == body
    gets = [path for method, path in proxy.requests if method == "GET"]
    assert len(gets) == 3


def test_an_answer_that_is_cut_again_and_again_at_one_place_never_ends_quietly(make: Make, wire: Proxy) -> None:
    store = make(wire.port)
    store.put("a", pieces(os.urandom(6 * MIB)))
    wire.fault = Fault("cut", after=600)
    error = refusal(lambda: content(store, "a"))
    assert error.code in ("object_damaged", "store_unreachable")


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_connection_that_breaks_while_reading_is_got_over(make: Make, wire: Proxy, kind: str) -> None:
    body = os.urandom(20 * MIB)
    make().put("a", pieces(body))
    wire.fault = Fault(kind, after=5 * MIB, times=2)
    assert content(make(wire.port), "a") == body
    assert wire.hits == 2


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("length", [6 * MIB, 20 * MIB])
def test_a_connection_that_breaks_in_the_middle_of_a_part_is_got_over(
    make: Make, wire: Proxy, kind: str, length: int
) -> None:
    body = os.urandom(length)
    wire.fault = Fault(kind, after=3 * MIB, direction="up", times=1)
    make(wire.port).put("a", pieces(body))
    assert wire.hits == 1
    assert content(make(), "a") == body
    assert list(make().sweep("", time.time() + 60)) == []


def test_connections_that_always_break_in_the_middle_of_a_part_are_told(make: Make, wire: Proxy) -> None:
    wire.fault = Fault("reset", after=3 * MIB, direction="up")
    assert refusal(lambda: make(wire.port).put("a", pieces(os.urandom(20 * MIB)))).code == "store_unreachable"
    wire.fault = None
    assert make().list("") == []


def test_a_server_that_falls_silent_while_reading_is_told_after_the_timeout(make: Make, wire: Proxy) -> None:
    make().put("a", pieces(os.urandom(6 * MIB)))
    wire.fault = Fault("silent", after=2 * MIB)
    began = time.monotonic()
    store = make(wire.port, read_timeout=1, retries=1)
    wire_error = refusal(lambda: content(store, "a"))
    assert wire_error.code in ("store_unreachable", "object_damaged")
    assert time.monotonic() - began < 30


def test_a_slow_server_is_waited_for(make: Make, wire: Proxy) -> None:
    body = os.urandom(MIB)
    make().put("a", pieces(body))
    wire.fault = Fault("slow", after=MIB // 2, bytes_per_second=200_000)
    assert content(make(wire.port), "a") == body


def test_an_object_that_is_replaced_while_it_is_read_is_never_a_mixture(
    make: Make, wire: Proxy, bucket: str, s3_server: s3.Server
) -> None:
    make().put("a", pieces(b"1" * (20 * MIB)))
    wire.fault = Fault("cut", after=5 * MIB, times=1)
    with make(wire.port).get("a") as chunks:
        next(chunks)
        s3_server.client().put_object(Bucket=bucket, Key="a", Body=b"2" * (20 * MIB))
        error = refusal(lambda: list(chunks))
    assert error.code == "object_damaged"


WRITER = """
import json, sys, time
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

def chunks():
    for number in range(26):
        yield bytes(1024 * 1024)
    time.sleep(1)
    print("written", flush=True)
    time.sleep(60)

open_store(json.loads(sys.stdin.readline())).put("backups/a/objects/0000.zst", chunks())
"""


def test_a_killed_writer_leaves_nothing_visible_and_sweep_finds_its_upload(
    make: Make, s3_server: s3.Server, bucket: str
) -> None:
    params = {
        "type": "s3",
        "bucket": bucket,
        "endpoint_url": s3_server.endpoint,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
    }
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(json.dumps(params).encode() + b"\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == b"written\n"
    finally:
        writer.kill()
        writer.communicate()
    store = make()
    assert store.list("") == []
    assert list(store.sweep("", time.time() - 3600)) == [], "it is young"
    (left,) = store.sweep("backups/a/", time.time() + 60)
    assert left.startswith("backups/a/objects/0000.zst?uploadId=")
    assert nothing_left(store)


def test_a_server_that_dies_while_it_is_written_to_is_told_and_works_again_later() -> None:
    with s3.running() as server:
        params: dict[str, object] = {
            "type": "s3",
            "bucket": server.create_bucket(),
            "endpoint_url": server.endpoint,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "retries": 1,
        }
        store = open_store(params)
        store.put("kept", [b"kept"])

        def chunks() -> Iterator[bytes]:
            yield from pieces(bytes(20 * MIB))
            server.kill()
            yield from pieces(bytes(20 * MIB))

        assert refusal(lambda: store.put("a", chunks())).code == "store_unreachable"
        server.start()
        again = open_store(params)
        assert [info.key for info in again.list("")] == ["kept"]
        assert len(list(again.sweep("", time.time() + 60))) == 1
        again.put("a", [b"again"])


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_an_object_damaged_on_the_servers_disk_is_named(s3_server: s3.Server, make: Make, how: str) -> None:
    """The server's own volume files are changed below it."""
    store, codec = make(), open_codec("none")
    body = os.urandom(3 * MIB)
    (stored,) = pack.write_packs(store, "backups/a/", [[_source("3455.dat", body)]], codec)
    mark = body[2 * MIB : 2 * MIB + 64]
    changed = 0
    for volume in (s3_server.folder / "data").rglob("*.dat"):
        position = volume.read_bytes().find(mark)
        if position < 0:
            continue
        changed += 1
        if how == "flipped":
            with volume.open("r+b") as out:
                out.seek(position)
                out.write(bytes([mark[0] ^ 1]))
        else:
            os.truncate(volume, position)
    assert changed
    error = refusal(lambda: pack.verify_packs(store, "backups/a/", [stored], codec))
    assert error.code == "object_damaged"
    assert "objects/0000.raw" in error.cause


def test_an_object_removed_behind_our_back_is_missing(make: Make, bucket: str, s3_server: s3.Server) -> None:
    store, codec = make(), open_codec("none")
    (stored,) = pack.write_packs(store, "backups/a/", [[_source("3455.dat", b"x")]], codec)
    s3_server.client().delete_object(Bucket=bucket, Key=f"backups/a/{stored.key}")
    assert refusal(lambda: pack.verify_packs(store, "backups/a/", [stored], codec)).code == "object_missing"


def _source(name: str, body: bytes) -> pack.Source:
    @contextmanager
    def opener() -> Iterator[Iterator[bytes]]:
        yield pieces(body)

    return Member(name, len(body), hashlib.sha256(body).hexdigest()), opener
