# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for the person who waits: one every few seconds, whoever reports."""

from __future__ import annotations

import time

from ansible_collections.saasops.runbook.plugins.module_utils.module import Context


class Ticker:
    """Passes a line on when the last one is `every` seconds ago, and drops it otherwise."""

    def __init__(self, context: Context, every: float = 3.0) -> None:
        self._context, self._every, self._last = context, every, time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._context.progress(text)
