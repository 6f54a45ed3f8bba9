# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a dump are counted from its bytes, however the bytes are cut into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_proof import (
    CopyRows,
    Newlines,
    compare_rows,
    data_files,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import key_of

HEAD = b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n"


def script(tables: list[tuple[str, str, list[bytes]]]) -> bytes:
    text = HEAD
    for schema, name, rows in tables:
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name)).encode()
        text += b"COPY " + quoted + b' ("id", "va""lue") FROM stdin;\n'
        text += b"".join(row + b"\n" for row in rows) + b"\\.\n\n\n"
        text += b"SELECT pg_catalog.setval('x', 1, true);\n\n"
    return text


# COPY text never holds a bare newline, and a backslash is doubled, so no row can be the end mark
ROW = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\\\0"), max_size=20).map(str.encode)
NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@given(st.lists(st.tuples(NAME, NAME, st.lists(ROW, max_size=6)), max_size=4, unique_by=lambda t: t[:2]), st.data())
def test_rows_are_counted_in_any_cut_of_the_stream(
    tables: list[tuple[str, str, list[bytes]]], data: st.DataObject
) -> None:
    text = script(tables)
    counter = CopyRows()
    while text:
        size = data.draw(st.integers(min_value=1, max_value=max(1, len(text))))
        counter.feed(text[:size])
        text = text[size:]
    assert counter.rows == {key_of(schema, name): len(rows) for schema, name, rows in tables}
    assert counter.complete


def test_a_script_that_ends_inside_a_table_is_not_complete() -> None:
    counter = CopyRows()
    counter.feed(
        script([("a", "b", [b"1", b"2"])])[: -(len(b"\\.\n\n\nSELECT pg_catalog.setval('x', 1, true);\n\n") + 1)]
    )
    assert not counter.complete
    assert counter.rows == {key_of("a", "b"): 1}


def test_newlines_of_a_data_file_are_its_rows_and_three() -> None:
    counter = Newlines()
    assert list(counter.watch(iter([b"1\ta\n2", b"\tb\n", b"\\.\n\n\n"]))) == [b"1\ta\n2", b"\tb\n", b"\\.\n\n\n"]
    assert counter.rows == 2


def test_only_table_data_is_taken_from_a_listing() -> None:
    listing = (
        ";\n; Archive created at 2026-11-22\n"
        "3456; 0 16403 TABLE DATA org_x Campaign owner\n"
        "231; 1259 16403 TABLE org_x Campaign owner\n"
        "3470; 0 0 SEQUENCE SET org_x Campaign_id_seq owner\n"
    )
    assert data_files(listing) == {3456: 16403}


def test_a_table_with_fewer_or_no_rows_in_the_dump_is_named() -> None:
    counted = {key_of("s", "whole"): 2, key_of("s", "cut"): 5, key_of("s", "gone"): 1, key_of("s", "empty"): 0}
    found = compare_rows(counted, {key_of("s", "whole"): 2, key_of("s", "cut"): 3})
    assert [item.object for item in found] == ["s.cut", "s.gone"]
    assert "3 in the dump, 5 rows" in found[0].text
