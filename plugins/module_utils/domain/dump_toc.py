# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of contents of a dump in directory format (toc.dat), read for the tables that it holds.

pg_restore --list shows names without their newlines and no COPY statement, so the file itself is read. Its form is
PostgreSQL's own (src/bin/pg_dump/pg_backup_archiver.c: WriteHead, WriteToc) and has not changed in its kind since
version 12; a version that is not known here, or a file that is not read to its very end, is not understood. Nobody
has to understand it: pg_restore restores everything, this only tells what can be loaded in a better way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAGIC = b"PGDMP"
# of pg_dump 12 to 15, 16, and 17 to 18
VERSIONS = ((1, 14), (1, 15), (1, 16))
# how WriteHead marks a directory's toc.dat: as that of a tar file
FORMATS = (3, 5)
SECTION_DATA = 3
# of a file that holds nothing but the end of the rows: "\\." and two empty lines
EMPTY_BYTES = 5
_COPY_END = b" FROM stdin;\n"


@dataclass(frozen=True)
class Entry:
    """One entry: dump id, kind ("TABLE DATA"), schema and name as the dump's encoding has them, its texts.

    section: 1 none, 2 pre-data, 3 data, 4 post-data. file: the name of its data, b"" when it has none.
    """

    dump_id: int
    kind: bytes
    section: int
    schema: bytes
    name: bytes
    definition: bytes
    copy: bytes
    file: bytes


@dataclass(frozen=True)
class TableData:
    """The rows of one ordinary table: its file in the dump, and what COPY calls it, quoted, with its columns."""

    dump_id: int
    file: str
    schema: bytes
    name: bytes
    columns: bytes

    @property
    def table(self) -> bytes:
        """Qualified and quoted."""
        return quoted(self.schema) + b"." + quoted(self.name)


class _NotUnderstoodError(Exception):
    """The bytes are not what a table of contents of a known version holds."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.integer_bytes = 4

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if count < 0 or len(piece) != count:
            raise _NotUnderstoodError
        self._at += count
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self) -> int:
        """A sign and the lowest byte first."""
        sign = self.byte()
        if sign > 1:
            raise _NotUnderstoodError
        value = int.from_bytes(self.take(self.integer_bytes), "little")
        return -value if sign else value

    def text(self) -> bytes | None:
        length = self.integer()
        return None if length == -1 else self.take(length)

    def ended(self) -> bool:
        return self._at == len(self._data)


def read_toc(data: bytes) -> list[Entry] | None:
    """The entries of a toc.dat; None when it is not of a form that is known here."""
    try:
        return _read(_Reader(data))
    except _NotUnderstoodError:
        return None


def _read(reader: _Reader) -> list[Entry]:
    if reader.take(len(MAGIC)) != MAGIC:
        raise _NotUnderstoodError
    version = (reader.byte(), reader.byte())
    reader.byte()
    reader.integer_bytes = reader.byte()
    reader.byte()  # size of a file position
    if version not in VERSIONS or reader.byte() not in FORMATS or reader.integer_bytes not in (4, 8):
        raise _NotUnderstoodError
    if version >= (1, 15):
        reader.byte()  # compression
    else:
        reader.integer()
    for _part in range(7):
        reader.integer()  # when it was made
    for _text in range(3):
        reader.text()  # database, versions of server and pg_dump
    entries = [_entry(reader, version) for _number in range(reader.integer())]
    if not reader.ended():
        raise _NotUnderstoodError
    return entries


def _entry(reader: _Reader, version: tuple[int, int]) -> Entry:
    dump_id = reader.integer()
    reader.integer()  # whether data belong to it
    reader.text()  # oids in the source
    reader.text()
    name, kind = reader.text() or b"", reader.text() or b""
    section = reader.integer()
    definition, _drop, copy, schema = (reader.text() or b"" for _text in range(4))
    reader.text()  # tablespace
    reader.text()  # access method
    if version >= (1, 16):
        reader.integer()  # kind of relation
    reader.text()  # owner
    reader.text()  # with oids
    while reader.text() is not None:
        pass  # what it depends on
    return Entry(dump_id, kind, section, schema, name, definition, copy, reader.text() or b"")


def quoted(name: bytes) -> bytes:
    """An identifier as pg_dump --quote-all-identifiers writes it; every server encoding keeps ASCII as it is."""
    return b'"' + name.replace(b'"', b'""') + b'"'


def table_data(entries: Sequence[Entry]) -> list[TableData]:
    """The tables whose rows lie in a file of their own and come back by one plain COPY, as far as a dump can tell.

    Left out is whatever is not exactly so: rows that go in by a partitioned root, names with a newline (a \\copy ends
    there), tables without columns.
    """
    found = []
    for entry in entries:
        if entry.kind != b"TABLE DATA" or entry.section != SECTION_DATA or entry.definition:
            continue
        if entry.file != b"%d.dat" % entry.dump_id:
            continue
        start = b"COPY " + quoted(entry.schema) + b"." + quoted(entry.name) + b" "
        columns = entry.copy[len(start) : -len(_COPY_END)]
        if entry.copy != start + columns + _COPY_END or not columns.startswith(b"(") or b"\n" in entry.copy[:-1]:
            continue
        found.append(TableData(entry.dump_id, entry.file.decode("ascii"), entry.schema, entry.name, columns))
    return found


def settings(entries: Sequence[Entry]) -> list[bytes]:
    """The statements that set the encoding of the dump and how it writes strings, as it holds them itself."""
    return [entry.definition.strip() for entry in entries if entry.kind in (b"ENCODING", b"STDSTRINGS")]


def is_utf8(entries: Sequence[Entry]) -> bool:
    """Whether names in the dump are UTF-8."""
    return any(entry.kind == b"ENCODING" and b"'UTF8'" in entry.definition for entry in entries)


def load_script(head: Sequence[bytes], tables: Sequence[tuple[TableData, str]]) -> bytes:
    """What psql runs to fill tables from the files beside them, each in a transaction, frozen from the start.

    FREEZE needs a table that was made or emptied in the same transaction. head: statements to begin with.
    """
    lines = list(head)
    for table, path in tables:
        place = b"'" + path.encode("utf-8", "surrogateescape").replace(b"'", b"''") + b"'"
        lines += [
            b"BEGIN;",
            b"TRUNCATE TABLE ONLY " + table.table + b";",
            b"\\copy " + table.table + b" " + table.columns + b" FROM " + place + b" WITH (FREEZE)",
            b"COMMIT;",
        ]
    return b"\n".join([*lines, b""])


def split_listing(listing: bytes, before: bytes, loaded: Mapping[int, object]) -> tuple[bytes, bytes]:
    """(entries that make the tables, all the others that pg_restore restores) of pg_restore --list's lines.

    before: the list of the section pre-data. Grants come last, as in a restore in one go: a role may have taken the
    right to write a table from itself. loaded: dump ids that are not restored by pg_restore.
    """
    first = [line for line in _entries(before) if b" ACL " not in line[:40]]
    chosen = {_dump_id(line) for line in first} | set(loaded)
    rest = [line for line in _entries(listing) if _dump_id(line) not in chosen]
    return b"\n".join([*first, b""]), b"\n".join([*rest, b""])


def _entries(listing: bytes) -> list[bytes]:
    return [line for line in listing.split(b"\n") if line and not line.startswith(b";")]


def _dump_id(line: bytes) -> int:
    return int(line.partition(b";")[0])
