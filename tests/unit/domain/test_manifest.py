# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest is believed only when it is whole, sealed, of this set and of this system."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Manifest,
    Member,
    StoredObject,
    iso,
    new_set_id,
    parse_contents,
    parse_manifest,
    posix,
    render_contents,
    render_manifest,
)

SET = "20261122T201747Z-1a2b3c4d"


def manifest(**changes: object) -> Manifest:
    whole = Manifest(
        system="demo",
        set_id=SET,
        kind="database",
        database='we "ird\nname',
        schemas=(),
        tenant=None,
        started=1000.5,
        snapshot_at=1001.25,
        finished=1002.0,
        server={"version": 150018},
        tools={"pg_dump": 15},
        pipeline="stream",
        codec="zstd",
        raw_bytes=10,
        stored_bytes=5,
        tables=1,
        rows=2,
        contents_sha256="00",
        globals={},
        proof={"level": "stored"},
        key="nightly",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def edited(**changes: object) -> bytes:
    return json.dumps({**json.loads(render_manifest(manifest())), **changes}).encode()


def test_what_was_rendered_is_read_back_the_same() -> None:
    assert parse_manifest(render_manifest(manifest()), SET, "demo") == manifest()


@pytest.mark.parametrize(
    ("data", "set_id", "system", "code"),
    [
        (b"not json", SET, "demo", "manifest_damaged"),
        (b"[]", SET, "demo", "manifest_damaged"),
        (edited(rows=3), SET, "demo", "manifest_damaged"),
        (edited(seal="0" * 64), SET, "demo", "manifest_damaged"),
        (edited(format=2), SET, "demo", "manifest_newer"),
        (render_manifest(manifest()), "20261122T201747Z-ffffffff", "demo", "manifest_damaged"),
        (render_manifest(manifest()), SET, "shop", "set_of_another_system"),
        (render_manifest(manifest(kind="mystery")), SET, "demo", "manifest_damaged"),
        (render_manifest(manifest())[:-40], SET, "demo", "manifest_damaged"),
    ],
    ids=["no-json", "no-object", "edited", "seal-forged", "newer", "swapped", "other-system", "kind", "cut"],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(data: bytes, set_id: str, system: str, code: str) -> None:
    with pytest.raises(OpsError) as caught:
        parse_manifest(data, set_id, system)
    assert caught.value.code == code


def test_contents_that_are_not_the_ones_the_manifest_names_are_refused() -> None:
    contents = Contents(
        (StoredObject("objects/0.zst", 5, "ab", (Member("dump/toc.dat", 10, "cd"),)),), {"tables": {}}, {}
    )
    data = render_contents(contents)
    import hashlib

    good = manifest(contents_sha256=hashlib.sha256(data).hexdigest())
    assert parse_contents(data, good) == contents
    with pytest.raises(OpsError, match="does not match"):
        parse_contents(data + b" ", good)


@given(st.floats(min_value=0, max_value=4e9, allow_nan=False))
def test_a_moment_survives_its_text_to_the_microsecond(moment: float) -> None:
    assert posix(iso(moment)) == pytest.approx(moment, abs=2e-6)


def test_set_ids_sort_by_their_start() -> None:
    assert new_set_id(1_000_000_000, b"\xff" * 4) < new_set_id(1_000_000_001, b"\x00" * 4)
