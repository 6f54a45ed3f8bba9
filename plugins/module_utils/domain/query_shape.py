# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement as evidence: what it does and to which objects, without the values in it.

Values of a statement are people's data, and sometimes passwords. What cannot be told apart from a value is left out:
an evidence that says too little can be looked up on the server, one that says too much stays in the journal.
"""

from __future__ import annotations

import re

from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import clean_text

LONGEST = 200  # characters of one shape
_PIECES = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*)
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)
  | (?P<text>(?:\b[eEbBxXnN]|\b[uU]&)?')
  | (?P<word>[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*)
  | (?P<number>\$?(?:\d[\w.]*|\.\d\w*))
  | (?P<space>\s+)
    """,
    re.VERBOSE,
)
_COMMENT = re.compile(r"/\*|\*/")


def _after_comment(text: str, start: int) -> int:
    """Where a (nested) comment that begins at start ends; -1 when it does not."""
    depth, at = 0, start
    while True:
        found = _COMMENT.search(text, at)
        if found is None:
            return -1
        depth, at = depth + (1 if found.group() == "/*" else -1), found.end()
        if depth == 0:
            return at


def _after_text(text: str, start: int) -> int:
    """Where a literal whose quote stands before start ends; -1 when nobody can say.

    Whether a backslash escapes depends on a setting of that session, so a literal with one before a quote has no
    known end.
    """
    at = start
    while True:
        end = text.find("'", at)
        if end < 0 or "\\" in text[at:end]:
            return -1
        if text[end + 1 : end + 2] != "'":
            return end + 1
        at = end + 2


def shape(query: str, longest: int = LONGEST) -> str:
    """The statement in one line, each value as ?, comments gone; cut at the first thing whose end is unknown."""
    parts: list[str] = []
    at = 0
    while at < len(query):
        found = _PIECES.match(query, at)
        if found is None:
            parts.append(query[at])
            at += 1
            continue
        kind, after = found.lastgroup, found.end()
        if kind == "comment":
            after = _after_comment(query, at) if found.group() == "/*" else after
            parts.append(" ")
        elif kind == "text":
            after = _after_text(query, after)
            parts.append("?")
        elif kind == "dollar":
            end = query.find(found.group(), after)
            after = -1 if end < 0 else end + len(found.group())
            parts.append("?")
        elif kind == "number":
            parts.append("?")
        elif kind == "space":
            parts.append(" ")
        else:
            parts.append(found.group())
        if after < 0:
            parts.append(" …")
            break
        at = after
    one = " ".join("".join(parts).split())
    return clean_text(one, strict=True, limit=longest)
