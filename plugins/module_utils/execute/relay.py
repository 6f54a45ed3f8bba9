# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two steps for each of many things, over a few threads, with a gate between: fetch what is next while others load."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import CancelledError, Crew

Step = Callable[[], None]


class Relay:
    """Runs pairs of steps: every first one may begin at once, every second one after its first and the gate.

    A second step goes before a first one, so that things do not pile up between them. The first error ends all:
    crew.look() raises inside the steps from then on, and none is left behind.
    """

    def __init__(self, workers: int) -> None:
        self.crew = Crew(workers)
        self._workers = max(1, workers)
        self._changed = threading.Condition()
        self._firsts: deque[tuple[Step, Step]] = deque()
        self._seconds: deque[Step] = deque()
        self._busy = 0  # first steps under way
        self._open = False
        self._left = 0
        self._error: BaseException | None = None

    def run(
        self,
        pairs: Sequence[tuple[Step, Step]],
        gate: Step,
        *,
        tick: Callable[[], None] = lambda: None,
        hold: bool = False,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """Run all pairs, begun in the order given, and the gate in this thread: at once, or with hold after all firsts.

        tick() is called in this thread about every second. end() is called when something failed, to end what a step
        waits for. Raises the first error after every thread has ended; so does an interrupt of this thread.
        """
        self._firsts.extend(pairs)
        self._left = 2 * len(pairs)
        threads = [threading.Thread(target=self._work, name="saasops-relay") for _number in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            if hold:
                self._wait(lambda: not self._firsts and not self._busy, tick)
            gate()
            with self._changed:
                self._open = True
                self._changed.notify_all()
            self._wait(lambda: not self._left, tick)
        except BaseException as error:
            self._stop()
            end()
            if isinstance(error, CancelledError) and self._error is not None:
                raise self._error from None
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _wait(self, done: Callable[[], bool], tick: Callable[[], None]) -> None:
        last = time.monotonic()
        while True:
            with self._changed:
                if self._error is None and not done():
                    self._changed.wait(1.0)
                if self._error is not None:
                    raise self._error
                if done():
                    return
            if time.monotonic() - last >= 1:
                last = time.monotonic()
                tick()

    def _stop(self) -> None:
        self.crew.stop()
        with self._changed:
            self._firsts.clear()
            self._seconds.clear()
            self._left = 0
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._open and self._seconds) and not self._firsts:
                    if not self._left:
                        return
                    self._changed.wait()
                second = self._seconds.popleft() if self._open and self._seconds else None
                pair = None if second is not None else self._firsts.popleft()
                if pair is not None:
                    self._busy += 1
            try:
                if second is not None:
                    second()
                elif pair is not None:
                    pair[0]()
            except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
                with self._changed:
                    # what was given up because another one failed is never the cause
                    if self._error is None and not isinstance(error, CancelledError):
                        self._error = error
                self._stop()
                return
            with self._changed:
                self._left -= 1
                if pair is not None:
                    self._busy -= 1
                    self._seconds.append(pair[1])
                self._changed.notify_all()
