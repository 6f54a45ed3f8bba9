# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The row of cleanup is void when its undisturbed runs differ too much."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.benchmarks.pairs import Sample
from ansible_collections.saasops.runbook.benchmarks.row_cleanup import OURS, QUIET, voided


@pytest.mark.parametrize(
    ("latency", "rate", "void"), [(1.29, 400.0, False), (1.31, 400.0, True), (1.0, 300.0, True), (1.0, 310.0, False)]
)
def test_undisturbed_runs_that_differ_by_more_than_a_third_void_every_run(
    latency: float, rate: float, void: bool
) -> None:
    samples = [
        Sample(QUIET, 0, 20.0, {"median_ms": 1.0, "per_second": 400.0}),
        Sample(OURS, 0, 9.0, {}),
        Sample(QUIET, 1, 20.0, {"median_ms": latency, "per_second": rate}),
    ]
    assert [bool(item.failed) for item in voided(samples)] == [void] * 3
