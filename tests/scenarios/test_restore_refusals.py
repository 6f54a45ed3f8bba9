# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore and a switch refuse on real servers: each with a code, a cause and a remedy, and nothing changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute.restore import execute
from ansible_collections.saasops.runbook.tests.lab import disk, postgres
from ansible_collections.saasops.runbook.tests.lab.acts import connection, context, parameters, take_backup
from ansible_collections.saasops.runbook.tests.lab.demo import Parameters, create
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import (
    RESTORE,
    content,
    databases,
    drop_family,
    fact,
    record,
    restore,
    swap,
    until,
)

ONE = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def small(server: Server, database: str) -> Iterator[str]:
    """A live database with one table of ten rows."""
    server.psql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)", database)
    yield database
    drop_family(server, database)


def refusal(server: Server, store: Path, live: str, **changes: object) -> OpsError:
    before = databases(server)
    with pytest.raises(OpsError) as refused:
        execute(parameters(server, store, live, {**RESTORE, **changes}), context())
    assert databases(server) == before
    return refused.value


@contextlib.contextmanager
def prepared(server: Server, live: str) -> Iterator[str]:
    server.psql("BEGIN; INSERT INTO t VALUES (99); PREPARE TRANSACTION 'a gid'", live)
    yield "prepared_transactions"
    server.psql("ROLLBACK PREPARED 'a gid'", live)


@contextlib.contextmanager
def slot(server: Server, live: str) -> Iterator[str]:
    server.psql("SELECT pg_create_logical_replication_slot('a_slot', 'pgoutput')", live)
    yield "logical_slots"
    server.psql("SELECT pg_drop_replication_slot('a_slot')", live)


@contextlib.contextmanager
def subscription(server: Server, live: str) -> Iterator[str]:
    server.psql(
        "CREATE SUBSCRIPTION a_subscription CONNECTION 'dbname=nowhere' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE)",
        live,
    )
    yield "subscriptions"
    server.psql("DROP SUBSCRIPTION a_subscription", live)


@contextlib.contextmanager
def scheduler(server: Server, live: str) -> Iterator[str]:
    server.configure({"cron.database_name": live})
    server.reload()
    until(lambda: server.psql("SELECT current_setting('cron.database_name', true)") == live)
    yield "tied_extensions"
    server.configure({"cron.database_name": "elsewhere"})
    server.reload()
    until(lambda: server.psql("SELECT current_setting('cron.database_name', true)") == "elsewhere")


@pytest.mark.parametrize("planted", [prepared, slot, subscription, scheduler])
def test_what_a_rename_would_break_is_refused_before_the_restore_and_before_the_switch(
    server: Server, small: str, store: Path, planted: object
) -> None:
    take_backup(server, store, small)
    with planted(server, small) as code:  # type: ignore[operator]
        assert refusal(server, store, small).code == code
        assert restore(server, store, small, acknowledge=[code]).changed
        oids = databases(server)
        with pytest.raises(OpsError) as refused:
            swap(server, store, small, "switched")
        assert refused.value.code == code
        assert databases(server) == oids
    assert swap(server, store, small, "switched").changed


@ONE
def test_a_subscription_of_the_source_does_not_come_to_life_in_the_copy(
    server: Server, small: str, store: Path
) -> None:
    with subscription(server, small):
        take_backup(server, store, small)
        result = restore(server, store, small, acknowledge=["subscriptions"])
        found = server.psql("SELECT datname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid")
        assert found == small
        swap(server, store, small, "finished", restore=fact(result, "id"))


@ONE
def test_missing_roles_are_listed_and_can_be_made_without_login(server: Server, small: str, store: Path) -> None:
    server.psql('CREATE ROLE "a reader"; GRANT SELECT ON t TO "a reader"', small)
    take_backup(server, store, small)
    server.psql('DROP OWNED BY "a reader"; DROP ROLE "a reader"', small)
    error = refusal(server, store, small)
    assert error.code == "missing_roles"
    assert "'a reader'" in error.cause
    result = restore(server, store, small, on_missing_roles="create")
    target = fact(result, "target")
    assert server.psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'a reader'") == "f"
    assert server.psql("SELECT has_table_privilege('a reader', 't', 'SELECT')", target) == "t"
    server.psql('DROP OWNED BY "a reader"', target)
    server.psql('DROP ROLE "a reader"')


@ONE
def test_roles_made_for_a_restore_that_fails_are_dropped_again(
    server: Server, small: str, store: Path, tmp_path: Path
) -> None:
    from ansible_collections.saasops.runbook.tests.lab import broken_tools

    server.psql("CREATE ROLE fleeting; GRANT SELECT ON t TO fleeting", small)
    take_backup(server, store, small)
    server.psql("DROP OWNED BY fleeting; DROP ROLE fleeting", small)
    tools = broken_tools.make(tmp_path / "tools", server.bin, "pg_restore", "fail")
    broken = connection(server, client_bin=str(tools))
    error = refusal(server, store, small, on_missing_roles="create", connection=broken)
    assert error.code == "tool_failed"
    assert server.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'fleeting'") == "0"


@ONE
def test_a_target_that_exists_is_refused_whoever_made_it(server: Server, small: str, store: Path) -> None:
    take_backup(server, store, small)
    assert refusal(server, store, small, target="postgres").code == "target_exists"
    assert refusal(server, store, small, target=small).code == "target_exists"


def test_client_tools_older_than_the_server_are_refused(
    server: Server, small: str, store: Path, server15: Server
) -> None:
    if server.version == 15:
        pytest.skip("no older tools here")
    take_backup(server, store, small)
    error = refusal(server, store, small, connection=connection(server, client_bin=str(server15.bin)))
    assert error.code == "tool_too_old"


@ONE
def test_a_set_of_a_newer_server_is_refused_by_an_older_one(
    server: Server, small: str, store: Path, server15: Server
) -> None:
    take_backup(server, store, small)
    assert refusal(server15, store, small).code == "server_too_old"


@ONE
def test_a_set_of_an_older_server_is_restored_and_compared(
    server: Server, small: str, store: Path, server15: Server
) -> None:
    server15.createdb(small)
    try:
        server15.psql("CREATE TABLE t (id int PRIMARY KEY, v varchar(9) NOT NULL DEFAULT 'x')", small)
        server15.psql("INSERT INTO t SELECT generate_series(1, 30)", small)
        take_backup(server15, store, small, fingerprint="hashes")
    finally:
        server15.dropdb(small)
    result = restore(server, store, small)
    assert server.psql("SELECT count(*) FROM t", fact(result, "target")) == "30"


@ONE
def test_an_extension_without_files_is_refused(server: Server, small: str, store: Path) -> None:
    server.psql("CREATE EXTENSION citext; CREATE EXTENSION pg_trgm", small)
    take_backup(server, store, small)
    folder = Path(server.psql("SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")) / "extension"
    control = folder / "pg_trgm.control"
    control.rename(folder / "pg_trgm.hidden")
    try:
        error = refusal(server, store, small)
    finally:
        (folder / "pg_trgm.hidden").rename(control)
    assert error.code == "missing_extensions"
    assert "'pg_trgm'" in error.cause


@ONE
def test_a_tablespace_that_is_gone_is_refused_and_can_be_given_up(
    server: Server, small: str, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = server.folder / "space"
    postgres._give(folder, server._owner)  # the servers' user must own it
    server.psql(f"CREATE TABLESPACE a_space LOCATION '{folder}'")
    server.psql("ALTER TABLE t SET TABLESPACE a_space", small)
    take_backup(server, store, small)
    server.psql("ALTER TABLE t SET TABLESPACE pg_default", small)
    server.psql("DROP TABLESPACE a_space")
    assert refusal(server, store, small).code == "missing_tablespaces"
    result = restore(server, store, small, acknowledge=["missing_tablespaces"])
    assert server.psql("SELECT count(*) FROM t", fact(result, "target")) == "10"


@pytest.mark.parametrize("server", [15], indirect=True)
def test_another_version_of_the_collation_is_refused_and_can_be_accepted(
    server: Server, small: str, store: Path
) -> None:
    server.psql("CREATE DATABASE sorted TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")
    try:
        server.psql("CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('ä'), ('z')", "sorted")
        server.psql("UPDATE pg_database SET datcollversion = '1.2.3' WHERE datname = 'sorted'")
        take_backup(server, store, "sorted")
        error = refusal(server, store, "sorted")
        assert error.code == "collation_version"
        assert "1.2.3" in error.cause
        assert restore(server, store, "sorted", acknowledge=["collation_version"]).changed
    finally:
        drop_family(server, "sorted")


NAMES = ['quo"te', "it's", "with space", "ünïcode €", "a=b", "postgres://x?y=1", "line\nbreak", "-dash", "x" * 63]


@ONE
@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind_go_there_and_back(server: Server, store: Path, name: str) -> None:
    server.createdb(name)
    quoted = name.replace("'", "''")
    own = server.connect(name)
    own.cursor().execute('CREATE TABLE "t\'""x" (id serial); INSERT INTO "t\'""x" SELECT FROM generate_series(1, 5)')
    own.close()
    try:
        take_backup(server, store, name)
        restore(server, store, name)
        switched = swap(server, store, name, "switched")
        with contextlib.closing(server.connect(name)) as client, client.cursor() as cursor:
            cursor.execute('SELECT count(*) FROM "t\'""x"')
            assert cursor.fetchone() == (5,)
        assert len(fact(switched, "aside").encode()) <= 63
        swap(server, store, name, "undone")
    finally:
        with contextlib.closing(server.connect()) as admin, admin.cursor() as cursor:
            cursor.execute(
                "SELECT datname FROM pg_database WHERE datname = %s OR datname ~ '_(before|undone|restore)_'", (name,)
            )
            for (found,) in cursor.fetchall():
                cursor.execute("UPDATE pg_database SET datallowconn = true WHERE datname = %s", (found,))
                cursor.execute('DROP DATABASE "' + found.replace('"', '""') + '" WITH (FORCE)')
    assert quoted


@ONE
def test_the_maintenance_database_cannot_be_switched(server: Server, store: Path) -> None:
    take_backup(server, store, "postgres")
    restore(server, store, "postgres")
    with pytest.raises(OpsError) as refused:
        swap(server, store, "postgres", "switched")
    assert refused.value.code == "maintenance_database"
    drop_family(server, "postgres_restore")
    for name in databases(server, "postgres_restore"):
        server.dropdb(name)


@ONE
@pytest.mark.parametrize("state", ["switched", "undone", "finished"])
def test_there_has_to_be_a_restore_to_act_on(server: Server, small: str, store: Path, state: str) -> None:
    with pytest.raises(OpsError) as refused:
        swap(server, store, small, state)
    assert refused.value.code in ("no_verified_restore", "nothing_to_undo", "nothing_to_finish")


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server on a small disk that has no room for a second copy, with a backed-up database named demo."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    with (
        disk.small(400) as point,
        postgres.running(18, data=point / "data", settings={"max_wal_size": "64MB", "min_wal_size": "32MB"}) as own,
    ):
        create(own, "demo", parameters=Parameters(4))
        take_backup(own, store, "demo")
        own.psql("INSERT INTO marker (writer) VALUES ('later')", "demo")
        disk.fill(point, leave=42_000_000)
        yield own, store


@ONE
def test_where_there_is_no_room_beside_the_refusal_shows_ways_on_and_in_place_is_one(
    server: Server, cramped: tuple[Server, Path], tmp_path: Path
) -> None:
    own, store = cramped
    first = next((store / "backups").iterdir()).name
    oid = databases(own)["demo"]
    error = refusal(own, store, "demo")
    assert error.code == "disk_too_small"
    assert "another host" in error.remedy
    assert f"-e set={first} -e in_place=true -e acknowledge=in_place" in error.remedy
    # the way it names: a last backup first
    without = refusal(own, store, "demo", set=first, in_place=True, acknowledge=["in_place"])
    assert without.code == "writes_since_backup"
    take_backup(own, store, "demo")
    unaware = refusal(own, store, "demo", set=first, in_place=True)
    assert unaware.code == "in_place"
    result = restore(own, store, "demo", set=first, in_place=True, acknowledge=["in_place"])
    assert fact(result, "state") == "switched"
    assert databases(own)["demo"] != oid
    assert own.psql("SELECT count(*) FROM marker WHERE writer = 'later'", "demo") == "0"
    assert set(databases(own, "demo")) == {"demo"}
    with pytest.raises(OpsError) as undo:
        swap(own, store, "demo", "undone")
    assert undo.value.code == "old_database_missing"
    with contextlib.closing(psycopg2.connect(own.dsn("demo", "demo_app", "demo"))):
        pass


@ONE
def test_on_another_host_the_same_set_is_restored_and_becomes_live(
    server: Server, cramped: tuple[Server, Path]
) -> None:
    own, store = cramped
    try:
        restore(server, store, "demo", on_missing_roles="create")
        swap(server, store, "demo", "switched")
        assert int(server.psql('SELECT count(*) FROM org_acme."Campaign"', "demo")) > 0
        assert not restore(server, store, "demo").changed
    finally:
        drop_family(server, "demo")
    assert own.is_running


@ONE
def test_a_restore_in_place_that_fails_before_the_drop_gives_the_name_back(
    server: Server, small: str, store: Path
) -> None:
    """The moment between the rename and the drop, planted: the state that a kill there leaves."""
    from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
    from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import write_json

    take_backup(server, store, small)
    before, oid = content(server, small), databases(server)[small]
    restore(server, store, small)
    body = record(store)
    planted = {**body, "id": "20991122T200000Z-00000000", "state": "building", "in_place": True, "target_oid": 0}
    planted |= {"target": small, "building": "saasops_building_x", "aside": f"{small}_aside", "aside_oid": oid}
    write_json(PosixStore(str(store)), "restores/20991122T200000Z-00000000.json", planted)  # type: ignore[arg-type]
    server.psql(f'ALTER DATABASE "{small}" RENAME TO "{small}_aside"')
    found = restore(server, store, small)
    assert "has its name again" in str(found.evidence["cleaned"])
    assert databases(server)[small] == oid
    assert content(server, small) == before
