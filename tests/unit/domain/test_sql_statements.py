# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a statement ends, and whether it speaks of transactions, whatever stands in quotes, comments and bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import split

ATOMIC = (
    "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; "
    "SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END; END"
)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (";;\n-- nothing\n/* ; */", []),
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        (
            "SELECT ';', \";\", $$;$$, $a$;$$;$a$; SELECT E'\\';'",
            ["SELECT ';', \";\", $$;$$, $a$;$$;$a$", "SELECT E'\\';'"],
        ),
        ("/* ; /* ; */ ; */ SELECT 1 -- ;\n;", ["SELECT 1 -- ;"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", None),
        (f"{ATOMIC}; SELECT 4", [ATOMIC, "SELECT 4"]),
        ("SELECT 1 AS begin; SELECT 2", ["SELECT 1 AS begin", "SELECT 2"]),
        ("DO $$ BEGIN PERFORM 1; COMMIT; END $$;", ["DO $$ BEGIN PERFORM 1; COMMIT; END $$"]),
    ],
)
def test_a_statement_ends_where_the_server_ends_it(sql: str, statements: list[str] | None) -> None:
    found = [one.text for one in split(sql)]
    if statements is None:
        assert len(found) == 2
    else:
        assert found == statements


def test_a_statement_knows_the_line_that_it_begins_on() -> None:
    assert [one.line for one in split("-- a\n\nSELECT 1\n,2;\n/* b\n */ SELECT 3;")] == [3, 6]


@pytest.mark.parametrize("sql", ["SELECT 'a", 'SELECT "a', "SELECT $a$ $b$", "/* /* */", "\\i other.sql"])
def test_text_that_ends_inside_a_quote_or_holds_commands_of_psql_is_refused(sql: str) -> None:
    with pytest.raises(OpsError) as caught:
        split(sql)
    assert caught.value.code == "sql_failed"


@pytest.mark.parametrize(
    ("sql", "controls"),
    [
        ("BEGIN", True),
        ("start /* x */ transaction", True),
        ("commit and chain", True),
        ("END", True),
        ("Rollback TO s", True),
        ("ABORT", True),
        ("SAVEPOINT a", True),
        ("RELEASE a", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("COMMIT PREPARED 'x'", True),
        ("PREPARE p AS SELECT 1", False),
        ("DO $$ BEGIN END $$", False),
        ("SELECT 'COMMIT'", False),
        ('"commit"', False),
        ("COMMENT ON TABLE t IS 'begin'", False),
    ],
)
def test_what_begins_or_ends_a_transaction_is_known(sql: str, controls: bool) -> None:
    (statement,) = split(sql)
    assert statement.controls_transaction is controls


_QUOTED = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")).map(
        lambda text: "'" + text.replace("'", "''") + "'"
    ),
    st.text("ab;'\"-/*$ \n").map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.text("ab;'\"-/*\n ").map(lambda text: "$q$" + text + "$q$"),
    st.text("ab;'\"$ \n").map(lambda text: "/*" + text + "*/"),
    st.text("ab;'\"$/* ").map(lambda text: "--" + text + "\n"),
    st.text("ab;'\"$/*-\n").map(lambda text: "E'" + text.replace("'", "\\'") + "'"),
)


@given(st.lists(st.lists(_QUOTED, min_size=1, max_size=4), min_size=1, max_size=4))
def test_whatever_is_quoted_never_ends_a_statement(pieces: list[list[str]]) -> None:
    sql = ";\n".join("SELECT 1 " + " , ".join(group) for group in pieces)
    found = split(sql)
    assert len(found) == len(pieces)
    assert not any(one.controls_transaction for one in found)
