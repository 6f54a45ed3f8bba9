# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting: whatever a name or a value holds, it stays a name or a value."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import Value, ident, literal, render


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (7, "7"),
        ("it's", "'it''s'"),
        ("a\\b", "E'a\\\\b'"),
        (b"", "''::bytea"),
        (b"\x00\xff", "'\\x00ff'::bytea"),
        (["a", "b'"], "ARRAY['a', 'b''']"),
    ],
)
def test_a_literal_is_quoted_for_any_setting(value: Value, text: str) -> None:
    assert literal(value) == text


def test_names_are_quoted_and_qualified() -> None:
    assert ident('we"ird') == '"we""ird"'
    assert render("{t:I} {v} {r:raw}", t=("a.b", "c"), v="x", r="now()") == '"a.b"."c" \'x\' now()'


@pytest.mark.parametrize("make", [ident, literal])
def test_a_nul_character_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="NUL"):
        make("a\0b")  # type: ignore[operator]
