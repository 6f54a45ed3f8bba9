# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process is called dead only on proof."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.process import identify, is_dead


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_process_that_runs_is_not_dead(sleeper: subprocess.Popen[bytes]) -> None:
    assert not is_dead(vars(identify()))
    assert not is_dead(vars(identify(sleeper.pid)))


def test_a_killed_process_is_dead_before_and_after_its_parent_looked(sleeper: subprocess.Popen[bytes]) -> None:
    seen = vars(identify(sleeper.pid))
    sleeper.kill()
    deadline = time.monotonic() + 10
    while not is_dead(seen):
        assert time.monotonic() < deadline
    sleeper.wait()
    assert is_dead(seen)


def test_a_pid_that_belongs_to_another_process_now_is_proof(sleeper: subprocess.Popen[bytes]) -> None:
    seen = vars(identify(sleeper.pid))
    assert is_dead({**seen, "process_started": int(str(seen["process_started"])) - 1})


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another boot"},
        {"controller": "another machine"},
        {"pid_namespace": "pid:[1]"},
        {"boot_id": ""},
        {"pid_namespace": ""},
        {"process_started": 0},
        {"pid": 0},
        {"pid": -1},
        {"pid": "none"},
    ],
)
def test_without_the_same_machine_boot_and_namespace_nothing_is_proven(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    seen = vars(identify(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    assert is_dead(seen)
    assert not is_dead({**seen, **change})
    assert not is_dead({})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's process")
def test_a_process_of_another_user_is_not_dead() -> None:
    assert not is_dead(vars(identify(1)))
