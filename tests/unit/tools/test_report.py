# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says about itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.report import Outcome, counts, table, verdict

SUITE = '<testsuites><testsuite name="pytest" {}/></testsuites>'


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('tests="3" failures="0" errors="0" skipped="0"', "3 passed"),
        ('tests="5" failures="1" errors="1" skipped="2"', "1 passed, 1 failed, 1 errors, 2 skipped"),
        ('tests="0" failures="0" errors="0" skipped="0"', "no tests"),
    ],
)
def test_counts_are_those_of_the_junit_file(tmp_path: Path, attributes: str, said: str) -> None:
    junit = tmp_path / "junit.xml"
    junit.write_text(SUITE.format(attributes), encoding="utf-8")
    assert counts(junit) == said


def test_the_table_has_the_slowest_first_and_what_was_left_out_last() -> None:
    outcomes = [Outcome("a", "left out", 0), Outcome("b", "passed", 1), Outcome("c", "failed", 9)]
    rows = table(outcomes, wall=9).splitlines()
    assert [row.split()[0] for row in rows] == ["c", "b", "a", "all"]


def test_the_verdict_of_a_failure_names_the_part_and_its_log() -> None:
    said = verdict([Outcome("mypy", "failed", 1), Outcome("ruff", "passed", 1)])
    assert "FAILED: mypy" in said
    assert ".cache/logs/mypy.log" in said
    assert "PASSED" not in said


def test_a_part_that_was_left_out_is_named_and_not_counted_as_passed() -> None:
    said = verdict([Outcome("docs", "left out", 0, "no tests"), Outcome("ruff", "passed", 1)])
    assert "LEFT OUT: docs" in said
    assert "all 1 parts" in said
