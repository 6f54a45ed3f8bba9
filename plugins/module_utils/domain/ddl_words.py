# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a statement's tokens from left to right, and what is said of it: locks, rewrites, remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import NAME, SIGN, WORD, Token

ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE, SHARE = "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE"
SHARE_ROW_EXCLUSIVE, EXCLUSIVE, ACCESS_EXCLUSIVE = "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"
# weakest first
LEVELS = (
    "ACCESS SHARE",
    "ROW SHARE",
    ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
    SHARE,
    SHARE_ROW_EXCLUSIVE,
    EXCLUSIVE,
    ACCESS_EXCLUSIVE,
)
Name = tuple[str, ...]


@dataclass(frozen=True)
class Touch:
    """A lock level on a table; table is its name as the text qualifies it: (name,) or (schema, name)."""

    table: tuple[str, ...]
    mode: str


@dataclass(frozen=True)
class Verdict:
    """What is known of a statement.

    kind: for a person. rewrites: tables written anew as a whole. makes: tables that it creates.
    in_transaction: whether a transaction block may hold it. remarks: (table, why it hurts when it was there before).
    known: whether the text tells all its locks. index: the name of what a concurrent build makes or removes, with the
    table's schema when it has one. scope: what REINDEX CONCURRENTLY builds anew: (INDEX, TABLE, SCHEMA ..., *its name).
    """

    kind: str
    touches: tuple[Touch, ...] = ()
    rewrites: tuple[tuple[str, ...], ...] = ()
    in_transaction: bool = True
    makes: tuple[tuple[str, ...], ...] = ()
    remarks: tuple[tuple[tuple[str, ...], str], ...] = ()
    known: bool = True
    note: str = ""
    index: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()


class Reader:
    """A place in a list of tokens."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens, self._at = tuple(tokens), 0

    def peek(self) -> str:
        """The next bare word in upper case; "" when something else comes, or nothing."""
        return self._tokens[self._at].upper if self._at < len(self._tokens) else ""

    def peek_sign(self) -> str:
        """The next token when it is a sign, else ""."""
        if self._at < len(self._tokens) and self._tokens[self._at].kind == SIGN:
            return self._tokens[self._at].text
        return ""

    def before(self) -> str:
        """The word that was read last."""
        return self._tokens[self._at - 1].upper

    def word(self) -> str:
        """Read one bare word; "" and nothing read when something else comes."""
        found = self.peek()
        self._at += 1 if found else 0
        return found

    def accept(self, *words: str) -> bool:
        """Read exactly these words, or nothing."""
        coming = tuple(token.upper for token in self._tokens[self._at : self._at + len(words)])
        if coming != words:
            return False
        self._at += len(words)
        return True

    def any_of(self, *words: str) -> bool:
        """Read one word when it is one of these."""
        return self.peek() in words and bool(self.word())

    def name(self) -> tuple[str, ...]:
        """Read a qualified name; unquoted parts are folded as the server folds them. () when none comes."""
        self.accept("ONLY")
        parts: list[str] = []
        while self._at < len(self._tokens) and self._tokens[self._at].kind in (WORD, NAME):
            token = self._tokens[self._at]
            parts.append(token.text.lower() if token.kind == WORD else token.text)
            self._at += 1
            if self.peek_sign() != ".":
                break
            self._at += 1
        if self.peek_sign() == "*":
            self._at += 1
        return tuple(parts)

    def names(self) -> list[tuple[str, ...]]:
        """Read names with commas between."""
        found = [self.name()]
        while self.peek_sign() == ",":
            self._at += 1
            found.append(self.name())
        return [name for name in found if name]

    def after(self, word: str) -> tuple[str, ...]:
        """Go to the first such bare word outside brackets and read the name behind it; () when it does not come."""
        depth = 0
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == SIGN else 0
            if depth == 0 and token.upper == word:
                return self.name()
        return ()

    def skip_brackets(self) -> None:
        """Read one pair of brackets with all that is in it, when it comes."""
        depth = 0
        while self._at < len(self._tokens):
            depth += {"(": 1, ")": -1}.get(self.peek_sign(), 0)
            if depth == 0 and self.peek_sign() != ")":
                return
            self._at += 1
            if depth == 0:
                return

    def rest(self) -> tuple[Token, ...]:
        """What was not read yet."""
        return self._tokens[self._at :]


def references(tokens: Sequence[Token]) -> list[tuple[str, ...]]:
    """The tables behind REFERENCES."""
    found = []
    for place, token in enumerate(tokens):
        if token.upper == "REFERENCES":
            found.append(Reader(tokens[place + 1 :]).name())
    return [name for name in found if name]


def parts(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Cut at the commas that stand outside brackets."""
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == SIGN:
            depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(token.text, 0)
            if token.text == "," and depth == 0:
                found.append([])
                continue
        found[-1].append(token)
    return [tuple(part) for part in found if part]


def shown(name: Sequence[str]) -> str:
    """A name for a person."""
    return ".".join(name) or "?"
