# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every kind of session promises, on every server version and through every transport."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import literal, render
from ansible_collections.saasops.runbook.tests.lab import places
from ansible_collections.saasops.runbook.tests.lab.places import Place

KINDS = ["psycopg-15", "psql-15", "psycopg-17", "psql-17", "psycopg-18", "psql-18", "docker"]

AWKWARD = [
    "plain",
    "",
    'it\'s "quoted"',
    "back\\slash \\n \\\\ end\\",
    "line one\nline two\r\nline three\n\n\nline seven",
    "\ttab \v vertical \f form \x01 \x1b \x7f",
    ":HOST :'USER' :\"DBNAME\" ::int :{?ERROR} a[1:2] :=",
    "\\! touch /tmp/psql-ran-this",
    "x'; \\! touch /tmp/psql-ran-this\n\\gexec\n\\q\n",
    "\\echo \\. \\copy \\connect\n\\.\n",
    "; SELECT 1; --",
    "-- comment /* nested /* */ $$ $tag$",
    "naïve Ünïcödé 日本語 🎙️ 𝔘 \u200f \u2028 \ufeff end",
    "%s %(name)s {braces} $1 ?",
]


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    kind, _dash, version = request.param.partition("-")
    if kind == "docker":
        found: Place = request.getfixturevalue("docker_postgres").place()
    else:
        found = places.of_server(request.getfixturevalue(f"server{version}"), kind)
    yield found
    found.close()


@pytest.fixture
def session(place: Place) -> Iterator[Session]:
    yield place.open()
    place.close()


def test_rows_are_the_same_python_values_everywhere(session: Session) -> None:
    assert session.rows(
        "SELECT 1 AS i, 9007199254740993::int8 AS big, 1.50::numeric AS n, 0.1::float8 AS f, 'NaN'::float8 AS nan,"
        " true AS t, NULL AS nothing, 'é'::text AS s, '\\x00ff'::bytea AS b, ARRAY[1, NULL, 3] AS l,"
        " '{\"k\": [1, \"two\"]}'::jsonb AS j, DATE '2026-11-22' AS d, '2026-11-22 20:17:47+00'::timestamptz"
        " AT TIME ZONE 'UTC' AS ts, ARRAY['a\"b', 'c,d'] AS texts, ROW(1, 'x') AS record"
    ) == [
        {
            "i": 1,
            "big": 9007199254740993,
            "n": 1.5,
            "f": 0.1,
            "nan": "NaN",
            "t": True,
            "nothing": None,
            "s": "é",
            "b": "\\x00ff",
            "l": [1, None, 3],
            "j": {"k": [1, "two"]},
            "d": "2026-11-22",
            "ts": "2026-11-22T20:17:47",
            "texts": ['a"b', "c,d"],
            "record": {"f1": 1, "f2": "x"},
        }
    ]


def test_no_row_is_an_empty_list_and_none(session: Session) -> None:
    assert session.rows("SELECT 1 AS a WHERE false") == []
    assert session.value("SELECT 1 AS a WHERE false") is None
    assert session.value("SELECT NULL::int AS a") is None


def test_many_rows_keep_their_order(session: Session) -> None:
    found = session.rows("SELECT n, repeat('x', n % 7) AS t FROM generate_series(1, 5000) AS n ORDER BY n DESC")
    assert [row["n"] for row in found] == list(range(5000, 0, -1))


def test_backend_and_version_are_known(session: Session, place: Place) -> None:
    assert session.pid == session.value("SELECT pg_backend_pid()")
    assert session.version // 10000 == place.version
    assert session.value("SELECT current_setting('application_name')") == "saasops-test"


@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_a_text_comes_back_as_it_was_sent(session: Session, text: str) -> None:
    assert session.rows(render("SELECT {text} AS t, length({text}) AS n", text=text)) == [{"t": text, "n": len(text)}]


def test_a_text_is_stored_as_it_was_sent(session: Session) -> None:
    session.run("CREATE TEMP TABLE kept (n int, t text)")
    for number, text in enumerate(AWKWARD):
        session.run(render("INSERT INTO kept VALUES ({number}, {text})", number=number, text=text))
    assert [row["t"] for row in session.rows("SELECT t FROM kept ORDER BY n")] == AWKWARD


@pytest.mark.parametrize(
    "name", ['Quoted "Name"', "a b", "line\nbreak", "semi;colon:x", "back\\slash\\!", "日本", "$x$"]
)
def test_an_awkward_name_is_a_name(session: Session, name: str) -> None:
    session.run(render("CREATE TEMP TABLE {name:I} ({name:I} int)", name=name))
    session.run(render("INSERT INTO {name:I} VALUES (1)", name=name))
    assert session.rows(render("SELECT * FROM {name:I}", name=name)) == [{name: 1}]


def test_every_byte_goes_there_and_back(session: Session) -> None:
    every = bytes(range(256)) * 40 + bytes(reversed(range(256)))
    session.run("CREATE TEMP TABLE raw (b bytea)")
    session.run(render("INSERT INTO raw VALUES ({every})", every=every))
    row = session.rows("SELECT b, encode(sha256(b), 'hex') AS far FROM raw")[0]
    back = bytes.fromhex(str(row["b"])[2:])
    assert hashlib.sha256(back).hexdigest() == row["far"] == hashlib.sha256(every).hexdigest()


SYNTAX = {
    "an array slice": ("SELECT (ARRAY[1,2,3])[2:3] AS a", [2, 3]),
    "a slice by columns": ("SELECT (ARRAY[1,2,3])[lower:upper] AS a FROM (SELECT 1 AS lower, 2 AS upper) AS x", [1, 2]),
    "a slice by a name that psql has a variable of": (
        "SELECT (ARRAY[1,2,3])[ONE:PORT] AS a FROM (SELECT 1 AS one, 2 AS port) AS x",
        [1, 2],
    ),
    "a cast": ("SELECT '7'::int::text AS a", "7"),
    "dollar quotes": ("SELECT $$it's :x \\! ;$$ || $Tag$ $$ :y $Tag$ AS a", "it's :x \\! ; $$ :y "),
    "an escape literal": (r"SELECT E'a\'b\\c\n:x;' AS a", "a'b\\c\n:x;"),
    "a continued escape literal": ("SELECT E'a\\'b'\n  -- why\n  'c\\\\d;' AS a", "a'bc\\d;"),
    "a continued literal": ("SELECT 'a\\'\n'b;' AS a", "a\\b;"),
    "a Unicode literal": (r"SELECT U&'\0441\+01F399:' AS a", "с🎙:"),
    "a Unicode literal of its own escape": (r"SELECT U&'!0441' UESCAPE '!' AS a", "с"),
    "a bit string": ("SELECT B'101'::text AS a", "101"),
    "comments": ("SELECT 1 /* ; : \\ ' /* \" nested */ $$ */ AS a -- ; : \\ '", 1),
    "a name with a dollar": ("SELECT e$x AS a FROM (SELECT 5 AS e$x) AS q", 5),
    "a Unicode name": ('SELECT U&"\\0441" AS a FROM (SELECT 6 AS "с") AS q', 6),
    "operators": ("SELECT '{\"a\":{\"b\":2}}'::jsonb #> '{a,b}' @> '2' AS a", True),
    "numbers": ("SELECT 1e2 + .5 + 1.5E-1 AS a", 100.65),
    "named arguments": ("SELECT make_interval(days := 2) = interval '2 days' AS a", True),
    "a jsonpath": ("SELECT jsonb_path_query_first('[1,2,3]', '$[1 to 2] ? (@ > 2)') AS a", 3),
    "a carriage return": ("SELECT 'a\rb' AS a -- c\r, 2 AS b", "a\rb"),
    "empty lines": ("\n\nSELECT\n\n  'a\n\n\nb'\n\n AS a\n\n", "a\n\n\nb"),
}


@pytest.mark.parametrize("name", SYNTAX)
def test_the_servers_own_syntax_passes(session: Session, name: str) -> None:
    sql, expected = SYNTAX[name]
    assert session.value(sql) == expected


def test_a_function_with_semicolons_and_variables_is_made(session: Session) -> None:
    session.run(
        "CREATE FUNCTION pg_temp.twice(n int) RETURNS int LANGUAGE plpgsql AS $body$\n"
        "DECLARE total int := 0;\nBEGIN\n  total := n * 2; -- done\n  RETURN total;\nEND;\n$body$"
    )
    session.run("CREATE FUNCTION pg_temp.thrice(n int) RETURNS int BEGIN ATOMIC SELECT $1; SELECT n * 3; END")
    assert session.value("SELECT pg_temp.twice(pg_temp.thrice(7))") == 42


def test_statements_with_semicolons_between_run_as_one(session: Session) -> None:
    session.run("CREATE TEMP TABLE several (n int); INSERT INTO several VALUES (1); INSERT INTO several VALUES (2);")
    assert session.value("SELECT sum(n) FROM several") == 3
    with pytest.raises(OpsError):
        session.run("INSERT INTO several VALUES (3); SELECT 1/0")
    assert session.value("SELECT sum(n) FROM several") == 3


BROKEN = {
    "no SQL": "SELEKT 1",
    "an open quote": "SELECT 'abc",
    "an open quote and a command": "SELECT 'abc\n\\! touch /tmp/psql-ran-this\n",
    "an open name": 'SELECT "abc',
    "an open comment": "SELECT 1 /* /* */",
    "an open dollar quote": "SELECT $a$ $b$",
    "an open bracket": "SELECT (1",
    "an open bracket and more": "SELECT (1; SELECT 2",
    "a backslash": "SELECT 1 \\! touch /tmp/psql-ran-this",
    "a variable of psql": "SELECT :'USER'",
    "a variable in an escape literal's tail": "SELECT E'a'\n'b\\'c \\! touch /tmp/psql-ran-this",
    "junk after a number": "SELECT 1e'x\\'y'",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sql_is_a_syntax_error_and_the_session_goes_on(session: Session, name: str) -> None:
    with pytest.raises(OpsError) as caught:
        session.run(BROKEN[name])
    assert (caught.value.code, caught.value.details["sqlstate"]) == ("sql_failed", "42601")
    assert session.value("SELECT 1") == 1


@pytest.mark.parametrize(
    "sql", ["COPY pg_class TO STDOUT", 'copy /* x */ "pg_am" from stdin', "COPY (SELECT 1) TO STDOUT"]
)
def test_copy_with_the_client_is_refused(session: Session, sql: str) -> None:
    with pytest.raises(OpsError) as caught:
        session.run(sql)
    assert caught.value.code == "sql_failed"
    assert session.value("SELECT 1") == 1


@pytest.mark.parametrize(
    ("sql", "sqlstate", "code", "words"),
    [
        ("SELECT 1/0", "22012", "sql_failed", "division by zero"),
        ("SELECT * FROM nowhere", "42P01", "sql_failed", 'relation "nowhere" does not exist'),
        ("CREATE DATABASE postgres", "42P04", "target_exists", "already exists"),
        ('SET ROLE "no one"', "22023", "sql_failed", "no one"),
        (
            "DO $$ BEGIN RAISE EXCEPTION E'one \\'two\\'\\nthree \\\\' USING ERRCODE = '55P03'; END $$",
            "55P03",
            "lock_timeout",
            "one 'two'",
        ),
    ],
)
def test_a_servers_error_has_code_sqlstate_and_words(
    session: Session, sql: str, sqlstate: str, code: str, words: str
) -> None:
    with pytest.raises(OpsError) as caught:
        session.run(sql)
    assert (caught.value.code, caught.value.details["sqlstate"]) == (code, sqlstate)
    assert words in caught.value.cause


def test_an_error_breaks_the_transaction_until_it_is_rolled_back(session: Session) -> None:
    session.run("BEGIN")
    session.run("CREATE TEMP TABLE gone (n int)")
    for sqlstate in ("22012", "25P02"):
        with pytest.raises(OpsError) as caught:
            session.value("SELECT 1/0")
        assert caught.value.details["sqlstate"] == sqlstate
    session.run("ROLLBACK")
    assert session.value("SELECT to_regclass('pg_temp.gone')") is None


def test_statements_outside_a_transaction_commit_by_themselves(session: Session, place: Place) -> None:
    session.run("CREATE TABLE IF NOT EXISTS by_itself (n int)")
    session.run("INSERT INTO by_itself VALUES (1)")
    assert place.open().value("SELECT count(*) FROM by_itself") == 1
    session.run("DROP TABLE by_itself")


def test_an_exported_snapshot_outlives_the_call(session: Session, place: Place) -> None:
    session.run("CREATE TABLE seen (n int)")
    try:
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        identifier = session.value("SELECT pg_export_snapshot()")
        other = place.open()
        other.run("INSERT INTO seen VALUES (1)")
        other.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        other.run(render("SET TRANSACTION SNAPSHOT {identifier}", identifier=identifier))
        assert (session.value("SELECT count(*) FROM seen"), other.value("SELECT count(*) FROM seen")) == (0, 0)
        other.run("COMMIT")
        assert other.value("SELECT count(*) FROM seen") == 1
        session.run("COMMIT")
    finally:
        place.open().run("DROP TABLE seen")


def test_locking_first_takes_no_snapshot(session: Session, place: Place) -> None:
    """The backup locks its tables before its snapshot: no helper query may come between."""
    session.run("CREATE TABLE truncated AS SELECT 1 AS n")
    try:
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        session.run("SET LOCAL lock_timeout = '5s'")
        other = place.open()
        other.run("TRUNCATE truncated; INSERT INTO truncated VALUES (2)")
        session.run("LOCK TABLE truncated IN ACCESS SHARE MODE")
        assert session.value("SELECT n FROM truncated") == 2
        session.run("COMMIT")
    finally:
        place.close()
        place.open().run("DROP TABLE truncated")


def test_a_statement_of_a_megabyte_arrives_whole(session: Session) -> None:
    text = "".join(chr(0x20 + (n * 7919) % 0x2FF) for n in range(700_000)) + "'\\:;\n" * 5000
    far = session.value("SELECT encode(sha256(convert_to(" + literal(text) + ", 'UTF8')), 'hex')")
    assert far == hashlib.sha256(text.encode()).hexdigest()


def test_a_result_of_twenty_megabytes_arrives_whole(session: Session) -> None:
    row = session.rows(
        "SELECT t, md5(t) AS sum FROM"
        " (SELECT string_agg(md5(n::text), E'\\n') AS t FROM generate_series(1, 640000) AS n) AS x"
    )[0]
    text = str(row["t"])
    assert len(text) > 20_000_000
    assert hashlib.md5(text.encode()).hexdigest() == row["sum"]  # noqa: S324


def test_notices_do_not_mix_with_results(session: Session) -> None:
    session.run("DO $$ BEGIN FOR i IN 1..200 LOOP RAISE WARNING 'noise %', repeat('x', 2000); END LOOP; END $$")
    assert session.value("SELECT 1") == 1


def test_what_the_server_said_beside_the_last_statement_is_known(session: Session) -> None:
    assert session.notices() == []
    session.run("DO $$ BEGIN RAISE NOTICE 'one: \"a\"  b' USING HINT = 'a hint'; RAISE WARNING E'two\\nmore'; END $$")
    assert session.notices() == ['NOTICE: one: "a" b', "WARNING: two"]
    assert session.notices() == ['NOTICE: one: "a" b', "WARNING: two"], "asking does not take it away"
    assert session.value("SELECT 1") == 1
    assert session.notices() == []


def test_the_newest_notices_of_many_are_kept(session: Session) -> None:
    session.run("DO $$ BEGIN FOR i IN 1..2000 LOOP RAISE WARNING 'noise % %', i, repeat('x', 500); END LOOP; END $$")
    said = session.notices()
    assert len(said) == 50
    assert (said[0][:18], said[-1][:18]) == ("WARNING: noise 195", "WARNING: noise 200")


def test_a_failed_statement_leaves_no_notices(session: Session) -> None:
    session.run("DO $$ BEGIN RAISE WARNING 'before'; END $$")
    with pytest.raises(OpsError):
        session.run("DO $$ BEGIN RAISE WARNING 'in it'; RAISE EXCEPTION 'no'; END $$")
    assert session.notices() == []
    with pytest.raises(OpsError):
        session.run("SELECT 'open")
    assert session.notices() == []


def test_a_vacuum_of_somebody_elses_table_is_told_although_it_succeeds(session: Session, place: Place) -> None:
    session.run("CREATE ROLE nobody_at_all")
    session.run("CREATE TABLE not_ours (n int)")
    try:
        session.run("SET ROLE nobody_at_all")
        session.run("VACUUM not_ours")
        (said,) = session.notices()
        assert "not_ours" in said
        assert "skipping" in said
    finally:
        session.run("RESET ROLE")
        session.run("DROP TABLE not_ours")
        session.run("DROP ROLE nobody_at_all")


def test_output_of_a_run_statement_is_not_the_next_result(session: Session) -> None:
    session.run("SELECT n FROM generate_series(1, 1000) AS n")
    session.run("EXPLAIN SELECT 1")
    assert session.value("SELECT 2") == 2


def test_a_database_is_created_outside_a_transaction(session: Session, place: Place) -> None:
    name = "odd \"db\" 'n' \\ :x;=\n://é"
    session.run(render("CREATE DATABASE {name:I}", name=name))
    try:
        assert place.open(name).value("SELECT current_database()") == name
    finally:
        place.close()
        place.open().run(render("DROP DATABASE {name:I}", name=name))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"password": "wrong"}, "wrong_password"),
        ({"password": "wro:ng \\ ü"}, "wrong_password"),
        ({"password": None}, "wrong_password"),
        ({"database": 'no such "database"'}, "unknown_database"),
        ({"user": "nobody at all"}, "wrong_password"),
        ({"port": 1}, "server_unreachable"),
        ({"host": "/nonexistent"}, "server_unreachable"),
        ({"host": "no-such-host.invalid"}, "server_unreachable"),
    ],
    ids=str,
)
def test_a_login_that_fails_says_why(place: Place, changes: dict[str, object], code: str) -> None:
    fields = dict(changes)
    database = str(fields.pop("database", "postgres"))
    with pytest.raises(OpsError) as caught:
        place.open(database, **fields)
    assert caught.value.code == code
    assert "wrong" not in caught.value.cause
    assert "wro:ng" not in caught.value.cause


def test_a_password_of_awkward_characters_logs_in(session: Session, place: Place) -> None:
    password = 'p:a\\s\'s "w" ü#'
    session.run(render("CREATE ROLE awkward LOGIN PASSWORD {password}", password=password))
    try:
        assert place.open(user="awkward", password=password).value("SELECT current_user") == "awkward"
    finally:
        place.close()
        place.open().run("DROP ROLE awkward")


def test_a_full_server_says_so(session: Session, place: Place) -> None:
    session.run("CREATE ROLE single LOGIN PASSWORD 'single' CONNECTION LIMIT 1")
    try:
        place.open(user="single", password="single")
        with pytest.raises(OpsError) as caught:
            place.open(user="single", password="single")
        assert caught.value.code == "no_free_connection"
    finally:
        place.close()
        place.open().run("DROP ROLE single")


def test_a_terminated_session_says_so_at_once_and_ever_after(session: Session, place: Place) -> None:
    assert place.open().value(render("SELECT pg_terminate_backend({pid})", pid=session.pid)) is True
    for _again in range(2):
        with pytest.raises(OpsError) as caught:
            session.value("SELECT 1")
        assert caught.value.code == "session_ended"


def test_a_session_terminated_in_the_middle_of_a_statement_says_so(session: Session) -> None:
    session.run("SET statement_timeout = '20s'")
    started = time.monotonic()
    session.run(
        render(
            "CREATE FUNCTION pg_temp.die() RETURNS void LANGUAGE sql AS $$ SELECT pg_terminate_backend({pid}) $$",
            pid=session.pid,
        )
    )
    with pytest.raises(OpsError) as caught:
        session.run("SELECT pg_temp.die(), pg_sleep(20)")
    assert caught.value.code == "session_ended"
    assert time.monotonic() - started < 10


def test_a_closed_session_is_closed_twice_and_gone(session: Session, place: Place) -> None:
    pid = session.pid
    session.close()
    session.close()
    other = place.open()
    deadline = time.monotonic() + 5
    while (
        other.value(render("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}", pid=pid))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert other.value(render("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}", pid=pid)) == 0


def test_values_are_json_all_the_way(session: Session) -> None:
    assert json.dumps(session.rows("SELECT now() AS t, 1.1::numeric AS n, '1 day'::interval AS i"))
