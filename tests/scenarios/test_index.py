# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes are built and dropped as an operator asks for them, and undo brings them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

INDEXES = [
    {
        "name": "orders_customer",
        "table": "orders",
        "schemas": ["org_*"],
        "columns": ["customerId", {"name": "created_at", "order": "desc"}],
        "proof": 'SELECT * FROM orders WHERE "customerId" = 7 ORDER BY created_at DESC',
    },
    {
        "name": "people_email",
        "table": "people",
        "unique": True,
        "columns": [{"expression": "lower(email)"}],
        "where": "active",
    },
]
DEFINITIONS = (
    "SELECT schemaname || ' ' || indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' ORDER BY schemaname, indexname"
)
INVALID = "SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"


@pytest.fixture
def shop(server: Server, database: str) -> str:
    server.psql(
        "CREATE TABLE people (email varchar(90), active bool);"
        "INSERT INTO people SELECT 'p' || i || '@example.com', i % 2 = 0 FROM generate_series(1, 500) i;"
        + "".join(
            f'CREATE SCHEMA {tenant}; CREATE TABLE {tenant}.orders (id int, "customerId" int, created_at timestamptz);'
            f"INSERT INTO {tenant}.orders SELECT i, i % 50, now() FROM generate_series(1, 3000) i;"
            for tenant in ("org_a", "org_b", "org_c")
        )
        + "ANALYZE",
        database,
    )
    return database


@pytest.fixture
def run(server: Server, shop: str, tmp_path: Path) -> Callable[..., Run]:
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "shop",
            "saasops_database": shop,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_indexes": INDEXES,
        },
    )
    return lambda verb, *arguments: play(verb, hosts, *arguments, timeout=120)


def newest_run(store: Path, verb: str) -> str:
    entries = [json.loads(entry.text) for entry in read_chain(PosixStore(str(store))).entries]
    return str([one["run"] for one in entries if one.get("verb") == verb][-1])


@pytest.mark.essential
def test_indexes_are_planned_built_left_alone_dropped_and_brought_back(
    server: Server, shop: str, run: Callable[..., Run], tmp_path: Path
) -> None:
    before = server.psql(DEFINITIONS, shop)
    planned = run("index", "--check", "--diff")
    assert planned.code == 0, planned.output
    assert "create org_b.orders_customer: on org_b.orders" in planned.output
    assert server.psql(DEFINITIONS, shop) == before

    built = run("index")
    assert built.code == 0, built.output
    assert "4 indexes built, valid and ready" in built.output
    found = server.psql(DEFINITIONS, shop)
    assert found.count('USING btree ("customerId", created_at DESC)') == 3
    assert "CREATE UNIQUE INDEX people_email ON public.people USING btree (lower((email)::text)) WHERE active" in found
    assert server.psql(INVALID, shop) == "0"
    made = newest_run(tmp_path / "store", "index")

    again = run("index")
    assert (again.code, again.changed) == (0, 0), again.output

    dropped = run("index", "-e", "name=org_a.orders_customer", "-e", "state=absent")
    assert dropped.code == 0, dropped.output
    assert "still asks for org_a.orders_customer" in dropped.output
    assert "org_a.orders_customer" not in server.psql(DEFINITIONS.replace("schemaname || ' ' || ", ""), shop)
    back = run("undo", "-e", f"run={newest_run(tmp_path / 'store', 'index')}")
    assert back.code == 0, back.output
    assert server.psql(DEFINITIONS, shop) == found

    undone = run("undo", "-e", f"run={made}")
    assert undone.code == 0, undone.output
    assert server.psql(DEFINITIONS, shop) == before


def test_a_run_that_failed_in_the_middle_keeps_what_is_whole_and_can_be_undone(
    server: Server, shop: str, run: Callable[..., Run], tmp_path: Path
) -> None:
    before = server.psql(DEFINITIONS, shop)
    # nobody can know before that a row breaks the expression
    whole = {"name": "whole", "table": "people", "columns": ["active"]}
    broken = {"name": "broken", "table": "people", "columns": [{"expression": "1 / (length(email) - 14)"}]}
    failed = run("index", "-e", json.dumps({"saasops_indexes": [whole, broken]}))
    assert failed.code != 0
    assert "division by zero" in failed.output
    assert "1 of 2 were done" in failed.output
    assert server.psql(INVALID, shop) == "0"
    assert "INDEX whole ON" in server.psql(DEFINITIONS, shop)
    undone = run("undo", "-e", f"run={newest_run(tmp_path / 'store', 'index')}")
    assert undone.code == 0, undone.output
    assert server.psql(DEFINITIONS, shop) == before
