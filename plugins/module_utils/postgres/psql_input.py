# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL as psql must be given it, so that psql sends exactly these bytes to the server and acts on none of them.

psql looks for three things outside quotes and comments: a semicolon (send), a colon (a variable) and a
backslash (a command). `\\;` and `\\:` put the plain character into the statement, so these two are escaped;
a backslash there is no SQL at all and is refused. To know what is outside, this reads SQL as psql's own
scanner does (src/fe_utils/psqlscan.l), line by line behaviour included; where versions of psql differ, the
text is refused or rewritten.
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
    pieces = [sql[start : start + 2]]
    at = start + 2
    while True:
        rest = _ESCAPED_REST.match(sql, at)
        end = rest.end() if rest else at
        if sql[end : end + 1] != "'":
            raise refused("42601", f"unterminated quoted string at or near {_near(sql, start)!r}")
        pieces.append(sql[at:end])
        more = _CONTINUED.match(sql, end + 1)
        if not more:
            return "".join(pieces) + "'", end + 1
        at = more.end()


def _junk(number: str, then: str) -> bool:
    """Whether scanners of different versions end this number in different places; the server refuses it anyway.

    They differ on 1e'x' (an escape literal or not), 1e3$x$ (dollar quotes or not) and 1e--x (a comment or not).
    """
    if not number.strip("$.0123456789"):
        return False
    return then[:1] in ("'", "$") or (number[-1] in "eE" and then[:1] in ("+", "-") and not then[1:].isdigit())


def _pieces(sql: str) -> Iterator[tuple[str, str]]:
    """Kind (a group of _TOKEN) and text of every piece, quotes and comments whole. Raises OpsError."""
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
        yield kind, text
        at = end


def encode(sql: str) -> bytes:
    """The statement for psql's standard input, without what sends it (a line `\\g`).

    Several statements with semicolons between go to the server as one message, as libpq would send them.
    standard_conforming_strings must be on. Raises OpsError sql_failed, sqlstate 42601, for text that ends
    inside a quote or comment, holds no statement, or that psql would not send unchanged; 22021 for
    characters PostgreSQL cannot store; 0A000 for COPY with STDIN or STDOUT.
    """
    if "\0" in sql:
        raise refused("22021", "the statement holds a NUL character")
    parts: list[str] = []
    # the first word of the current statement, None before it
    command: str | None = None
    something = False
    for kind, text in _pieces(sql):
        parts.append("\\" + text if kind in ("colon", "semi") else text)
        if kind == "semi":
            command = None
        elif kind not in ("blank", "comment"):
            something = True
            word = text.upper() if kind == "word" else ""
            if command == "COPY" and word in ("STDIN", "STDOUT"):
                # psql would take our next lines for rows
                raise refused("0A000", f"COPY with {word} is not for sessions")
            command = word if command is None else command
    if not something:
        raise refused("42601", "it holds no statement")
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise refused("22021", "the statement holds a character that is no Unicode text") from error
