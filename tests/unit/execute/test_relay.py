# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two steps for each thing, with a gate between: order, errors, and that nothing is left behind."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.execute.relay import Relay


class Log:
    """What happened, in order; pairs(n) are steps that write to it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        with self._lock:
            self.lines.append(line)

    def pairs(self, count: int) -> list[tuple[partial[None], partial[None]]]:
        return [(partial(self.say, f"fetch {n}"), partial(self.say, f"load {n}")) for n in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("hold", [False, True])
def test_every_second_step_follows_its_first_and_the_gate(workers: int, hold: bool) -> None:
    log = Log()
    Relay(workers).run(log.pairs(20), lambda: log.say("gate"), hold=hold)
    assert sorted(log.lines) == sorted(["gate", *(f"{step} {n}" for step in ("fetch", "load") for n in range(20))])
    for number in range(20):
        load = log.lines.index(f"load {number}")
        assert load > log.lines.index(f"fetch {number}")
        assert load > log.lines.index("gate")


def test_with_hold_the_gate_comes_after_every_first_step() -> None:
    log = Log()
    Relay(3).run(log.pairs(10), lambda: log.say("gate"), hold=True)
    assert log.lines.index("gate") == 10


def test_firsts_go_on_while_the_gate_is_closed() -> None:
    log = Log()

    def gate() -> None:
        deadline = time.monotonic() + 10
        while len(log.lines) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    Relay(1).run(log.pairs(10), gate)
    assert log.lines[:10] == [f"fetch {n}" for n in range(10)]


def test_a_second_step_goes_before_a_first_one() -> None:
    log = Log()
    opened = threading.Event()
    pairs = log.pairs(4)
    first = pairs[0][0]

    def wait() -> None:
        opened.wait(10)
        # the gate is noted right after it returns
        time.sleep(0.05)
        first()

    Relay(1).run([(wait, pairs[0][1]), *pairs[1:]], opened.set)
    assert log.lines == [f"{step} {n}" for n in range(4) for step in ("fetch", "load")]


class BrokenError(Exception):
    pass


def broken() -> None:
    raise BrokenError


@pytest.mark.parametrize("which", ["first", "second", "gate"])
def test_the_first_error_ends_everything_and_is_raised(which: str) -> None:
    log, relay = Log(), Relay(2)
    ended = threading.Event()

    def endless() -> None:
        while True:
            relay.crew.look()
            time.sleep(0.001)

    def nothing() -> None:
        pass

    pair = {"first": (broken, nothing), "second": (nothing, broken), "gate": (nothing, nothing)}[which]
    pairs = [(endless, nothing), pair, *log.pairs(3)]
    with pytest.raises(BrokenError):
        relay.run(pairs, broken if which == "gate" else nothing, end=ended.set)
    assert ended.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "saasops-relay"]
    assert not [line for line in log.lines if line.startswith("load")] or which == "second"


def test_an_error_while_the_gate_is_closed_is_seen_by_the_gate_and_raised() -> None:
    relay = Relay(1)

    def gate() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            relay.crew.look()
            time.sleep(0.001)

    with pytest.raises(BrokenError):
        relay.run([(broken, broken)], gate)


def test_it_ticks_in_the_callers_thread_while_it_waits() -> None:
    ticks: list[threading.Thread] = []
    Relay(1).run(
        [(lambda: time.sleep(1.2), lambda: None)], lambda: None, tick=lambda: ticks.append(threading.current_thread())
    )
    assert set(ticks) == {threading.current_thread()}


def test_nothing_to_do_is_done_at_once() -> None:
    log = Log()
    Relay(2).run([], lambda: log.say("gate"))
    assert log.lines == ["gate"]
