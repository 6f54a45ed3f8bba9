# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.metrics import render_metrics
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint

NOW = 1795378667.25
NAMES = 'shop "1" \\ of\nBérénice'
GOOD = RecoveryPoint("app", (), None, "s1", NOW - 3600, 3600.0, "ok", "")
NONE = RecoveryPoint(NAMES, ("org_a",), "org_a", None, None, None, "critical", "")

HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) [^\n]+")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) gauge")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\{{({LABEL}(?:,{LABEL})*)\}} (-?\d+(?:\.\d+)?)")


def parse(text: str) -> dict[tuple[str, str], float]:
    """{(metric, its labels as written): value}; AssertionError for anything the exposition format does not know."""
    assert text.endswith("\n")
    found: dict[tuple[str, str], float] = {}
    helped, typed = set(), ""
    for line in text[:-1].split("\n"):
        if match := HELP.fullmatch(line):
            assert match[1] not in helped, "a metric is described twice"
            helped.add(match[1])
        elif match := TYPE.fullmatch(line):
            typed = match[1]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == typed, "samples of a metric stand together, below its type"
            assert match[1] in helped
            assert (match[1], match[2]) not in found
            found[match[1], match[2]] = float(match.groups()[-1])
    return found


def test_time_age_and_verdict_of_each_recovery_point_are_told() -> None:
    values = parse(render_metrics("demo", "/srv/backups", [GOOD, NONE], 86400, NOW))
    common = 'system="demo",store="/srv/backups"'
    good = f'{common},database="app",schemas="",tenant=""'
    none = f'{common},database="shop \\"1\\" \\\\ of\\nBérénice",schemas="",tenant="org_a"'
    assert values == {
        ("saasops_recovery_point_timestamp_seconds", good): NOW - 3600,
        ("saasops_recovery_point_age_seconds", good): 3600,
        ("saasops_recovery_point_proven", good): 1,
        ("saasops_recovery_point_proven", none): 0,
        ("saasops_recovery_point_critical", good): 0,
        ("saasops_recovery_point_critical", none): 1,
        ("saasops_rpo_seconds", common): 86400,
        ("saasops_backups_checked_timestamp_seconds", common): NOW,
    }


def test_without_an_rpo_none_is_told() -> None:
    assert "saasops_rpo_seconds" not in render_metrics("demo", "/srv", [GOOD], None, NOW)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is Debian's prometheus, which no unit test needs"
)
@pytest.mark.parametrize("points", [[GOOD, NONE], [NONE], [GOOD]])
def test_promtool_finds_nothing_to_complain_of(points: list[RecoveryPoint]) -> None:
    text = render_metrics("demo", "s3://b/p at http://127.0.0.1:1", points, 60, NOW)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, encoding="utf-8", check=False, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
