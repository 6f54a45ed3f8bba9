# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check that shares nothing with others, as a group of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group, Measured


def alone(check: Check, limit: float, measure: Callable[[], Sequence[Measurement]]) -> Group:
    """limit in seconds."""

    def run() -> Iterator[Measured]:
        yield check.name, measure()

    return Group({check.name: limit}, run)
