# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the window in which a module may work: long work stops there, as it would at SIGTERM, and cleans up."""

from __future__ import annotations

import signal
import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso


class Deadline:
    """at: POSIX seconds, None for work without an end. A module has one, in its main thread."""

    def __init__(self, at: float | None) -> None:
        self._at = at

    def arm(self) -> None:
        """From now on the work ends by itself, by an OpsError window_ended wherever it is."""
        if self._at is None:
            return
        signal.signal(signal.SIGALRM, self._over)
        # zero would switch it off
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self._at - time.time()))

    def disarm(self) -> None:
        """What comes now is brought to its end."""
        if self._at is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def pass_by(self) -> None:
        """Right before a point of no return: it is not begun too late, and not cut once it has begun.

        Raises OpsError window_ended.
        """
        self.disarm()
        if self._at is not None and time.time() > self._at:
            self._over()

    def _over(self, *_signal: object) -> None:
        raise OpsError(
            "window_ended",
            f"The window in which this may run ended at {iso(self._at or 0.0)}.",
            "What had been begun was put back; run the verb again in the next window.",
        )
