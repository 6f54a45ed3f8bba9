# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may write in saasops_indexes, and which entries -e name= speaks of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import (
    ABSENT,
    Column,
    parse_wish,
    parse_wishes,
    split_name,
)

GOOD: dict[str, object] = {"name": "i", "table": "t", "columns": ["a"]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("i", ("", "i")),
        ("org_a.i", ("org_a", "i")),
        ('"a.b".i', ("a.b", "i")),
        ('org."I ""x"" y"', ("org", 'I "x" y')),
        ("Org.Index", ("Org", "Index")),
    ],
)
def test_a_name_is_read_with_its_schema(text: str, parts: tuple[str, str]) -> None:
    assert split_name(text) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a.b.c", 'a"b', "a..b"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        split_name(text)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_quoted_name_comes_back_whatever_it_holds(schema: str, name: str) -> None:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
    assert split_name(quoted) == (schema, name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "x"}, "nmae is not known"),
        ({"state": "gone"}, "state is 'gone'"),
        ({"name": ""}, "name"),
        ({"name": "ä" * 32}, "longer than 63 bytes"),
        ({"name": "a.b.c"}, "is not a name"),
        ({"columns": []}, "table or columns are missing"),
        ({"table": ""}, "table or columns are missing"),
        ({"columns": ["lower(email)"]}, "no plain column"),
        ({"columns": ["a desc"]}, "no plain column"),
        ({"columns": [{"name": "a", "expression": "b"}]}, "is no column"),
        ({"columns": [{"order": "desc"}]}, "is no column"),
        ({"columns": [{"name": "a", "order": "down"}]}, "order 'down'"),
        ({"columns": [{"name": "a", "nulls": "none"}]}, "nulls 'none'"),
        ({"columns": [{"name": "a", "opclass": "x.y.z"}]}, "is not a name"),
        ({"with": "fillfactor=70"}, "no dictionary"),
        ({"with": {"fill factor": 70}}, "no option"),
        ({"unique": "perhaps"}, "unique is 'perhaps'"),
        ({"name": "a.i", "table": "b.t"}, "more than one schema"),
        ({"table": "b.t", "schemas": ["org_*"]}, "more than one schema"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused_with_its_number(change: dict[str, object], said: str) -> None:
    with pytest.raises(OpsError) as refused:
        parse_wishes([GOOD, {**GOOD, **change}])
    assert refused.value.code == "bad_index"
    assert "Entry 2" in refused.value.cause
    assert said in refused.value.cause


def test_an_entry_that_is_no_dictionary_is_refused() -> None:
    with pytest.raises(OpsError, match="Entry 1"):
        parse_wish("CREATE INDEX", 1)


def test_everything_an_entry_says_is_read() -> None:
    wish = parse_wish(
        {
            "name": "org_a.i",
            "table": "t",
            "columns": ["a", {"expression": " lower(b) ", "order": "DESC", "nulls": "last", "opclass": "public.x_ops"}],
            "with": {"fillfactor": 70, "fastupdate": False},
            "unique": "yes",
            "proof": "SELECT 1;",
            "tablespace": "",
        },
        1,
    )
    assert (wish.schema, wish.name, wish.table) == ("org_a", "i", "t")
    assert wish.columns == (
        Column(name="a"),
        Column(expression="lower(b)", order="desc", nulls="last", opclass=("public", "x_ops")),
    )
    assert wish.options == (("fastupdate", "off"), ("fillfactor", "70"))
    assert (wish.unique, wish.proof, wish.tablespace) == (True, "SELECT 1", "")
    assert parse_wish(GOOD, 1).options is None
    assert parse_wish(GOOD, 1).tablespace is None


TENANTS: dict[str, object] = {**GOOD, "schemas": ["org_*", "x?"]}


@pytest.mark.parametrize(
    ("entry", "name", "found"),
    [
        (GOOD, "i", [("", ())]),
        (GOOD, "public.i", [("public", ())]),
        (GOOD, "org_a.i", None),
        (GOOD, "j", None),
        (TENANTS, "i", [("", ("org_*", "x?"))]),
        (TENANTS, "org_a.i", [("org_a", ())]),
        (TENANTS, "x1.i", [("x1", ())]),
        (TENANTS, "x12.i", None),
        (TENANTS, "public.i", None),
        ({**GOOD, "schema": "s"}, "s.i", [("s", ())]),
        ({**GOOD, "schema": "s"}, "public.i", None),
    ],
)
def test_a_name_chooses_its_entries_and_narrows_them(
    entry: dict[str, object], name: str, found: list[tuple[str, tuple[str, ...]]] | None
) -> None:
    if found is None:
        with pytest.raises(OpsError) as refused:
            parse_wishes([entry], name)
        assert refused.value.code == "index_not_listed"
    else:
        assert [(wish.schema, wish.schemas) for wish in parse_wishes([entry], name)] == found


def test_what_is_to_be_absent_needs_a_name_and_no_entry() -> None:
    with pytest.raises(OpsError, match="No index is named"):
        parse_wishes([GOOD], "", ABSENT)
    (one,) = parse_wishes([], "org_a.old", ABSENT)
    assert (one.schema, one.name, one.state, one.columns) == ("org_a", "old", ABSENT, ())
    (listed,) = parse_wishes([TENANTS], "i", ABSENT)
    assert (listed.schemas, listed.state, listed.columns) == (("org_*", "x?"), ABSENT, ())


def test_replacing_can_be_asked_for_all_entries() -> None:
    assert [wish.replace for wish in parse_wishes([GOOD, {**GOOD, "name": "j"}], replacing=True)] == [True, True]
    assert [wish.replace for wish in parse_wishes([GOOD, {**GOOD, "name": "j", "replace": True}])] == [False, True]
