# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore from a dump in directory format: plain tables frozen from the start, everything else by pg_restore."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain import dump_toc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import restore_load
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import load
from ansible_collections.saasops.runbook.tests.lab import postgres, scratch
from ansible_collections.saasops.runbook.tests.lab.acts import take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import content, databases, drop_family, fact, restore, swap

ONE = pytest.mark.parametrize("server", [18], indirect=True)
# beyond one pack of its own (4 MiB), so that a table comes alone
LARGE = 60_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    # a quote and a space in the path of every file
    folder = tmp_path / "it's staging"
    folder.mkdir()
    return folder


@pytest.fixture
def live(server: Server, database: str) -> Iterator[str]:
    yield database
    drop_family(server, database)


def there_and_back(server: Server, live: str, store: Path, staging: Path, **changes: object) -> str:
    """Back up by way of the staging folder, restore, and return the copy's name."""
    take_backup(server, store, live, staging=str(staging))
    copy = fact(restore(server, store, live, staging=str(staging), **changes), "target")
    assert list(staging.iterdir()) == []
    return copy


def visible(server: Server, database: str) -> dict[str, bool]:
    """Table -> whether the pages with rows are all-visible, as the visibility map says (ANALYZE reads it).

    A table may end in up to 64 empty pages, by which the server had extended it in advance.
    """
    server.psql("ANALYZE", database)
    rows = server.psql(
        "SELECT json_object_agg(relname, relallvisible BETWEEN greatest(1, relpages - 64) AND relpages) FROM pg_class"
        " WHERE relkind = 'r' AND relpages > 0 AND relnamespace >= 2200 AND relname !~ '^(pg|sql)_'",
        database,
    )
    found: dict[str, bool] = json.loads(rows)
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[load.Loader]:
    """The loaders that were at work, to ask which table came which way."""
    made: list[load.Loader] = []

    def remember(*given: object) -> load.Loader:
        made.append(load.Loader(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(restore_load, "Loader", remember)
    return made


def test_every_row_comes_back_frozen_whatever_its_table_is_called(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    server.psql(
        f'''CREATE SCHEMA "Sch é ""q"" :v \\x"; SET search_path = "Sch é ""q"" :v \\x";
        CREATE TABLE large (id bigint GENERATED ALWAYS AS IDENTITY, body text);
        INSERT INTO large (body) SELECT repeat('x', 90) || E'\\n\\t\\\\.' FROM generate_series(1, {LARGE});
        CREATE TABLE "it's ""T""" (id int, "c d" text, "dropped" int, "e""f" text);
        ALTER TABLE "it's ""T""" DROP COLUMN "dropped";
        INSERT INTO "it's ""T""" VALUES (1, NULL, ''), (2, '\\N', '\\.'), (3, E'\\\\.', E'\\r\\n');
        CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int DEFAULT 7);
        INSERT INTO computed (a) SELECT generate_series(1, 10);
        CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);
        INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (3, 4);
        CREATE TABLE empty (a int);
        CREATE TABLE one_empty_text (a text); INSERT INTO one_empty_text VALUES ('');
        CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
        CREATE TABLE root (at date, n int) PARTITION BY RANGE (at);
        CREATE TABLE leaf PARTITION OF root FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        INSERT INTO root SELECT '2026-05-01', i FROM generate_series(1, 7) i;
        CREATE TABLE pointed (id int PRIMARY KEY); INSERT INTO pointed VALUES (1);
        CREATE TABLE pointing (id int REFERENCES pointed, CHECK (id > 0)); INSERT INTO pointing VALUES (1);
        ALTER TABLE pointing ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END';
        CREATE TRIGGER refuse BEFORE INSERT ON computed FOR EACH ROW EXECUTE FUNCTION refuse();''',
        live,
    )
    before = content(server, live)
    copy = there_and_back(server, live, store, staging)
    assert content(server, copy) == before
    (loader,) = seen
    names = {name for _schema, name in loader.loaded}
    assert names == {
        'it\'s "T"', "large", "computed", "parent", "child", "empty", "one_empty_text", "unlogged", "leaf", "pointed",
        "pointing",
    }  # fmt: skip
    assert all(visible(server, copy).values())
    assert server.psql('SELECT sum(n) FROM "Sch é ""q"" :v \\x".root', copy) == "28"


@ONE
def test_frozen_pages_are_all_frozen_without_a_vacuum(server: Server, live: str, store: Path, staging: Path) -> None:
    server.psql(f"CREATE TABLE large AS SELECT i, repeat('x', 90) AS t FROM generate_series(1, {LARGE}) i", live)
    copy = there_and_back(server, live, store, staging)
    server.psql("ANALYZE large", copy)
    facts = server.psql(
        "SELECT relpages > 200, relallfrozen >= relpages - 64, vacuum_count + autovacuum_count"
        " FROM pg_class JOIN pg_stat_user_tables ON relid = pg_class.oid WHERE pg_class.relname = 'large'",
        copy,
    )
    assert facts == "t|t|0"


def test_what_is_not_a_plain_table_comes_back_by_pg_restore(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    server.psql(
        """CREATE TABLE "two
lines" (a int); INSERT INTO "two
lines" VALUES (1), (2);
        CREATE TABLE "column" ("two
lines" int); INSERT INTO "column" VALUES (3);
        CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES;
        CREATE SEQUENCE counter; SELECT setval('counter', 4711);
        CREATE TABLE plain (a int); INSERT INTO plain VALUES (1);
        CREATE MATERIALIZED VIEW computed AS SELECT a + 1 AS a FROM plain;
        SELECT lo_from_bytea(4711, 'large');""",
        live,
    )
    before = content(server, live)
    copy = there_and_back(server, live, store, staging)
    assert content(server, copy) == before
    assert {name for _schema, name in seen[0].loaded} == {"plain"}
    assert server.psql("SELECT a, encode(lo_get(4711), 'escape') FROM computed", copy) == "2|large"
    assert server.psql("SELECT last_value FROM counter", copy) == "4711"


@ONE
def test_a_database_in_another_encoding_comes_back(
    server: Server, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    name = "load_latin"
    server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    speak = "SET client_encoding = 'UTF8'; "
    ask = speak + (
        "SELECT string_agg(encode(convert_to(a, 'LATIN1'), 'hex'), ' ' ORDER BY a)"
        ' FROM (SELECT a FROM words UNION SELECT "é" FROM "naïve") AS every'
    )
    try:
        server.psql(
            speak + "CREATE TABLE words (a text); INSERT INTO words VALUES ('café'), (E'\\\\ Zoë');"
            ' CREATE TABLE "naïve" ("é" text); INSERT INTO "naïve" VALUES (\'ÿ\')',
            name,
        )
        copy = there_and_back(server, name, store, staging)
        assert server.psql(ask, copy) == server.psql(ask, name) == "5c205a6feb 636166e9 ff"
        # a name that cannot be told for sure is pg_restore's
        assert seen[0].loaded == {("public", "words")}
    finally:
        drop_family(server, name)


@ONE
def test_an_owner_that_took_its_rights_from_itself_does_not_stop_the_restore(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    """Grants come after the rows, as in a restore in one go."""
    server.psql("DROP ROLE IF EXISTS load_owner; CREATE ROLE load_owner")
    server.psql(
        "CREATE TABLE closed (a int); INSERT INTO closed VALUES (1); ALTER TABLE closed OWNER TO load_owner;"
        " REVOKE ALL ON closed FROM load_owner",
        live,
    )
    said: list[bytes] = []
    split = load.split_listing

    def watched(*given: object) -> tuple[bytes, bytes]:
        found = split(*given)  # type: ignore[arg-type]
        said.append(found[0])
        return found

    load.split_listing = watched  # type: ignore[assignment]
    try:
        copy = there_and_back(server, live, store, staging)
    finally:
        load.split_listing = split
    assert b" ACL " not in said[0]
    assert server.psql("SELECT relacl::text FROM pg_class WHERE relname = 'closed'", copy) == "{}"
    drop_family(server, live)
    server.psql("DROP ROLE load_owner")


@ONE
def test_named_schemas_come_back_frozen_and_alone(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    server.psql(
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t (a int); CREATE TABLE two.t (a int);"
        " INSERT INTO one.t VALUES (1); INSERT INTO two.t VALUES (2); CREATE PUBLICATION p FOR TABLE one.t",
        live,
    )
    copy = there_and_back(server, live, store, staging, schemas=["one"])
    assert seen[0].loaded == {("one", "t")}
    assert server.psql("SELECT string_agg(schemaname, ' ') FROM pg_tables WHERE tablename = 't'", copy) == "one"


@ONE
def test_in_place_everything_is_fetched_and_proven_before_the_live_database_goes(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    server.psql(f"CREATE TABLE large AS SELECT i, repeat('x', 90) AS t FROM generate_series(1, {LARGE}) i", live)
    before, oid = content(server, live), databases(server)[live]
    take_backup(server, store, live, staging=str(staging))
    largest = max((store / "backups").glob("*/objects/*"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    largest.chmod(0o600)
    largest.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(OpsError) as refused:
        restore(server, store, live, staging=str(staging), in_place=True, acknowledge=["in_place"])
    assert refused.value.code == "object_damaged"
    assert databases(server)[live] == oid
    largest.write_bytes(whole)
    restore(server, store, live, staging=str(staging), in_place=True, acknowledge=["in_place"])
    assert databases(server)[live] != oid
    assert content(server, live) == before
    assert seen[-1].loaded == {("public", "large")}


@ONE
def test_a_table_of_contents_that_is_not_understood_is_left_to_pg_restore(
    server: Server, live: str, store: Path, staging: Path, seen: list[load.Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)", live)
    before = content(server, live)
    monkeypatch.setattr(dump_toc, "VERSIONS", ())
    copy = there_and_back(server, live, store, staging)
    assert content(server, copy) == before
    assert seen == []


@ONE
def test_rows_that_do_not_fit_fail_the_restore_with_what_the_server_says(
    server: Server, live: str, store: Path, staging: Path
) -> None:
    server.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)", live)
    server.psql("CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql AS 'SELECT true'", live)
    server.psql("ALTER TABLE t ADD CHECK (public.fits(a))", live)
    server.psql("CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE sql AS 'SELECT false'", live)
    take_backup(server, store, live, staging=str(staging))
    with pytest.raises(OpsError) as failed:
        restore(server, store, live, staging=str(staging))
    assert failed.value.code == "tool_failed"
    assert "violates check constraint" in failed.value.cause
    assert "psql failed" in failed.value.cause
    assert list(staging.iterdir()) == []


@ONE
def test_the_planners_statistics_come_back_with_the_rows(server: Server, live: str, store: Path, staging: Path) -> None:
    server.psql(
        f"CREATE TABLE large AS SELECT i, repeat('x', 90) AS t, i % 3 AS kind FROM generate_series(1, {LARGE}) i;"
        " CREATE INDEX twice ON large ((i * 2)); ANALYZE",
        live,
    )
    question = "SELECT json_agg(s ORDER BY s::text) FROM pg_stats s WHERE schemaname = 'public'"
    expected = server.psql(question, live)
    copy = there_and_back(server, live, store, staging)
    assert server.psql(question, copy) == expected
    counts = "SELECT analyze_count + autoanalyze_count FROM pg_stat_user_tables WHERE relname = 'large'"
    assert server.psql(counts, copy) == "0"
    rows = "SELECT reltuples FROM pg_class WHERE relname = 'large'"
    assert server.psql(rows, copy) == str(LARGE)


@ONE
def test_a_restored_table_without_statistics_in_the_set_is_analyzed(
    server: Server, live: str, store: Path, staging: Path
) -> None:
    server.psql(f"CREATE TABLE large AS SELECT i, repeat('x', 90) AS t FROM generate_series(1, {LARGE}) i", live)
    copy = there_and_back(server, live, store, staging)
    found = "SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND tablename = 'large'"
    assert server.psql(found, copy) == "2"


@ONE
def test_statistics_of_several_columns_which_no_dump_carries_are_made_after_the_switch(
    server: Server, live: str, store: Path, staging: Path
) -> None:
    server.psql(
        "CREATE TABLE pairs (a int, b int); INSERT INTO pairs SELECT i, i % 5 FROM generate_series(1, 500) i;"
        " CREATE STATISTICS pair ON a, b FROM pairs; ANALYZE pairs",
        live,
    )
    copy = there_and_back(server, live, store, staging)
    found = "SELECT count(*) FROM pg_stats_ext"
    assert server.psql(found, copy) == "0"
    swap(server, store, live, "switched")
    assert server.psql(found, live) == "1"


@pytest.fixture
def extending() -> Iterator[tuple[Server, str]]:
    """A server that finds an extension whose table holds rows of its own and rows of the user."""
    # where the servers' user may look
    share = scratch.claim("extension")
    folder = share / "extension"
    folder.mkdir(mode=0o755)
    (folder / "configured.control").write_text("default_version = '1'\nrelocatable = false\nschema = public\n")
    (folder / "configured--1.sql").write_text(
        "CREATE TABLE configured (a int, own bool); INSERT INTO configured VALUES (1, true);\n"
        "SELECT pg_extension_config_dump('configured', 'WHERE NOT own');\n"
    )
    try:
        with postgres.running(18, settings={"extension_control_path": f"{share}:$system"}) as server:
            server.createdb("extended")
            yield server, "extended"
    finally:
        scratch.release(share)


def test_rows_of_an_extensions_table_are_added_to_its_own(
    extending: tuple[Server, str], store: Path, staging: Path, seen: list[load.Loader]
) -> None:
    server, name = extending
    server.psql(
        "CREATE EXTENSION configured; INSERT INTO configured VALUES (2, false); CREATE TABLE plain (a int);", name
    )
    copy = there_and_back(server, name, store, staging)
    assert server.psql("SELECT string_agg(a::text, ' ' ORDER BY a) FROM configured", copy) == "1 2"
    assert {table for _schema, table in seen[0].loaded} == {"plain"}


def by_catalog(server: Server, database: str) -> Callable[[str], str]:
    return lambda sql: server.psql(sql, database)


def test_a_real_table_of_contents_is_read_whole(server: Server, demo_database: str, tmp_path: Path) -> None:
    """Every table that the catalog knows to be plain is found, with the columns that the catalog has."""
    ask = by_catalog(server, demo_database)
    folder = tmp_path / "dump"
    server.tool("pg_dump", "-Fd", "-Z0", "--quote-all-identifiers", f"--file={folder}", dbname=demo_database)
    entries = dump_toc.read_toc((folder / "toc.dat").read_bytes())
    assert entries is not None
    found = {(item.schema.decode(), item.name.decode()) for item in dump_toc.table_data(entries)}
    wanted = json.loads(
        ask(
            "SELECT json_agg(json_build_array(n.nspname, c.relname)) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND n.nspname !~ '^(pg_|information)'"
            " AND position(E'\\n' IN relname) = 0"
        )
    )
    assert found == {tuple(pair) for pair in wanted}
    assert all((folder / item.file).is_file() for item in dump_toc.table_data(entries))
    listed = server.tool("pg_restore", "--list", str(folder))
    assert len([line for line in listed.splitlines() if line and not line.startswith(";")]) <= len(entries)
