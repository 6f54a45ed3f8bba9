# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second copy under other credentials: made by backup, used when the first store is gone, never deletable by it.

The credentials have exactly the policies that docs/copies.md shows; a real S3 server holds them to these.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.docs.guide import policies
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

pytestmark = pytest.mark.parametrize("server", [17], indirect=True)
ROWS = "SELECT count(*) FROM orders"


@pytest.fixture(scope="module")
def guarded_s3() -> Iterator[s3.Server]:
    """An S3 server whose writer and pruner have the guide's policies, for the bucket and prefix of the guide."""
    with s3.running(policies()) as server:
        server.create_bucket("backups")
        yield server


@pytest.fixture
def client(guarded_s3: s3.Server) -> Iterator[S3Client]:
    """An administrator who looks independently and leaves the bucket empty."""
    admin = guarded_s3.client()
    yield admin
    for item in admin.list_objects_v2(Bucket="backups").get("Contents", []):
        admin.delete_object(Bucket="backups", Key=item["Key"])


@pytest.fixture
def shop(server: Server, database: str) -> str:
    server.psql("CREATE TABLE orders AS SELECT generate_series(1, 500) AS id", database)
    return database


def options(server: s3.Server, identity: str) -> dict[str, object]:
    access, secret = server.keys[identity]
    return {
        "type": "s3",
        "bucket": "backups",
        "prefix": "shop",
        "endpoint_url": server.endpoint,
        "access_key": access,
        "secret_key": secret,
    }


def keys(client: S3Client) -> set[str]:
    return {item["Key"] for item in client.list_objects_v2(Bucket="backups").get("Contents", [])}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def hosts(server: Server, database: str, folder: Path, **variables: object) -> Path:
    facts = {
        "saasops_system": "test",
        "saasops_database": database,
        "saasops_connection": connection(server),
        "saasops_rpo": "1h",
        "saasops_retention": {"daily": 1, "minimum_proven": 1},
    }
    return inventory(folder, {**facts, **variables})


def good(run: Run) -> Run:
    assert run.code == 0, run.output
    return run


def test_when_the_first_store_is_gone_everything_works_from_the_copy(
    server: Server, shop: str, store: Path, guarded_s3: s3.Server, client: S3Client, tmp_path: Path
) -> None:
    known = hosts(
        server, shop, tmp_path,
        saasops_store={"path": str(store)}, saasops_store_copies=[options(guarded_s3, "writer")],
    )  # fmt: skip
    secret = guarded_s3.keys["writer"][1]
    made = good(play("backup", known, "-vvv"))
    assert "copied and read back to s3://backups/shop" in made.output
    assert secret not in made.output
    (set_id,) = [path.name for path in (store / "backups").iterdir()]
    # leases and the journal stay where they are: a copy is of sets
    in_folder = {str(path.relative_to(store)) for path in (store / "backups").rglob("*") if path.is_file()}
    assert in_folder
    assert {f"shop/{name}" for name in in_folder} <= keys(client)
    again = good(play("copy", known, "-e", "set=all", "-vvv"))
    assert again.changed == 0
    assert secret not in again.output

    shutil.rmtree(store)
    server.psql("DELETE FROM orders", shop)
    assert play("backups", known).code != 0, "a store that is gone is an alarm"
    listed = good(play("backups", known, "-e", "copy=1"))
    assert set_id in listed.output
    good(play("restore_drill", known, "-e", "copy=1"))
    good(play("restore", known, "-e", "copy=1", "-e", "switch=true"))
    assert server.psql(ROWS, shop) == "500"
    good(play("undo", known, "-e", "copy=1"))
    assert server.psql(ROWS, shop) == "0"
    unknown = play("restore", known, "-e", "copy=offsite")
    assert unknown.code != 0
    assert "[not_configured]" in unknown.output
    for name in server.psql(f"SELECT datname FROM pg_database WHERE datname LIKE '{shop}\\_%'", "postgres").split():
        server.dropdb(name)


def test_check_mode_of_copy_says_how_much_and_writes_nothing(
    server: Server, shop: str, store: Path, tmp_path: Path
) -> None:
    copies = [{"path": str(tmp_path / "copy"), "create": True}]
    good(play("backup", hosts(server, shop, tmp_path, saasops_store={"path": str(store)})))
    known = hosts(server, shop, tmp_path, saasops_store={"path": str(store)}, saasops_store_copies=copies)
    planned = good(play("copy", known, "--check", "--diff"))
    assert "1 of 1 sets (" in planned.output
    assert "would be copied to" in planned.output
    assert "+copy 20" in planned.output
    assert not (tmp_path / "copy").exists()
    assert good(play("copy", known)).changed == 1
    assert good(play("copy", known)).changed == 0


def test_a_copy_that_fails_fails_the_run_and_is_made_up_for_by_the_same_slot(
    server: Server, shop: str, store: Path, tmp_path: Path
) -> None:
    away = tmp_path / "not mounted"
    known = hosts(
        server, shop, tmp_path, saasops_store={"path": str(store)}, saasops_store_copies=[{"path": str(away)}]
    )
    failed = play("backup", known, "-e", "key=nightly")
    assert failed.code != 0
    assert "[store_missing]" in failed.output
    assert "The sets in the first store are as good as before" in failed.output
    assert "Then run the verb copy" in failed.output
    (entry,) = sets.entries(PosixStore(str(store)), "test")
    assert entry.state == "complete"
    good(play("backups", known))
    away.mkdir()
    good(play("backup", known, "-e", "key=nightly"))
    assert [found.set_id for found in sets.entries(PosixStore(str(away)), "test")] == [entry.set_id]


def test_a_writer_that_cannot_delete_backs_up_and_leaves_the_rest_to_prune(
    server: Server, shop: str, guarded_s3: s3.Server, client: S3Client, tmp_path: Path
) -> None:
    writer, pruner = options(guarded_s3, "writer"), options(guarded_s3, "pruner")
    known = hosts(server, shop, tmp_path, saasops_store=writer)
    good(play("backup", known))
    # what a dead run of this database, on this server, left
    (own,) = [key for key in keys(client) if key.endswith("/begun.json")]
    begun = json.loads(client.get_object(Bucket="backups", Key=own)["Body"].read())
    begun["started"] = "2026-01-01T00:00:00.000000Z"
    dead = "shop/backups/20260101T000000Z-0badcafe"
    client.put_object(Bucket="backups", Key=f"{dead}/begun.json", Body=json.dumps(begun).encode())
    client.put_object(Bucket="backups", Key=f"{dead}/objects/0001.zst", Body=b"half")
    before = keys(client)

    warned = good(play("backup", known))
    assert "The partial set 20260101T000000Z-0badcafe of an interrupted run stays" in warned.output
    assert "The verb prune removes it" in warned.output
    assert before < keys(client), "nothing is gone, a set is added"
    good(play("backups", known))

    at_once = {"daily": 1, "minimum_proven": 1, "partial_grace": "0s"}
    known = hosts(server, shop, tmp_path, saasops_store=writer, saasops_retention=at_once)
    refused = play("prune", known)
    assert refused.code != 0
    assert "[store_not_writable]" in refused.output

    only = {name: pruner[name] for name in ("access_key", "secret_key")}
    pruned = good(play("prune", known, "-vvv", "-e", json.dumps({"saasops_prune_store": only})))
    assert only["secret_key"] not in pruned.output.replace(json.dumps(only), "")
    assert not [key for key in keys(client) if key.startswith(dead)]
    assert len({key for key in keys(client) if key.endswith("manifest.json")}) == 2


def test_to_take_a_pin_away_needs_the_right_to_delete(
    server: Server, shop: str, guarded_s3: s3.Server, client: S3Client, tmp_path: Path
) -> None:
    known = hosts(server, shop, tmp_path, saasops_store=options(guarded_s3, "writer"))
    good(play("backup", known))
    (set_id,) = {key.split("/")[2] for key in keys(client) if key.endswith("manifest.json")}
    good(play("pin", known, "-e", f"set={set_id}", "-e", "reason=audit"))
    taken = play("pin", known, "-e", f"set={set_id}", "-e", "state=absent")
    assert taken.code != 0
    assert "[store_not_writable]" in taken.output
    allowed = {"saasops_prune_store": options(guarded_s3, "pruner")}
    good(play("pin", known, "-e", f"set={set_id}", "-e", "state=absent", "-e", json.dumps(allowed)))
    assert f"shop/backups/{set_id}/pin.json" not in keys(client)
