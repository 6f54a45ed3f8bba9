# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill on a scratch server: the set is restored there, the live server is read by one session and no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import backup_sets, demo, postgres
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup, verify_sets
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import databases, restore
from ansible_collections.saasops.runbook.tests.lab.traffic import Writer

MARKER = 'SELECT max("writtenAt") FROM public.marker'
PAIRS = {"17-18": (17, 18), "15-15": (15, 15)}
# what does not depend on the versions is shown once
ONE = pytest.mark.parametrize("servers", [(17, 18)], ids=["17-18"], indirect=True)
DEMO_ROLES = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'demo%'"


@dataclass
class Pair:
    """A live server with the demo system, a scratch server, a store and an inventory that names all of them."""

    live: Server
    scratch: Server
    database: str
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def target(self) -> str:
        return f"{self.database}_drill"

    def hosts(self, **changes: object) -> Path:
        variables: Mapping[str, object] = {
            "saasops_system": "test",
            "saasops_database": self.database,
            "saasops_connection": connection(self.live),
            "saasops_drill_connection": connection(self.scratch),
            "saasops_store": {"path": str(self.store)},
            "saasops_drill_marker": MARKER,
            "saasops_drill_checks": [{"name": "twelve tenants", "sql": "SELECT count(*) = 12 FROM public.tenants"}],
            **changes,
        }
        return inventory(self.folder, variables)

    def drill(self, *arguments: str, **changes: object) -> Run:
        return play("restore_drill", self.hosts(**changes), *arguments, timeout=180)

    def ledger(self) -> list[dict[str, object]]:
        return [json.loads(path.read_bytes()) for path in sorted((self.store / "drills").glob("*.json"))]

    def verify(self, **changes: object) -> None:
        verify_sets(
            self.live, self.store, self.database,
            **{"connection": connection(self.scratch), "live_connection": connection(self.live), **changes},
        )  # fmt: skip


@pytest.fixture(scope="module", params=PAIRS.values(), ids=list(PAIRS))
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server, str]]:
    """The live server with a demo system, and a scratch server with a database of somebody else."""
    live_version, scratch_version = request.param
    with postgres.running(scratch_version, own=True) as scratch:
        live: Server = request.getfixturevalue(f"server{live_version}")
        demo.create(live, "drilled", parameters=demo.Parameters(5))
        scratch.createdb("theirs")
        scratch.psql("CREATE TABLE kept AS SELECT 42 AS answer", "theirs")
        yield live, scratch, "drilled"
        live.dropdb("drilled")


@pytest.fixture
def pair(servers: tuple[Server, Server, str], tmp_path: Path) -> Iterator[Pair]:
    live, scratch, database = servers
    found = Pair(live, scratch, database, tmp_path)
    found.store.mkdir()
    yield found
    scratch.dropdb(found.target)
    for role in (scratch.psql(DEMO_ROLES) or "").split():
        scratch.psql(f"DROP ROLE {role}")


@pytest.mark.essential
def test_the_set_is_restored_on_another_server_and_the_live_one_is_only_read(pair: Pair) -> None:
    pair.live.psql("ALTER SYSTEM SET log_statement = 'all'")
    pair.live.reload()
    with Writer(pair.live.dsn(pair.database), pause=0.02):
        began = time.monotonic()
        take_backup(pair.live, pair.store, pair.database)
        time.sleep(1)
        before, logged = databases(pair.live), pair.live.log.stat().st_size
        run = pair.drill()
        passed = time.monotonic() - began
    assert run.code == 0, run.output
    (entry,) = pair.ledger()
    assert entry["outcome"] == "passed"
    assert entry["server"] == {
        "scratch": True,
        "system_identifier": pair.scratch.psql("SELECT system_identifier FROM pg_control_system()"),
        "version": int(pair.scratch.psql("SHOW server_version_num")),
        "host": pair.scratch.host,
        "port": pair.scratch.port,
        "transport": "local",
    }
    assert 1.0 < float(str(entry["rpo"])) < passed
    assert 0.2 < float(str(entry["rto"])) < passed
    assert databases(pair.live) == before
    with pair.live.log.open("rb") as log:
        log.seek(logged)
        said = [line for line in log.read().decode().split("\n") if "saasops" in line and "statement:" in line]
    assert said, "the marker was read"
    allowed = ("SELECT", "SET", "BEGIN", "COMMIT", "ROLLBACK", "WITH")
    assert [line for line in said if not line.split("statement: ")[1].lstrip().upper().startswith(allowed)] == []
    assert [line for line in said if "saasops-drill-reader" not in line] == []
    assert pair.target not in databases(pair.scratch)
    assert pair.scratch.psql("SELECT answer FROM kept", "theirs") == "42"
    assert pair.scratch.psql(DEMO_ROLES) == "", "the roles made for the drill are gone with it"
    again = pair.drill()
    assert again.code == 0, again.output
    assert len(pair.ledger()) == 2
    pair.live.psql("ALTER SYSTEM RESET log_statement")
    pair.live.reload()


@ONE
def test_check_mode_says_what_would_be_done_and_touches_neither_server(pair: Pair) -> None:
    take_backup(pair.live, pair.store, pair.database)
    listing = backup_sets.listing(pair.store)
    run = pair.drill("--check")
    assert run.code == 0, run.output
    assert f"as {pair.target}" in run.output
    assert backup_sets.listing(pair.store) == listing
    assert pair.target not in databases(pair.scratch)
    assert pair.scratch.psql(DEMO_ROLES) == ""


@ONE
def test_a_damaged_set_fails_and_the_scratch_server_is_as_it_was(pair: Pair) -> None:
    take_backup(pair.live, pair.store, pair.database)
    stored = max(pair.store.glob("backups/*/objects/*"), key=lambda path: path.stat().st_size)
    body = bytearray(stored.read_bytes())
    body[len(body) // 2] ^= 1
    stored.chmod(0o600)
    stored.write_bytes(body)
    before = databases(pair.scratch)
    run = pair.drill()
    assert run.code != 0
    assert "[object_damaged]" in run.output
    assert databases(pair.scratch) == before
    assert pair.scratch.psql(DEMO_ROLES) == ""


@ONE
def test_a_damaged_restore_fails_on_the_scratch_server_and_the_next_drill_drops_it(pair: Pair) -> None:
    take_backup(pair.live, pair.store, pair.database)
    restore(
        pair.live, pair.store, pair.database,
        connection=connection(pair.scratch), target=pair.target, on_missing_roles="create",
    )  # fmt: skip
    pair.scratch.psql("UPDATE public.tenants SET slug = slug || '!' WHERE slug = 'acme'", pair.target)
    with pytest.raises(OpsError) as caught:
        pair.verify(restored=pair.target, remove_restored=True)
    assert caught.value.code == "drill_failed"
    (entry,) = pair.ledger()
    assert entry["outcome"] == "failed"
    assert pair.target in databases(pair.scratch)
    foreseen = pair.drill("--check")
    assert foreseen.code == 0, foreseen.output
    assert "was not dropped" in foreseen.output
    run = pair.drill()
    assert run.code == 0, run.output
    assert pair.target not in databases(pair.scratch)


@ONE
def test_a_database_of_somebody_else_under_the_scratch_name_is_refused(pair: Pair) -> None:
    take_backup(pair.live, pair.store, pair.database)
    restore(
        pair.live, pair.store, pair.database,
        connection=connection(pair.scratch), target=pair.target, on_missing_roles="create",
    )  # fmt: skip
    # the record of an earlier drill knows this name, and somebody made a database of his own under it meanwhile
    pair.scratch.dropdb(pair.target)
    pair.scratch.createdb(pair.target)
    pair.scratch.psql("CREATE TABLE kept AS SELECT 42 AS answer", pair.target)
    run = pair.drill()
    assert run.code != 0
    assert "[target_exists]" in run.output
    assert pair.scratch.psql("SELECT answer FROM kept", pair.target) == "42"


def test_the_roles_of_the_set_are_held_against_its_globals_and_the_server(pair: Pair) -> None:
    pair.scratch.psql("CREATE ROLE demo_readonly CREATEDB")
    take_backup(pair.live, pair.store, pair.database)
    run = pair.drill()
    assert run.code == 0, run.output
    (entry,) = pair.ledger()
    found = entry["globals"]
    assert isinstance(found, dict)
    assert "demo_app" in found["made"]
    assert "demo_readonly" not in found["made"]
    assert any("'demo_readonly' has other attributes" in note and "CREATEDB" in note for note in found["notes"])
    assert "demo_readonly" in run.output
    assert pair.scratch.psql(DEMO_ROLES) == "demo_readonly", "a role of the server's own stays"


@ONE
def test_a_set_whose_globals_lack_a_role_that_its_objects_need_fails_the_drill(pair: Pair) -> None:
    programs = pair.folder / "bin"
    programs.mkdir()
    for tool in pair.live.bin.iterdir():
        if tool.name != "pg_dumpall":
            (programs / tool.name).symlink_to(tool)
    script = programs / "pg_dumpall"
    script.write_text(f'#!/bin/sh\n{pair.live.bin}/pg_dumpall "$@" | grep -v demo_app\n', encoding="utf-8")
    script.chmod(0o755)
    take_backup(pair.live, pair.store, pair.database, connection=connection(pair.live, client_bin=str(programs)))
    run = pair.drill()
    assert run.code != 0
    assert "[drill_failed]" in run.output
    assert "do not define role 'demo_app'" in run.output


@pytest.fixture
def seventeen(server17: Server, tmp_path: Path) -> Iterator[Pair]:
    server17.createdb("small")
    server17.psql("CREATE TABLE t AS SELECT 1 AS i", "small")
    found = Pair(server17, server17, "small", tmp_path)
    found.store.mkdir()
    take_backup(server17, found.store, "small")
    yield found
    server17.dropdb("small")


def test_the_live_server_under_another_address_is_refused(seventeen: Pair) -> None:
    other = connection(seventeen.live, host=str(seventeen.live.socket_dir))
    run = seventeen.drill(saasops_drill_connection=other, saasops_drill_marker="")
    assert run.code != 0
    assert "[scratch_is_live]" in run.output
    assert list(databases(seventeen.live, "small")) == ["small"]


def test_a_physical_copy_of_the_live_server_is_refused(seventeen: Pair) -> None:
    with postgres.running(17) as copy:
        run = seventeen.drill(saasops_drill_connection=connection(copy), saasops_drill_marker="")
        assert run.code != 0
        assert "[scratch_is_copy]" in run.output
        copy.stop()
        (copy.data / "standby.signal").touch()
        copy.configure({"primary_conninfo": ""})
        copy.start()
        run = seventeen.drill(saasops_drill_connection=connection(copy), saasops_drill_marker="")
        assert run.code != 0
        assert "[server_is_standby]" in run.output
