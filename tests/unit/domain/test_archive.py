# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into an archive comes out of it, and what was changed in between is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import (
    Batch,
    Begun,
    Column,
    Entry,
    Outcome,
    Part,
    parse_batch,
    parse_outcome,
    render_batch,
    render_outcome,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.copy_text import decode, encode
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

# PostgreSQL stores neither NUL nor lone surrogates
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUE = st.none() | TEXT | st.sampled_from(["\\N", "\\.", "\\", "\n", "\r\n", "\t", "\\.\n", "", "\x0b\u2028"])


@given(st.lists(VALUE, min_size=1))
def test_a_line_gives_its_values_back(values: list[str | None]) -> None:
    line = encode(values)
    assert "\n" not in line
    assert line != "\\."
    assert decode(line) == values


def parts(rows: list[tuple[str | None, str | None]]) -> Part:
    columns = (Column("id", "bigint"), Column("note", "text"))
    return Part("public", "notes", columns, ("id",), tuple(rows))


@given(st.lists(st.lists(st.tuples(VALUE, VALUE)), max_size=3))
def test_a_batch_gives_its_rows_back(tables: list[list[tuple[str | None, str | None]]]) -> None:
    batch = Batch("20261122T201747Z-1a2b3c4d", 7, "4711", "1 5432", tuple(parts(rows) for rows in tables))
    assert parse_batch(render_batch(batch), "x") == batch


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[: data.index(b"second")],
        lambda data: data.replace(b"second", b"secone"),
        lambda data: data.replace(b"1\tfirst\n", b""),
        lambda data: b"",
        lambda data: b"{}\n",
    ],
)
def test_a_batch_that_is_cut_or_changed_is_refused(spoil: object) -> None:
    data = render_batch(Batch("a", 1, "1", "s", (parts([("1", "first"), ("2", "second")]),)))
    with pytest.raises(OpsError) as caught:
        parse_batch(spoil(data), "x")  # type: ignore[operator]
    assert caught.value.code == "archive_damaged"


def test_a_batch_of_a_newer_release_is_refused() -> None:
    data = render_batch(Batch("a", 1, "1", "s", ())).replace(b'"format":1', b'"format":2')
    with pytest.raises(OpsError) as caught:
        parse_batch(data, "x")
    assert caught.value.code == "archive_newer"


BEGUN = Begun("20261122T201747Z-1a2b3c4d", "cleanup", "shop", "db", "1 5432", "events", 5.0, 4.0, "k", "", 60)
OUTCOME = Outcome(BEGUN, "complete", 9.0, (Entry(1, "rows/000001.zst", 10, "ab", {"public.notes": 3}),))


def test_a_manifest_gives_its_batches_back_and_knows_when_it_expires() -> None:
    assert parse_outcome(render_outcome(OUTCOME), "x") == OUTCOME
    assert (OUTCOME.rows, OUTCOME.expires) == (3, 69.0)


def test_a_manifest_that_was_edited_is_refused() -> None:
    body = render_outcome(OUTCOME)
    with pytest.raises(OpsError) as caught:
        parse_outcome({**body, "finished": 10.0}, "x")
    assert caught.value.code == "archive_damaged"
