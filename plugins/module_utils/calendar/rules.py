# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May this verb run now? The one entry of admission, and of everything that shows the next window."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import FreezeRule, WindowRule
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.zones import FIRST, LAST, show
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import (
    Around,
    Closing,
    Opening,
    WindowVerdict,
    decide,
    settled,
)

_DAY = 86400
# How far is looked, in days: a near answer is cheap. Past the second only for what is refused, to find the next
# opening; a rule for 29 February has eight years between two of them (1896 to 1904, 2096 to 2104).
_HORIZONS = (9, 400, 12 * 366)
_FAR = 400 * _DAY


def around(
    windows: Sequence[WindowRule],
    freezes: Sequence[FreezeRule],
    verb: str,
    verb_class: str,
    now: float,
    horizon: float,
) -> Around:
    """What binds the verb, expanded from now to horizon (POSIX seconds). Raises OpsError rule_too_dense."""
    bound = [one for one in windows if one.window.scope.binds(verb, verb_class)]
    return Around(
        tuple(one.window for one in bound),
        tuple(Opening(one.window, at) for one in bound for at in one.schedule.occurrences(now, horizon)),
        tuple(
            Closing(one.freeze, at)
            for one in freezes
            if one.freeze.scope.binds(verb, verb_class)
            for at in one.schedule.occurrences(now, horizon)
        ),
        horizon,
    )


def judge(
    windows: Sequence[WindowRule],
    freezes: Sequence[FreezeRule],
    verb: str,
    verb_class: str,
    now: float,
    expected_seconds: float | None = None,
) -> WindowVerdict:
    """The verdict on starting verb at now (POSIX seconds), looking 400 days ahead for an end, 12 years for an opening.

    Raises OpsError bad_time (a clock that is off by millennia), rule_too_dense, dateutil_missing.
    """
    if not FIRST < now < LAST - _HORIZONS[-1] * _DAY:
        raise OpsError(
            "bad_time",
            f"The clock says {now:.0f} seconds since 1970, which is on no calendar.",
            "Set the controller's clock.",
        )
    for days in _HORIZONS:
        seen = around(windows, freezes, verb, verb_class, now, now + days * _DAY)
        verdict = decide(seen, now, show, expected_seconds)
        nothing_binds = not seen.windows and not any(one.freeze.scope.binds(verb, verb_class) for one in freezes)
        if nothing_binds or settled(seen, now) or (verdict.allowed and days * _DAY >= _FAR):
            break
    return verdict
