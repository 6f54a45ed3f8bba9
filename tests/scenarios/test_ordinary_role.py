# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole road as a role that is no superuser: what PostgreSQL allows works, a refusal names the missing right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import postgres
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup, verify_sets
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import content, databases, drop_family, fact, restore, swap

pytestmark = pytest.mark.parametrize("server", [15, 18], indirect=True)
NAME = "plainshop"
ROLES = ("plain owner", "plain_app", "plain_stranger")


@dataclass
class Plain:
    """A database that an ordinary role with CREATEDB owns, and how this role logs in."""

    server: Server
    store: Path

    @property
    def login(self) -> dict[str, object]:
        return connection(self.server, user="plain owner", password="of the owner")

    def backup(self, **changes: object) -> None:
        # the newest set is told by the second
        time.sleep(1.0)
        take_backup(self.server, self.store, NAME, connection=self.login, **changes)

    def restore(self, **changes: object) -> str:
        return fact(restore(self.server, self.store, NAME, **{"connection": self.login, **changes}), "target")

    def swap(self, state: str) -> None:
        swap(self.server, self.store, NAME, state, connection=self.login)


@pytest.fixture
def plain(server: Server, tmp_path: Path) -> Iterator[Plain]:
    server.psql(
        "CREATE ROLE \"plain owner\" LOGIN CREATEDB PASSWORD 'of the owner';"
        " CREATE ROLE plain_app LOGIN PASSWORD 'of the app'; CREATE ROLE plain_stranger"
    )
    server.psql(f'CREATE DATABASE {NAME} OWNER "plain owner"')
    server.psql(
        'SET ROLE "plain owner"; CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO plain_app;'
        " CREATE TABLE s.t (id serial PRIMARY KEY, v text); GRANT SELECT, INSERT ON s.t TO plain_app;"
        " INSERT INTO s.t (v) SELECT i::text FROM generate_series(1, 500) i; COMMENT ON TABLE s.t IS 'rows';"
        " CREATE TABLE s.marker (at timestamptz); INSERT INTO s.marker VALUES (now());"
        f" SELECT lo_from_bytea(0, 'abc'); GRANT CONNECT ON DATABASE {NAME} TO plain_app;"
        f" ALTER DATABASE {NAME} SET work_mem = '8MB'; COMMENT ON DATABASE {NAME} IS 'a shop';"
        f" ALTER DATABASE {NAME} CONNECTION LIMIT 40",
        NAME,
    )
    store = tmp_path / "store"
    store.mkdir()
    yield Plain(server, store)
    drop_family(server, NAME)
    for role in ROLES:
        # rights on parameters and memberships
        server.psql(f'DROP OWNED BY "{role}"')
        server.psql(f'DROP ROLE "{role}"')


def refused(code: str, act: object, **given: object) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act(**given)  # type: ignore[operator]
    codes = caught.value.details.get("codes", [caught.value.code])
    assert isinstance(codes, list)
    assert code in codes, caught.value.message
    return caught.value


def test_an_owner_without_superuser_backs_up_restores_switches_undoes_finishes_and_drills(plain: Plain) -> None:
    before, oid = content(plain.server, NAME), databases(plain.server)[NAME]
    plain.backup()
    plain.restore()
    plain.swap("switched")
    assert databases(plain.server)[NAME] != oid
    assert content(plain.server, NAME) == before
    plain.swap("undone")
    assert databases(plain.server)[NAME] == oid
    plain.backup()
    plain.swap("finished")
    assert list(databases(plain.server, NAME)) == [NAME]
    target = plain.restore(target=f"{NAME}_drill")
    marker = "SELECT max(at) FROM s.marker"
    result = verify_sets(
        plain.server, plain.store, NAME, restored=target, remove_restored=True, marker=marker, connection=plain.login
    )
    drill = result.evidence["drill"]
    assert isinstance(drill, dict)
    assert drill["outcome"] == "passed"
    assert drill["rpo"] == 0
    assert list(databases(plain.server, NAME)) == [NAME]


def test_sessions_of_another_role_are_ended_once_the_right_to_signal_is_granted(plain: Plain) -> None:
    plain.backup()
    plain.restore()
    client = plain.server.connect(NAME, user="plain_app", password="of the app")
    error = refused("connections_not_held_off", plain.swap, state="switched")
    assert "pg_signal_backend" in error.remedy
    plain.server.psql('GRANT pg_signal_backend TO "plain owner"')
    plain.swap("switched")
    client.close()


def test_what_the_role_cannot_read_is_refused_before_the_backup(plain: Plain) -> None:
    plain.server.psql("CREATE TABLE s.hidden AS SELECT 1 AS i; CREATE SEQUENCE s.counter", NAME)
    error = refused("not_readable", plain.backup)
    assert "s.hidden" in error.cause
    assert "s.counter" in error.cause
    assert 'GRANT pg_read_all_data TO "plain owner"' in error.remedy
    plain.server.psql('GRANT pg_read_all_data TO "plain owner"')
    plain.backup()
    plain.server.psql('SET ROLE "plain owner"; ALTER TABLE s.t ENABLE ROW LEVEL SECURITY', NAME)
    plain.backup()
    plain.server.psql("ALTER TABLE s.t FORCE ROW LEVEL SECURITY", NAME)
    error = refused("row_security", plain.backup)
    assert "s.t" in error.cause
    assert "BYPASSRLS" in error.remedy
    plain.server.psql('ALTER ROLE "plain owner" BYPASSRLS')
    plain.backup()


def test_large_objects_of_somebody_else_are_refused_before_the_backup(plain: Plain) -> None:
    plain.server.psql("SELECT lo_from_bytea(0, 'theirs')", NAME)
    error = refused("not_readable", plain.backup)
    assert "1 large objects" in error.cause


def test_owners_that_the_role_cannot_become_are_refused_before_the_restore(plain: Plain) -> None:
    plain.server.psql('GRANT pg_read_all_data TO "plain owner"')
    plain.server.psql("CREATE TABLE s.theirs AS SELECT 1 AS i; ALTER TABLE s.theirs OWNER TO plain_stranger", NAME)
    plain.backup()
    error = refused("not_a_member", plain.restore)
    assert 'GRANT "plain_stranger" TO "plain owner"' in error.remedy
    assert "plain_app" not in error.message, "a grantee is no owner"
    assert list(databases(plain.server, NAME)) == [NAME]
    plain.server.psql('GRANT "plain_stranger" TO "plain owner"')
    target = plain.restore()
    assert plain.server.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'theirs'", target) == "plain_stranger"
    # PostgreSQL wants the new owner to have this right at that moment; it was lent and taken back
    assert plain.server.psql("SELECT has_schema_privilege('plain_stranger', 's', 'CREATE')", target) == "f"


def test_what_only_a_superuser_restores_is_refused_with_the_list(plain: Plain) -> None:
    plain.server.psql("CREATE EXTENSION file_fdw; CREATE EXTENSION pg_trgm", NAME)
    plain.server.psql(f"ALTER DATABASE {NAME} SET log_min_duration_statement = '1s'")
    plain.server.psql(f"ALTER ROLE plain_app IN DATABASE {NAME} SET work_mem = '9MB'")
    plain.backup()
    error = refused("superuser_extension", plain.restore)
    assert error.details["superuser_extension"] == {"extensions": ["file_fdw"]}
    assert error.details["superuser_setting"] == {"settings": ["log_min_duration_statement"]}
    assert error.details["role_settings"] == {"roles": ["plain_app"]}
    plain.server.psql("DROP EXTENSION file_fdw", NAME)
    plain.server.psql('GRANT SET ON PARAMETER log_min_duration_statement TO "plain owner"')
    plain.server.psql('ALTER ROLE "plain owner" CREATEROLE; GRANT plain_app TO "plain owner" WITH ADMIN OPTION')
    plain.backup()
    plain.restore()


def test_a_drill_on_a_scratch_server_makes_the_roles_when_the_login_may(plain: Plain) -> None:
    plain.server.psql('GRANT plain_stranger TO "plain owner"; GRANT pg_read_all_data TO "plain owner"')
    plain.server.psql(
        "CREATE TABLE s.theirs AS SELECT 1 AS i; ALTER TABLE s.theirs OWNER TO plain_stranger",
        NAME,
    )
    plain.backup()
    with postgres.running(plain.server.version, own=True) as scratch:
        scratch.psql("CREATE ROLE \"plain owner\" LOGIN CREATEDB PASSWORD 'of the owner'")
        there = connection(scratch, user="plain owner", password="of the owner")
        target = f"{NAME}_drill"
        given: dict[str, object] = {"connection": there, "target": target, "on_missing_roles": "create"}
        error = refused("may_not_create_roles", plain.restore, **given)
        assert "CREATEROLE" in error.remedy
        scratch.psql('ALTER ROLE "plain owner" CREATEROLE')
        plain.restore(**given)
        verify_sets(
            plain.server, plain.store, NAME, restored=target, remove_restored=True,
            connection=there, live_connection=plain.login, marker="SELECT max(at) FROM s.marker",
        )  # fmt: skip
        assert target not in databases(scratch)
        assert scratch.psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'plain!_%' ESCAPE '!'") == "0"
