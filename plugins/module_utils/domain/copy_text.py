# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as PostgreSQL's COPY writes them in text format, so that an archive can be loaded without us.

A value is what the type's output function says, or None for NULL; the input function gives back exactly that value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

Values = Sequence[Optional[str]]

END = "\\."
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile(r"[\\\n\r\t]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}


def encode(values: Values) -> str:
    """One line, without its end."""
    return "\t".join("\\N" if value is None else _SPECIAL.sub(_escape, value) for value in values)


def decode(line: str) -> list[str | None]:
    """The reverse of encode."""
    return [None if field == "\\N" else _ESCAPED.sub(_unescape, field) for field in line.split("\t")]


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES[found.group()]


def _unescape(found: re.Match[str]) -> str:
    return _PLAIN.get(found.group(1), found.group(1))
