# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pace import pace


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (pace(50_000_000, 200_000_000, 10), "50,000,000 of 200,000,000 bytes (25 %), 5.0 MB/s, about 30 s left"),
        (pace(1, 4, 0.5), "1 of 4 bytes (25 %)"),
        (pace(30_000_000, 0, 10), "30,000,000 bytes, 3.0 MB/s"),
        (pace(100, 1000, 10, "rows"), "100 of 1,000 rows (10 %), 10 rows/s, about 1 min 30 s left"),
        (pace(12_000_000, 10_000_000, 4, about=True), "12,000,000 of about 10,000,000 bytes, 3.0 MB/s"),
        (pace(4, 4, 4, "rows"), "4 of 4 rows (100 %), 1 rows/s"),
        (pace(0, 10, 30), "0 of 10 bytes (0 %)"),
    ],
)
def test_amount_share_rate_and_what_is_left(said: str, text: str) -> None:
    assert said == text
