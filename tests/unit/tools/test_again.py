# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that are run a second time: few, by themselves, and never in silence."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import check
import procedures
import pytest

from checks import again
from checks.layout import CheckError
from checks.parts import Part
from checks.parts import pytest as session

# fails as often as a file beside it says
FLAKY = """
import pathlib
import pytest

def test_good():
    pass

@pytest.mark.parametrize("number", {numbers})
def test_flaky(number):
    kept = pathlib.Path(__file__).with_name(f"left-{{number}}")
    left = int(kept.read_text()) if kept.exists() else {failures}
    kept.write_text(str(left - 1))
    assert left <= 0
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """A part whose tests lie in a tree of their own."""
    for name in ("RESULTS", "LOGS", "TREE", "CACHE"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setattr(check, name, tmp_path / name.lower())
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "DURATIONS", tmp_path / "durations.json")
    (tmp_path / "tree" / "tests").mkdir()
    monkeypatch.setattr(check, "part_variables", lambda _environment: {"PYTHONDONTWRITEBYTECODE": "1"})
    whole = session("flaky", "core-newest", "tests", 1, packages=frozenset({"postgres"}))
    return Part(
        whole.name,
        whole.environment,
        tuple(sys.executable if word == "{python}" else word for word in whole.argv),
        whole.seconds,
        whole.folder,
        packages=whole.packages,
    )


def write(failures: int, numbers: int = 1) -> None:
    text = FLAKY.format(failures=failures, numbers=list(range(numbers)))
    (check.TREE / "tests" / "test_x.py").write_text(text, encoding="utf-8")


def test_a_test_that_passes_the_second_time_passes_and_is_named(part: Part, capsys: pytest.CaptureFixture[str]) -> None:
    write(failures=1)
    run = check.Run([part])
    note = run.execute(part)
    assert note == "1 passed, 1 failed; passed when run again: tests/test_x.py::test_flaky[0]"
    said = capsys.readouterr().out
    assert "Run again, for they failed: tests/test_x.py::test_flaky[0]. Exit code 0." in said
    assert "assert 1 <= 0" in said
    assert run.finish([check.Outcome(part.name, "passed", 1.0, note)]) == 0
    assert "FAILED AT FIRST, find out why: tests/test_x.py::test_flaky[0]" in capsys.readouterr().out
    ended = procedures.results(check.RESULTS.glob("*/junit.xml"))
    assert ended == {"tests/test_x.py::test_good": {"passed"}, "tests/test_x.py::test_flaky": {"passed"}}


def test_one_that_fails_again_fails(part: Part) -> None:
    write(failures=2)
    with pytest.raises(CheckError, match="not passed when run again"):
        check.Run([part]).execute(part)
    assert procedures.results(check.RESULTS.glob("*/junit.xml"))["tests/test_x.py::test_flaky"] == {"failure"}


def test_what_an_earlier_run_said_at_its_second_try_counts_for_nothing(part: Part) -> None:
    stale = check.RESULTS / "flaky-again"
    stale.mkdir()
    (stale / "junit.xml").write_text("<testsuites/>", encoding="utf-8")
    write(failures=0)
    check.Run([part]).execute(part)
    assert not stale.exists()


def test_more_than_a_few_are_not_run_again(part: Part) -> None:
    write(failures=1, numbers=again.MOST + 1)
    with pytest.raises(CheckError, match=r"^1 passed, 4 failed, exit code 1$"):
        check.Run([part]).execute(part)
    assert not (check.RESULTS / "flaky-again").exists()


def test_the_allowance_is_that_of_the_whole_run() -> None:
    allowance = again.Allowance(2)
    assert not allowance.take([])
    assert allowance.take(["a"])
    assert not allowance.take(["b", "c"])
    assert allowance.take(["b"])
    assert allowance.used == ["a", "b"]


@pytest.mark.parametrize(
    ("classname", "node"),
    [
        ("tests.faults.test_a", "tests/faults/test_a.py::test_x[a-1]"),
        ("tests.scenarios.test_b.TestC", "tests/scenarios/test_b.py::TestC::test_x[a-1]"),
    ],
)
def test_a_test_is_named_as_pytest_wants_it(classname: str, node: str) -> None:
    case = ElementTree.Element("testcase", classname=classname, name="test_x[a-1]")
    assert again.node_id(case) == node
