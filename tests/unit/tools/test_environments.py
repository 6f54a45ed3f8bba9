# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments: made once from their lock, and made anew when that is not what is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from checks.environments import Environment, ensure, find_python, stamp_of
from checks.layout import CheckError

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "empty.txt").write_text("# nothing to install\n", encoding="utf-8")
    return Environment("empty", (THIS,), locks=tmp_path, venvs=tmp_path / "venvs")


def mark(environment: Environment) -> Path:
    """A file that is gone once the environment is made anew."""
    marker = environment.folder / "marker"
    marker.touch()
    return marker


def test_an_environment_whose_making_was_interrupted_is_made_anew_and_then_kept(environment: Environment) -> None:
    environment.folder.mkdir(parents=True)
    half = mark(environment)
    python = ensure(environment)
    assert python.exists()
    assert not half.exists()
    marker = mark(environment)
    assert ensure(environment) == python
    assert marker.exists()


def test_a_changed_lock_makes_the_environment_anew(environment: Environment) -> None:
    environment.folder.mkdir(parents=True)
    python = find_python(environment.pythons)
    assert python is not None
    (environment.folder / "stamp").write_text(stamp_of(environment, python), encoding="utf-8")
    marker = mark(environment)
    environment.lock.write_text("# nothing to install, said differently\n", encoding="utf-8")
    ensure(environment)
    assert not marker.exists()


def test_a_lock_that_cannot_be_installed_leaves_no_stamp_and_says_what_pip_said(environment: Environment) -> None:
    environment.lock.write_text("not a requirement!\n", encoding="utf-8")
    with pytest.raises(CheckError, match=r"(?s)pip.*install.*Invalid requirement"):
        ensure(environment)
    assert not (environment.folder / "stamp").exists()


def test_a_missing_python_is_named_with_the_way_to_get_it(environment: Environment) -> None:
    nowhere = Environment("empty", ("3.1",), environment.locks, environment.venvs)
    with pytest.raises(CheckError, match=r"Python 3\.1, .*pyenv install 3\.1"):
        ensure(nowhere)


def test_the_first_version_that_works_is_taken() -> None:
    found = find_python(("3.1", THIS))
    assert found is not None
    assert found.name.startswith("python")


def test_a_program_that_only_bears_the_name_of_a_python_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.1"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_python(("3.1",)) is None
