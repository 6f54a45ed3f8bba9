# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill: passes on a true copy, with RTO and RPO measured, and fails on every kind of damage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup, verify_sets
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import restore
from ansible_collections.saasops.runbook.tests.lab.traffic import Writer

MARKER = 'SELECT max("writtenAt") FROM public.marker'
ONE = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def scratch(server: Server, demo_database: str, store: Path) -> Iterator[str]:
    """A scratch database restored from a backup of the demo database."""
    take_backup(server, store, demo_database)
    name = f"{demo_database}_drill"
    restore(server, store, demo_database, target=name)
    yield name
    server.psql(f'DROP DATABASE IF EXISTS "{name}"', "postgres")


def entry(store: Path) -> sets.SetEntry:
    (found,) = sets.entries(PosixStore(str(store)), "test")
    return found


def test_a_true_copy_passes_and_proves_its_set(server: Server, demo_database: str, store: Path, scratch: str) -> None:
    result = verify_sets(server, store, demo_database, restored=scratch, remove_restored=True)
    drill = result.evidence["drill"]
    assert isinstance(drill, dict)
    assert drill["outcome"] == "passed"
    assert {proof["level"] for proof in entry(store).proofs} == {"restored"}
    assert any("drill" in proof for proof in entry(store).proofs)
    assert len(list((store / "drills").iterdir())) == 1
    assert server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{scratch}'", "postgres").strip() == "0"


DAMAGE = {
    "grant": "REVOKE SELECT ON public.tenants FROM demo_readonly",
    "sequence": "SELECT setval('public.invoice_number_seq', 1000, false)",
    "trigger": 'ALTER TABLE org_acme."Order" DISABLE TRIGGER USER',
    "value": 'UPDATE org_acme."Order" SET amount = amount + 1 WHERE id = (SELECT min(id) FROM org_acme."Order")',
    "row": 'DELETE FROM org_acme."Activity" WHERE id = (SELECT max(id) FROM org_acme."Activity")',
    "large-object": "SELECT lowrite(lo_open((SELECT min(oid) FROM pg_largeobject_metadata), 131072), 'x')",
    "comment": "COMMENT ON TABLE public.tenants IS 'another'",
    "index": 'DROP INDEX org_acme."Order_campaignId_idx"',
    "owner": "ALTER TABLE public.tenants OWNER TO postgres",
    "setting-of-a-table": "ALTER TABLE public.tenants SET (fillfactor = 71)",
}


@ONE
@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_each_kind_of_damage_fails_the_drill(
    server: Server, demo_database: str, store: Path, scratch: str, kind: str
) -> None:
    server.psql(f"SET session_replication_role = replica; BEGIN; {DAMAGE[kind]}; COMMIT", scratch)
    with pytest.raises(OpsError) as caught:
        verify_sets(server, store, demo_database, restored=scratch, remove_restored=True)
    assert caught.value.code == "drill_failed"
    differences = caught.value.details["differences"]
    assert isinstance(differences, list)
    # an owner is part of every entry's name; every other damage is told in a few lines
    assert 1 <= len(differences) <= (100 if kind == "owner" else 4)
    (ledger,) = (json.loads(path.read_bytes()) for path in (store / "drills").iterdir())
    assert ledger["outcome"] == "failed"
    assert ledger["differences"]
    assert not any("drill" in proof for proof in entry(store).proofs)
    # what failed is kept to be looked at
    assert server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{scratch}'", "postgres").strip() == "1"


@ONE
@pytest.mark.parametrize(
    ("sql", "outcome"),
    [("SELECT count(*) = 12 FROM public.tenants", "passed"), ("SELECT count(*) = 13 FROM public.tenants", "failed")],
    ids=["holds", "does-not"],
)
def test_the_assertions_of_the_system_decide_too(
    server: Server, demo_database: str, store: Path, scratch: str, sql: str, outcome: str
) -> None:
    checks = [{"name": "twelve tenants", "sql": sql}]
    if outcome == "passed":
        assert verify_sets(server, store, demo_database, restored=scratch, checks=checks).changed
    else:
        with pytest.raises(OpsError, match="twelve tenants"):
            verify_sets(server, store, demo_database, restored=scratch, checks=checks)


@ONE
def test_a_live_database_is_never_taken_for_a_scratch_one(server: Server, demo_database: str, store: Path) -> None:
    take_backup(server, store, demo_database)
    with pytest.raises(OpsError) as caught:
        verify_sets(server, store, demo_database, restored=demo_database, remove_restored=True)
    assert caught.value.code == "not_a_scratch_database"
    assert server.psql("SELECT count(*) FROM public.tenants", demo_database).strip() == "12"


@ONE
@pytest.mark.essential
def test_the_verb_measures_rto_and_rpo_while_a_writer_runs(server: Server, demo_database: str, store: Path) -> None:
    variables = {
        "saasops_system": "test",
        "saasops_database": demo_database,
        "saasops_connection": connection(server),
        "saasops_store": {"path": str(store)},
        "saasops_drill_marker": MARKER,
    }
    hosts = inventory(store.parent, variables)
    with Writer(server.dsn(demo_database), pause=0.02):
        # the last row that the snapshot sees may be as old as the beginning of the backup
        began = time.monotonic()
        take_backup(server, store, demo_database)
        time.sleep(1)
        run = play("restore_drill", hosts, timeout=180)
        passed = time.monotonic() - began
    assert run.code == 0, run.output
    (ledger,) = (json.loads(path.read_bytes()) for path in (store / "drills").iterdir())
    assert 1.0 < ledger["rpo"] < passed
    assert 0.5 < ledger["rto"] < passed
    assert "Drill passed" in run.output
    missed = play("restore_drill", hosts, "-e", "saasops_rpo=1s", timeout=180)
    assert missed.code != 0
    assert "drill_failed" in missed.output
    assert "the target is 1 s" in missed.output
