# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a restore is refused, what it plans, and what it asks of the disks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, Manifest
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Database
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import (
    Blocker,
    ServerState,
    Volume,
    Wish,
    decide_restore,
    estimated_bytes,
    tied_extensions,
)

OWN = Database(
    owner="app",
    encoding="UTF8",
    locale_provider="libc",
    collate="de_DE.UTF-8",
    ctype="de_DE.UTF-8",
    locale="",
    icu_rules="",
    collation_version="2.36",
    tablespace="pg_default",
    connection_limit=-1,
    is_template=False,
    comment="",
    grants=(),
    settings=(),
    labels=(),
)
PROPERTIES: dict[str, Json] = {
    "database": OWN.as_json(),
    "bytes": 1_000_000,
    "extensions": {"citext": {"version": "1.6", "schema": "public"}},
    "roles": ["app", "reader"],
    "tablespaces": [],
    "schemas": {"public": {}, "org_a": {}},
}
MANIFEST = Manifest(
    system="demo",
    set_id="20261122T200000Z-aaaaaaaa",
    kind="database",
    database="live",
    schemas=(),
    tenant=None,
    started=1.0,
    snapshot_at=2.0,
    finished=3.0,
    server={"version": 150018},
    tools={},
    pipeline="stream",
    codec="zstd",
    raw_bytes=500_000,
    stored_bytes=100_000,
    tables=3,
    rows=10,
    contents_sha256="",
    globals={},
    proof={},
)
SERVER = ServerState(
    version=150018,
    system_identifier="7",
    superuser=True,
    may_create=True,
    in_recovery=False,
    databases=["live", "postgres"],
    roles=["app", "reader", "postgres"],
    tablespaces=["pg_default"],
    extensions={"citext": ["1.5", "1.6"], "plpgsql": ["1.0"]},
    collation_version="2.36",
    volumes=(Volume("/data", 10_000_000, {"data": 1_000_000, "wal": 1_000_000}),),
    standbys=0,
    wal_kept_for_slots=False,
)
WISH = Wish(
    database="live",
    target="live_restore_aaaaaaaa",
    schemas=(),
    create_roles=False,
    staging="/var/tmp",
    staging_on_pgdata=False,
    in_place=False,
    live_bytes=900_000,
    blockers=(),
    acknowledged=(),
    hint="ansible-playbook saasops.runbook.restore -e set=x",
)


def refused(
    server: ServerState = SERVER, wish: Wish = WISH, properties: dict[str, Json] | None = None, **manifest: object
) -> OpsError:
    with pytest.raises(OpsError) as error:
        decide_restore(replace(MANIFEST, **manifest), properties or PROPERTIES, server, wish)  # type: ignore[arg-type]
    return error.value


def test_a_restore_fetches_creates_and_verifies() -> None:
    plan = decide_restore(MANIFEST, PROPERTIES, SERVER, WISH)
    assert [(a.kind, a.object) for a in plan.actions] == [
        ("fetch", MANIFEST.set_id),
        ("create database", "live_restore_aaaaaaaa"),
        ("verify", "live_restore_aaaaaaaa"),
    ]
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("server", "code"),
    [
        ({"in_recovery": True}, "server_is_standby"),
        ({"may_create": False}, "not_permitted"),
        ({"version": 140010}, "server_too_old"),
        ({"databases": ["live_restore_aaaaaaaa"]}, "target_exists"),
        ({"roles": ["app"]}, "missing_roles"),
        ({"extensions": {}}, "missing_extensions"),
        ({"extensions": {"citext": ["1.5"]}}, "extension_version"),
        ({"collation_version": "2.31"}, "collation_version"),
        ({"volumes": (Volume("/data", 2_000_000, {"data": 1_000_000, "wal": 1_000_000}),)}, "disk_too_small"),
    ],
)
def test_a_server_that_cannot_take_the_set_is_refused(server: dict[str, object], code: str) -> None:
    assert refused(replace(SERVER, **server)).code == code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("prepared_transaction", "prepared_transactions"),
        ("logical_slot", "logical_slots"),
        ("subscription", "subscriptions"),
        ("tied_extension", "tied_extensions"),
    ],
)
def test_what_would_forbid_the_switch_is_refused_beforehand_and_can_be_acknowledged(kind: str, code: str) -> None:
    wish = replace(WISH, blockers=(Blocker(kind, "name", "more"),))
    error = refused(wish=wish)
    assert error.code == code
    assert "name (more)" in error.cause
    plan = decide_restore(MANIFEST, PROPERTIES, SERVER, replace(wish, acknowledged=(code,)))
    assert any(f"acknowledged [{code}]" in line for line in plan.warnings)


@pytest.mark.parametrize("code", ["target_exists", "missing_roles", "disk_too_small"])
def test_what_cannot_be_accepted_is_not_accepted(code: str) -> None:
    server = replace(SERVER, databases=[WISH.target], roles=[], volumes=(Volume("/d", 1, {"data": 5}),))
    assert code in str(refused(server, replace(WISH, acknowledged=(code,))).details["codes"])


def test_all_refusals_come_at_once_with_their_remedies() -> None:
    error = refused(replace(SERVER, roles=["app"], extensions={}, collation_version="1"))
    assert error.details["codes"] == ["missing_roles", "missing_extensions", "collation_version"]
    assert "'reader'" in error.cause
    assert "add collation_version to acknowledge" in error.cause


def test_missing_roles_are_made_when_that_is_asked_for() -> None:
    plan = decide_restore(MANIFEST, PROPERTIES, replace(SERVER, roles=["app"]), replace(WISH, create_roles=True))
    assert (plan.actions[0].kind, plan.actions[0].object) == ("create role", "reader")


def test_a_schema_that_the_set_lacks_is_refused() -> None:
    assert refused(wish=replace(WISH, schemas=("org_b",))).code == "unknown_schema"


def test_a_restore_of_schemas_says_that_it_cannot_be_switched() -> None:
    plan = decide_restore(MANIFEST, PROPERTIES, SERVER, replace(WISH, schemas=("org_a",)))
    assert any("cannot be switched" in line for line in plan.warnings)


def test_missing_tablespaces_are_refused_and_can_be_given_up() -> None:
    properties: dict[str, Json] = {**PROPERTIES, "tablespaces": ["fast"]}
    assert refused(properties=properties).code == "missing_tablespaces"
    decide_restore(MANIFEST, properties, SERVER, replace(WISH, acknowledged=("missing_tablespaces",)))


@pytest.mark.parametrize(("free", "enough"), [(2_200_000, True), (2_199_999, False)])
def test_a_tenth_is_kept_to_spare(free: int, enough: bool) -> None:
    server = replace(SERVER, volumes=(Volume("/data", free, {"data": 1_000_000, "wal": 1_000_000}),))
    if enough:
        decide_restore(MANIFEST, PROPERTIES, server, WISH)
    else:
        assert refused(server).details["needed"] == 2_200_000


def test_too_little_room_names_both_ways_on() -> None:
    server = replace(SERVER, volumes=(Volume("/data", 10, {"data": 1_000_000, "wal": 1_000_000}),))
    remedy = refused(server).remedy
    assert "another host" in remedy
    assert "saasops.runbook.backup" in remedy
    assert "-e in_place=true -e acknowledge=in_place" in remedy


def test_too_little_room_for_staging_alone_asks_for_another_path() -> None:
    server = replace(SERVER, volumes=(Volume("/var/tmp", 10, {"staging": 1_000_000}),))
    assert "-e staging=" in refused(server).remedy


def test_in_place_the_room_of_the_live_database_counts_and_the_acknowledgement_is_needed() -> None:
    server = replace(SERVER, volumes=(Volume("/data", 1_400_000, {"data": 1_000_000, "wal": 1_000_000}),))
    wish = replace(WISH, in_place=True, target="live")
    assert refused(server, wish).details["codes"] == ["in_place"]
    plan = decide_restore(MANIFEST, PROPERTIES, server, replace(wish, acknowledged=("in_place",)))
    assert ("drop database", "live") in [(a.kind, a.object) for a in plan.actions]
    unproven = OpsError("writes_since_backup", "Rows were written.", "Back up.")
    wish = replace(wish, acknowledged=("in_place", "writes_since_backup"), last_backup_problem=unproven)
    assert refused(server, wish).code == "writes_since_backup"


def test_staging_on_the_volume_of_the_data_is_said() -> None:
    plan = decide_restore(MANIFEST, PROPERTIES, SERVER, replace(WISH, staging_on_pgdata=True))
    assert any("/var/tmp" in line for line in plan.warnings)


def test_what_could_not_be_looked_at_is_said() -> None:
    plan = decide_restore(
        MANIFEST, PROPERTIES, replace(SERVER, volumes=(), standbys=2), replace(WISH, staging_on_pgdata=None)
    )
    assert len(plan.warnings) == 3


def test_the_size_is_the_sources_or_more_than_the_dumps() -> None:
    assert estimated_bytes(MANIFEST, PROPERTIES) == 1_000_000
    assert estimated_bytes(MANIFEST, {**PROPERTIES, "bytes": None}) == 850_000
    assert estimated_bytes(replace(MANIFEST, kind="schemas"), PROPERTIES) == 850_000
    assert estimated_bytes(replace(MANIFEST, raw_bytes=5_000_000), PROPERTIES) == 5_000_000


@pytest.mark.parametrize(
    ("installed", "settings", "found"),
    [
        (["pg_cron"], {"cron.database_name": "live"}, ["pg_cron"]),
        (["pg_cron"], {"cron.database_name": "postgres"}, []),
        ([], {"pg_partman_bgw.dbname": "other, live"}, ["pg_partman"]),
        (["timescaledb", "citext"], {}, ["timescaledb"]),
        (["citext"], {}, []),
    ],
)
def test_extensions_are_tied_by_their_setting_or_by_nature(
    installed: list[str], settings: dict[str, str], found: list[str]
) -> None:
    assert [item.name for item in tied_extensions("live", installed, settings)] == found
