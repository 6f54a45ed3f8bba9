# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When work may run: maintenance windows open it, freezes close it, and freezes win.

All times are POSIX seconds and every interval is half open: at its start it holds, at its end it no longer does.
Rules of a calendar are expanded elsewhere; here are only their occurrences around now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration

CLASSES = ("read", "response", "routine")
ROUTINE = ("routine",)
CLOSED = "window_closed"
FROZEN = "frozen"

# (POSIX seconds, name of a zone) -> the moment as an operator reads it, in that zone and in UTC
Show = Callable[[float, str], str]


@dataclass(frozen=True)
class Interval:
    """From start up to, but not including, end, in POSIX seconds; either may be infinite."""

    start: float
    end: float

    def __contains__(self, moment: float) -> bool:
        return self.start <= moment < self.end


ALWAYS = Interval(-math.inf, math.inf)


@dataclass(frozen=True)
class Scope:
    """Whom a window or a freeze binds: the verbs of its classes, narrowed to verbs if any are named."""

    classes: tuple[str, ...] = ROUTINE
    verbs: tuple[str, ...] = ()
    except_verbs: tuple[str, ...] = ()

    def binds(self, verb: str, verb_class: str) -> bool:
        named = not self.verbs or verb in self.verbs
        return verb_class in self.classes and named and verb not in self.except_verbs


@dataclass(frozen=True)
class Window:
    """A time in which bound work may run. zone: the time zone that its times are shown in."""

    name: str
    scope: Scope = Scope()
    zone: str = "UTC"


@dataclass(frozen=True)
class Freeze:
    """A time in which bound work may not run, whatever window is open, and why."""

    name: str
    reason: str
    scope: Scope = Scope()
    zone: str = "UTC"


@dataclass(frozen=True)
class Opening:
    """One occurrence of a window."""

    window: Window
    at: Interval


@dataclass(frozen=True)
class Closing:
    """One occurrence of a freeze."""

    freeze: Freeze
    at: Interval


@dataclass(frozen=True)
class Around:
    """The part of a system's calendar that binds one verb, from now to horizon (POSIX seconds).

    windows:  every window that binds the verb; without any the verb is always open
    openings: all their occurrences that end after now and start up to and including horizon
    closings: the same of the freezes that bind it
    """

    windows: tuple[Window, ...]
    openings: tuple[Opening, ...]
    closings: tuple[Closing, ...]
    horizon: float


@dataclass(frozen=True)
class WindowVerdict:
    """May a verb start now, and for how long?

    code:         "" when allowed, else window_closed or frozen
    windows:      names of those open now; when refused, of those open at next_opening
    freeze:       name of the freeze that refuses
    until:        when allowed, the first moment that is not: the deadline of long work; None: no end in sight
    next_opening: the first allowed moment from now on (now itself when allowed); None: none in sight
    fits:         whether the expected duration ends by until; None: not asked, or not allowed
    sentence:     for the operator: why not, or how long
    remedy:       what to do about a refusal; "" when allowed
    """

    allowed: bool
    code: str
    windows: tuple[str, ...]
    freeze: str
    until: float | None
    next_opening: float | None
    fits: bool | None
    sentence: str
    remedy: str = ""


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The union, in order: what overlaps or touches becomes one; what is empty vanishes."""
    merged: list[Interval] = []
    for one in sorted((one for one in intervals if one.start < one.end), key=lambda one: one.start):
        if merged and one.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, one.end))
        else:
            merged.append(one)
    return merged


def subtract(intervals: Iterable[Interval], taken: Iterable[Interval]) -> list[Interval]:
    """The union of intervals without the union of taken, in order."""
    rest: list[Interval] = []
    holes = merge(taken)
    first = 0
    for whole in merge(intervals):
        start = whole.start
        # Both lists are in order: a hole that ended before this interval ended before all later ones too.
        while first < len(holes) and holes[first].end <= start:
            first += 1
        for hole in holes[first:]:
            if hole.start >= whole.end:
                break
            if start < hole.start:
                rest.append(Interval(start, hole.start))
            start = max(start, hole.end)
        if start < whole.end:
            rest.append(Interval(start, whole.end))
    return rest


def free(around: Around) -> list[Interval]:
    """When the verb is allowed, in order; true up to around.horizon."""
    openings = [one.at for one in around.openings] if around.windows else [ALWAYS]
    return subtract(openings, [one.at for one in around.closings])


def settled(around: Around, now: float) -> bool:
    """Whether a farther horizon could not change the verdict."""
    for one in free(around):
        if now in one:
            return one.end <= around.horizon
        if one.start > now:
            return one.start <= around.horizon
    return False


def decide(around: Around, now: float, show: Show, expected_seconds: float | None = None) -> WindowVerdict:
    """The verdict on starting at now (POSIX seconds). What lies past around.horizon is not in sight."""
    for one in free(around):
        if now in one:
            until = one.end if one.end <= around.horizon else None
            return _allowed(around, now, until, show, expected_seconds)
        if one.start > now:
            return _refused(around, now, one.start if one.start <= around.horizon else None, show)
    return _refused(around, now, None, show)


def _open_at(around: Around, moment: float) -> tuple[Window, ...]:
    names = {one.window.name for one in around.openings if moment in one.at}
    return tuple(window for window in around.windows if window.name in names)


def _frozen_at(around: Around, moment: float) -> Closing | None:
    """The freeze that holds at a moment; of several, the one that ends last."""
    return max((one for one in around.closings if moment in one.at), key=lambda one: one.at.end, default=None)


def _names(windows: Sequence[Window]) -> tuple[str, ...]:
    return tuple(window.name for window in windows)


def _spoken(names: Sequence[str]) -> str:
    return f"window{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _allowed(
    around: Around, now: float, until: float | None, show: Show, expected_seconds: float | None
) -> WindowVerdict:
    windows = _open_at(around, now)
    fits = None if expected_seconds is None else until is None or now + expected_seconds <= until
    place = f"Inside {_spoken(_names(windows))}" if windows else "No window binds this verb"
    sentence = f"{place}; no end is in sight."
    if until is not None:
        freeze = _frozen_at(around, until)
        zone = freeze.freeze.zone if freeze else windows[0].zone if windows else "UTC"
        why = f", when freeze {freeze.freeze.name} begins ({freeze.freeze.reason})" if freeze else ""
        sentence = f"{place}: it may run until {show(until, zone)}{why}, {human_duration(until - now)} from now."
        if fits is False:
            sentence += f" The expected {human_duration(expected_seconds or 0)} do not fit."
    return WindowVerdict(True, "", _names(windows), "", until, now, fits, sentence)


def _refused(around: Around, now: float, opening: float | None, show: Show) -> WindowVerdict:
    windows = () if opening is None else _open_at(around, opening)
    closing = _frozen_at(around, now)
    zone = (windows or around.windows or (Window(""),))[0].zone
    if closing:
        zone = windows[0].zone if windows else closing.freeze.zone
        code, name = FROZEN, closing.freeze.name
        cause = (
            f"Freeze {name} holds until {show(closing.at.end, closing.freeze.zone)}: {closing.freeze.reason}"
            if closing.at.end < math.inf
            else f"Freeze {name} holds: {closing.freeze.reason}"
        )
    else:
        code, name = CLOSED, ""
        closed = "are closed" if len(around.windows) > 1 else "is closed"
        cause = f"Now, {show(now, zone)}, {_spoken(_names(around.windows))} {closed}"
    if opening is None:
        following = f"; nothing opens again before {show(around.horizon, zone)}."
        remedy = "Look at UNTIL, COUNT and the years in saasops_windows and saasops_freezes, or override with a reason."
    else:
        which = f" ({_spoken(_names(windows))})" if windows and (closing or windows != around.windows) else ""
        following = f"; it may run again from {show(opening, zone)}{which}, in {human_duration(opening - now)}."
        remedy = "Wait for that time, change saasops_windows or saasops_freezes, or override with a reason."
    return WindowVerdict(False, code, _names(windows), name, None, opening, None, cause + following, remedy)
