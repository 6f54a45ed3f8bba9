# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill passes only when everything holds."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.drill import (
    Check,
    ServerSeen,
    decide_drill,
    refuse_scratch,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
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


LIVE = ServerSeen("7", 5432, "2026-11-22 20:00:00.000001", 150018, False)


@pytest.mark.parametrize(
    ("scratch", "code"),
    [
        (ServerSeen("7", 5432, LIVE.started, 150018, False), "scratch_is_live"),
        (ServerSeen("7", 5433, "2026-11-22 20:00:00.000002", 150018, False), "scratch_is_copy"),
        (ServerSeen("7", 5433, "2026-11-22 20:00:00.000002", 150018, True), "server_is_standby"),
        (ServerSeen("8", 5433, "2026-11-22 20:00:00.000002", 150018, True), "server_is_standby"),
        (ServerSeen("8", 5432, LIVE.started, 150018, False), ""),
    ],
    ids=["the-same", "a-copy", "its-standby", "a-standby", "another-one"],
)
def test_a_scratch_server_is_another_server_that_can_be_written_to(scratch: ServerSeen, code: str) -> None:
    if not code:
        refuse_scratch(LIVE, scratch)
        return
    with pytest.raises(OpsError) as caught:
        refuse_scratch(LIVE, scratch)
    assert caught.value.code == code
