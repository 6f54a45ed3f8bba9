# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs as processes of their own: pipelines, modules as Ansible starts them, and their peak memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ansible_collections.saasops.runbook.benchmarks.baselines import Step

PACKAGE = "ansible_collections.saasops.runbook"
# .../ansible_collections/saasops/runbook/benchmarks/programs.py
COLLECTIONS = Path(__file__).resolve().parents[4]
TIMEOUT = 900


class FailedError(Exception):
    """A program did not do what it was started for."""


@dataclass(frozen=True)
class Ran:
    """What a module said, how long its process lived (seconds), the most memory it ever held (bytes, VmHWM)."""

    answer: Mapping[str, object]
    started: float
    seconds: float
    peak: int


def run_steps(steps: Sequence[Step], environment: Mapping[str, str]) -> float:
    """Run the steps one after the other; seconds. Raises FailedError when a program does not exit 0."""
    began = time.monotonic()
    for step in steps:
        _pipeline(step, environment)
    return time.monotonic() - began


def _pipeline(step: Step, environment: Mapping[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | int | None = subprocess.DEVNULL
        if step.stdin:
            source = stack.enter_context(open(step.stdin, "rb"))
        children: list[subprocess.Popen[bytes]] = []
        for number, argv in enumerate(step.pipeline, 1):
            last = number == len(step.pipeline)
            out: IO[bytes] | int = subprocess.PIPE
            if last:
                out = stack.enter_context(open(step.stdout, "wb")) if step.stdout else subprocess.DEVNULL
            child = subprocess.Popen(argv, stdin=source, stdout=out, stderr=subprocess.PIPE, env=dict(environment))
            stack.callback(_end, child)
            if children and children[-1].stdout is not None:
                # only the reader keeps it open, so that a writer without one ends
                children[-1].stdout.close()
            children.append(child)
            source = child.stdout
        for child, argv in zip(reversed(children), reversed(step.pipeline)):
            assert child.stderr is not None
            said = child.stderr.read().decode("utf-8", "replace").strip()
            if child.wait(TIMEOUT) != 0:
                raise FailedError(f"{Path(argv[0]).name} exited {child.returncode}: {said[-500:]}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


def run_module(name: str, arguments: Mapping[str, object]) -> Ran:
    """Run one of our modules in a process of its own, as Ansible does. Raises FailedError with what it said."""
    began = time.monotonic()
    with _python(f"{PACKAGE}.plugins.modules.{name}") as child:
        watch = _Peak(child.pid)
        said, _none = child.communicate(json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments)}), timeout=TIMEOUT)
        seconds = time.monotonic() - began
        peak = watch.end()
    try:
        answer = cast("dict[str, object]", json.loads(said))
    except ValueError as error:
        raise FailedError(f"{name} said: {said[-1000:]}") from error
    if child.returncode != 0 or answer.get("failed"):
        raise FailedError(f"{name}: {answer.get('msg')}")
    return Ran(answer, began, seconds, peak)


def run_helper(name: str, arguments: Mapping[str, object]) -> float:
    """Run a program of this folder with its arguments on stdin; seconds. Raises FailedError."""
    began = time.monotonic()
    with _python(f"{PACKAGE}.benchmarks.{name}") as child:
        said, _none = child.communicate(json.dumps(dict(arguments)), timeout=TIMEOUT)
    if child.returncode != 0:
        raise FailedError(f"{name}: {said[-1000:]}")
    return time.monotonic() - began


@contextlib.contextmanager
def helper(name: str, arguments: Mapping[str, object]) -> Iterator[Helper]:
    """A program of this folder beside what is done in the block; `Helper.result` is its JSON after the block.

    It gets its arguments as one line on stdin, says a line when it is ready, and ends when stdin is closed.
    """
    with _python(f"{PACKAGE}.benchmarks.{name}") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(dict(arguments)) + "\n")
        child.stdin.flush()
        if child.stdout.readline().strip() != "ready":
            raise FailedError(f"{name}: {child.stdout.read()[-1000:]}")
        found = Helper()
        yield found
        said, _none = child.communicate(timeout=60)
        found.result = json.loads(said.strip().splitlines()[-1])


class Helper:
    """What a program beside reports at its end."""

    result: dict[str, object]

    def __init__(self) -> None:
        self.result = {}


@contextlib.contextmanager
def _python(module: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", module],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


class _Peak:
    """Reads VmHWM of a process until it is gone; the kernel keeps the maximum, so only the last 20 ms can be missed."""

    def __init__(self, pid: int, every: float = 0.02) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self._every, self._peak, self._ending = every, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ending.wait(self._every):
            try:
                text = self._path.read_text(encoding="ascii", errors="replace")
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("VmHWM:"):
                    self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def end(self) -> int:
        self._ending.set()
        self._thread.join()
        return self._peak
