# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo database has one of everything that a backup or a restore can lose."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.tests.lab import demo, postgres

CONTENT = """
SELECT format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")) FROM %s AS t', oid::regclass)
FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
  AND relname NOT IN ('EpisodeAudio')
ORDER BY oid::regclass::text COLLATE "C" \\gexec
"""

SETTINGS = (
    "FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

# what must be there, as a query that answers with how many
FEATURES = {
    "tenants": ("SELECT count(*) FROM tenants", 12),
    "schemas of tenants": ("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'org\\_%'", 12),
    "a name with a space, a quote and a letter beyond ASCII": (
        "SELECT count(*) FROM pg_namespace WHERE nspname ~ '[^[:ascii:]]' AND nspname LIKE '% \"%'",
        1,
    ),
    "views": ("SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relname = 'OpenCampaigns'", 12),
    "populated materialized views": ("SELECT count(*) FROM pg_matviews WHERE ispopulated", 12),
    "unpopulated materialized views": ("SELECT count(*) FROM pg_matviews WHERE NOT ispopulated", 12),
    "partitions": ("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'", 5),
    "partitions with rows": (
        'SELECT count(DISTINCT tableoid) FROM "AuditEvent"',
        5,
    ),
    "large objects": ("SELECT count(*) FROM pg_largeobject_metadata", 5),
    "large objects with an ACL": ("SELECT count(*) FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL", 2),
    "triggers": ("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal", 24),
    "event triggers": ("SELECT count(*) FROM pg_event_trigger", 1),
    "foreign keys between schemas": (
        "SELECT count(*) FROM pg_constraint AS c JOIN pg_class AS a ON a.oid = c.conrelid JOIN pg_class AS b"
        " ON b.oid = c.confrelid WHERE c.contype = 'f' AND a.relnamespace <> b.relnamespace",
        1,
    ),
    "deferred foreign keys": ("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND condeferred", 24),
    "publications": ("SELECT count(*) FROM pg_publication_tables", 2),
    "extended statistics": ("SELECT count(*) FROM pg_statistic_ext", 12),
    "forced row security": ("SELECT count(*) FROM pg_class WHERE relforcerowsecurity", 1),
    "default privileges": ("SELECT count(*) FROM pg_default_acl", 14),
    "grants on columns": ("SELECT count(*) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384", 2),
    "extensions": ("SELECT count(*) FROM pg_extension WHERE extname = 'citext'", 1),
    "sequences never used": ("SELECT count(*) FROM pg_sequences WHERE last_value IS NULL", 2),
    "settings of the database": (f"SELECT cardinality(setconfig) {SETTINGS} AND setrole = 0", 3),
    "settings of a role in the database": (f"SELECT cardinality(setconfig) {SETTINGS} AND setrole <> 0", 2),
    "generated columns": ("SELECT count(*) FROM pg_attribute WHERE attgenerated = 's'", 12),
    "unlogged tables": ("SELECT count(*) FROM pg_class WHERE relpersistence = 'u'", 0),
    "invalid indexes": ("SELECT count(*) FROM pg_index WHERE NOT indisvalid", 0),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_the_demo_has(server: postgres.Server, demo_template: str, feature: str) -> None:
    query, count = FEATURES[feature]
    assert int(server.psql(query, demo_template)) == count


def test_the_database_has_owner_acl_limit_and_comment(server: postgres.Server, demo_database: str) -> None:
    query = (
        "SELECT datdba::regrole || ' ' || datconnlimit || ' ' || array_to_string(datacl, ' ') || ' '"
        " || shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )
    found = server.psql(query, demo_database)
    assert found.startswith("demo_owner 40 ")
    assert "demo_readonly=c/" in found
    assert " =Tc/" not in found
    assert found.endswith("podcast advertising")


def test_the_application_reads_and_writes_its_tenant_through_its_settings(
    server: postgres.Server, demo_database: str
) -> None:
    with server.connect(demo_database, "demo_app", "demo") as connection, connection.cursor() as cursor:
        # found by the search_path that is set for the role in this database
        cursor.execute('UPDATE "Campaign" SET probability = 90 WHERE id = (SELECT min(id) FROM "Campaign")')
        assert cursor.rowcount == 1
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)


def test_the_read_only_role_cannot_write(server: postgres.Server, demo_database: str) -> None:
    import psycopg2

    with server.connect(demo_database, "demo_readonly", "demo") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants")
        with pytest.raises(psycopg2.Error):
            cursor.execute("DELETE FROM tenants")


def test_the_owner_sees_no_row_of_the_table_with_forced_row_security(
    server: postgres.Server, demo_database: str
) -> None:
    def counted(prelude: str) -> str:
        return server.psql(f"{prelude}; SELECT count(*) FROM tenant_notes", demo_database)

    assert counted("SET ROLE demo_owner") == "0"
    assert counted("SET app.tenant = 'acme'; SET ROLE demo_owner") == "50"
    assert counted("RESET ROLE") == "100"


def test_the_same_seed_gives_the_same_rows_on_every_version(
    server15: postgres.Server, server17: postgres.Server, server18: postgres.Server
) -> None:
    contents = set()
    for server in (server15, server17, server18):
        demo.create(server, "same", parameters=demo.Parameters(0.5, seed=7))
        contents.add(server.psql("SET timezone = 'UTC';" + CONTENT, "same"))
    assert len(contents) == 1
    demo.create(server18, "other", parameters=demo.Parameters(0.5, seed=8))
    assert server18.psql("SET timezone = 'UTC';" + CONTENT, "other") not in contents
    for server in (server15, server17, server18):
        server.dropdb("same")
    server18.dropdb("other")


@pytest.mark.parametrize("server", [18], indirect=True)
def test_the_size_is_about_what_was_asked_for(server: postgres.Server) -> None:
    sizes = {}
    for megabytes in (10, 60):
        demo.create(server, "sized", parameters=demo.Parameters(megabytes))
        sizes[megabytes] = int(server.psql("SELECT pg_database_size('sized')")) / 1e6
        server.dropdb("sized")
    assert 40 <= sizes[60] - sizes[10] <= 60


def test_pg_dump_and_pg_restore_carry_it_without_a_complaint(
    server: postgres.Server, demo_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dump") / "set"
    server.tool("pg_dump", "-Fd", "-j2", "-f", str(folder), demo_database)
    server.createdb("copied", template="template0")
    try:
        server.tool("pg_restore", "--exit-on-error", "-j2", "-d", "copied", str(folder))
        counted = 'SELECT (SELECT count(*) FROM org_acme."Activity") + (SELECT sum(amount) FROM invoices)'
        assert server.psql(counted, "copied") == server.psql(counted, demo_database)
    finally:
        server.dropdb("copied")
