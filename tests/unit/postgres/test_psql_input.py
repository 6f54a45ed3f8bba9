# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What psql is given: the same statement, and nothing psql acts on. tests/contract proves it against psql itself."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_input import encode


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1; SELECT 2;", "SELECT 1\\; SELECT 2\\;"),
        ("SELECT '1'::int, a[1:x]", "SELECT '1'\\:\\:int, a[1\\:x]"),
        ("SELECT ':x; \\!', \"a:b;\", $$:c;$$, $t$;$$:$t$", "SELECT ':x; \\!', \"a:b;\", $$:c;$$, $t$;$$:$t$"),
        ("SELECT E'it\\'s :x;' /* ; : /* \\ */ ' */ -- ; : \\", "SELECT E'it\\'s :x;' /* ; : /* \\ */ ' */ -- ; : \\"),
        ("SELECT E'a' -- why\n 'b\\'c'", "SELECT E'ab\\'c'"),
        ("SELECT e$x$y, nameE'a\\'", "SELECT e$x$y, nameE'a\\'"),
        ("SELECT 1e-5, 1.5e+3", "SELECT 1e-5, 1.5e+3"),
    ],
)
def test_only_what_psql_would_act_on_is_escaped(sql: str, given: str) -> None:
    assert encode(sql).decode() == given


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT 'a", "42601"),
        ("SELECT E'a\\'", "42601"),
        ('SELECT "a', "42601"),
        ("SELECT /* /* */", "42601"),
        ("SELECT $a$ $A$", "42601"),
        ("SELECT 1 \\! ls", "42601"),
        ("SELECT 1e'a\\'", "42601"),
        ("SELECT .5e3$a$b$a$", "42601"),
        ("SELECT 1e--x", "42601"),
        ("SELECT $1é$a$", "42601"),
        ("", "42601"),
        ("-- x\n;/**/", "42601"),
        ("SELECT 'a\0b'", "22021"),
        ("SELECT 'a\ud800b'", "22021"),
        ("COPY t FROM STDIN", "0A000"),
        ("SELECT 1; copy t (a) to stdout", "0A000"),
    ],
)
def test_what_psql_would_misread_is_refused_as_the_server_would(sql: str, sqlstate: str) -> None:
    with pytest.raises(OpsError) as caught:
        encode(sql)
    assert (caught.value.code, caught.value.details["sqlstate"]) == ("sql_failed", sqlstate)


def test_copy_between_files_and_tables_passes() -> None:
    assert encode("COPY t FROM '/tmp/stdin'") == b"COPY t FROM '/tmp/stdin'"
    assert encode('SELECT stdin FROM "copy"') == b'SELECT stdin FROM "copy"'
