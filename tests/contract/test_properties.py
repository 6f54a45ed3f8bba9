# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and setting the properties of real databases: every loss that a restore can have is planted and seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    Database,
    Grant,
    Setting,
    compare_properties,
    database_differences,
    handed_on,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import (
    create_statement,
    read_database,
    read_properties,
    set_right,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [18], indirect=True)


@contextlib.contextmanager
def session(server: Server, database: str, kind: str = "psycopg") -> Iterator[Session]:
    with contextlib.closing(Target.from_params(connection(server, session=kind)).session(database)) as opened:
        yield opened


def properties(server: Server, database: str) -> dict[str, Json]:
    with session(server, database) as opened:
        return read_properties(opened, database)


def own(server: Server, database: str) -> Database:
    with session(server, "postgres") as opened:
        found = read_database(opened, database)
    assert found is not None
    return found


@pytest.fixture
def copy(server: Server, demo_database: str) -> Iterator[str]:
    """A second database with the same objects and traits."""
    name = f"{demo_database}_copy"
    server.createdb(name, template=demo_database)
    with session(server, "postgres") as opened:
        found = read_database(opened, demo_database)
        assert found is not None
        set_right(opened, name, found)
    yield name
    server.dropdb(name)


def test_two_equal_databases_have_no_difference(server: Server, demo_database: str, copy: str) -> None:
    assert compare_properties(properties(server, demo_database), properties(server, copy)) == []


def test_options_of_a_column_are_compared_and_what_only_the_server_writes_there_is_not(
    server: Server, database: str
) -> None:
    made = "CREATE TABLE t (id int)"
    server.psql(made, database)
    before = properties(server, database)
    # the same table from another place in the WAL
    server.psql(f"DROP TABLE t; {made}", database)
    assert compare_properties(before, properties(server, database)) == []
    server.psql("ALTER TABLE t ALTER id SET (n_distinct = 5)", database)
    (lost, surplus) = compare_properties(before, properties(server, database))
    assert surplus.text.endswith("t.id integer   n_distinct=5")
    assert lost.text.rstrip().endswith("t.id integer")


@ONE
def test_both_kinds_of_session_read_the_same(server: Server, demo_database: str) -> None:
    with session(server, demo_database, "psql") as through_psql:
        assert read_properties(through_psql, demo_database) == properties(server, demo_database)


@ONE
def test_a_dump_and_restore_by_the_tools_alone_differs_in_the_databases_own_traits_only(
    server: Server, demo_database: str
) -> None:
    name = f"{demo_database}_plain"
    server.createdb(name, template="template0")
    try:
        dump = server.folder / "plain.dump"
        server.tool("pg_dump", "-Fc", f"--file={dump}", dbname=demo_database)
        server.tool("pg_restore", "--exit-on-error", f"--dbname={name}", str(dump))
        kinds = {d.kind for d in compare_properties(properties(server, demo_database), properties(server, name))}
    finally:
        server.dropdb(name)
    assert kinds == {"database", "grant", "setting"}


LOSSES = {
    "a grant on a table": 'REVOKE SELECT ON org_acme."Campaign" FROM demo_app',
    "a grant on a schema": 'REVOKE USAGE ON SCHEMA "org_MixedCase" FROM demo_app',
    "a grant on a column": "REVOKE SELECT (id) ON support_cases FROM demo_support",
    "a grant option": "REVOKE GRANT OPTION FOR USAGE ON SEQUENCE invoice_number_seq FROM demo_app",
    "an owner": 'ALTER TABLE org_acme."Campaign" OWNER TO postgres',
    "a trigger": 'DROP TRIGGER campaign_touch ON org_acme."Campaign"',
    "an enabled trigger": 'ALTER TABLE org_acme."Campaign" DISABLE TRIGGER campaign_touch',
    "an index": 'DROP INDEX public."invoices_orderId_idx"',
    "a foreign key": 'ALTER TABLE invoices DROP CONSTRAINT "invoices_orderId_fkey"',
    "a not-null": "ALTER TABLE invoices ALTER amount DROP NOT NULL",
    "a default": "ALTER TABLE marker ALTER writer DROP DEFAULT",
    "a type": "ALTER TABLE invoices ALTER amount TYPE numeric(14, 2)",
    "row security": "ALTER TABLE tenant_notes NO FORCE ROW LEVEL SECURITY",
    "a policy": "DROP POLICY {policy} ON tenant_notes",
    "a view": "DROP VIEW won_campaigns",
    "a function's body": "CREATE OR REPLACE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END'",
    "a comment": "COMMENT ON TABLE marker IS NULL",
    "an enum's value": "ALTER TYPE \"ReservationState\" ADD VALUE 'lost'",
    "a publication": "DROP PUBLICATION demo_changes",
    "a publication's table": "ALTER PUBLICATION demo_changes DROP TABLE tenants",
    "an event trigger": "DROP EVENT TRIGGER protect_tenants",
    "an enabled event trigger": "ALTER EVENT TRIGGER protect_tenants DISABLE",
    "a default privilege": "ALTER DEFAULT PRIVILEGES FOR ROLE demo_owner REVOKE SELECT ON TABLES FROM demo_readonly",
    "extended statistics": "DROP STATISTICS org_acme.activity_kinds",
    "an extension": "CREATE EXTENSION pg_trgm",
    "a grant on a large object": "SELECT format('REVOKE SELECT ON LARGE OBJECT %s FROM demo_app', loid)"
    " FROM (SELECT min(oid) AS loid FROM pg_largeobject_metadata) x \\gexec",
    "a grant on the database": 'REVOKE CONNECT ON DATABASE "{name}" FROM demo_app',
    "a setting": 'ALTER DATABASE "{name}" RESET app.label',
    "a role's setting": 'ALTER ROLE demo_app IN DATABASE "{name}" RESET statement_timeout',
    "a connection limit": 'ALTER DATABASE "{name}" CONNECTION LIMIT -1',
    "the database's comment": 'COMMENT ON DATABASE "{name}" IS NULL',
    "the database's owner": 'ALTER DATABASE "{name}" OWNER TO postgres',
}


@ONE
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_loss_is_seen(server: Server, demo_database: str, loss: str) -> None:
    before = properties(server, demo_database)
    policy = server.psql("SELECT quote_ident(min(polname)) FROM pg_policy", demo_database)
    server.psql(LOSSES[loss].replace("{policy}", policy).replace("{name}", demo_database), demo_database)
    found = compare_properties(before, properties(server, demo_database))
    assert found, loss


@ONE
def test_the_difference_names_the_grant(server: Server, demo_database: str) -> None:
    before = properties(server, demo_database)
    server.psql('REVOKE SELECT ON org_acme."Campaign" FROM demo_app', demo_database)
    texts = [item.text for item in compare_properties(before, properties(server, demo_database))]
    assert any("table Campaign demo_app" in text and "org_acme" in text for text in texts), texts


STRANGE = 'it\'s "a" \\ näme'


@ONE
def test_traits_with_every_kind_of_quote_are_set_right(server: Server, database: str) -> None:
    server.psql('CREATE ROLE "Strange ""role"" é"')
    try:
        wanted = replace(
            own(server, database),
            owner='Strange "role" é',
            connection_limit=7,
            comment=STRANGE,
            grants=(Grant("", "CONNECT", False), Grant('Strange "role" é', "TEMPORARY", True)),
            settings=(
                Setting("", "app.label", STRANGE),
                Setting("", "search_path", '"$user", "with, comma", "qu""ote", public'),
                Setting("", "work_mem", "9MB"),
                Setting('Strange "role" é', "DateStyle", "SQL, DMY"),
            ),
        )
        with session(server, "postgres") as opened:
            assert set_right(opened, database, wanted)
            assert set_right(opened, database, wanted) == []
        assert database_differences(wanted, own(server, database)) == []
        assert server.psql("SHOW search_path", database) == '"$user", "with, comma", "qu""ote", public'
        assert server.psql("SHOW app.label", database) == STRANGE
    finally:
        server.psql(f'ALTER DATABASE "{database}" OWNER TO postgres')
        server.psql('DROP OWNED BY "Strange ""role"" é"', database)
        server.psql('DROP ROLE "Strange ""role"" é"')


@ONE
def test_what_a_change_that_fails_had_begun_is_rolled_back(server: Server, database: str) -> None:
    before = own(server, database)
    wanted = replace(before, connection_limit=3, settings=(Setting("", "no_such_setting_at_all", "1"),))
    with session(server, "postgres") as opened, pytest.raises(Exception, match="no_such_setting"):
        set_right(opened, database, wanted)
    assert own(server, database) == before


LOCALES = {
    "libc": "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    "icu": "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LC_COLLATE 'C' LC_CTYPE 'C'",
    "icu rules": "LOCALE_PROVIDER icu ICU_LOCALE 'en' ICU_RULES '&a < g' LC_COLLATE 'C' LC_CTYPE 'C'",
    "builtin": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'",
    "latin": "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
}


@pytest.mark.parametrize("locale", list(LOCALES))
def test_a_database_is_created_with_the_same_locale(server: Server, locale: str) -> None:
    needed = {"icu rules": 16, "builtin": 17}.get(locale, 0)
    icu = server.psql("SELECT count(*) FROM pg_collation WHERE collprovider = 'i' AND collname LIKE 'de%'") != "0"
    if server.version < needed or (locale.startswith("icu") and not icu):
        pytest.skip(f"PostgreSQL {server.version} here has no {locale}")
    server.psql(f"CREATE DATABASE locale_source TEMPLATE template0 {LOCALES[locale]}")
    try:
        source = own(server, "locale_source")
        with session(server, "postgres") as opened:
            opened.run(create_statement("locale_copy", source, opened.version))
        assert database_differences(source, own(server, "locale_copy")) == []
    finally:
        server.dropdb("locale_source")
        server.dropdb("locale_copy")


@ONE
def test_a_switch_hands_the_live_traits_on_and_keeps_what_create_fixed(server: Server, demo_database: str) -> None:
    live, built = own(server, demo_database), own(server, "postgres")
    given = handed_on(live, replace(built, collate="POSIX"))
    assert (given.settings, given.grants, given.owner) == (live.settings, live.grants, live.owner)
    assert given.collate == "POSIX"


@ONE
def test_reading_gives_the_session_its_search_path_back(server: Server, demo_database: str) -> None:
    with session(server, demo_database) as opened:
        opened.run("""SET search_path = "org_MixedCase", public""")
        read_properties(opened, demo_database)
        assert opened.value("SELECT current_setting('search_path')") == '"org_MixedCase", public'
