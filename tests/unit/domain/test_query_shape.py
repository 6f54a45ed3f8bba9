# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a statement tells what it does and holds no value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.query_shape import LONGEST, shape

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", "SELECT ?"),
        ("""UPDATE "Campaign" SET name = 'x''y' WHERE id = 42""", 'UPDATE "Campaign" SET name = ? WHERE id = ?'),
        ("SELECT $$a 'b' $$, $tag$ c $$ $tag$ FROM t1", "SELECT ?, ? FROM t1"),
        ("SELECT 'a' -- why\n  FROM t /* x /* y */ z */ WHERE u", "SELECT ? FROM t WHERE u"),
        ("SELECT E'plain', B'01', n'x', U&'d' FROM t", "SELECT ?, ?, ?, ? FROM t"),
        ("SELECT $1, $2 FROM t WHERE x > .5e3", "SELECT ?, ? FROM t WHERE x > ?"),
        ("COMMIT", "COMMIT"),
        ("", ""),
    ],
)
def test_values_become_marks(query: str, expected: str) -> None:
    assert shape(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        f"ALTER ROLE a PASSWORD '{SECRET}'",
        f"SELECT '{SECRET}",
        f"SELECT 'a\\' {SECRET}'",
        f"SELECT E'a\\' {SECRET}'",
        f"SELECT $x$ {SECRET}",
        f"SELECT 1 /* {SECRET}",
        f"SELECT 1 -- {SECRET}",
        f"SELECT 1 /* /* */ {SECRET} */",
        f"SET app.token = {SECRET}",
        f"SELECT $é${SECRET}$é$",
        f"SELECT U&'{SECRET}'",
        f"COPY t FROM PROGRAM 'curl -u a:{SECRET} x'",
    ],
)
def test_no_value_and_no_comment_is_told(query: str) -> None:
    assert SECRET not in shape(query)


def test_a_long_statement_is_cut() -> None:
    assert len(shape("SELECT " + ", ".join(f"column{n}" for n in range(500)))) <= LONGEST


@given(st.lists(st.sampled_from(["'", "''", "\\", "$$", "$a$", "/*", "*/", "--", "\n", " ", '"', "x", "E'", "1", "é"])))
def test_any_text_has_a_shape_and_what_stands_in_a_plain_literal_is_never_in_it(parts: list[str]) -> None:
    text = "".join(parts)
    assert len(shape(text)) <= LONGEST
    quoted = SECRET + text.replace("'", "''").replace("\\", "") + SECRET
    assert SECRET not in shape(f"SELECT '{quoted}'")
