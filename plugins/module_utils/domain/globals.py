# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles in what `pg_dumpall --globals-only` prints, and how those of a set differ from those of a server.

Only what every major version prints alike is compared: attributes, memberships and settings; not who granted what.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference

# a quoted name, a quoted string, a comment up to the end of its line, the end of a statement, anything else
_WORD = re.compile(r"""("(?:[^"]|"")*"|[Ee]?'(?:[^']|'')*'|--[^\n]*|;|\s+|[^\s;"']+)""")
_IGNORED = ("PASSWORD",)


@dataclass(frozen=True)
class Role:
    """attributes: words such as LOGIN; memberships: roles it is in; settings: its statements of ALTER ROLE ... SET."""

    attributes: frozenset[str] = frozenset()
    memberships: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()


def _statements(text: str) -> Iterator[list[str]]:
    words: list[str] = []
    for word in _WORD.findall(text):
        if word == ";":
            if words:
                yield words
            words = []
        elif word.strip() and not word.startswith("--"):
            words.append(word)


def _name(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word


def _attributes(words: list[str]) -> frozenset[str]:
    """LOGIN, NOSUPERUSER ... and pairs such as "CONNECTION LIMIT 5" and "VALID UNTIL '...'"."""
    found, at = set(), 0
    while at < len(words):
        wide = {"CONNECTION": 3, "VALID": 3, "PASSWORD": 2}.get(words[at], 1)
        if words[at] not in _IGNORED:
            found.add(" ".join(words[at : at + wide]))
        at += wide
    return frozenset(found)


def parse_roles(text: str) -> dict[str, Role]:
    """The roles that a script of pg_dumpall makes, by name."""
    found: dict[str, Role] = {}
    for words in _statements(text):
        kind = words[:2]
        if kind == ["CREATE", "ROLE"]:
            found.setdefault(_name(words[2]), Role())
        elif kind == ["ALTER", "ROLE"]:
            # the role that initdb made is altered only, where it has the same name on the server that reads it
            name = _name(words[2])
            role = found.get(name, Role())
            if words[3] == "WITH":
                role = Role(_attributes(words[4:]), role.memberships, role.settings)
            elif words[3] == "SET":
                role = Role(role.attributes, role.memberships, role.settings | {" ".join(words[4:])})
            found[name] = role
        elif words[0] == "GRANT" and len(words) > 3 and words[2] == "TO":
            name = _name(words[3])
            role = found.get(name, Role())
            found[name] = Role(role.attributes, role.memberships | {_name(words[1])}, role.settings)
    return found


def undefined_roles(used: Collection[str], defined: Mapping[str, Role]) -> list[Difference]:
    """Roles that the set's objects and grants speak of and that its own globals do not make."""
    return [
        Difference("missing", f"role {name}", f"the set's globals do not define role {name!r}, which its objects need")
        for name in sorted(used)
        # roles that every server has by itself
        if name not in defined and not name.startswith("pg_")
    ]


def role_notes(used: Collection[str], defined: Mapping[str, Role], here: Mapping[str, Role]) -> list[str]:
    """A sentence for every role in use that the server has in another way than the set's globals."""
    notes = []
    for name in sorted(set(used) & set(defined) & set(here)):
        want, have = defined[name], here[name]
        for what, wanted, present in (
            ("attributes", want.attributes, have.attributes),
            ("memberships", want.memberships, have.memberships),
            ("settings", want.settings, have.settings),
        ):
            if wanted != present:
                lacks = ", ".join(sorted(wanted - present)) or "nothing"
                more = ", ".join(sorted(present - wanted)) or "nothing"
                notes.append(f"role {name!r} has other {what} here: lacks {lacks}; has beyond the set {more}")
    return notes
