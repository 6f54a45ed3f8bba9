# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import (
    disproof,
    open_use,
    proof_level,
    read_pin,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import Pin

STORED: dict[str, Json] = {"level": "stored", "at": iso(1000.0)}
RESTORED: dict[str, Json] = {"level": "restored", "at": iso(2000.0)}
FAILED: dict[str, Json] = {"level": "failed", "at": iso(3000.0)}


@pytest.mark.parametrize(
    ("manifest", "records", "level"),
    [
        ({}, [], ""),
        ({"level": "hoped"}, [], ""),
        (STORED, [], "stored"),
        (STORED, [RESTORED], "restored"),
        (STORED, [{}], "stored"),
        (STORED, [{"level": "unheard of", "at": iso(9000.0)}], "stored"),
        (STORED, [FAILED, RESTORED], "failed"),
        (STORED, [RESTORED, FAILED, {"level": "stored", "at": iso(4000.0)}], "stored"),
        (STORED, [FAILED, {"level": "restored", "at": iso(4000.0)}], "restored"),
    ],
)
def test_a_failed_proof_takes_earlier_ones_back(
    manifest: dict[str, Json], records: list[dict[str, Json]], level: str
) -> None:
    assert proof_level(manifest, records) == level


@pytest.mark.parametrize(
    ("record", "pin"),
    [
        (None, None),
        ({}, Pin("no reason given")),
        ({"reason": "audit", "until": None}, Pin("audit")),
        ({"reason": "audit", "until": "1970-01-01T00:16:40.000000Z"}, Pin("audit", 1000.0)),
        ({"reason": "audit", "until": "1970-01-01T00:16:40Z"}, Pin("audit", 1000.0)),
        # a day is meant to its end
        ({"reason": "audit", "until": "1970-01-02"}, Pin("audit", 172800.0)),
        ({"reason": "audit", "until": "soon"}, Pin("audit; its expiry 'soon' cannot be read")),
        ({"reason": "audit", "until": ["x"]}, Pin("audit; its expiry \"['x']\" cannot be read")),
    ],
)
def test_a_pin_that_cannot_be_read_holds_for_ever(record: dict[str, Json] | None, pin: Pin | None) -> None:
    assert read_pin(record) == pin


@pytest.mark.parametrize(
    ("record", "use"),
    [
        ({"set": "s", "state": "building"}, ("s", "restore r1 (building)")),
        ({"set": "s", "state": "switched"}, ("s", "restore r1 (switched)")),
        ({"set": "s"}, ("s", "restore r1 (unknown)")),
        ({"set": "s", "state": "finished"}, None),
        ({"set": "s", "state": "failed"}, None),
        ({"state": "building"}, None),
        ({"set": "s", "outcome": "passed"}, None),
    ],
)
def test_a_restore_needs_its_set_until_it_is_closed(record: dict[str, Json], use: tuple[str, str] | None) -> None:
    assert open_use("restore", "r1", record) == use


@pytest.mark.parametrize(
    ("outcome", "differences", "speaks"),
    [("failed", [{"kind": "rows"}], True), ("failed", [], False), ("passed", [], False)],
)
def test_a_drill_that_found_differences_speaks_against_its_set(
    outcome: str, differences: list[Json], speaks: bool
) -> None:
    record: dict[str, Json] = {"set": "s", "at": iso(3000.0), "outcome": outcome, "differences": differences}
    assert disproof(record) == (("s", FAILED) if speaks else None)
