# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A digest of the SQL script that pg_dump or pg_restore prints, to compare two databases by PostgreSQL's own tools.

Nothing here shares code with the fingerprint: the script is made by pg_dump alone, and it carries what the
fingerprint does not look at: definitions, owners, grants, comments, sequence positions, large objects, and every
value of every row. Entries are found by the comment line that pg_dump writes before each
("-- Name: ...; Type: ...; Schema: ...; Owner: ..."). The order of entries and of rows does not matter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference

_HEADER = re.compile(rb"-- (?:Data for )?Name: (.*); Type: (.*); Schema: (.*); Owner: (.*)\n\Z", re.DOTALL)
# printed where they are needed first, so their place depends on the order of entries
_FLOATING = re.compile(rb"SET default_(?:tablespace|table_access_method) = |\\(?:un)?restrict |--")
_COPY = re.compile(rb"COPY .* FROM stdin;\n\Z")
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Entry:
    """One object of a script: how many data rows or lines it has, and a checksum of them."""

    lines: int
    checksum: int


def _number(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")


def digest_script(lines: Iterable[bytes]) -> dict[str, Entry]:
    """A script's entries by name. lines are whole lines with their newline; memory does not grow with the data.

    Rows of a COPY are summed up, so that their order does not matter; the lines of a definition are numbered,
    so that theirs does.
    """
    found: dict[str, list[int]] = {}
    title = "preamble"
    place = 0
    copying = False
    for line in lines:
        if copying:
            if line == b"\\.\n":
                copying = False
                continue
            entry = found[title]
            entry[0] += 1
            entry[1] = (entry[1] + _number(line)) & _MASK
            continue
        header = _HEADER.match(line) if line.startswith(b"-- ") else None
        if header:
            name, kind, schema, owner = (part.decode("utf-8", "replace") for part in header.groups())
            title = (
                f"{kind} {name}"
                + (f" in {schema}" if schema != "-" else "")
                + (f" owned by {owner}" if owner != "-" else "")
            )
            place = 0
            found.setdefault(title, [0, 0])
            continue
        if line == b"\n" or _FLOATING.match(line) or title == "preamble":
            continue
        copying = bool(_COPY.match(line))
        place += 1
        entry = found[title]
        entry[0] += 1
        entry[1] = (entry[1] + _number(b"%d " % place + line)) & _MASK
    return {key: Entry(count, checksum) for key, (count, checksum) in found.items()}


def compare_scripts(expected: Mapping[str, Entry], actual: Mapping[str, Entry]) -> list[Difference]:
    """Every entry that is missing, surplus or different; [] when both scripts say the same."""
    found = []
    for name in sorted(expected):
        want, have = expected[name], actual.get(name)
        if have is None:
            found.append(Difference("missing", name, f"{name} is in the backup and not in the restored database"))
        elif have.lines != want.lines:
            text = f"{name} has {have.lines} lines instead of {want.lines}"
            found.append(Difference("lines", name, text))
        elif have != want:
            found.append(Difference("changed", name, f"{name} is not the same as in the backup"))
    for name in sorted(set(actual) - set(expected)):
        found.append(Difference("surplus", name, f"{name} is in the restored database and not in the backup"))
    return found
