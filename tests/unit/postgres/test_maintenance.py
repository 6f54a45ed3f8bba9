# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of maintenance, for every version of the server."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import ANALYZE, FREEZE, VACUUM, Act
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import statement

VERSIONS = (130000, 140000, 150000, 160000, 170000, 180000)


def act(kind: str, *options: str, **numbers: object) -> Act:
    return Act(kind, "app", 'o"d', "t", 7, 7, "why", 1.0, options=options, measured=numbers)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "options", "busy", "truncate", "expected"),
    [
        (VACUUM, (), False, "auto", "SKIP_LOCKED"),
        (VACUUM, (), True, "auto", "SKIP_LOCKED, TRUNCATE off"),
        (VACUUM, (), True, "on", "SKIP_LOCKED"),
        (VACUUM, (), False, "off", "SKIP_LOCKED, TRUNCATE off"),
        (FREEZE, (), False, "on", "SKIP_LOCKED, FREEZE"),
        (
            FREEZE,
            ("INDEX_CLEANUP off", "TRUNCATE off"),
            True,
            "auto",
            "SKIP_LOCKED, INDEX_CLEANUP off, TRUNCATE off, FREEZE",
        ),
    ],
)
def test_a_vacuum_stands_in_no_queue_and_truncates_only_what_nobody_uses(
    version: int, kind: str, options: tuple[str, ...], busy: bool, truncate: str, expected: str
) -> None:
    found = statement(version, act(kind, *options), busy=busy, truncate=truncate)
    assert found == f'VACUUM ({expected}) "o""d"."t"'


@pytest.mark.parametrize("version", VERSIONS)
def test_an_analyze_of_a_parent_leaves_its_partitions_alone_where_the_server_can(version: int) -> None:
    only = "ONLY " if version >= 180000 else ""
    plain = statement(version, act(ANALYZE), busy=False, truncate="auto")
    parent = statement(version, act(ANALYZE, partitions=3), busy=False, truncate="auto")
    assert (plain, parent) == ('ANALYZE (SKIP_LOCKED) "o""d"."t"', f'ANALYZE (SKIP_LOCKED) {only}"o""d"."t"')
