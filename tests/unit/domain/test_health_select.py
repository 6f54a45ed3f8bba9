# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checks a run is about."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_select import choose

NAMES = ["connections", "freeze_age", "api", "api_latency"]
SETS = {"daily": ["api*", "connections"], "gate": ["*", "!api*"], "none": [], "typo": ["conections"]}


@pytest.mark.parametrize(
    ("only", "set_name", "chosen"),
    [
        ([], "", NAMES),
        (["api"], "", ["api"]),
        (["api", "connections"], "", ["connections", "api"]),
        (["api*"], "", ["api", "api_latency"]),
        ([], "daily", ["connections", "api", "api_latency"]),
        ([], "gate", ["connections", "freeze_age"]),
    ],
)
def test_names_and_patterns_choose_in_the_order_of_the_checks(
    only: list[str], set_name: str, chosen: list[str]
) -> None:
    assert choose(NAMES, only, set_name, SETS) == chosen


@pytest.mark.parametrize(
    ("only", "set_name", "code"),
    [
        (["conections"], "", "unknown_check"),
        ([], "typo", "unknown_check"),
        ([], "weekly", "unknown_set"),
        ([], "none", "unknown_set"),
        (["api"], "daily", "unknown_set"),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_refused(only: list[str], set_name: str, code: str) -> None:
    with pytest.raises(OpsError) as refused:
        choose(NAMES, only, set_name, SETS)
    assert refused.value.code == code
