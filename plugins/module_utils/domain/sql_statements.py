# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL text as statements, each with its line and its tokens, for whoever runs or judges them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_scan import pieces

WORD, NAME, STRING, NUMBER, SIGN = "word", "name", "string", "number", "sign"
# statements that begin or end a transaction, by their first words
_CONTROL = (
    ("BEGIN",),
    ("START", "TRANSACTION"),
    ("COMMIT",),
    ("END",),
    ("ROLLBACK",),
    ("ABORT",),
    ("SAVEPOINT",),
    ("RELEASE",),
    ("PREPARE", "TRANSACTION"),
)


@dataclass(frozen=True)
class Token:
    """kind: word (text as written), name (a quoted identifier, its bare text), string, number, sign (one character)."""

    kind: str
    text: str

    @property
    def upper(self) -> str:
        """The word for comparing with keywords; "" for what is no bare word."""
        return self.text.upper() if self.kind == WORD else ""


@dataclass(frozen=True)
class Statement:
    """One statement: its text without the semicolon and the comments before it, the line it begins on (from 1)."""

    text: str
    line: int
    tokens: tuple[Token, ...] = field(repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """Its first bare words in upper case, up to four, for instance ("CREATE", "UNIQUE", "INDEX")."""
        found = []
        for token in self.tokens[:4]:
            if token.kind != WORD:
                break
            found.append(token.upper)
        return tuple(found)

    @property
    def controls_transaction(self) -> bool:
        """Whether it begins, ends or names a part of a transaction."""
        return any(self.words[: len(first)] == first for first in _CONTROL)


def _tokens(kind: str, text: str) -> Iterator[Token]:
    if kind == "word":
        yield Token(WORD, text)
    elif kind == "quote" and text.startswith('"'):
        yield Token(NAME, text[1:-1].replace('""', '"'))
    elif kind in ("quote", "dollar", "escape"):
        yield Token(STRING, text)
    elif kind == "number":
        yield Token(NUMBER, text)
    elif kind not in ("blank", "comment"):
        for sign in text:
            yield Token(SIGN, sign)


class _Depth:
    """Whether a semicolon ends the statement: not inside brackets, nor inside the body of BEGIN ATOMIC ... END."""

    def __init__(self) -> None:
        self.brackets = self.blocks = 0
        self._first: list[str] = []

    def see(self, token: Token) -> None:
        word = token.upper
        if token.kind == SIGN:
            self.brackets = max(0, self.brackets + {"(": 1, ")": -1}.get(token.text, 0))
        if not word:
            return
        if len(self._first) < 4:
            self._first.append(word)
        kind = self._first[3:4] if self._first[1:3] == ["OR", "REPLACE"] else self._first[1:2]
        if self.brackets or self._first[0] != "CREATE" or kind not in (["FUNCTION"], ["PROCEDURE"]):
            return
        if word == "BEGIN" or (word == "CASE" and self.blocks):
            self.blocks += 1
        elif word == "END" and self.blocks:
            self.blocks -= 1

    @property
    def outside(self) -> bool:
        return not self.brackets and not self.blocks


def split(sql: str) -> list[Statement]:
    """The statements of a text. Raises OpsError sql_failed: it ends inside a quote, or holds commands of psql."""
    found: list[Statement] = []
    tokens: list[Token] = []
    depth, begun, line = _Depth(), -1, 1
    seen = 0

    def finish(end: int) -> None:
        if tokens:
            found.append(Statement(sql[begun:end].rstrip(), line, tuple(tokens)))

    for kind, text, start in pieces(sql):
        if kind == "semi" and depth.outside:
            finish(start)
            tokens, depth, begun = [], _Depth(), -1
            continue
        new = list(_tokens(kind, text))
        if new and begun < 0:
            line += sql.count("\n", seen, start)
            begun = seen = start
        for token in new:
            depth.see(token)
        tokens += new
    finish(len(sql))
    return found


def starts(statement: Statement, *words: str) -> bool:
    """Whether it begins with these words."""
    return statement.words[: len(words)] == words


def strings(tokens: Sequence[Token]) -> list[str]:
    """The string literals among tokens, as written."""
    return [token.text for token in tokens if token.kind == STRING]
