# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of SQL text as psql's own scanner sees them (src/fe_utils/psqlscan.l), line by line behaviour included.

Quotes, dollar quotes and nested comments are whole pieces. Where versions of psql or of the server would end a piece
in different places, the text is refused. Written here and not taken from a library, because targets have Python 3.9
and nothing else: sqlparse splits by keywords and loses its way in dollar quotes and BEGIN ATOMIC, pglast is a
compiled parser of one version of PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_START = r"A-Za-z_\u0080-\U0010ffff"
_WORD = rf"[{_START}][{_START}0-9$]*"

_TOKEN = re.compile(
    rf"""
      (?P<blank>   [ \t\n\r\f\v]+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<number>  \$?[0-9][{_START}0-9.]* )
    | (?P<dollar>  \$(?:[{_START}][{_START}0-9]*)?\$ )
    | (?P<escape>  [eE]' )
    | (?P<word>    {_WORD} )
    | (?P<quote>   ['"] )
    | (?P<colon>   : )
    | (?P<semi>    ; )
    | (?P<back>    \\ )
    | (?P<other>   [^ \t\n\r\f\v'":;\\$/\-A-Za-z0-9_\u0080-\U0010ffff]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPED_REST = re.compile(r"(?:[^'\\]+|''|\\.)*", re.DOTALL)
# E'a' <newline> 'b' is one literal for the server, but psql, which reads lines, takes 'b' for a plain one
_CONTINUED = re.compile(r"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'")


def refused(sqlstate: str, text: str) -> OpsError:
    """The error the server would have given."""
    return OpsError(
        "sql_failed",
        f"The statement was not sent: {text}.",
        "Correct the statement; nothing of this step was committed.",
        {"sqlstate": sqlstate},
    )


def _near(sql: str, at: int) -> str:
    return " ".join(sql[at : at + 20].split())


def _comment_end(sql: str, at: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise refused("42601", f"unterminated comment at or near {_near(sql, at)!r}")


def _quoted_end(sql: str, start: int, at: int, quote: str) -> int:
    """Past the closing quote of a plain literal or identifier; a doubled quote only begins it again."""
    end = sql.find(quote, at)
    if end < 0:
        raise refused("42601", f"unterminated quoted string at or near {_near(sql, start)!r}")
    return end + len(quote)


def _escaped(sql: str, start: int) -> tuple[str, int]:
    """An E'' literal with its continuations joined, and where it ends."""
    parts = [sql[start : start + 2]]
    at = start + 2
    while True:
        rest = _ESCAPED_REST.match(sql, at)
        end = rest.end() if rest else at
        if sql[end : end + 1] != "'":
            raise refused("42601", f"unterminated quoted string at or near {_near(sql, start)!r}")
        parts.append(sql[at:end])
        more = _CONTINUED.match(sql, end + 1)
        if not more:
            return "".join(parts) + "'", end + 1
        at = more.end()


def _junk(number: str, then: str) -> bool:
    """Whether scanners of different versions end this number in different places; the server refuses it anyway.

    They differ on 1e'x' (an escape literal or not), 1e3$x$ (dollar quotes or not) and 1e--x (a comment or not).
    """
    if not number.strip("$.0123456789"):
        return False
    return then[:1] in ("'", "$") or (number[-1] in "eE" and then[:1] in ("+", "-") and not then[1:].isdigit())


def pieces(sql: str) -> Iterator[tuple[str, str, int]]:
    """Kind (a group of _TOKEN), text and start of every piece, quotes and comments whole. Raises OpsError."""
    at = 0
    while at < len(sql):
        token = _TOKEN.match(sql, at)
        if token is None:
            raise refused("42601", f"syntax error at or near {_near(sql, at)!r}")
        kind, text, end = str(token.lastgroup), token.group(), token.end()
        if kind == "escape":
            text, end = _escaped(sql, at)
        elif kind == "comment":
            end = _comment_end(sql, at)
            text = sql[at:end]
        elif kind in ("quote", "dollar"):
            end = _quoted_end(sql, at, end, text)
            text = sql[at:end]
        elif kind == "back":
            raise refused("42601", f"syntax error at or near {_near(sql, at)!r}")
        elif kind == "number" and _junk(text, sql[end : end + 2]):
            raise refused("42601", f"trailing junk after numeric literal at or near {_near(sql, at)!r}")
        yield kind, text, at
        at = end
