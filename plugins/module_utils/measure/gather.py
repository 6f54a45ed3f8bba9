# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure many things at once, each within its time: what hangs is left behind and said so, it never hangs us."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Measurement

AT_ONCE = 8
# what a source that keeps its own time may take longer
GRACE = 2.0
Measured = tuple[str, Sequence[Measurement]]


@dataclass(frozen=True)
class Group:
    """Checks that are measured one after the other, because they share a session.

    limits: seconds of each check, by its name, in the order of the work
    run:    the measurements of one check after the other; may end early, and may raise OpsError
    """

    limits: Mapping[str, float]
    run: Callable[[], Iterator[Measured]]


@dataclass
class _Running:
    group: Group
    left: list[str]
    until: float


def broken(error: OpsError) -> Measurement:
    """Why a source gave nothing."""
    return Measurement(missing=f"{error.cause.rstrip('.')} [{error.code}]")


def gather(groups: Sequence[Group], deadline: float) -> dict[str, Sequence[Measurement]]:
    """The measurements of every check by its name, after at most deadline seconds; always all names."""
    waiting = deque(enumerate(groups))
    running: dict[int, _Running] = {}
    answers: queue.Queue[tuple[int, str, Sequence[Measurement]]] = queue.Queue()
    found: dict[str, Sequence[Measurement]] = {}
    end = time.monotonic() + deadline

    def give_up(its: _Running, why: str) -> None:
        for name in its.left:
            found.setdefault(name, [Measurement(missing=why)])

    while (waiting or running) and time.monotonic() < end:
        while waiting and len(running) < AT_ONCE:
            number, group = waiting.popleft()
            running[number] = _Running(group, list(group.limits), _until(group, list(group.limits)))
            # a daemon does not keep the module from ending
            threading.Thread(target=_work, args=(number, group, answers), daemon=True).start()
        nearest = min([end, *(its.until for its in running.values())])
        try:
            number, name, measurements = answers.get(timeout=max(0.0, nearest - time.monotonic()))
        except queue.Empty:
            for number in [key for key, its in running.items() if its.until <= time.monotonic()]:
                its = running.pop(number)
                slow = its.left[:1]
                found.update({one: [Measurement(missing=_late(its.group.limits[one]))] for one in slow})
                give_up(its, f"not measured, because {''.join(slow)} did not answer before it")
            continue
        current = running.get(number)
        if current is None:
            continue  # too late: it was given up already
        if not name:
            give_up(running.pop(number), measurements[0].missing if measurements else "it was not measured")
            continue
        found[name] = measurements
        current.left = [one for one in current.left if one != name]
        current.until = _until(current.group, current.left)
    for its in running.values():
        give_up(its, f"not measured within {human_duration(deadline)}, the limit of all checks together")
    for _number, group in waiting:
        for name in group.limits:
            found[name] = [Measurement(missing=f"its turn did not come within {human_duration(deadline)}")]
    return found


def _late(limit: float) -> str:
    return f"no answer within {limit:g} s"


def _until(group: Group, left: Sequence[str]) -> float:
    return time.monotonic() + GRACE + (group.limits[left[0]] if left else 0.0)


def _work(number: int, group: Group, answers: queue.Queue[tuple[int, str, Sequence[Measurement]]]) -> None:
    last: Sequence[Measurement] = ()
    try:
        for name, measurements in group.run():
            answers.put((number, name, measurements))
    except OpsError as error:
        last = [broken(error)]
    except Exception as error:  # noqa: BLE001 - a thread that dies silently would look like one that hangs
        last = [Measurement(missing=f"{type(error).__name__}: {str(error)[:200]}")]
    answers.put((number, "", last))
