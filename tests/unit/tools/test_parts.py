# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of parts holds together, and nothing untested counts as passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from checks import debian
from checks.environments import ENVIRONMENTS
from checks.parts import PARTS, Part

SCENARIOS = next(part for part in PARTS if part.marker)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_asks_for_an_environment_and_packages_that_exist(part: Part) -> None:
    assert ENVIRONMENTS[part.environment].lock.is_file()
    assert part.packages <= {package.group for package in debian.read(debian.LIST.read_text(encoding="utf-8"))}


def test_every_test_folder_belongs_to_a_part() -> None:
    tests = Path(__file__).resolve().parents[2]
    folders = {f"tests/{file.relative_to(tests).parts[0]}" for file in tests.rglob("test_*.py")}
    assert folders <= {part.folder for part in PARTS}


def test_a_folder_without_tests_is_left_out_with_the_reason(tmp_path: Path) -> None:
    part = replace(SCENARIOS, folder="tests/empty", marker="")
    assert "no tests in tests/empty" in part.why_left_out(tmp_path)


def test_a_marker_that_no_test_bears_leaves_the_part_out(tmp_path: Path) -> None:
    file = tmp_path / SCENARIOS.folder / "test_one.py"
    file.parent.mkdir(parents=True)
    file.write_text("def test_one(): ...\n", encoding="utf-8")
    assert SCENARIOS.marker in SCENARIOS.why_left_out(tmp_path)
    file.write_text(f"@pytest.mark.{SCENARIOS.marker}\ndef test_one(): ...\n", encoding="utf-8")
    assert SCENARIOS.why_left_out(tmp_path) == ""


def test_tests_that_the_part_does_not_run_do_not_keep_it_from_being_left_out(tmp_path: Path) -> None:
    part = replace(SCENARIOS, folder="tests/unit", marker="", without=("tests/unit/tools",))
    file = tmp_path / "tests/unit/tools/test_one.py"
    file.parent.mkdir(parents=True)
    file.touch()
    assert "no tests in tests/unit" in part.why_left_out(tmp_path)
