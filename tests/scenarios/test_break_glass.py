# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full disk or a dead store does not stop the verbs that cure it: with break glass they run, and say so."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import verify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.store import stand_in
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, disk, s3
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import databases, drop_family

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

DATABASE = "glassed"
GLASS = ("-e", "break_glass='the volume dies'")


@dataclass
class System:
    """A small database, its store on a small disk, and a second copy."""

    server: Server
    folder: Path
    store: dict[str, object]
    system: str = DATABASE

    def verb(self, name: str, *arguments: str, **more: object) -> Run:
        variables: dict[str, object] = {
            "saasops_system": self.system,
            "saasops_database": DATABASE,
            "saasops_connection": acts.connection(self.server),
            "saasops_store": self.store,
            "saasops_store_copies": [{"path": str(self.folder / "copy")}],
            "saasops_retention": {"daily": 1, "minimum_proven": 1},
            **more,
        }
        return play(name, inventory(self.folder, variables), *arguments)

    def well(self, name: str, *arguments: str, **more: object) -> Run:
        run = self.verb(name, *arguments, **more)
        assert run.code == 0, run.output
        return run

    def rows(self, database: str = DATABASE, table: str = "t") -> int:
        return int(self.server.psql(f"SELECT count(*) FROM {table}", database))

    def waiting(self) -> Path:
        """What a run that went past this store left on the host."""
        return Path(stand_in.folder_of(self.system, open_store(self.store).url))


@pytest.fixture
def system(server: Server, tmp_path: Path) -> Iterator[System]:
    server.dropdb(DATABASE)
    server.psql(f"CREATE DATABASE {DATABASE}")
    server.psql(
        "CREATE TABLE t AS SELECT generate_series(1, 100) AS id; CREATE SCHEMA org_a;"
        "CREATE TABLE org_a.u (id int PRIMARY KEY); INSERT INTO org_a.u SELECT generate_series(1, 50)",
        DATABASE,
    )
    (tmp_path / "copy").mkdir()
    with disk.small(4) as mounted:
        (mounted / "store").mkdir()
        found = System(server, tmp_path, {"path": str(mounted / "store")})
        yield found
        shutil.rmtree(found.waiting(), ignore_errors=True)
    drop_family(server, DATABASE)


@contextlib.contextmanager
def gone(store: Path) -> Iterator[None]:
    """The store's volume is not there."""
    store.rename(store.with_name("away"))
    try:
        yield
    finally:
        store.with_name("away").rename(store)


def kinds(store: Path) -> list[str]:
    chain = read_chain(PosixStore(str(store)))
    assert verify(chain.entries) == []
    return [str(json.loads(entry.text)["kind"]) for entry in chain.entries]


def states(store: Path) -> list[str]:
    return sorted(str(json.loads(path.read_text())["state"]) for path in (store / "restores").glob("*.json"))


def test_an_undo_goes_back_while_the_store_is_gone_and_its_record_follows(system: System) -> None:
    store = Path(str(system.store["path"]))
    system.well("backup")
    before = databases(system.server)[DATABASE]
    system.well("restore", "-e", "switch=true")
    assert databases(system.server)[DATABASE] != before
    system.server.psql("INSERT INTO t SELECT generate_series(101, 107); DELETE FROM org_a.u WHERE id <= 2", DATABASE)
    system.server.psql("SELECT pg_stat_force_next_flush()", DATABASE)
    with gone(store):
        plain = system.verb("undo")
        assert plain.code != 0
        assert "[store_missing]" in plain.output
        # what would be lost is counted by the server alone, and never gone past
        refused = system.verb("undo", *GLASS)
        assert "[writes_since_switch]" in refused.output
        assert "at least 9 rows" in refused.output
        assert "t: 7 inserted" in refused.output
        assert databases(system.server)[DATABASE] != before
        checked = system.well("undo", *GLASS, "-e", "acknowledge_loss=9", "--check")
        assert "would be gone past: [store_missing]" in checked.output
        done = system.well("undo", *GLASS, "-e", "acknowledge_loss=9")
        assert databases(system.server)[DATABASE] == before
        assert system.rows() == 100
        said = " ".join(done.output.split())
        assert "went past the guard (the volume dies)" in said
        assert said.count("gone past: ") >= 3
        assert "no lease could be taken" in said
    assert states(store) == ["switched"]
    # the next run that asks writes it down: nothing is left to undo, and the one aside can be finished
    again = system.well("undo")
    assert "already again what it was" in again.output
    assert states(store) == ["undone"]
    assert list(system.waiting().rglob("*.json")) == []
    assert "bypass" in kinds(store)
    system.well("backup")
    system.well("restore_finish")
    assert states(store) == ["finished"]
    assert [name for name in databases(system.server, DATABASE) if name != DATABASE] == []


def test_an_undo_without_the_record_is_refused_when_it_is_not_clear_which_one_is_meant(system: System) -> None:
    store = Path(str(system.store["path"]))
    system.well("backup")
    for _time in range(2):
        system.well("restore", "-e", "switch=true", "-e", f"target={DATABASE}_next{_time}")
    aside = sorted(name for name in databases(system.server, DATABASE) if "_before_" in name)
    assert len(aside) == 2
    with gone(store):
        refused = system.verb("undo", *GLASS, "-e", "acknowledge_loss=0")
        assert "[undo_ambiguous]" in refused.output
        # even no loss is agreed to, because nobody can know it exactly
        asked = system.verb("undo", *GLASS, "-e", f"restore={aside[-1]}")
        assert "[writes_since_switch]" in asked.output
        system.well("undo", *GLASS, "-e", f"restore={aside[-1]}", "-e", "acknowledge_loss=0")
    assert aside[-1] not in databases(system.server, DATABASE)


@pytest.mark.parametrize("verb", ["restore", "restore_tenant"])
def test_a_restore_works_from_a_copy_while_the_store_is_gone(system: System, verb: str) -> None:
    arguments = ("-e", "switch=true") if verb == "restore" else ("-e", "tenant=org_a")
    system.well("backup")
    system.server.psql("DELETE FROM org_a.u", DATABASE)
    with gone(Path(str(system.store["path"]))):
        assert "[store_missing]" in system.verb(verb, *arguments).output
        told = system.verb(verb, *arguments, *GLASS)
        assert told.code != 0
        assert "-e copy=1" in told.output
        system.well(verb, *arguments, *GLASS, "-e", "copy=1")
    assert system.rows(table="org_a.u") == 50


@pytest.mark.timeout(600)
def test_the_cure_works_on_a_full_store(system: System) -> None:
    store = Path(str(system.store["path"]))
    system.well("backup")
    system.well("restore", "-e", "switch=true")
    system.server.psql("DELETE FROM org_a.u", DATABASE)
    filler = disk.fill(store.parent)
    for verb, *arguments in (
        ("restore_tenant", "-e", "tenant=org_a"),
        ("undo", "-e", "acknowledge_loss=50"),
        ("restore", "-e", f"target={DATABASE}_other"),
    ):
        refused = system.verb(verb, *arguments)
        assert refused.code != 0
        assert "[store_full]" in refused.output
    # the rows as they were before are kept as a set of their own, on this host for now
    tenant = system.well("restore_tenant", "-e", "tenant=org_a", *GLASS)
    assert "[store_full]" in tenant.output
    assert system.rows(table="org_a.u") == 50
    assert list(system.waiting().rglob("manifest.json")) != []
    system.well("restore", "-e", f"target={DATABASE}_other", *GLASS)
    refused = system.verb("undo", *GLASS)
    assert "[writes_since_switch]" in refused.output
    count = refused.output.partition("acknowledge_loss=")[2].partition(";")[0]
    system.well("undo", *GLASS, "-e", f"acknowledge_loss={count}")
    assert states(store) == ["switched"]
    filler.unlink()
    system.well("restore", "-e", f"target={DATABASE}_other")
    assert states(store) == ["undone", "verified"]
    assert not list(system.waiting().rglob("*.json"))
    # the way back of the tenant is in the store now
    back = tenant.output.partition("To go back: ")[2].partition("-e set=")[2].split()[0].strip("'\"\\.,")
    assert (store / "backups" / back / "manifest.json").is_file()


@pytest.mark.parametrize("glass", [(), GLASS], ids=["plain", "glass"])
def test_prune_makes_room_on_a_full_store(system: System, glass: tuple[str, ...]) -> None:
    store = Path(str(system.store["path"]))
    for key in ("one", "two", "three"):
        system.well("backup", "-e", f"key={key}")
    disk.fill(store.parent)
    run = system.well("prune", *glass)
    assert "[store_full] gone past: no lease could be taken" in " ".join(run.output.split())
    # the newest and the oldest of the day stay
    assert len(list((store / "backups").glob("*/manifest.json"))) == 2


@pytest.mark.parametrize("verb", ["undo", "restore", "restore_tenant"])
def test_a_bucket_that_refuses_stops_an_undo_only_without_break_glass(
    system: System, s3_server: s3.Server, verb: str
) -> None:
    system.store = {
        "type": "s3", "bucket": s3_server.create_bucket(), "endpoint_url": s3_server.endpoint, "retries": 1,
        "region": s3_server.region, "access_key": s3_server.access_key, "secret_key": s3_server.secret_key,
        "connect_timeout": 2,
    }  # fmt: skip
    system.well("backup")
    before = databases(system.server)[DATABASE]
    if verb == "undo":
        system.well("restore", "-e", "switch=true")
    # nobody listens there; the folder of this host is that of the address, which is the bucket's
    system.store["endpoint_url"] = f"http://127.0.0.1:{s3.free_ports(1)[0]}"
    arguments = ("-e", "tenant=org_a", "-e", "acknowledge_loss=0")
    assert "[store_unreachable]" in system.verb(verb, *arguments).output
    if verb == "undo":
        system.well(verb, *arguments, *GLASS)
        assert databases(system.server)[DATABASE] == before
    else:
        assert "-e copy=1" in system.verb(verb, *arguments, *GLASS).output
        system.well(verb, *arguments, *GLASS, "-e", "copy=1")


@pytest.mark.parametrize("trouble", ["gone", "full"])
def test_clients_are_kept_out_and_let_in_again_without_the_store(system: System, trouble: str) -> None:
    store = Path(str(system.store["path"]))
    limit = f"SELECT datconnlimit FROM pg_database WHERE datname = '{DATABASE}'"
    with contextlib.ExitStack() as stack:
        if trouble == "gone":
            stack.enter_context(gone(store))
        else:
            filler = disk.fill(store.parent)
            stack.callback(filler.unlink)
        code = "[store_missing]" if trouble == "gone" else "[store_full]"
        refused = system.verb("hold", "-e", "reason=repair")
        assert refused.code != 0
        assert code in refused.output
        assert system.server.psql(limit) == "-1"
        held = system.well("hold", "-e", "reason=repair", *GLASS)
        assert "could not be recorded as open" in " ".join(held.output.split())
        assert system.server.psql(limit) == "0"
        # which limit there was is on record nowhere: it is asked for, and not guessed
        asked = system.verb("hold", "-e", "state=released", *GLASS)
        assert "[hold_unknown]" in asked.output
        assert "limit=-1" in asked.output
        system.well("hold", "-e", "state=released", "-e", "limit=-1", *GLASS)
        assert system.server.psql(limit) == "-1"
    assert kinds(store).count("bypass") == 0
    system.well("status")
    system.well("backup")
    # what waited on the controller is in the chain now
    assert kinds(store).count("bypass") == 2


def test_reconcile_puts_back_on_a_full_store_with_break_glass_and_needs_to_read_it(system: System) -> None:
    store = Path(str(system.store["path"]))
    limit = f"SELECT datconnlimit FROM pg_database WHERE datname = '{DATABASE}'"
    system.well("backup")
    system.well("hold", "-e", "reason=repair")
    with gone(store):
        for glass in ((), GLASS):
            refused = system.verb("reconcile", *glass)
            assert refused.code != 0
            assert "[store_missing]" in refused.output
    # as if it had had an end, and its timer had been lost
    (item,) = (store / "open").glob("hold-*.json")
    item.write_text(json.dumps({**json.loads(item.read_text()), "expiry": iso(time.time() - 3600)}))
    filler = disk.fill(store.parent)
    assert "[store_full]" in system.verb("reconcile").output
    assert system.server.psql(limit) == "0"
    system.well("reconcile", *GLASS)
    assert system.server.psql(limit) == "-1"
    filler.unlink()
    assert "let into" in system.well("reconcile").output
    assert system.well("reconcile").changed == 0
    assert system.server.psql(limit) == "-1"
