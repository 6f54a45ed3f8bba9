# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a session through psql has to prove: its input is inert, its waits are bounded, its secrets are short."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_session import PsqlSession
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.tests.lab import places, processes
from ansible_collections.saasops.runbook.tests.lab.places import Place
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

SENTINEL = Path("/tmp/saasops-psql-ran-this")

# pieces whose every order is tried: quotes of all kinds, comments, commands and variables of psql
PIECES = [
    "'", "''", '"', "E'", "e'", "U&'", "N'", "B'", "X'", "$$", "$a$", "$1", "1e", "1.", "\\", "\\\\", "\\'", ";",
    "\\;", "\\:", ":", "::", ":'USER'", ":USER", ":{?USER}", "--", "/*", "*/", "(", ")", "[", "]", "\n", "\r", " ",
    ",", "a", "e", "é", "_$", "SELECT ", " 1 ", " AS ", "|| ", f"\\! touch {SENTINEL}\n", "\\q\n", "\\echo x\n",
    "\\gexec\n", "\\g\n", "\\.\n", "\\c nowhere\n", "\ufeff",
]  # fmt: skip
WRAPS = [
    ("'", "'"), ("E'", "'"), ("e'", "'"), ("U&'", "'"), ("N'", "'"), ("B'", "'"), ('"', '"'), ('U&"', '"'),
    ("$$", "$$"), ("$a$", "$a$"), ("/*", "*/"), ("--", "\n"), ("(", ")"), ("1e--", "\n"), ("1E'", "'"),
    ("a1e'", "'"), ("$1$a$", "$a$"),
]  # fmt: skip
LEAVES = [" || ", " AS x ", "::text", ":=", "a[1:2]", ".5e3", "\n--c\n"]
SOUP = st.recursive(
    st.sampled_from([*PIECES, *LEAVES]),
    lambda inner: st.tuples(st.sampled_from(WRAPS), st.lists(inner, max_size=4)).map(
        lambda made: made[0][0] + "".join(made[1]) + made[0][1]
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def pairs(server15: Server, server17: Server, server18: Server) -> Iterator[list[tuple[Place, Place]]]:
    """For each version: libpq and psql."""
    found = [(places.of_server(s, "psycopg"), places.of_server(s, "psql")) for s in (server15, server17, server18)]
    yield found
    for pair in found:
        for place in pair:
            place.close()


@pytest.fixture(params=["local", "docker"])
def place(request: pytest.FixtureRequest, server18: Server) -> Iterator[Place]:
    found: Place
    if request.param == "docker":
        found = request.getfixturevalue("docker_postgres").place()
    else:
        found = places.of_server(server18, "psql")
    yield found
    found.close()


def _outcome(session: Session, sql: str) -> tuple[str, object]:
    try:
        return "value", session.value(sql)
    except OpsError as error:
        # what was refused before it was sent may have two faults, and the server would name the other
        return "error", "any" if "was not sent" in error.cause else error.details["sqlstate"]


def _live(place: Place) -> Session:
    if not place.opened:
        if place.transport is None:
            place.open()
        else:
            # a statement that psql misreads makes it wait for more, for ever
            place.opened.append(PsqlSession(place.connection, place.transport, place.program, timeout=20.0))
        place.opened[0].run("SET statement_timeout = '5s'")
    return place.opened[0]


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(SOUP, max_size=8))
@example(pieces=["E'", "\\'", "a"])
@example(pieces=["E'a'", "\n", "'", "b\\'", "c ", f"\\! touch {SENTINEL}\n"])
@example(pieces=["E'a'", "\r\v", "'", "b\\'", "c ", f"\\! touch {SENTINEL}\n"])
@example(pieces=["'\\", "'", f"\\! touch {SENTINEL}\n"])
@example(pieces=["1e--", "'", "\n", f"\\! touch {SENTINEL}\n"])
@example(pieces=[".5e3", "$a$", f"\\! touch {SENTINEL}\n", "$a$"])
@example(pieces=["$1", "\ufeff", "$a$", f"\\! touch {SENTINEL}\n", "$a$"])
def test_any_text_has_the_same_outcome_as_with_libpq_and_runs_nothing(
    pairs: list[tuple[Place, Place]], pieces: list[str]
) -> None:
    sql = "SELECT 1 AS n, " + "".join(pieces)
    SENTINEL.unlink(missing_ok=True)
    for plain, psql in pairs:
        expected = _outcome(_live(plain), sql)
        session = _live(psql)
        found = _outcome(session, sql)
        assert found == expected or (found == ("error", "any") and expected[0] == "error")
        assert session.value("SELECT 'alive'") == "alive"
    assert not SENTINEL.exists()


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
@example(text="\U0001fffe")
def test_any_text_value_comes_back(pairs: list[tuple[Place, Place]], text: str) -> None:
    for _plain, psql in pairs:
        assert _live(psql).value(render("SELECT {text}", text=text)) == text


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_no_database_can_hold_is_refused_before_it_is_sent(place: Place, text: str) -> None:
    session = place.open()
    with pytest.raises(OpsError) as caught:
        session.run(f"SELECT '{text}'")
    assert caught.value.details["sqlstate"] == "22021"
    assert session.value("SELECT 1") == 1


@pytest.mark.parametrize("sql", ["", "  \n", "-- nothing", "/* nothing */", ";", "; ;\n"])
def test_nothing_is_not_the_statement_before_once_more(place: Place, sql: str) -> None:
    session = place.open()
    session.run("CREATE TEMP TABLE once (n int)")
    session.run("INSERT INTO once VALUES (1)")
    with pytest.raises(OpsError):
        session.run(sql)
    assert session.value("SELECT count(*) FROM once") == 1


def _has_backend(place: Place, pid: int, seconds: float) -> bool:
    other, deadline = place.open(), time.monotonic() + seconds
    while other.value(render("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}", pid=pid)):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.2)
    return False


def test_a_statement_that_takes_too_long_ends_the_session_and_its_backend(place: Place) -> None:
    assert place.transport is not None
    session = PsqlSession(place.connection, place.transport, place.program, timeout=3.0)
    started = time.monotonic()
    with pytest.raises(OpsError) as caught:
        session.run("SELECT pg_sleep(300)")
    assert caught.value.code == "session_timeout"
    assert time.monotonic() - started < 12
    with pytest.raises(OpsError) as caught:
        session.run("SELECT 1")
    assert caught.value.code == "session_ended"
    assert not _has_backend(place, session.pid, 12)
    session.close()


def test_a_psql_that_is_killed_in_the_middle_of_a_statement_ends_the_session(place: Place) -> None:
    session = place.open(application_name="saasops-doomed")
    caught: list[OpsError] = []

    def work() -> None:
        try:
            session.run("SELECT pg_sleep(300)")
        except OpsError as error:
            caught.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.5)
    if place.program == "psql":
        # in the container; the client here only sees its stream end
        assert place.transport is not None
        kill = 'for f in /proc/[0-9]*/comm; do [ "$(cat "$f")" = psql ] && p=${f%/comm} && kill -9 "${p#/proc/}"; done'
        place.transport.run(["sh", "-c", kill], timeout=20)
    else:
        for pid in processes.running("psql", below=os.getpid()):
            os.kill(pid, signal.SIGKILL)
    worker.join(20)
    assert [error.code for error in caught] == ["session_ended"]


def test_the_password_file_is_gone_once_connected(place: Place) -> None:
    assert place.transport is not None
    look = ["sh", "-c", "ls -d /dev/shm/saasops-pass* /tmp/saasops-pass*"]
    before = set(place.transport.run(look).stdout.split())
    session = place.open()
    assert set(place.transport.run(look).stdout.split()) <= before
    assert session.value("SELECT 1") == 1


def test_a_missing_psql_is_named(place: Place) -> None:
    assert place.transport is not None
    with pytest.raises(OpsError) as caught:
        PsqlSession(place.connection, place.transport, "/nowhere/psql")
    assert caught.value.code == "tool_missing"


def test_a_session_that_was_never_closed_ends_with_its_owner(place: Place, server18: Server) -> None:
    session = place.open()
    pid = session.pid
    process = session._process  # type: ignore[attr-defined]
    process.stdin.close()
    place.opened.clear()
    assert not _has_backend(place, pid, 12)
    session.close()


def test_a_megabyte_of_escapes_is_read_in_a_second(place: Place) -> None:
    session = place.open()
    text = "\\'\n:;" * 200_000
    started = time.monotonic()
    assert session.value(render("SELECT length({text})", text=text)) == len(text)
    assert time.monotonic() - started < 60
