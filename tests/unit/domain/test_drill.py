# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill passes only when everything holds."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.drill import Check, decide_drill
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference

DIFFERENT = Difference("changed", "TABLE t", "TABLE t is not the same as in the backup")


@pytest.mark.parametrize(
    ("differences", "checks", "markers", "targets", "outcome"),
    [
        ([], [Check("rows", True)], (100.0, 90.0), (60.0, 10.0), "passed"),
        ([DIFFERENT], [], (None, None), (None, None), "failed"),
        ([], [Check("rows", False)], (None, None), (None, None), "failed"),
        ([], [Check("rows", None)], (None, None), (None, None), "failed"),
        ([], [Check("rows", 1)], (None, None), (None, None), "failed"),
        ([], [], (100.0, 89.9), (None, 10.0), "failed"),
        ([], [], (100.0, None), (None, None), "failed"),
        ([], [], (None, None), (49.0, None), "failed"),
        ([], [], (None, None), (50.0, None), "passed"),
    ],
    ids=[
        "all-well",
        "differs",
        "false",
        "null",
        "not-a-boolean",
        "rpo-missed",
        "no-marker",
        "rto-missed",
        "rto-just-met",
    ],
)
def test_the_verdict_follows_from_what_was_measured(
    differences: list[Difference],
    checks: list[Check],
    markers: tuple[float | None, float | None],
    targets: tuple[float | None, float | None],
    outcome: str,
) -> None:
    verdict = decide_drill(differences, checks, 1000.0, 1050.0, *markers, *targets)
    assert verdict.outcome == outcome
    assert bool(verdict.reasons) == (outcome == "failed")
    assert verdict.rto == 50.0


def test_a_restored_marker_later_than_the_live_one_is_no_negative_loss() -> None:
    assert decide_drill([], [], 0, 1, 5.0, 6.0, None, None).rpo == 0.0
