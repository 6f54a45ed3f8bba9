# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of README and guides, followed by a reader from the first to the last, against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.saasops.runbook.tests.docs.guide import ROOT, Reader, policies, sections
from ansible_collections.saasops.runbook.tests.lab import postgres, s3
from ansible_collections.saasops.runbook.tests.lab.watcher import Watcher

if TYPE_CHECKING:
    from ansible_collections.saasops.runbook.tests.docs.conftest import Shop

MakeReader = Callable[..., Reader]
GUIDES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def leftovers(shop: Shop) -> str:
    """Databases of shop beside the live one."""
    return shop.server.psql(r"SELECT datname FROM pg_database WHERE datname LIKE 'shop\_%'")


@pytest.fixture(autouse=True)
def _tidy(shop: Shop) -> object:
    """A guide that restores leaves databases beside the live one; the next guide begins without them."""
    yield
    for name in leftovers(shop).split():
        shop.server.dropdb(name)


def test_the_commands_of_the_readme_back_up_restore_switch_and_undo(
    reader: MakeReader, shop: Shop, store: Path
) -> None:
    somebody = reader()
    oid = "SELECT oid FROM pg_database WHERE datname = 'shop'"
    before = shop.server.psql(oid)
    somebody.follow(sections("README.md")["A first backup of your own database"])
    said = "\n".join(somebody.outputs)
    assert "1 set written and proven" in said
    assert "shop is now set" in said
    assert shop.server.psql(oid) == before, "undo brought the first database back"
    assert shop.server.psql("SELECT count(*) FROM orders", "shop") == "500"
    assert len(list(store.glob("backups/*/manifest.json"))) == 1


def test_getting_started_can_be_followed_from_its_first_to_its_last_command(
    reader: MakeReader, shop: Shop, store: Path
) -> None:
    somebody = reader()
    for blocks in sections("docs/getting_started.md").values():
        somebody.follow(blocks)
    assert shop.server.psql("SELECT count(*) FROM orders", "shop") == "500"
    # the first one, and one for the night: the second run of the same slot made none
    assert len(list(store.glob("backups/*/manifest.json"))) == 2
    assert "changed=0" in somebody.outputs[-2]


def test_a_drill_beside_the_live_database_and_one_on_a_scratch_server(
    reader: MakeReader, shop: Shop, store: Path
) -> None:
    shop.server.psql("ALTER TABLE orders ADD COLUMN IF NOT EXISTS ordered_at timestamptz DEFAULT now()", "shop")
    guide = sections("docs/drill.md")
    with postgres.running(15, own=True) as scratch:
        rules = scratch.data / "pg_hba.conf"
        rules.write_text("local all all peer\n" + rules.read_text(encoding="utf-8"), encoding="utf-8")
        scratch.reload()
        if shop.user.pw_name != "postgres":
            scratch.psql(f'CREATE ROLE "{shop.user.pw_name}" SUPERUSER LOGIN')
        somebody = reader()
        # the longer text first: it begins like the address of the live server
        somebody.values = {
            "/run/postgresql, port: 5433": f"{scratch.socket_dir}, port: {scratch.port}",
            **somebody.values,
        }
        # the guide's folder of variables takes the place of the file
        groups = somebody.work / "group_vars"
        here = (groups / "all.yml").read_text(encoding="utf-8")
        (groups / "all.yml").unlink()
        (groups / "all").mkdir()
        (groups / "all" / "here.yml").write_text(here, encoding="utf-8")
        somebody.follow(guide["What the inventory says"])
        somebody.follow(guide["Beside the live database"])
        assert "Drill passed" in somebody.outputs[-1]
        assert "scratch server" not in somebody.outputs[-1]
        somebody.follow(guide["On a scratch server"])
        assert f"on the scratch server {scratch.socket_dir}:{scratch.port}" in somebody.outputs[-1]
    assert len(list(store.glob("drills/*.json"))) == 2


def test_health_can_be_followed_from_its_first_to_its_last_command(reader: MakeReader, shop: Shop, store: Path) -> None:
    rows = "SELECT generate_series(1, 11) AS id, now() AS placed_at, NULL::timestamptz AS packed_at"
    shop.server.psql(f"CREATE SCHEMA org_a; CREATE TABLE org_a.orders AS {rows}; CREATE SCHEMA org_b", "shop")
    shop.server.psql("CREATE TABLE org_b.orders AS TABLE org_a.orders WITH NO DATA", "shop")
    somebody = reader()
    try:
        somebody.follow([block for block in sections("docs/health.md")["A first check"] if block.kind == "file"])
        shown = sections("docs/health.md")["A first check"][1].commands
        said = [somebody.shell(command) for command in shown]
        # a gate asks for more than a look
        assert [code for code, _output in said] == [0, 0, 2]
        assert "org_a: 11 orders, warning when > 10" in said[0][1]
        assert "[health_warning]" in said[2][1]
        shop.server.psql("DELETE FROM org_a.orders WHERE id = 1", "shop")
        for blocks in sections("docs/health.md").values():
            somebody.follow(blocks)
        assert len(list(store.glob("health/shop/*/*.json.gz"))) == 3
    finally:
        shop.server.psql("DROP SCHEMA org_a CASCADE; DROP SCHEMA org_b CASCADE", "shop")


@pytest.mark.parametrize("section", list(sections("docs/discover.md")))
def test_the_commands_of_discover_do_what_the_guide_says(reader: MakeReader, shop: Shop, section: str) -> None:
    somebody = reader()
    # each section is read by itself: the password file belongs to the first
    somebody.follow([block for block in sections("docs/discover.md")["A server"] if block.about == "~/.pgpass"])
    somebody.follow(sections("docs/discover.md")[section])
    assert shop.password not in "\n".join(somebody.outputs)
    if section == "A server":
        assert '"saasops_database": "shop"' in somebody.outputs[-1]


def test_the_command_of_triage_looks_at_the_shop(reader: MakeReader, shop: Shop) -> None:
    somebody = reader()
    somebody.follow(sections("docs/triage.md")["Look"])
    assert "looked through saasops_connection" in somebody.outputs[-1]
    assert "connections against the limit" in somebody.outputs[-1]


def test_copies_can_be_followed_from_its_first_to_its_last_command(
    reader: MakeReader, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.running(policies()) as bucket, Watcher() as watcher:
        bucket.create_bucket("backups")
        bucket.create_bucket("offsite")
        keys = {**bucket.keys, "offsite": (bucket.access_key, bucket.secret_key)}
        for name, (access, secret) in keys.items():
            monkeypatch.setenv(f"{name.upper()}_KEY", access)
            monkeypatch.setenv(f"{name.upper()}_SECRET", secret)
        metrics = tmp_path / "metrics"
        metrics.mkdir()
        somebody = reader()
        somebody.values = {
            **somebody.values,
            "https://s3.example.com": bucket.endpoint,
            "https://s3.example.net": bucket.endpoint,
            "https://hc.example.com/ping/b1f7": watcher.url,
            "/var/lib/node_exporter": str(metrics),
        }
        somebody.follow([block for block in sections("docs/passwords.md")[".pgpass"] if block.about == "~/.pgpass"])
        for blocks in sections("docs/copies.md").values():
            somebody.follow(blocks)
        made = {
            name: {item["Key"].split("/")[2] for item in found.get("Contents", []) if "/backups/" in item["Key"]}
            for name in ("backups", "offsite")
            for found in [bucket.client().list_objects_v2(Bucket=name)]
        }
        said = "\n".join(somebody.outputs)
    assert len(made["backups"]) == 2, "the first one, and the one that the watcher was told of"
    assert made["offsite"] == made["backups"]
    assert len(watcher.heard) == 1
    assert not [secret for _access, secret in keys.values() if secret in said]
    assert watcher.secret not in said
    assert shop.server.psql("SELECT count(*) FROM orders", "shop") == "500"


def test_the_commands_of_indexes_build_drop_and_leave_alone(reader: MakeReader, shop: Shop) -> None:
    somebody = reader()
    for blocks in sections("docs/indexes.md").values():
        somebody.follow(blocks)
    assert "create public.orders_by_id" in somebody.outputs[0]
    assert "1 index built, valid and ready" in somebody.outputs[1]
    assert "changed=0" in somebody.outputs[2]
    assert "1 index dropped" in somebody.outputs[3]
    assert shop.server.psql("SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'", "shop") == "0"


def test_the_commands_of_the_maintenance_guide_do_what_is_due_once(reader: MakeReader, shop: Shop, store: Path) -> None:
    shop.server.psql("UPDATE orders SET id = id", "shop")
    somebody = reader()
    somebody.follow(sections("docs/maintenance.md")["A first run"])
    checked, first, second = somebody.outputs[:3]
    assert "vacuum public.orders" in checked
    assert "500 dead rows removed" in first
    assert "Nothing to do" in second


@pytest.mark.parametrize("guide", GUIDES)
def test_every_link_of_a_guide_leads_to_a_file_and_a_heading(guide: str) -> None:
    text = (ROOT / guide).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _mark, anchor = target.partition("#")
        path = (ROOT / guide).parent / name if name else ROOT / guide
        assert path.exists(), f"{guide} points to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", item.lower()).replace(" ", "-") for item in headings}
            assert anchor in anchors, f"{guide} points to {target}"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_verb_that_a_guide_names_is_a_playbook(guide: str) -> None:
    text = (ROOT / guide).read_text(encoding="utf-8")
    for verb in re.findall(r"ansible-playbook (?:-\S+ )*saasops\.runbook\.(\w+)", text):
        assert (ROOT / "playbooks" / f"{verb}.yml").is_file(), f"{guide} names {verb}"


def test_the_journal_is_proven_by_the_command_of_the_safety_guide(reader: MakeReader, shop: Shop, store: Path) -> None:
    somebody = reader()
    hosts = {"all": {"hosts": {"shop": {"saasops_store": {"path": str(store)}}}}}
    (somebody.work / "inventory.yml").write_text(json.dumps(hosts), encoding="utf-8")
    somebody.follow(sections("docs/safety.md")["What was done: the journal"])
    assert "The journal holds no record yet." in somebody.outputs[-1]


def test_migrate_can_be_followed_from_its_first_to_its_last_command(
    reader: MakeReader, shop: Shop, store: Path
) -> None:
    somebody = reader()
    try:
        for blocks in sections("docs/migrate.md").values():
            somebody.follow(blocks)
        assert "changed=0" in somebody.outputs[-1]
        assert "ACCESS EXCLUSIVE on orders" in somebody.outputs[2]
        run = shop.server.psql("SELECT run FROM saasops.migrations WHERE version = '002'", "shop")
        (command,) = re.findall(r"^\$ (ansible-playbook saasops.runbook.undo .*)$", guide_text("docs/migrate.md"), re.M)
        code, output = somebody.shell(re.sub(r"run=\S+", f"run={run}", command))
        assert code == 0, output
        assert shop.server.psql("SELECT to_regclass('customers') IS NULL", "shop") == "t"
    finally:
        shop.server.psql("DROP SCHEMA IF EXISTS saasops CASCADE; DROP TABLE IF EXISTS customers", "shop")
        shop.server.psql("ALTER TABLE orders DROP COLUMN IF EXISTS customer", "shop")


def guide_text(document: str) -> str:
    """The text of a guide."""
    return (ROOT / document).read_text(encoding="utf-8")


def test_a_cleanup_is_looked_at_done_and_undone(reader: MakeReader, shop: Shop, store: Path) -> None:
    shop.server.psql(
        "CREATE TABLE events (id int PRIMARY KEY, created_at timestamptz);"
        "CREATE TABLE clicks (id int PRIMARY KEY, event int REFERENCES events ON DELETE CASCADE);"
        "CREATE INDEX ON clicks (event);"
        "INSERT INTO events SELECT i, now() - i * interval '3 days' + interval '1 hour' FROM generate_series(1, 60) i;"
        "INSERT INTO clicks SELECT i, i FROM generate_series(2, 60, 2) i",
        "shop",
    )
    try:
        somebody = reader()
        for blocks in sections("docs/cleanup.md").values():
            somebody.follow(blocks)
        assert shop.server.psql("SELECT count(*), (SELECT count(*) FROM clicks) FROM events", "shop") == "60|30"
        assert len(list(store.glob("archives/*/manifest.json"))) == 1
    finally:
        shop.server.psql("DROP TABLE clicks, events", "shop")


def test_a_repair_is_looked_at_done_refused_and_undone(reader: MakeReader, shop: Shop, store: Path) -> None:
    shop.server.psql(
        "CREATE TABLE requests (id bigint PRIMARY KEY, customer text, status text);"
        "INSERT INTO requests VALUES (7, 'Ada', 'pending'), (8, '', 'pending')",
        "shop",
    )
    try:
        somebody = reader()
        for blocks in sections("docs/repair.md").values():
            somebody.follow(blocks)
        assert shop.server.psql("SELECT status FROM requests WHERE id = 7", "shop") == "pending"
        assert len(list(store.glob("archives/*/manifest.json"))) == 1
    finally:
        shop.server.psql("DROP TABLE requests", "shop")
