# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/safety.md tells about windows, read as an inventory is."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import parse_freezes, parse_windows
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rules import judge

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "safety.md").read_text(encoding="utf-8")


def example() -> dict[str, object]:
    found = re.search(r"## When work may run\n.*?```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert found
    values: dict[str, object] = yaml.safe_load(found.group(1))
    return values


@pytest.mark.parametrize(
    ("now", "verb", "code"),
    [
        ("2026-11-23T01:00", "backup", ""),
        ("2026-11-23T05:00", "backup", "window_closed"),
        ("2026-11-23T06:00", "backup", ""),
        ("2026-05-25T05:00", "backup", "window_closed"),
        ("2026-12-06T05:00", "migrate", ""),
        ("2026-12-06T05:00", "backup", "window_closed"),
        ("2026-12-25T01:00", "backup", ""),
        ("2026-12-25T01:00", "prune", "frozen"),
        ("2026-12-04T11:00", "prune", "frozen"),
    ],
)
def test_the_inventory_of_the_guide_opens_and_closes_as_it_says(now: str, verb: str, code: str) -> None:
    values = example()
    zone = str(values["saasops_timezone"])
    windows = parse_windows(values["saasops_windows"], zone)
    freezes = parse_freezes(values["saasops_freezes"], zone)
    moment = datetime.fromisoformat(now).replace(tzinfo=timezone.utc).timestamp()
    assert judge(windows, freezes, verb, "routine", moment).code == code


def test_the_refusal_that_the_guide_shows_is_the_one_that_is_given() -> None:
    values = example()
    windows = parse_windows(values["saasops_windows"], "Europe/Berlin")[:1]
    moment = datetime(2026, 11, 23, 5, tzinfo=timezone.utc).timestamp()
    assert f"`{judge(windows, (), 'backup', 'routine', moment).sentence}`" in GUIDE
