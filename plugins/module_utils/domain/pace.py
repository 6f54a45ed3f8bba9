# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long work is, in words: amount, share, rate, and what is left of it."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration

# before that a rate is chance, and an end that is told from it misleads
SETTLED = 2.0
_MEGA = 1e6


def pace(done: float, total: float, seconds: float, unit: str = "bytes", *, about: bool = False) -> str:
    """For instance `1,200 of about 4,800 bytes (25 %), 4.0 MB/s, about 3 s left`.

    total: 0 when it is not known. seconds: since the beginning. about: total is an estimate, and may be passed;
    then neither a share above 100 % nor an end is told.
    """
    text = f"{done:,.0f}"
    over = about and done > total
    if total > 0:
        text += f" of {'about ' if about else ''}{total:,.0f}"
    text += f" {unit}"
    if total > 0 and not over:
        text += f" ({100 * done / total:.0f} %)"
    if seconds < SETTLED or done <= 0:
        return text
    rate = done / seconds
    text += f", {rate / _MEGA:.1f} MB/s" if unit == "bytes" else f", {rate:,.0f} {unit}/s"
    if total > done:
        text += f", about {human_duration((total - done) / rate)} left"
    return text
