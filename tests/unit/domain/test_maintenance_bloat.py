# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of an index or a table is air, which is built anew, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Index, Mark, Table, Wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_bloat import (
    FULL,
    REPACK,
    Column,
    Room,
    choose_rewrite,
    index_air,
    leftover,
    rebuild,
    table_air,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import Pace

HEALTHY = Table("app", "org_a", "orders", 7, pages=1250, visible=1250, rows=10_000, bytes=10_240_000, live=10_000)
BIG = replace(HEALTHY, bytes=10**9, total_bytes=10**9)
READY = Room(free=10**10, repack="1.4.8", repack_client="1.4.8", windows=("night",))


@pytest.mark.parametrize(
    ("changes", "how", "why"),
    [
        ({}, REPACK, ""),
        ({"windows": ()}, REPACK, ""),
        ({"repack": ""}, FULL, ""),
        ({"repack_client": ""}, FULL, ""),
        ({"repack_client": "1.5.0"}, FULL, ""),
        ({"unique": False}, FULL, ""),
        ({"superuser": False}, FULL, ""),
        ({"repack_wanted": "never"}, FULL, ""),
        ({"repack_wanted": "never", "windows": ()}, "", "needs an open window"),
        ({"repack": "", "windows": ()}, "", "needs an open window"),
        ({"repack": "", "repack_wanted": "always"}, "", "pg_repack is asked for"),
        ({"free": None}, "", "nobody can tell"),
        ({"free": 2_199_999_999}, "", "a copy needs up to 2.2 GB"),
        ({"free": 2_200_000_000}, REPACK, ""),
    ],
)
def test_how_a_table_is_rewritten(changes: dict[str, object], how: str, why: str) -> None:
    found = choose_rewrite(BIG, replace(READY, **changes))  # type: ignore[arg-type]
    assert found[0] == how
    assert why in found[1]


AIRY = Index("app", "s", "i", 9, 7, bytes=100_000_000, bloat=0.6)


@pytest.mark.parametrize(
    ("changes", "mark", "expected"),
    [
        ({}, Mark(), True),
        ({"bloat": 0.49}, Mark(), False),
        ({"bloat": None}, Mark(), False),
        ({"bytes": 16_000_000}, Mark(), False),
        ({"concurrent": False}, Mark(), False),
        ({"building": True}, Mark(), False),
        ({"permitted": False}, Mark(), False),
        ({"leftover": True}, Mark(), False),
        ({}, Mark(bytes=100_000_000), False),
        ({}, Mark(bytes=70_000_000), True),
        ({"free": 219_999_999}, Mark(), False),
        ({"free": 220_000_000}, Mark(), True),
    ],
)
def test_which_index_is_built_anew(changes: dict[str, object], mark: Mark, expected: bool) -> None:
    index = replace(AIRY, **changes)  # type: ignore[arg-type]
    assert (rebuild(index, HEALTHY, Wish(), mark, Pace()) is not None) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"building": True}, False), ({"leftover": False}, False), ({"permitted": False}, False)],
)
def test_a_leftover_is_dropped_unless_somebody_builds_there(changes: dict[str, object], expected: bool) -> None:
    index = replace(AIRY, **{"leftover": True, **changes})  # type: ignore[arg-type]
    assert (leftover(index) is not None) is expected


def test_estimates_of_air() -> None:
    # 20 bytes each: 408 to a page of 8,152 bytes that is filled by 90 %
    size = 8192 * 280
    assert index_air(100_000, [Column(4)], size) == pytest.approx(0.01, abs=0.02)
    assert index_air(10_000, [Column(4)], size) == pytest.approx(0.89, abs=0.02)
    assert index_air(10**7, [Column(4)], size) == 0
    assert index_air(100_000, [], size) is None
    assert index_air(-1, [Column(4)], size) is None
    assert table_air(100_000, [Column(4), Column(100)], 8192 * 1760) == pytest.approx(0.0, abs=0.06)
    assert table_air(50_000, [Column(4), Column(100)], 8192 * 1760) == pytest.approx(0.5, abs=0.05)
