# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ALTER TABLE: each of its actions has a lock level of its own; some read the whole table, some write it anew."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import (
    ACCESS_EXCLUSIVE,
    LEVELS,
    SHARE_ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
    Reader,
    Touch,
    Verdict,
    parts,
    references,
    shown,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import Token

# a default that is made of one of these is computed for every row; now() and its like are not
_VOLATILE = frozenset(
    ("CLOCK_TIMESTAMP", "GEN_RANDOM_UUID", "NEXTVAL", "RANDOM", "TIMEOFDAY", "UUIDV4", "UUIDV7", "UUID_GENERATE_V4")
)
_SERIAL = frozenset(("SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL2", "SERIAL4", "SERIAL8"))
_LIGHT = (
    ("VALIDATE", "CONSTRAINT"),
    ("CLUSTER", "ON"),
    ("SET", "WITHOUT", "CLUSTER"),
    ("ATTACH", "PARTITION"),
)
_REWRITES = (("SET", "LOGGED"), ("SET", "UNLOGGED"), ("SET", "TABLESPACE"), ("SET", "ACCESS"), ("SET", "WITH"))
_CONSTRAINTS = ("CONSTRAINT", "FOREIGN", "CHECK", "UNIQUE", "PRIMARY", "EXCLUDE", "NOT")


def _begins(action: Sequence[Token], *words: str) -> bool:
    return tuple(token.upper for token in action[: len(words)]) == words


def _level(action: Sequence[Token]) -> str:
    words = [token.upper for token in action]
    if any(_begins(action, *first) for first in _LIGHT):
        return SHARE_UPDATE_EXCLUSIVE
    if _begins(action, "DETACH", "PARTITION") and ({"CONCURRENTLY", "FINALIZE"} & set(words)):
        return SHARE_UPDATE_EXCLUSIVE
    if words[:1] in (["ENABLE"], ["DISABLE"]) and "TRIGGER" in words:
        return SHARE_ROW_EXCLUSIVE
    if words[:1] == ["ADD"] and "FOREIGN" in words and _is_constraint(action):
        return SHARE_ROW_EXCLUSIVE
    if words[:1] in (["SET"], ["RESET"]) and action[1:2] and action[1].text == "(":
        return SHARE_UPDATE_EXCLUSIVE
    if words[:1] == ["ALTER"]:
        rest = words[2:] if words[1:2] == ["COLUMN"] else words[1:]
        tokens = action[len(words) - len(rest) + 1 :]
        if rest[1:3] == ["SET", "STATISTICS"]:
            return SHARE_UPDATE_EXCLUSIVE
        if rest[1:2] in (["SET"], ["RESET"]) and tokens[1:2] and tokens[1].text == "(":
            return SHARE_UPDATE_EXCLUSIVE
    return ACCESS_EXCLUSIVE


def _is_constraint(action: Sequence[Token]) -> bool:
    return len(action) > 1 and action[1].upper in _CONSTRAINTS


def _rewrites(action: Sequence[Token]) -> bool:
    words = [token.upper for token in action]
    if any(_begins(action, *first) for first in _REWRITES):
        return True
    if words[:1] == ["ALTER"]:
        rest = words[3:] if words[1:2] == ["COLUMN"] else words[2:]
        return rest[:1] == ["TYPE"] or rest[:3] == ["SET", "DATA", "TYPE"]
    if words[:1] == ["ADD"] and not _is_constraint(action):
        found = set(words)
        return bool(
            found & (_VOLATILE | _SERIAL) or {"GENERATED", "STORED"} <= found or {"GENERATED", "IDENTITY"} <= found
        )
    return False


def _reads(action: Sequence[Token]) -> str:
    """Why the whole table is read while it is locked; "" when it is not."""
    words = [token.upper for token in action]
    valid = "NOT VALID" not in " ".join(words)
    if words[:1] == ["ADD"]:
        if {"UNIQUE", "PRIMARY"} & set(words) and "USING" not in words:
            return "builds an index under the lock: make it CONCURRENTLY before, and add the constraint USING INDEX"
        if valid and ("REFERENCES" in words or "CHECK" in words) and _is_constraint(action):
            return "reads every row under the lock: add it NOT VALID, and VALIDATE CONSTRAINT in a file of its own"
    if words[:1] == ["ALTER"] and words[-3:] == ["SET", "NOT", "NULL"]:
        return "reads every row under the lock, unless a validated CHECK (... IS NOT NULL) proves it"
    return ""


def alter_table(reader: Reader) -> Verdict:
    """The verdict; the reader stands behind ALTER TABLE."""
    if reader.accept("ALL", "IN", "TABLESPACE"):
        return Verdict("ALTER TABLE", known=False)
    reader.accept("IF", "EXISTS")
    table = reader.name()
    strongest = ""
    others: list[Touch] = []
    rewrites: list[tuple[str, ...]] = []
    remarks: list[tuple[tuple[str, ...], str]] = []
    in_transaction = True
    for action in parts(reader.rest()):
        level = _level(action)
        strongest = max((strongest, level), key=lambda mode: LEVELS.index(mode) if mode else -1)
        others += [Touch(name, SHARE_ROW_EXCLUSIVE) for name in references(action)]
        words = [token.upper for token in action]
        if words[1:2] == ["PARTITION"] and words[0] in ("ATTACH", "DETACH"):
            child = Reader(action[2:]).name()
            others.append(
                Touch(child, ACCESS_EXCLUSIVE if level != SHARE_UPDATE_EXCLUSIVE or words[0] == "ATTACH" else level)
            )
            in_transaction = in_transaction and "CONCURRENTLY" not in words
        if _rewrites(action):
            rewrites.append(table)
        why = _reads(action)
        if why:
            remarks.append((table, f"ALTER TABLE {shown(table)} {' '.join(words[:2])} {why}"))
    return Verdict(
        "ALTER TABLE",
        (Touch(table, strongest or ACCESS_EXCLUSIVE), *others),
        rewrites=tuple(dict.fromkeys(rewrites)),
        in_transaction=in_transaction,
        remarks=tuple(remarks),
    )
