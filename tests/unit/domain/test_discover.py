# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of what was read: tenants, findings, containers, and a draft that is YAML."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.containers import postgres_containers
from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover import (
    SESSIONS_NEEDED,
    DatabaseSight,
    ServerSight,
    findings,
    judge,
    tenancies,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover_report import (
    container_drafts,
    container_lines,
    database_drafts,
    repeated,
    server_lines,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.draft import host_name, render, scalar
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Blocker

SERVER = ServerSight(180001, "18.1", "postgres", True, True, False, 50)
QUIET = DatabaseSight("shop", "owner", 1000, "UTF8", {"public": ["a"]}, {})


@pytest.mark.parametrize(
    ("schemas", "patterns"),
    [
        ({"org_a": ["x"], "org_b": ["x"], "org_c": ["x"]}, ["org_*"]),
        ({"org_acme": ["x"], "org_alpha": ["x"], "org_axe": ["x"]}, ["org_*"]),
        ({"org_a": ["x"], "org_b": ["x"]}, []),
        ({"org_a": ["x"], "org_b": ["x"], "org_c": ["y"]}, []),
        ({"org_a": [], "org_b": [], "org_c": []}, []),
        ({"tenant1": ["x"], "tenant12": ["x"], "tenant13": ["x"]}, ["tenant*"]),
        ({"app_tenant_1": ["x"], "app_tenant_2": ["x"], "app_tenant_30": ["x"]}, ["app_tenant_*"]),
        ({"acme": ["x"], "blue": ["x"], "corn": ["x"]}, []),
        ({"a-1": ["x"], "a-2": ["x"], "a-3": ["x"], "public": ["x"]}, ["a-*"]),
        ({f"{p}_{n}": ["x"] for p in ("eu", "us") for n in range(3)}, ["eu_*", "us_*"]),
        ({f'org_ä "{n}"': ["x"] for n in range(3)}, ["org_*"]),
    ],
)
def test_schemas_with_a_common_prefix_and_equal_tables_are_tenants(
    schemas: dict[str, list[str]], patterns: list[str]
) -> None:
    assert [item.pattern for item in tenancies(schemas)] == patterns


def test_a_schema_that_matches_with_other_tables_is_named() -> None:
    found = tenancies({"org_a": ["x"], "org_b": ["x"], "org_c": ["x"], "org_odd": ["x", "y"], "other": ["x"]})
    assert (found[0].schemas, found[0].others, found[0].tables) == (("org_a", "org_b", "org_c"), ("org_odd",), 1)


def test_nothing_needs_attention_in_an_ordinary_database_of_a_superuser() -> None:
    assert findings(SERVER, QUIET) == []


@pytest.mark.parametrize(
    ("server", "database", "code", "stops"),
    [
        (SERVER, replace(QUIET, unreadable=("public.a",)), "unreadable_tables", "backup"),
        (SERVER, replace(QUIET, row_security=("public.a",)), "row_security_active", "backup"),
        (SERVER, replace(QUIET, user_mappings=1), "dump_holds_secrets", "backup"),
        (SERVER, replace(QUIET, subscriptions=2), "subscriptions_left_out", ""),
        (SERVER, replace(QUIET, blockers=(Blocker("logical_slot", "s", "active"),)), "logical_slot", "restore"),
        (SERVER, replace(QUIET, blockers=(Blocker("subscription", "s"),)), "subscription", "restore"),
        (SERVER, replace(QUIET, blockers=(Blocker("tied_extension", "pg_cron"),)), "tied_extension", "restore"),
        (SERVER, replace(QUIET, blockers=(Blocker("prepared_transaction", "x"),)), "prepared_transaction", "restore"),
        (SERVER, replace(QUIET, blockers=(Blocker("of a later version", "x"),)), "of a later version", "restore"),
        (SERVER, replace(QUIET, collation=("2.31", "2.36")), "collation_changed", ""),
        (replace(SERVER, in_recovery=True), QUIET, "in_recovery", "restore"),
        (replace(SERVER, superuser=False), QUIET, "not_superuser", ""),
        (replace(SERVER, reads_settings=False), QUIET, "settings_unreadable", ""),
        (replace(SERVER, connections_free=SESSIONS_NEEDED - 1), QUIET, "few_connections", ""),
    ],
)
def test_each_sight_has_its_finding(server: ServerSight, database: DatabaseSight, code: str, stops: str) -> None:
    found = findings(server, database)
    assert [(item.code, item.stops) for item in found] == [(code, stops)]
    assert found[0].text
    assert found[0].remedy
    assert "{" not in found[0].text


@pytest.mark.parametrize("free", [SESSIONS_NEEDED, None])
def test_enough_connections_are_not_remarked(free: int | None) -> None:
    assert findings(replace(SERVER, connections_free=free), QUIET) == []


def test_what_stops_a_backup_comes_first() -> None:
    database = replace(QUIET, unreadable=("a",), subscriptions=1, blockers=(Blocker("subscription", "s"),))
    assert [item.stops for item in findings(replace(SERVER, superuser=False), database)] == [
        "backup",
        "restore",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("shop", "shop"),
        ("/run/postgresql", "/run/postgresql"),
        ("127.0.0.1", '"127.0.0.1"'),
        ("yes", '"yes"'),
        ("a: b", '"a: b"'),
        ("", '""'),
        ('say "ä"\n', '"say \\"\\u00e4\\"\\n"'),
        ("# no comment", '"# no comment"'),
        (5432, "5432"),
        (True, "true"),
        ({}, "{}"),
        ({"path": "/a", "create": True}, "{ path: /a, create: true }"),
        (["org_*"], '["org_*"]'),
    ],
)
def test_a_value_is_plain_where_yaml_reads_it_as_text_and_quoted_elsewhere(value: object, text: str) -> None:
    assert scalar(value) == text


def test_a_name_that_looks_like_a_template_is_never_executed() -> None:
    assert scalar("{{ lookup('pipe', 'id') }}").startswith("!unsafe ")


def test_host_names_are_made_of_safe_letters_and_differ() -> None:
    assert host_name('my "shop" ä', []) == "my_shop"
    assert host_name("shop", ["shop", "shop_2"]) == "shop_3"
    assert host_name("", []) == "database"


def test_a_draft_repeats_what_is_known_and_leaves_the_rest_as_comments() -> None:
    schemas = {f"org_{n}": ["x"] for n in range(3)}
    connection = repeated({"unix_socket": "/run/postgresql", "port": 5432, "user": "postgres", "password": "secret"})
    drafts = database_drafts([judge(SERVER, replace(QUIET, tables=schemas))], {"ansible_host": "db"}, connection)
    assert render(["Drafted."], drafts).splitlines() == [
        "# Drafted.",
        "all:",
        "  hosts:",
        "    shop:  # 1.0 kB, 3 tables in 3 schemas",
        "      ansible_host: db",
        "      saasops_database: shop",
        "      saasops_connection: { unix_socket: /run/postgresql, user: postgres }",
        "      # saasops_store: { path: /var/backups/shop }"
        "  # fill in: a folder on another volume, or type: s3 and a bucket",
        "      # saasops_rpo: 24h  # fill in: how much may be lost",
        '      # saasops_tenants_as_sets: ["org_*"]  # each a set of its own: 3 schemas org_* hold the same 1 tables',
    ]


def test_a_draft_without_a_host_is_an_inventory_too() -> None:
    assert render([], []) == "all:\n  hosts: {}\n"


def test_a_name_with_a_line_break_stays_on_its_line() -> None:
    database = replace(QUIET, name="two\nlines", tables={"a\nb": ["x"]}, extensions={"e\n": "1"})
    found = judge(SERVER, database)
    assert not [line for line in server_lines(SERVER, [found], ["r\n"], []) if "\n" in line]
    assert len(render([], database_drafts([found], {}, {})).splitlines()) == 6


ANY = ".".join("0000")
OFFICIAL = {
    "Name": "/shop-db-1",
    "State": {"Status": "running"},
    "Config": {
        "Image": "postgres:16",
        "Env": ["POSTGRES_PASSWORD=secret", "POSTGRES_USER=app", "POSTGRES_DB=shop", "PG_MAJOR=16", "PGDATA=/d/pg"],
        "Labels": {"com.docker.compose.project": "shop"},
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
    },
    "NetworkSettings": {
        "Ports": {"5432/tcp": [{"HostIp": ANY, "HostPort": "5433"}, {"HostIp": "::", "HostPort": "5433"}]}
    },
    "Mounts": [
        {"Type": "bind", "Source": "/srv/init", "Destination": "/docker-entrypoint-initdb.d"},
        {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/x", "Destination": "/d"},
    ],
}


def test_a_container_tells_database_user_ports_and_volume_and_no_password() -> None:
    found = postgres_containers([OFFICIAL])
    assert [item.as_dict() for item in found] == [
        {
            "name": "shop-db-1",
            "image": "postgres:16",
            "version": "16",
            "database": "shop",
            "user": "app",
            "state": "running",
            "ports": [f"{ANY}:5433", "[::]:5433"],
            "volume": "shop_data",
            "compose_project": "shop",
        }
    ]
    assert "secret" not in str(found) + render([], container_drafts(found, {})) + str(container_lines(found, 1))


@pytest.mark.parametrize(
    ("image", "more", "found"),
    [
        ("postgres", {}, True),
        ("registry.example.com:5000/library/postgres:16@sha256:1", {}, True),
        ("timescale/timescaledb:latest-pg16", {}, True),
        ("pgvector/pgvector:pg17", {}, True),
        ("postgis/postgis:16-3.4", {}, True),
        ("own/db", {"Env": ["PG_MAJOR=15"]}, True),
        ("own/db", {"Cmd": ["/usr/lib/postgresql/15/bin/postgres", "-D", "/data"]}, True),
        ("edoburu/pgbouncer", {}, False),
        ("prometheuscommunity/postgres-exporter", {"Entrypoint": ["/bin/postgres_exporter"]}, False),
        ("redis:7", {"Cmd": ["redis-server"], "Entrypoint": None, "Env": None}, False),
    ],
)
def test_a_container_that_runs_postgresql_is_known_by_its_image_its_program_or_its_environment(
    image: str, more: dict[str, object], found: bool
) -> None:
    body = {"Name": "/x", "Config": {"Image": image, **more}}
    assert bool(postgres_containers([body])) is found  # type: ignore[list-item]


def test_a_container_without_names_is_drafted_with_what_must_be_filled_in() -> None:
    found = postgres_containers([{"Name": "/db", "Config": {"Image": "postgres"}}])
    text = render([], container_drafts(found, {}))
    assert "      saasops_connection: { transport: docker, container: db }\n" in text
    assert "# saasops_database: app  # fill in" in text
    assert "in no volume" in container_lines(found, 1)[-1]
