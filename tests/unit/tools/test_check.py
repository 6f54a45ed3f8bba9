# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of everything: its exit code and its last words."""

from __future__ import annotations

import json
from pathlib import Path

import check
import pytest

from checks.layout import CheckError
from checks.parts import PARTS
from checks.report import Outcome

UNIT = next(part for part in PARTS if part.name == "unit-newest")
FAULTS = next(part for part in PARTS if part.name == "faults")
RUFF = next(part for part in PARTS if part.name == "ruff")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check, "LOGS", tmp_path)
    monkeypatch.setattr(check, "DURATIONS", tmp_path / "durations.json")
    for part, closing in ((UNIT, "== 9 passed in 1.00s =="), (FAULTS, "== 1 failed, 4 passed in 2.00s ==")):
        (tmp_path / f"{part.name}.log").write_text(f"...\n{closing}\n", encoding="utf-8")
    return tmp_path


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.usefixtures("logs")
def test_a_run_without_failure_ends_with_the_closing_line_of_the_unit_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.Run([UNIT]).finish([Outcome(UNIT.name, "passed", 1.0)]) == 0
    assert last_line(capsys) == "== 9 passed in 1.00s =="


@pytest.mark.usefixtures("logs")
def test_a_failed_pytest_part_has_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome(FAULTS.name, "failed", 1.0), Outcome(UNIT.name, "passed", 1.0)]
    assert check.Run([FAULTS, UNIT]).finish(outcomes) == 1
    assert last_line(capsys) == "== 1 failed, 4 passed in 2.00s =="


@pytest.mark.usefixtures("logs")
def test_a_failure_outside_pytest_fails_the_run_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome(RUFF.name, "failed", 1.0), Outcome(UNIT.name, "passed", 1.0)]
    assert check.Run([RUFF, UNIT]).finish(outcomes) == 1
    assert "FAILED: ruff" in capsys.readouterr().out


def test_times_are_kept_for_the_order_of_the_next_run(logs: Path) -> None:
    check.Run([UNIT]).finish([Outcome(UNIT.name, "passed", 12.34)])
    assert json.loads((logs / "durations.json").read_text(encoding="utf-8")) == {UNIT.name: 12.3}
    assert check.Run([UNIT]).weight(UNIT) == 12.3


def test_parts_that_take_no_time_go_before_the_long_ones() -> None:
    run = check.Run([RUFF, FAULTS, UNIT])
    run.durations = {RUFF.name: 0.1, FAULTS.name: 300.0, UNIT.name: 40.0}
    assert run.weight(RUFF) > run.weight(FAULTS) > run.weight(UNIT)


def test_a_part_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(CheckError, match="No such part: unti"):
        check.chosen_parts("ruff,unti", quick=False)


def test_the_quick_round_is_a_part_of_the_whole() -> None:
    quick = check.chosen_parts("", quick=True)
    assert RUFF in quick
    assert FAULTS not in quick
    assert set(quick) < set(check.chosen_parts("", quick=False))
