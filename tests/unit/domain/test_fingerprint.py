# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two fingerprints differ exactly where the rows do."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import (
    Json,
    compare,
    key_of,
    narrowed,
    readable,
    rows_of,
)

T, U, M, Q = key_of("org.a", "Campaign"), key_of("b", "u"), key_of("b", "m"), key_of("b", "q")


def fingerprint() -> dict[str, Json]:
    return {
        "tables": {
            T: {"rows": 3, "hash": "10", "kind": "r", "populated": True},
            U: {"rows": 0, "hash": "0", "kind": "r", "populated": True},
            M: {"rows": None, "hash": None, "kind": "m", "populated": False},
        },
        "sequences": {Q: {"last_value": 7, "is_called": True}},
        "large_objects": {"count": 2, "hash": "5"},
        "counters": {T: {"ins": 3, "upd": 0, "del": 0}},
        "server_major": 15,
    }


def changed(*path: str, to: Json) -> dict[str, Json]:
    body = copy.deepcopy(fingerprint())
    place: dict[str, Json] = body
    for step in path[:-1]:
        place = place[step]  # type: ignore[assignment]
    place[path[-1]] = to
    return body


@pytest.mark.parametrize(
    ("actual", "kinds"),
    [
        (fingerprint(), []),
        (changed("tables", T, "rows", to=2), ["rows"]),
        (changed("tables", T, "hash", to="11"), ["hash"]),
        (changed("tables", M, "populated", to=True), ["populated"]),
        (
            changed("tables", key_of("b", "new"), to={"rows": 0, "hash": None, "kind": "r", "populated": True}),
            ["surplus"],
        ),
        (changed("tables", to={}), ["missing", "missing", "missing"]),
        (changed("sequences", Q, "last_value", to=6), ["sequence"]),
        (changed("sequences", Q, "is_called", to=False), ["sequence"]),
        (changed("sequences", Q, "last_value", to=8), []),
        (changed("sequences", to={}), ["missing"]),
        (changed("large_objects", "count", to=1), ["large_objects"]),
        (changed("large_objects", "hash", to="6"), ["large_objects"]),
    ],
)
def test_each_kind_of_difference_is_found_and_nothing_else(actual: dict[str, Json], kinds: list[str]) -> None:
    assert [item.kind for item in compare(fingerprint(), actual)] == kinds


def test_hashes_of_another_major_version_are_not_compared() -> None:
    actual = changed("tables", T, "hash", to="11")
    actual["server_major"] = 18
    assert compare(fingerprint(), actual) == []


def test_a_sequence_that_stands_later_matters_when_exactness_is_asked_for() -> None:
    actual = changed("sequences", Q, "last_value", to=8)
    assert [item.kind for item in compare(fingerprint(), actual, exact_sequences=True)] == ["sequence"]


def test_a_dot_in_a_schema_name_is_not_taken_for_a_separator() -> None:
    part = narrowed(fingerprint(), ["org.a"])
    assert part["tables"] == {T: fingerprint()["tables"][T]}  # type: ignore[index,call-overload]
    assert part["large_objects"] is None
    assert readable(T) == "org.a.Campaign"
    assert rows_of(fingerprint()) == 3
