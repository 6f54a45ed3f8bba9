# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup whose credentials may write and not delete: what it would remove stays, is named, and hinders nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import backup, backup_copy, backup_prune
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab import broken_tools, s3
from ansible_collections.saasops.runbook.tests.lab.acts import connection, context
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_set
from ansible_collections.saasops.runbook.tests.lab.http_proxy import HttpProxy, Rule
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
ALLOWED = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:PutObject"]
WRITER = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ALLOWED, "Resource": "arn:aws:s3:::*"}]}


@pytest.fixture(scope="module")
def guarded_s3() -> Iterator[s3.Server]:
    """An S3 server with an identity that may not even give up an upload of its own."""
    with s3.running({"writer": json.dumps(WRITER)}) as found:
        yield found


@pytest.fixture
def bucket(guarded_s3: s3.Server) -> str:
    return guarded_s3.create_bucket()


@pytest.fixture
def client(guarded_s3: s3.Server) -> S3Client:
    return guarded_s3.client()


def options(guarded_s3: s3.Server, bucket: str, endpoint: str = "") -> dict[str, object]:
    access, secret = guarded_s3.keys["writer"]
    found = {"type": "s3", "bucket": bucket, "endpoint_url": endpoint or guarded_s3.endpoint}
    return {**found, "access_key": access, "secret_key": secret}


def administrator(guarded_s3: s3.Server, bucket: str) -> dict[str, object]:
    pair = {"access_key": guarded_s3.access_key, "secret_key": guarded_s3.secret_key}
    return {**options(guarded_s3, bucket), **pair}


def run(server: Server, database: str, store: dict[str, object], *, later: float = 0.0, **changes: object) -> list[str]:
    """pg_backup, as if it ran `later` seconds from now; returns what it warned of."""
    lines: list[str] = []
    told: list[str] = []
    params = {"system": "test", "database": database, "connection": connection(server), "store": store, **changes}
    ours = replace(context(lines=told), now=time.time() + later, warn=lines.append)
    backup.execute(params, ours)
    return lines


def states(store: dict[str, object]) -> list[str]:
    return [entry.state for entry in sets.entries(open_store(store), "test")]


def test_probes_that_it_could_never_remove_do_not_stop_the_backup_of_the_next_day(
    server: Server, database: str, guarded_s3: s3.Server, bucket: str, client: S3Client
) -> None:
    store = options(guarded_s3, bucket)
    assert run(server, database, store) == []
    probes = client.list_objects_v2(Bucket=bucket, Prefix="probes/").get("Contents", [])
    assert probes, "each run leaves a probe that it may not delete"
    (warning,) = run(server, database, store, later=2 * DAY)
    assert "What interrupted writers left stays" in warning
    assert "AccessDenied" in warning
    assert "The verb prune removes it" in warning
    assert states(store) == ["complete", "complete"]


def test_uploads_that_it_may_not_give_up_do_not_stop_it(
    server: Server, database: str, guarded_s3: s3.Server, bucket: str, client: S3Client
) -> None:
    client.create_multipart_upload(Bucket=bucket, Key="backups/20260101T000000Z-0badcafe/objects/0001.zst")
    store = options(guarded_s3, bucket)
    assert any("What interrupted writers left stays" in line for line in run(server, database, store, later=2 * DAY))
    assert states(store) == ["complete"]


def test_a_backup_that_fails_says_what_stays_and_the_next_one_is_good(
    server: Server, database: str, guarded_s3: s3.Server, bucket: str, client: S3Client, tmp_path: Path
) -> None:
    store = options(guarded_s3, bucket)
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS id", database)
    broken = connection(server, client_bin=str(broken_tools.make(tmp_path / "bin", server.bin, "pg_dump", "fail")))
    warned: list[str] = []
    params = {"system": "test", "database": database, "connection": broken, "store": store}
    with pytest.raises(OpsError) as caught:
        backup.execute(params, replace(context(), warn=warned.append))
    assert caught.value.code == "tool_failed", "the first error is the one that is seen"
    assert any("stays in the store" in line for line in warned)
    assert states(store) == ["partial"]
    (warning,) = run(server, database, store)
    assert "The partial set" in warning
    assert states(store) == ["partial", "complete"]

    rules: dict[str, object] = {"daily": 1, "partial_grace": "0s"}
    mine: dict[str, object] = {"system": "test", "retention": rules, "store": administrator(guarded_s3, bucket)}
    backup_prune.execute(mine, replace(context(), now=time.time() + 2 * DAY))
    assert states(store) == ["complete"]
    assert not client.list_objects_v2(Bucket=bucket, Prefix="probes/").get("Contents", [])
    assert run(server, database, store) == []


def test_the_error_of_the_real_s3_for_a_delete_is_understood(
    server: Server, database: str, guarded_s3: s3.Server, bucket: str
) -> None:
    """AWS answers a whole request with 403 AccessDenied where a bucket policy forbids it."""
    with HttpProxy(guarded_s3.port) as proxy:
        forbidden = {"status": 403, "code": "AccessDenied"}
        proxy.rules.append(Rule("status", method="POST", contains="delete", **forbidden))  # type: ignore[arg-type]
        proxy.rules.append(Rule("status", method="DELETE", **forbidden))  # type: ignore[arg-type]
        store = {**administrator(guarded_s3, bucket), "endpoint_url": proxy.endpoint}
        run(server, database, store)
        assert any("may delete" in line for line in run(server, database, store, later=2 * DAY))
        assert states(store) == ["complete", "complete"]


def test_a_copy_needs_no_right_to_delete(server: Server, guarded_s3: s3.Server, bucket: str, tmp_path: Path) -> None:
    make_set(tmp_path, time.time() - HOUR)
    writer = options(guarded_s3, bucket)
    params: dict[str, object] = {"system": "demo", "set": ["all"], "store": {"path": str(tmp_path)}, "copies": [writer]}
    assert backup_copy.execute(params, context()).changed
    make_set(tmp_path, time.time() - HOUR)
    warned: list[str] = []
    assert backup_copy.execute(params, replace(context(), now=time.time() + 2 * DAY, warn=warned.append)).changed
    assert len(warned) == 1
    assert [entry.state for entry in sets.entries(open_store(writer), "demo")] == ["complete", "complete"]
