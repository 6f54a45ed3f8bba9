# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the dump whole? The rows in the dump's files against the rows counted under the same snapshot.

An exit code of 0 says that a tool was content, not that its bytes arrived: a cut stream and a wrapper that
swallows an error both exit 0. COPY text has exactly one newline a row, so counting newlines, which costs next to
nothing, compares every table of the dump with what another session saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference, key_of, readable

# pg_dump ends the data of a table with "\.", and two empty lines
TRAILER_LINES = 3
_DATA = re.compile(r"^(\d+); \d+ (\d+) TABLE DATA ", re.MULTILINE)
_HEADER = re.compile(rb'^COPY "((?:[^"]|"")*)"\."((?:[^"]|"")*)" \(.*?\) FROM stdin;\n', re.DOTALL | re.MULTILINE)
_HEADER_START = b'COPY "'
_END = b"\\.\n"
# a header with 1,600 columns of 63 bytes fits
_HEADER_LIMIT = 256 * 1024


def data_files(listing: str) -> dict[int, int]:
    """dump id -> table oid, from what pg_restore --list says of an archive in directory format."""
    return {int(dump_id): int(oid) for dump_id, oid in _DATA.findall(listing)}


@dataclass
class Newlines:
    """Counts the newlines of a stream that passes by."""

    count: int = 0

    def watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.count += chunk.count(b"\n")
            yield chunk

    @property
    def rows(self) -> int:
        return max(0, self.count - TRAILER_LINES)


@dataclass
class CopyRows:
    """Counts the rows of each table in the script that pg_restore --data-only prints.

    Works on chunks, not on lines: a 1 GB script takes a second. rows: fingerprint key -> rows seen so far;
    complete is False while a table's data has not ended.
    """

    rows: dict[str, int] = field(default_factory=dict)
    _buffer: bytes = b""
    _table: str | None = None

    @property
    def complete(self) -> bool:
        return self._table is None

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while self._step():
            pass

    def _step(self) -> bool:
        if self._table is None:
            header = _HEADER.search(self._buffer)
            if header is None:
                # keep what may be the beginning of a header
                start = self._buffer.rfind(b"\n" + _HEADER_START)
                keep = len(self._buffer) - start if start >= 0 else len(_HEADER_START) + 1
                self._buffer = self._buffer[-min(keep, _HEADER_LIMIT) :]
                return False
            schema, name = (part.replace(b'""', b'"').decode("utf-8", "replace") for part in header.groups())
            self._table = key_of(schema, name)
            self.rows.setdefault(self._table, 0)
            self._buffer = self._buffer[header.end() :]
            return True
        # the buffer begins at the start of a line
        if self._buffer.startswith(_END):
            self._buffer, self._table = self._buffer[len(_END) :], None
            return True
        end = self._buffer.find(b"\n" + _END)
        whole = (end if end >= 0 else self._buffer.rfind(b"\n")) + 1
        self.rows[self._table] += self._buffer.count(b"\n", 0, whole)
        self._buffer = self._buffer[whole:]
        return end >= 0


def compare_rows(counted: Mapping[str, int], dumped: Mapping[str, int]) -> list[Difference]:
    """Tables whose dump holds another number of rows than was counted; [] when the dump is whole."""
    found = []
    for key in sorted(counted):
        have = dumped.get(key)
        if have is None and counted[key] == 0:
            continue
        if have != counted[key]:
            name = readable(key)
            text = f"{name}: {have if have is not None else 'no data'} in the dump, {counted[key]} rows in the table"
            found.append(Difference("rows", name, text))
    return found
