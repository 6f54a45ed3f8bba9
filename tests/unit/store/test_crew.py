# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import CancelledError, Crew


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("saasops-")]


def test_results_come_in_the_order_of_the_jobs() -> None:
    def job(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    done: list[int] = []
    assert Crew(3).run(job, 20, done.append) == tuple(number * number for number in range(20))
    assert sorted(done) == [number * number for number in range(20)]


def test_no_more_jobs_run_at_once_than_there_are_workers() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def job(_number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    Crew(3).run(job, 12)
    assert most == 3


@pytest.mark.parametrize("error", [ValueError("first"), KeyboardInterrupt()])
def test_the_first_error_ends_all_and_leaves_no_thread(error: BaseException) -> None:
    crew = Crew(2)
    begun: list[int] = []
    stopped: list[int] = []

    def job(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise error
        try:
            while True:
                crew.look()
                time.sleep(0.001)
        except CancelledError:
            stopped.append(number)
            raise

    with pytest.raises(type(error)):
        crew.run(job, 50)
    assert begun == [0, 1]
    assert stopped == [0]
    assert not our_threads()


def test_an_interrupt_of_the_caller_ends_all() -> None:
    crew = Crew(2)

    def job(number: int) -> int:
        while number:
            crew.look()
            time.sleep(0.001)
        return number

    def finished(_result: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crew.run(job, 3, finished)
    assert not our_threads()


def test_nothing_to_do_is_nothing_done() -> None:
    assert Crew(4).run(str, 0) == ()
