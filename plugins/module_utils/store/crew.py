# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A few threads for a list of jobs: the first error ends all of them, and none is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


class CancelledError(Exception):
    """Raised inside a job when another one has failed."""


class Crew:
    """Runs numbered jobs, at most `workers` at a time, begun in order.

    A job calls look() often (per chunk): that is where it stops when another one failed.
    """

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give the work up: look() raises from now on."""
        self._stopped.set()

    def look(self) -> None:
        """Raises CancelledError when the work was given up."""
        if self._stopped.is_set():
            raise CancelledError

    def run(self, job: Callable[[int], T], count: int, finished: Callable[[T], None] | None = None) -> tuple[T, ...]:
        """job(0) to job(count - 1); their results in this order.

        finished(result) is called in this thread as each ends. The error of the job that failed first is
        raised after every thread has ended; so is an interrupt of this thread.
        """
        results: dict[int, T] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="saasops-crew") as pool:
            waiting: dict[Future[T], int] = {}
            try:
                for number in range(count):
                    if len(waiting) >= self._workers:
                        self._collect(waiting, results, finished)
                    waiting[pool.submit(job, number)] = number
                while waiting:
                    self._collect(waiting, results, finished)
            except BaseException:
                self._stopped.set()
                raise
        return tuple(results[number] for number in range(count))

    def _collect(
        self, waiting: dict[Future[T], int], results: dict[int, T], finished: Callable[[T], None] | None
    ) -> None:
        done, _pending = wait(waiting, return_when=FIRST_COMPLETED)
        # of two that failed together, the one begun first; a cancelled one is never the cause
        for future in sorted(done, key=lambda item: waiting[item]):
            number = waiting.pop(future)
            results[number] = future.result()
            if finished is not None:
                finished(results[number])
