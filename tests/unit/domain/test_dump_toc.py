# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of contents of a dump: what is read of it, and what is left to pg_restore."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_toc import (
    Entry,
    TableData,
    is_utf8,
    load_script,
    read_toc,
    settings,
    split_listing,
    table_data,
)

ROWS = Entry(7, b"TABLE DATA", 3, b"s", b"t", b"", b'COPY "s"."t" ("a", "b") FROM stdin;\n', b"7.dat")
ENCODING = Entry(1, b"ENCODING", 2, b"", b"ENCODING", b"SET client_encoding = 'UTF8';\n", b"", b"")
SEVENTEEN = (1, 16)


def integer(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def text(value: bytes | None) -> bytes:
    return integer(-1) if value is None else integer(len(value)) + value


def written(entries: list[Entry], version: tuple[int, int]) -> bytes:
    """As WriteHead and WriteToc of pg_dump write it."""
    head = b"PGDMP" + bytes([*version, 0, 4, 8, 3])
    head += b"\0" if version >= (1, 15) else integer(0)
    head += b"".join(integer(part) for part in (1, 2, 3, 4, 5, 126, 0)) + text(b"db") + text(b"18.0") + text(b"18.0")
    body = b""
    for item in entries:
        body += integer(item.dump_id) + integer(1) + text(b"1259") + text(b"16385") + text(item.name) + text(item.kind)
        body += integer(item.section) + text(item.definition) + text(b"") + text(item.copy) + text(item.schema)
        body += text(b"") + text(None)
        body += integer(ord("r")) if version >= (1, 16) else b""
        body += text(b"owner") + text(b"false") + text(b"3") + text(b"4") + text(None) + text(item.file)
    return head + integer(len(entries)) + body


@pytest.mark.parametrize("version", [(1, 14), (1, 15), (1, 16)])
def test_the_entries_of_each_known_version_are_read(version: tuple[int, int]) -> None:
    assert read_toc(written([ENCODING, ROWS], version)) == [ENCODING, ROWS]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PGDMP",
        b"nothing of the kind",
        written([ROWS], (1, 17)),
        written([ROWS], SEVENTEEN) + b"\0",
        written([ROWS], SEVENTEEN)[:-1],
        written([ROWS], (1, 15)).replace(b"\1\17", b"\1\20", 1),
    ],
)
def test_what_is_not_read_to_its_very_end_is_not_understood(data: bytes) -> None:
    assert read_toc(data) is None


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(tail: bytes) -> None:
    read_toc(written([], SEVENTEEN)[:-5] + tail)


def test_a_plain_table_is_known_by_its_file_and_its_columns() -> None:
    assert table_data([ENCODING, ROWS]) == [TableData(7, "7.dat", b"s", b"t", b'("a", "b")')]


def test_quotes_in_names_are_doubled() -> None:
    name = b'caf\xc3\xa9 "Zo\xc3\xab"'
    entry = replace(ROWS, schema=name, copy=b'COPY "caf\xc3\xa9 ""Zo\xc3\xab"""."t" ("a") FROM stdin;\n')
    (found,) = table_data([entry])
    assert found.table == b'"caf\xc3\xa9 ""Zo\xc3\xab"""."t"'


@pytest.mark.parametrize(
    "entry",
    [
        replace(ROWS, kind=b"BLOBS"),
        replace(ROWS, section=4),
        replace(ROWS, file=b"7.dat.gz"),
        replace(ROWS, file=b""),
        replace(ROWS, definition=b'-- load via partition root "s"."root"'),
        replace(ROWS, copy=b'COPY "s"."root" ("a", "b") FROM stdin;\n'),
        replace(ROWS, copy=b'COPY "s"."t"  FROM stdin;\n'),
        replace(ROWS, copy=b""),
        replace(ROWS, name=b"two\nlines", copy=b'COPY "s"."two\nlines" ("a") FROM stdin;\n'),
        replace(ROWS, copy=b'COPY "s"."t" ("a\n") FROM stdin;\n'),
    ],
)
def test_what_is_not_a_plain_copy_is_left_to_pg_restore(entry: Entry) -> None:
    assert table_data([entry]) == []


def test_the_settings_of_the_dump_are_its_own() -> None:
    latin = replace(ENCODING, definition=b"SET client_encoding = 'LATIN1';\n")
    assert settings([latin, ROWS]) == [b"SET client_encoding = 'LATIN1';"]
    assert (is_utf8([ENCODING]), is_utf8([latin])) == (True, False)


def test_each_table_is_emptied_and_filled_in_a_transaction_of_its_own() -> None:
    (table,) = table_data([ROWS])
    assert load_script([b"SET a = b;"], [(table, "/var/it's/7.dat")]).decode() == (
        "SET a = b;\n"
        "BEGIN;\n"
        'TRUNCATE TABLE ONLY "s"."t";\n'
        '\\copy "s"."t" ("a", "b") FROM \'/var/it\'\'s/7.dat\' WITH (FREEZE)\n'
        "COMMIT;\n"
    )


def test_grants_come_after_the_rows_and_loaded_tables_not_at_all() -> None:
    before = b";\n; Selected TOC Entries:\n;\n5; 1259 1 TABLE s t me\n6; 0 0 ACL s TABLE t me\n"
    whole = before + b"7; 0 1 TABLE DATA s t me\n8; 0 2 TABLE DATA s u me\n9; 1259 3 INDEX s i me\n"
    first, rest = split_listing(whole, before, {7: None})
    assert first == b"5; 1259 1 TABLE s t me\n"
    assert rest == b"6; 0 0 ACL s TABLE t me\n8; 0 2 TABLE DATA s u me\n9; 1259 3 INDEX s i me\n"
