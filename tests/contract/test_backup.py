# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_backup on real servers: what the facts about PostgreSQL demand, each planted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import key_of
from ansible_collections.saasops.runbook.plugins.module_utils.execute import backup
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import take_snapshot
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import broken_tools
from ansible_collections.saasops.runbook.tests.lab.acts import (
    connection,
    context,
    parameters,
    take_backup,
    verify_sets,
)
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [18], indirect=True)
STRANGE = 'sch"ema\nwith ünïcode'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def filled(server: Server, database: str) -> str:
    """A small database with a strange schema, a matview, a sequence, a partitioned table and a large object."""
    strange = STRANGE.replace('"', '""')
    server.psql(
        f'''CREATE SCHEMA "{strange}";
        CREATE TABLE "{strange}"."T a b" (id serial PRIMARY KEY, body text);
        INSERT INTO "{strange}"."T a b" (body) SELECT repeat('x', i) || E'\n\\tab' FROM generate_series(1, 50) i;
        CREATE TABLE plain (id int PRIMARY KEY);
        INSERT INTO plain SELECT generate_series(1, 1000);
        CREATE TABLE empty (id int);
        CREATE TABLE parted (at date, n int) PARTITION BY RANGE (at);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        INSERT INTO parted SELECT '2026-05-01', i FROM generate_series(1, 7) i;
        CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM plain;
        SELECT lo_from_bytea(0, 'large');''',
        database,
    )
    return database


@pytest.fixture(params=["stream", "directory"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "stream":
        return ""
    (tmp_path / "staging").mkdir()
    return str(tmp_path / "staging")


def only_set(store: Path) -> sets.SetEntry:
    found = sets.entries(PosixStore(str(store)), "test")
    assert len(found) == 1
    return found[0]


def members(store: Path, set_id: str) -> dict[str, bytes]:
    """Every member of a set, read back."""
    place = PosixStore(str(store))
    manifest, contents = sets.load(place, set_id, "test")
    found: dict[str, bytes] = {}

    def keep(member: object, chunks: Iterator[bytes]) -> None:
        found[member.name] = b"".join(chunks)  # type: ignore[attr-defined]

    read_packs(place, sets.folder(set_id), contents.objects, open_codec(manifest.codec), keep)
    return found


def test_a_set_holds_every_row_in_both_pipelines(server: Server, filled: str, store: Path, staging: str) -> None:
    result = take_backup(server, store, filled, staging=staging)
    assert result.changed
    entry = only_set(store)
    assert entry.state == "complete"
    manifest, contents = sets.load(PosixStore(str(store)), entry.set_id, "test")
    tables = contents.fingerprint["tables"]
    assert isinstance(tables, dict)
    rows = {key: value["rows"] for key, value in tables.items()}  # type: ignore[index,call-overload]
    assert rows == {
        key_of(STRANGE, "T a b"): 50,
        key_of("public", "plain"): 1000,
        key_of("public", "empty"): 0,
        key_of("public", "parted_1"): 7,
        key_of("public", "seen"): None,
    }
    assert contents.fingerprint["large_objects"] == {"count": 1, "hash": None}
    assert manifest.rows == 1057
    assert manifest.pipeline == ("directory" if staging else "stream")
    assert not staging or list(Path(staging).iterdir()) == []
    assert verify_sets(server, store, filled).evidence["verified"] == [entry.set_id]


@ONE
def test_globals_hold_no_password_and_configuration_is_there(server: Server, filled: str, store: Path) -> None:
    server.psql("CREATE ROLE keeper LOGIN PASSWORD 'a-planted-secret'", filled)
    try:
        take_backup(server, store, filled)
    finally:
        server.psql("DROP ROLE keeper", filled)
    found = members(store, only_set(store).set_id)
    assert b'CREATE ROLE "keeper"' in found["globals.sql"]
    assert b"SCRAM-SHA-256" not in found["globals.sql"]
    assert b"a-planted-secret" not in b"".join(found.values())
    settings = {item["name"] for item in json.loads(found["configuration.json"])["settings"]}
    assert "max_prepared_transactions" in settings
    assert json.loads(found["configuration.json"])["hba"]
    assert b"CREATE TABLE" in found["schema.sql"]


def test_a_table_truncated_and_reloaded_meanwhile_is_seen_whole(server: Server, filled: str) -> None:
    """A snapshot that is taken before the locks counts 0 here, and the dump holds 0 rows: both agree, both wrong."""
    target = Target.from_params(connection(server))
    exporter, other = target.session(filled), target.session(filled)
    with server.connect(filled) as loader, loader.cursor() as cursor:
        cursor.execute("TRUNCATE plain")
        taken: list[object] = []
        thread = threading.Thread(target=lambda: taken.append(take_snapshot(exporter, other, ())))
        thread.start()
        deadline = time.monotonic() + 10
        while (
            server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'", filled).strip()
            != "1"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        cursor.execute("INSERT INTO plain SELECT generate_series(1, 1234)")
        loader.commit()
        thread.join(20)
    assert len(taken) == 1
    assert exporter.value("SELECT count(*) FROM public.plain") == 1234
    exporter.close()
    other.close()


@ONE
def test_a_table_that_forces_row_security_is_refused_and_not_dumped_in_part(
    server: Server, database: str, store: Path
) -> None:
    server.psql(
        """CREATE ROLE half LOGIN PASSWORD 'half';
        CREATE SCHEMA own AUTHORIZATION half;
        CREATE TABLE own.t (id int); INSERT INTO own.t SELECT generate_series(1, 100);
        ALTER TABLE own.t OWNER TO half;
        ALTER TABLE own.t ENABLE ROW LEVEL SECURITY; ALTER TABLE own.t FORCE ROW LEVEL SECURITY;
        CREATE POLICY even ON own.t USING (id % 2 = 0);""",
        database,
    )
    try:
        with pytest.raises(OpsError) as caught:
            take_backup(server, store, database, connection=connection(server, user="half", password="half"))
    finally:
        server.psql("DROP OWNED BY half; DROP ROLE half", database)
    assert caught.value.code == "row_security"
    assert "own.t" in caught.value.cause
    assert [e for e in sets.entries(PosixStore(str(store)), "test") if e.state == "complete"] == []


@ONE
def test_a_dump_that_is_cut_and_exits_0_makes_no_set(
    server: Server, filled: str, store: Path, staging: str, tmp_path: Path
) -> None:
    tools = broken_tools.make(tmp_path / "bin", server.bin, "pg_dump", "cut")
    with pytest.raises(OpsError) as caught:
        take_backup(server, store, filled, staging=staging, connection=connection(server, client_bin=str(tools)))
    assert caught.value.code == "dump_incomplete"
    assert sets.entries(PosixStore(str(store)), "test") == []


@ONE
def test_a_dump_that_fails_makes_no_set(server: Server, filled: str, store: Path, staging: str, tmp_path: Path) -> None:
    tools = broken_tools.make(tmp_path / "bin", server.bin, "pg_dump", "fail")
    with pytest.raises(OpsError) as caught:
        take_backup(server, store, filled, staging=staging, connection=connection(server, client_bin=str(tools)))
    assert caught.value.code == "tool_failed"
    assert sets.entries(PosixStore(str(store)), "test") == []
    assert not staging or list(Path(staging).iterdir()) == []


@ONE
def test_check_mode_tells_the_plan_and_leaves_nothing(server: Server, filled: str, store: Path) -> None:
    result = take_backup(server, store, filled, check=True)
    assert result.changed
    assert result.plan is not None
    assert [action.kind for action in result.plan.actions] == ["dump"]
    assert list(store.rglob("*.json")) == []


@ONE
def test_the_same_key_makes_no_second_set(server: Server, filled: str, store: Path) -> None:
    assert take_backup(server, store, filled, key="2026-11-22").changed
    again = take_backup(server, store, filled, key="2026-11-22")
    assert not again.changed
    assert take_backup(server, store, filled, max_age="1h").changed is False
    assert take_backup(server, store, filled, key="2026-11-23").changed


@ONE
def test_each_tenant_becomes_a_set_of_its_own_under_one_snapshot(server: Server, database: str, store: Path) -> None:
    server.psql(
        "CREATE SCHEMA org_a; CREATE SCHEMA org_b; CREATE SCHEMA other;"
        "CREATE TABLE org_a.t AS SELECT generate_series(1, 3) i;"
        "CREATE TABLE org_b.t AS SELECT generate_series(1, 4) i;",
        database,
    )
    result = take_backup(server, store, database, tenants=["org_*"])
    made = result.evidence["sets"]
    assert isinstance(made, list)
    assert [(item["tenant"], item["rows"]) for item in made] == [("org_a", 3), ("org_b", 4)]
    assert len({item["snapshot_at"] for item in made}) == 1


@ONE
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"connection": {"password": "wrong"}}, "wrong_password"),
        ({"connection": {"port": 1}}, "server_unreachable"),
        ({"database": "no such\ndatabase"}, "unknown_database"),
        ({"schemas": ["nope"]}, "unknown_schema"),
        ({"tenants": ["nope_*"]}, "unknown_schema"),
        ({"store": {"type": "posix", "path": "/nonexistent/store"}}, "store_missing"),
        ({"connection": {"client_bin": "/nonexistent"}}, "tool_missing"),
    ],
    ids=["password", "unreachable", "database", "schema", "tenant", "store", "tools"],
)
def test_bad_input_is_refused_with_its_code_and_changes_nothing(
    server: Server, filled: str, store: Path, changes: dict[str, object], code: str
) -> None:
    if isinstance(changes.get("connection"), dict):
        changes = {**changes, "connection": connection(server, **changes["connection"])}  # type: ignore[dict-item]
    with pytest.raises(OpsError) as caught:
        backup.execute({**parameters(server, store, filled, {}), **changes}, context())
    assert caught.value.code == code
    assert caught.value.remedy
    assert [path for path in store.rglob("*") if path.is_file()] == []


@ONE
def test_older_client_tools_than_the_server_are_refused(
    server: Server, filled: str, store: Path, server15: Server
) -> None:
    with pytest.raises(OpsError) as caught:
        take_backup(server, store, filled, connection=connection(server, client_bin=str(server15.bin)))
    assert caught.value.code == "tool_too_old"


@ONE
def test_staging_on_the_volume_of_the_data_directory_is_refused(server: Server, filled: str, store: Path) -> None:
    with pytest.raises(OpsError) as caught:
        take_backup(server, store, filled, staging=str(server.folder))
    assert caught.value.code == "staging_on_pgdata"


@ONE
def test_no_free_connection_slot_is_refused_with_its_code(server: Server, filled: str, store: Path) -> None:
    server.psql("CREATE ROLE plain LOGIN PASSWORD 'plain'; GRANT ALL ON DATABASE postgres TO plain", filled)
    crowd = []
    try:
        with contextlib.suppress(OpsError):
            for _number in range(100):
                crowd.append(Target.from_params(connection(server, user="plain", password="plain")).session(filled))
        assert len(crowd) < 100
        with pytest.raises(OpsError) as caught:
            take_backup(server, store, filled, connection=connection(server, user="plain", password="plain"))
        assert caught.value.code == "no_free_connection"
    finally:
        for session in crowd:
            session.close()
        server.psql("DROP OWNED BY plain; DROP ROLE plain", filled)
