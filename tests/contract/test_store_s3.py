# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store in a bucket promises beside the common contract, on a real S3 server."""

from __future__ import annotations

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
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.certificates import self_signed
from ansible_collections.saasops.runbook.tests.lab.http_proxy import HttpProxy, Rule

MIB = 1024 * 1024
Make = Callable[..., Store]


@pytest.fixture
def make(s3_server: s3.Server) -> Make:
    """Opens a store in a new bucket; changes are suboptions."""
    bucket = s3_server.create_bucket()

    def opened(**changes: object) -> Store:
        params: dict[str, object] = {
            "type": "s3",
            "bucket": bucket,
            "endpoint_url": s3_server.endpoint,
            "access_key": s3_server.access_key,
            "secret_key": s3_server.secret_key,
            "retries": 1,
        }
        return open_store({**params, **changes})

    return opened


def refusal(act: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value


def content(store: Store, key: str) -> bytes:
    with store.get(key) as chunks:
        return b"".join(chunks)


def test_a_bucket_that_does_not_exist_is_named_and_not_made(make: Make, s3_server: s3.Server) -> None:
    store = make(bucket="never-made")
    for write in (False, True):
        error = refusal(lambda write=write: store.check(write=write))  # type: ignore[misc]
        assert error.code == "bucket_missing"
        assert "never-made" in error.cause
    assert "never-made" not in [bucket["Name"] for bucket in s3_server.client().list_buckets()["Buckets"]]


def test_credentials_that_may_only_read_are_told_apart(make: Make, s3_server: s3.Server) -> None:
    make().put("a", [b"x"])
    reader = make(access_key=s3_server.reader_access_key, secret_key=s3_server.reader_secret_key)
    reader.check(write=False)
    assert content(reader, "a") == b"x"
    for act in (
        lambda: reader.check(write=True),
        lambda: reader.put("b", [b"x"]),
        lambda: reader.put("b", [bytes(20 * MIB)]),
        lambda: reader.put("b", [b"x"], if_absent=True),
        lambda: reader.delete(["a"]),
    ):
        assert refusal(act).code == "store_not_writable"
    assert [info.key for info in make().list("")] == ["a"]


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong-secret"}, {"access_key": "wrong-access"}])
def test_wrong_credentials_are_denied_and_not_shown(make: Make, s3_server: s3.Server, wrong: dict[str, str]) -> None:
    error = refusal(lambda: make(**wrong).check(write=True))
    assert error.code == "store_denied"
    shown = f"{error.message} {error.details} {error.__cause__}"
    assert "wrong-" not in shown
    assert s3_server.secret_key not in shown


def test_without_any_credentials_the_remedy_names_the_ways(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    error = refusal(lambda: make(access_key=None, secret_key=None).check(write=False))
    assert error.code == "store_denied"
    assert "profile" in error.remedy


def test_credentials_come_from_the_environment_too(
    make: Make, s3_server: s3.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    make(access_key=None, secret_key=None).check(write=True)


def test_credentials_come_from_a_profile_too(
    make: Make, s3_server: s3.Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("aws") / "credentials"
    file.write_text(
        f"[nightly]\naws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    make(access_key=None, secret_key=None, profile="nightly").check(write=True)


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """A PEM file with a key and its certificate for 127.0.0.1, signed by itself."""
    return str(self_signed(tmp_path))


def test_a_certificate_of_ones_own_is_accepted_with_its_file_and_refused_without(
    make: Make, s3_server: s3.Server, certificate: str
) -> None:
    with HttpProxy(s3_server.port, certificate) as proxy:
        error = refusal(lambda: make(endpoint_url=proxy.endpoint).check(write=False))
        assert error.code == "store_unreachable"
        assert "ca_bundle" in error.remedy
        store = make(endpoint_url=proxy.endpoint, ca_bundle=certificate)
        store.check(write=True)
        store.put("a", [b"x"])
        assert content(store, "a") == b"x"


def test_the_server_proves_what_arrived_over_tls_too(make: Make, s3_server: s3.Server, certificate: str) -> None:
    with HttpProxy(s3_server.port, certificate) as proxy:
        store = make(endpoint_url=proxy.endpoint, ca_bundle=certificate)
        proxy.rules = [Rule("flip_up", "PUT", times=1)]
        store.put("a", [b"as it was sent"])
        assert proxy.rules[0].hits == 1
        assert content(make(), "a") == b"as it was sent"


@pytest.mark.parametrize(("length", "method"), [(10, "PUT"), (20 * MIB, "POST")])
def test_a_server_that_ignores_conditions_is_refused_before_anything_is_overwritten(
    make: Make, s3_server: s3.Server, length: int, method: str
) -> None:
    """Removing the object right before a conditional request arrives is what ignoring the condition looks like."""
    with HttpProxy(s3_server.port) as proxy:
        store = make(endpoint_url=proxy.endpoint)

        def remove() -> None:
            make().delete([info.key for info in make().list("probes/")])

        proxy.rules = [Rule("before", method, header="If-None-Match", call=remove)]
        assert refusal(lambda: store.put("a", [bytes(length)], if_absent=True)).code == "store_lacks_conditions"
        if method == "PUT":
            assert refusal(lambda: store.check(write=True)).code == "store_lacks_conditions"
        assert make().list("") == []
        store.put("a", [b"without a condition"])
    assert [info.key for info in make().list("")] == ["a"]


def test_two_prefixes_of_one_bucket_do_not_see_each_other(make: Make) -> None:
    one, other = make(prefix="one"), make(prefix="one-more")
    one.put("backups/a", [b"1"])
    other.put("backups/a", [b"2"])
    assert content(one, "backups/a") == b"1"
    one.delete(["backups/a"])
    assert one.list("") == []
    assert content(other, "backups/a") == b"2"


def test_what_is_no_object_of_ours_is_not_listed(make: Make, s3_server: s3.Server) -> None:
    store = make()
    store.put("a", [b"1"])
    client = s3_server.client()
    bucket = store.url.split("/")[2]
    client.put_object(Bucket=bucket, Key="folder/", Body=b"")
    client.put_object(Bucket=bucket, Key="with space", Body=b"x")
    assert [info.key for info in store.list("")] == ["a"]


def test_sweep_ends_unfinished_uploads_that_are_old_and_below_its_prefix(make: Make, s3_server: s3.Server) -> None:
    store = make(prefix="system")
    bucket = store.url.split("/")[2]
    client = s3_server.client()
    for key in ("system/backups/a/1", "system/backups/b/1", "other/backups/a/1"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    assert list(store.sweep("backups/a/", time.time() - 60)) == []
    swept = store.sweep("backups/a/", time.time() + 60)
    assert [name.partition("?")[0] for name in swept] == ["backups/a/1"]
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["other/backups/a/1", "system/backups/b/1"]


def test_sweep_removes_probes_that_are_old(make: Make, s3_server: s3.Server) -> None:
    store = make()
    s3_server.client().put_object(Bucket=store.url.split("/")[2], Key="probes/0011223344556677", Body=b"probe")
    assert list(store.sweep("", time.time() - 60)) == []
    assert list(store.sweep("", time.time() + 60)) == ["probes/0011223344556677"]
    assert store.list("") == []


def test_of_two_exclusive_writers_of_many_parts_exactly_one_wins(make: Make) -> None:
    bodies = [bytes([number]) * (17 * MIB) for number in (1, 2)]
    meeting = threading.Barrier(2)

    def write(number: int, key: str) -> bool:
        def chunks() -> Iterator[bytes]:
            yield bodies[number]
            meeting.wait(30)

        try:
            make().put(key, chunks(), if_absent=True)
        except OpsError as error:
            return error.code != "object_exists"
        return True

    with ThreadPoolExecutor(2) as pool:
        for attempt in range(3):
            key = f"large/{attempt}"
            won = list(pool.map(write, (0, 1), (key, key)))
            assert sorted(won) == [False, True]
            assert content(make(), key) == bodies[won.index(True)]
    assert list(make().sweep("", time.time() + 60)) == []


def test_memory_stays_bounded_while_a_large_object_passes(make: Make) -> None:
    store, alive, most = make(), 0, 0

    class Chunk(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def chunks() -> Iterator[bytes]:
        nonlocal alive, most
        for _number in range(160):
            alive += 1
            most = max(most, alive)
            yield Chunk(MIB)

    store.put("large", chunks())
    assert most <= 24
