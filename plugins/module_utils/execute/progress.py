# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for the person who waits: one every few seconds, whoever reports."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pace import pace
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context


class Ticker:
    """Passes a line on when the last one is `every` seconds ago, and drops it otherwise.

    A line that costs something to make is given as a function, which is called for those that are passed on.
    """

    def __init__(self, context: Context, every: float = 3.0) -> None:
        self._context, self._every, self._last = context, every, time.monotonic()

    def __call__(self, text: str | Callable[[], str]) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._context.progress(text if isinstance(text, str) else text())


class Pace:
    """How far something is, from its making on: Pace(total)(done). about: total is an estimate; 0 for none."""

    def __init__(self, total: float, unit: str = "bytes", *, about: bool = False) -> None:
        self._total, self._unit, self._about, self._began = total, unit, about, time.monotonic()

    def __call__(self, done: float) -> str:
        return pace(done, self._total, time.monotonic() - self._began, self._unit, about=self._about)
