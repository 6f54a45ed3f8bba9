# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixes and their parameters are understood whole or refused."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.repair import check_values, choose, parse_fix

GOOD: dict[str, object] = {
    "name": "approve",
    "table": "requests",
    "where": "t.id = :id",
    "set": {"status": "'approved'"},
    "parameters": [{"name": "id", "type": "bigint"}, {"name": "note", "required": False}],
}

BAD = [
    ({"name": "Approve it"}, "small letters"),
    ({"where": ""}, "condition"),
    ({"set": None}, "exactly one"),
    ({"delete": True}, "exactly one"),
    ({"set": None, "insert": {"into": "x"}}, "into and values"),
    ({"set": {}}, "exactly one"),
    ({"limit": 5000}, "limit"),
    ({"sql": "DROP TABLE x"}, "sql is not known"),
    ({"parameters": [{"name": "id", "type": "oid"}]}, "type oid"),
    ({"parameters": [{"name": "id; --"}]}, "name"),
    ({"schemas": "tenants"}, "saasops_tenant_schemas"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_a_fix_that_is_not_understood_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(OpsError) as caught:
        parse_fix({**GOOD, **changes})
    assert caught.value.code == "fix_invalid"
    assert says in caught.value.message


VALUES = [
    ({"id": "17"}, ""),
    ({"id": 17, "note": "x"}, ""),
    ({"id": "17; DROP TABLE x"}, "parameter_invalid"),
    ({"id": "1e3"}, "parameter_invalid"),
    ({"id": ""}, "parameter_missing"),
    ({}, "parameter_missing"),
    ({"id": "1", "note": "a\0b"}, "parameter_invalid"),
    ({"id": "1", "other": "x"}, "parameter_unknown"),
]


@pytest.mark.parametrize(("given", "code"), VALUES)
def test_a_parameter_is_held_against_its_type(given: dict[str, object], code: str) -> None:
    fix = parse_fix(GOOD)
    if not code:
        assert check_values(fix, given)["id"] == ("bigint", "17")
        return
    with pytest.raises(OpsError) as caught:
        check_values(fix, given)
    assert caught.value.code == code


def test_a_fix_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(OpsError) as caught:
        choose([{**GOOD, "description": "approve one"}], "nothing", [])
    assert caught.value.code == "fix_unknown"
    assert "approve (approve one)" in caught.value.message
