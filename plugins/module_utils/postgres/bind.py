# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named parameters (:name) in SQL of an inventory, bound as typed literals and never pasted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import literal

# what stands in quotes or comments is no parameter; :: is a cast
_TOKEN = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/
      | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag) | :: | :(?P<name>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)


def names_in(sql: str) -> set[str]:
    """The parameters that a text asks for."""
    return {found.group("name") for found in _TOKEN.finditer(sql) if found.group("name")}


def bind(sql: str, values: Mapping[str, tuple[str, str | None]]) -> str:
    """The text with each :name as a literal of its type. values: name -> (type, text or None for NULL).

    Raises OpsError parameter_unknown.
    """

    def one(found: re.Match[str]) -> str:
        name = found.group("name")
        if not name:
            return found.group()
        if name not in values:
            raise OpsError(
                "parameter_unknown",
                f"The statement asks for :{name}, which is no parameter of the fix.",
                "Name it among the fix's parameters.",
            )
        kind, value = values[name]
        # an E'' literal may not touch the word before it
        return f" ({literal(value)}::{kind})"

    return _TOKEN.sub(one, sql)
