# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs in lanes: order, needs, failures, and the ending of what runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from checks.lanes import Children, Job, Lanes
from checks.layout import CheckError
from checks.report import Outcome

# Starts a grandchild, writes its process id and waits.
PARENT = "import pathlib, subprocess, sys; c = subprocess.Popen(['sleep', '60']); "
PARENT += "pathlib.Path(sys.argv[1]).write_text(str(c.pid)); c.wait()"


def ignore(outcome: Outcome) -> None:
    """For tests that look at the result alone."""


def fails() -> str:
    raise CheckError("the reason")


def note(names: list[str], name: str) -> str:
    names.append(name)
    return name


def alive(pid: int) -> bool:
    """Whether this process runs still; one that is dead and not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_soon(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_the_heaviest_ready_job_goes_first() -> None:
    names: list[str] = []
    jobs = [Job(name, partial(note, names, name), weight) for name, weight in (("a", 1), ("b", 3), ("c", 2))]
    Lanes(jobs, ignore).run(1)
    assert names == ["b", "c", "a"]


def test_a_job_waits_for_what_it_needs_however_heavy_it_is() -> None:
    names: list[str] = []
    jobs = [
        Job("tests", partial(note, names, "tests"), 100, frozenset({"environment"})),
        Job("environment", partial(note, names, "environment"), 1),
    ]
    Lanes(jobs, ignore).run(2)
    assert names == ["environment", "tests"]


def test_a_job_whose_need_failed_is_failed_without_being_run() -> None:
    names: list[str] = []
    jobs = [Job("environment", fails, 1), Job("tests", partial(note, names, "tests"), 1, frozenset({"environment"}))]
    outcomes = {o.name: o for o in Lanes(jobs, ignore).run(2)}
    assert names == []
    assert outcomes["tests"].status == "failed"
    assert "environment" in outcomes["tests"].note


def test_an_unforeseen_error_fails_its_own_job_and_no_other() -> None:
    jobs = [Job("broken", lambda: str(1 // 0), 2), Job("sound", lambda: "fine", 1)]
    outcomes = {o.name: o.status for o in Lanes(jobs, ignore).run(1)}
    assert outcomes == {"broken": "failed", "sound": "passed"}


def test_a_command_over_its_limit_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = [sys.executable, "-c", PARENT, str(pid_file)]
    with pytest.raises(CheckError, match="longer than 2 s"):
        Children().run(argv, tmp_path, os.environ, tmp_path / "log", limit=2)
    assert gone_soon(int(pid_file.read_text(encoding="utf-8")))


def test_stopping_ends_running_commands_and_lets_no_further_one_start(tmp_path: Path) -> None:
    children, pid_file = Children(), tmp_path / "pid"
    argv = [sys.executable, "-c", PARENT, str(pid_file)]
    runner = threading.Thread(target=children.run, args=(argv, tmp_path, os.environ, tmp_path / "log", 60))
    runner.start()
    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children.stop()
    runner.join(timeout=10)
    assert gone_soon(int(pid_file.read_text(encoding="utf-8")))
    with pytest.raises(CheckError, match="interrupted"):
        children.run([sys.executable, "-c", ""], tmp_path, os.environ, tmp_path / "log", limit=5)
