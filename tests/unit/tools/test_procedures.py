# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The map from procedures to tests is held against the tests that ran."""

from __future__ import annotations

from pathlib import Path

import procedures
import pytest

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.scenarios.test_x" name="test_good[pg15]"/>
<testcase classname="tests.scenarios.test_x" name="test_good[pg18]"/>
<testcase classname="tests.scenarios.test_x" name="test_half[pg15]"/>
<testcase classname="tests.scenarios.test_x" name="test_half[pg18]"><failure message="no"/></testcase>
<testcase classname="tests.scenarios.test_x" name="test_left"><skipped message="no"/></testcase>
</testsuite></testsuites>"""
GOOD = "tests/scenarios/test_x.py::test_good"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("playbooks/health.yml", "docs/health.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "junit.xml").write_text(JUNIT, encoding="utf-8")
    return tmp_path


def told(root: Path, **changes: object) -> list[str]:
    entry = {"verb": "health", "guide": "docs/health.md", "tests": [GOOD], **changes}
    return procedures.complaints({"PF-01": entry}, procedures.results([root / "junit.xml"]), root)


def test_a_procedure_whose_tests_passed_is_covered(root: Path) -> None:
    assert told(root) == []


@pytest.mark.parametrize(
    ("test", "how"),
    [
        ("tests/scenarios/test_x.py::test_half", "failure, passed"),
        ("tests/scenarios/test_x.py::test_left", "skipped"),
        ("tests/scenarios/test_x.py::test_gone", "not run"),
    ],
)
def test_one_that_failed_was_skipped_or_never_ran_covers_nothing(root: Path, test: str, how: str) -> None:
    assert told(root, tests=[GOOD, test]) == [f"PF-01: {test}: {how}."]


def test_an_unknown_verb_guide_or_key_and_no_test_are_told(root: Path) -> None:
    assert told(root, verb="nothing") == ["PF-01: there is no verb nothing."]
    assert told(root, guide="docs/none.md") == ["PF-01: there is no guide docs/none.md."]
    assert told(root, tests=[]) == ["PF-01 names no test."]
    assert "instead of" in told(root, more="x")[0]
