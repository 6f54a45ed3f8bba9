# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs in a few lanes: the longest ready job first, each after those it needs, and all ended on Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.layout import CheckError
from checks.report import Outcome

# How long a part may take to stop its own servers after an interrupt.
GRACE_SECONDS = 20


@dataclass(frozen=True)
class Job:
    """Work in this process or a child's. work returns a note and raises CheckError when it fails."""

    name: str
    work: Callable[[], str]
    weight: float
    needs: frozenset[str] = frozenset()


class Children:
    """The processes that are running, each in a process group of its own, so that all can be ended."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._stopping = False

    def run(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path, limit: float) -> int:
        """Run a command with no input and its output in log; return its exit code.

        Raises CheckError when it runs longer than limit seconds or the run is being stopped.
        """
        with open(log, "wb") as output:
            with self._guard:
                if self._stopping:
                    raise CheckError("not started: the run was interrupted")
                child = subprocess.Popen(
                    list(argv),
                    cwd=cwd,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(child)
            try:
                return child.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                end(child)
                raise CheckError(f"ended: it ran longer than {limit:.0f} s") from None
            finally:
                with self._guard:
                    self._running.discard(child)

    def stop(self) -> None:
        """Interrupt what runs, as Ctrl-C would, and kill what does not heed it."""
        with self._guard:
            self._stopping = True
            children = list(self._running)
        for child in children:
            end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """End the process group that a child of ours leads: politely, and then whatever of it is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Lanes:
    """Works through jobs in a number of threads."""

    def __init__(self, jobs: Sequence[Job], tell: Callable[[Outcome], None]) -> None:
        self._waiting = list(jobs)
        self._tell = tell
        self._outcomes: dict[str, Outcome] = {}
        self._changed = threading.Condition()
        self._stopped = False

    def run(self, lanes: int) -> list[Outcome]:
        """Do all jobs and return how each ended, in the order of ending. Ctrl-C starts no further one."""
        threads = [threading.Thread(target=self._lane, name=f"lane {lane}", daemon=True) for lane in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            # A join without a limit could not be interrupted.
            while thread.is_alive():
                thread.join(timeout=0.2)
        return list(self._outcomes.values())

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _lane(self) -> None:
        while (job := self._next()) is not None:
            outcome = attempt(job, self._broken(job))
            with self._changed:
                self._outcomes[job.name] = outcome
                self._changed.notify_all()
            self._tell(outcome)

    def _broken(self, job: Job) -> list[str]:
        return sorted(name for name in job.needs if self._outcomes[name].status == "failed")

    def _next(self) -> Job | None:
        """The heaviest job whose needs are done; waits for one, and returns None when none is left."""
        with self._changed:
            while self._waiting and not self._stopped:
                ready = [job for job in self._waiting if job.needs <= self._outcomes.keys()]
                if ready:
                    chosen = max(ready, key=lambda job: job.weight)
                    self._waiting.remove(chosen)
                    return chosen
                self._changed.wait()
            return None


def attempt(job: Job, broken: Sequence[str]) -> Outcome:
    """Do one job; an unforeseen error in it is a failure of that job, with its text."""
    if broken:
        return Outcome(job.name, "failed", 0.0, f"not run, because this failed: {', '.join(broken)}")
    start = time.monotonic()
    try:
        note = job.work()
    except CheckError as error:
        return Outcome(job.name, "failed", time.monotonic() - start, str(error))
    except Exception as error:  # noqa: BLE001 - a lane that dies would leave the others waiting for ever
        return Outcome(job.name, "failed", time.monotonic() - start, f"{type(error).__name__}: {error}")
    return Outcome(job.name, "passed", time.monotonic() - start, note)
