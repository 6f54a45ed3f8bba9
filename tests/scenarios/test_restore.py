# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore beside, switch, undo and finish on real servers, as an operator goes through them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import demo, playbooks
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    content,
    databases,
    drop_family,
    fact,
    record,
    restore,
    swap,
)
from ansible_collections.saasops.runbook.tests.lab.traffic import Prober, Writer

ONE = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def live(server: Server, demo_database: str) -> Iterator[str]:
    yield demo_database
    drop_family(server, demo_database)


def insert(server: Server, database: str, count: int, writer: str = "test") -> None:
    server.psql(f"INSERT INTO marker (writer) SELECT '{writer}' FROM generate_series(1, {count})", database)


def traits(server: Server, database: str) -> str:
    """The database's own properties, asked for by psql."""
    return server.psql(
        "SELECT pg_get_userbyid(datdba), datconnlimit, shobj_description(oid, 'pg_database'),"
        " datcollate, datctype, encoding, dattablespace FROM pg_database WHERE datname = current_database();"
        " SELECT a FROM pg_database, unnest(datacl) a WHERE datname = current_database() ORDER BY a::text;"
        " SELECT setrole::regrole, c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,"
        " unnest(setconfig) c WHERE d.datname = current_database() ORDER BY 1, 2",
        database,
    )


@pytest.mark.essential
def test_a_restore_stands_beside_the_live_database_with_the_same_content(
    server: Server, live: str, store: Path
) -> None:
    before, was = content(server, live), traits(server, live)
    take_backup(server, store, live)
    insert(server, live, 3)
    oid = databases(server)[live]
    result = restore(server, store, live)
    target = fact(result, "target")
    assert result.changed
    assert fact(result, "state") == "verified"
    assert target == f"{live}_restore_{fact(result, 'set')[-8:]}"
    assert content(server, target) == before
    assert traits(server, target).replace(target, live) == was
    assert databases(server)[live] == oid
    # by its own name: other work on this machine stages there, too
    assert list(Path("/var/tmp").glob(f"saasops-restore-{fact(result, 'id')}*")) == []


@ONE
def test_a_second_restore_of_the_same_set_changes_nothing(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    first = restore(server, store, live)
    oids = databases(server)
    second = restore(server, store, live)
    assert (first.changed, second.changed) == (True, False)
    assert databases(server) == oids
    assert second.evidence["switch_command"] == first.evidence["switch_command"]


@ONE
def test_check_mode_shows_the_plan_and_changes_nothing(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    files, oids = sorted(store.rglob("*")), databases(server)
    result = restore(server, store, live, check=True)
    assert result.changed
    assert result.plan is not None
    assert [action.kind for action in result.plan.actions] == ["fetch", "create database", "verify"]
    assert (sorted(store.rglob("*")), databases(server)) == (files, oids)


@ONE
def test_a_verified_restore_proves_its_set(server: Server, live: str, store: Path) -> None:
    taken = take_backup(server, store, live)
    set_id = fact(restore(server, store, live), "set")
    proofs = list((store / "backups" / set_id).glob("proof-*.json"))
    assert [json.loads(p.read_text())["level"] for p in proofs] == ["restored"]
    assert taken.changed


@pytest.mark.essential
def test_switch_undo_and_finish_lead_there_and_back(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    backed_up = content(server, live)
    insert(server, live, 7)
    server.psql(f"ALTER DATABASE \"{live}\" SET work_mem = '9MB'")
    with_writes, old_oid = content(server, live), databases(server)[live]
    restore(server, store, live)

    switched = swap(server, store, live, "switched")
    assert content(server, live) == backed_up
    assert server.psql("SHOW work_mem", live) == "9MB"
    assert switched.evidence["losses"] == {
        "rows": 7,
        "exact": True,
        "tables": {"public.marker": {"inserted": 7, "updated": 0, "deleted": 0}},
    }
    aside = fact(switched, "aside")
    assert databases(server)[aside] == old_oid
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{aside}'") == "f"
    assert not swap(server, store, live, "switched").changed

    insert(server, live, 2)
    with pytest.raises(OpsError) as refused:
        swap(server, store, live, "undone")
    assert refused.value.code == "writes_since_switch"
    assert refused.value.details["rows"] == 2
    undone = swap(server, store, live, "undone", acknowledge_loss=2)
    assert databases(server)[live] == old_oid
    assert content(server, live) == with_writes
    newer = fact(undone, "aside")
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{newer}'") == "f"
    assert not swap(server, store, live, "undone").changed

    with pytest.raises(OpsError) as unproven:
        swap(server, store, live, "finished")
    assert unproven.value.code == "no_proven_backup"
    take_backup(server, store, live)
    swap(server, store, live, "finished")
    assert set(databases(server, live)) == {live}
    assert not swap(server, store, live, "finished").changed


@ONE
def test_no_number_of_a_sequence_is_handed_out_twice(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    insert(server, live, 20)
    last = int(server.psql("SELECT last_value FROM marker_id_seq", live))
    restore(server, store, live)
    swap(server, store, live, "switched")
    given = int(server.psql("INSERT INTO marker (writer) VALUES ('new') RETURNING id", live))
    assert given > last
    swap(server, store, live, "undone", acknowledge_loss=1)
    assert int(server.psql("INSERT INTO marker (writer) VALUES ('newer') RETURNING id", live)) > given


@ONE
def test_sixteen_clients_wait_for_less_than_half_a_second(server: Server, live: str, store: Path) -> None:
    server.psql(f'ALTER DATABASE "{live}" CONNECTION LIMIT -1')
    take_backup(server, store, live)
    restore(server, store, live)
    with contextlib.ExitStack() as clients:
        for number in range(16):
            clients.enter_context(Writer(server.dsn(live), f"writer {number}", pause=0.02))
        with Prober(server.dsn(live)) as prober:
            time.sleep(0.5)
            switched = swap(server, store, live, "switched")
            time.sleep(0.5)
    assert prober.largest_gap < 2, prober.failures
    assert int(str(switched.evidence["sessions_ended"])) >= 16
    assert switched.evidence["attempts"] == 1


@ONE
def test_the_loss_that_is_told_after_a_switch_under_load_is_the_loss_that_was(
    server: Server, live: str, store: Path
) -> None:
    before = int(server.psql("SELECT count(*) FROM marker", live))
    take_backup(server, store, live)
    restore(server, store, live)
    with Writer(server.dsn(live)) as writer:
        time.sleep(0.2)
        switched = swap(server, store, live, "switched")
        time.sleep(0.2)
    aside = fact(switched, "aside")
    server.psql(f'ALTER DATABASE "{aside}" ALLOW_CONNECTIONS true')
    in_old = int(server.psql("SELECT count(*) FROM marker", aside)) - before
    in_new = int(server.psql("SELECT count(*) FROM marker", live)) - before
    losses = switched.evidence["losses"]
    assert isinstance(losses, dict)
    assert losses["rows"] == in_old
    # a commit whose answer was cut off is in the database without the writer knowing it
    assert len(writer.committed) <= in_old + in_new <= len(writer.committed) + 1


@ONE
def test_an_undo_under_writes_refuses_and_leaves_the_live_database_live(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    restore(server, store, live)
    swap(server, store, live, "switched")
    oid = databases(server)[live]
    with Writer(server.dsn(live)) as writer:
        with pytest.raises(OpsError) as refused:
            swap(server, store, live, "undone", acknowledge_loss=1)
        so_far = writer.last
        time.sleep(0.3)
    assert refused.value.code == "writes_since_switch"
    assert databases(server)[live] == oid
    assert writer.last > so_far
    aside = str(record(store)["aside"])
    assert server.psql(f"SELECT datallowconn FROM pg_database WHERE datname = '{aside}'") == "f"


@ONE
def test_named_schemas_are_restored_alone_and_cannot_be_switched(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    names = ["public", "org_MixedCase", 'org_café "Zoë" & co', "org_acme"]
    result = restore(server, store, live, schemas=names)
    found = server.psql(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)' ORDER BY 1", fact(result, "target")
    )
    assert found.splitlines() == sorted(names)
    with pytest.raises(OpsError) as refused:
        swap(server, store, live, "switched")
    assert refused.value.code == "partial_restore"


@ONE
def test_a_schema_that_refers_to_another_one_is_refused_with_the_remedy(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, schemas=["public"])
    assert refused.value.code == "schema_dependency"
    assert "org_acme" in refused.value.cause
    assert set(databases(server, live)) == {live}
    assert databases(server, "saasops_building_") == {}


@ONE
def test_a_set_of_schemas_is_restored_with_its_extensions(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live, schemas=["org_acme", "org_MixedCase", "public"])
    set_id = next(path.name for path in (store / "backups").iterdir())
    result = restore(server, store, live, set=set_id)
    assert server.psql('SELECT count(*) > 0 FROM org_acme."Campaign"', fact(result, "target")) == "t"


@ONE
def test_statistics_that_were_reset_make_the_loss_a_lower_bound(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    restore(server, store, live)
    insert(server, live, 4)
    server.psql("SELECT pg_stat_reset()", live)
    switched = swap(server, store, live, "switched")
    losses = switched.evidence["losses"]
    assert isinstance(losses, dict)
    assert (losses["rows"], losses["exact"]) == (4, False)


@ONE
def test_a_copy_that_nobody_wants_is_dropped_by_name(server: Server, live: str, store: Path) -> None:
    take_backup(server, store, live)
    result = restore(server, store, live)
    with pytest.raises(OpsError) as unnamed:
        swap(server, store, live, "finished")
    assert unnamed.value.code == "nothing_to_finish"
    assert swap(server, store, live, "finished", restore=fact(result, "id")).changed
    assert set(databases(server, live)) == {live}


@ONE
def test_a_set_is_restored_on_another_server_that_lacks_its_roles(
    server: Server, live: str, store: Path, server17: Server
) -> None:
    other = server17
    take_backup(other, store, _create_demo(other, live))
    expected = content(other, live)
    drop_family(other, live)
    server.psql("CREATE ROLE demo_only_here")
    roles = server.psql("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname LIKE 'demo_%'").split()
    assert "demo_owner" in roles
    result = restore(server, store, live)
    # hashes of rows may differ between major versions, texts of this data do not
    assert content(server, fact(result, "target")) == expected
    server.psql("DROP ROLE demo_only_here")


def _create_demo(server: Server, name: str) -> str:
    demo.create(server, name, parameters=demo.Parameters(2))
    return name


@ONE
@pytest.mark.essential
def test_the_playbooks_restore_switch_undo_and_finish(server: Server, live: str, store: Path, tmp_path: Path) -> None:
    hosts = playbooks.inventory(
        tmp_path,
        {
            "saasops_database": live,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_system": "test",
        },
    )
    take_backup(server, store, live)
    plan = playbooks.play("restore", hosts, "--check", "--diff")
    assert plan.code == 0, plan.output
    assert "create database" in plan.output
    restored = playbooks.play("restore", hosts)
    assert restored.code == 0, restored.output
    command = next(part for part in restored.output.split('"') if "To switch: " in part).partition("To switch: ")[2]
    assert command.startswith("ansible-playbook saasops.runbook.restore ")
    old = databases(server)[live]
    switched = playbooks.play("restore", hosts, *command.split()[2:])
    assert switched.code == 0, switched.output
    assert databases(server)[live] != old
    insert(server, live, 3)
    refused = playbooks.play("undo", hosts)
    assert refused.code != 0
    assert "acknowledge_loss=3" in refused.output
    undone = playbooks.play("undo", hosts, "-e", "acknowledge_loss=3")
    assert undone.code == 0, undone.output
    assert databases(server)[live] == old
    take_backup(server, store, live)
    finished = playbooks.play("restore_finish", hosts)
    assert finished.code == 0, finished.output
    assert set(databases(server, live)) == {live}
    again = playbooks.play("restore_finish", hosts)
    assert (again.code, again.changed) == (0, 0)
