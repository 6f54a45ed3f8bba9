# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An act in a process of its own that is killed, or whose server is killed, at its n-th step.

A step is a statement to the server or a write to the store: between two of them nothing happens that anybody else
could see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psycopg_session import PsycopgSession
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore


def _wrapped(owner: type, name: str, step: Callable[[str], None]) -> None:
    real = getattr(owner, name)

    def instead(self: object, *arguments: Any, **named: Any) -> Any:  # any method at all
        step(f"{name} {str(arguments[0] if arguments else '')[:60]}")
        return real(self, *arguments, **named)

    setattr(owner, name, instead)


def steps(act: Callable[[], object], log: Path, at: int = -1, strike: Callable[[], object] | None = None) -> int:
    """Fork, and do the act; at step number `at` (from 0 on) strike, or be killed. Gives the exit status of os.wait.

    log: gets the name of each step, one a line.
    """

    def meet(number: int, _name: str) -> None:
        if number == at:
            if strike is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                strike()

    return os.waitpid(_begin(act, log, meet), 0)[1]


class Frozen:
    """A process that stands still at one of its steps."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def go_on(self) -> int:
        """Let it run to its end; its exit status as os.wait gives it."""
        os.kill(self._pid, signal.SIGCONT)
        pid, self._pid = self._pid, 0
        return os.waitpid(pid, 0)[1]

    def end(self) -> None:
        """Kill it if it is still there."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


@contextlib.contextmanager
def frozen(act: Callable[[], object], log: Path, name: str) -> Iterator[Frozen]:
    """Fork, do the act up to the first step whose name holds this, and stop the process dead right before it."""
    met = False

    def meet(_number: int, step: str) -> None:
        nonlocal met
        if not met and name in step:
            met = True
            os.kill(os.getpid(), signal.SIGSTOP)

    pid = _begin(act, log, meet)
    status = os.waitpid(pid, os.WUNTRACED)[1]
    assert os.WIFSTOPPED(status), f"it ended with {status} before a step {name}"
    process = Frozen(pid)
    try:
        yield process
    finally:
        process.end()


def _begin(act: Callable[[], object], log: Path, meet: Callable[[int, str], None]) -> int:
    """Fork a child that does the act and meets each of its steps. Gives its pid."""
    child = os.fork()
    if child:
        return child
    try:
        count = 0
        with log.open("w", encoding="utf-8", buffering=1) as out:

            def step(name: str) -> None:
                nonlocal count
                meet(count, name)
                out.write(" ".join(name.split()) + "\n")
                count += 1

            _wrapped(PsycopgSession, "_execute", step)
            _wrapped(PosixStore, "put", step)
            act()
            status = 0
    except BaseException:  # noqa: BLE001 - a forked child must not go on as the test
        traceback.print_exc(file=sys.stderr)
        status = 1
    os._exit(status)
