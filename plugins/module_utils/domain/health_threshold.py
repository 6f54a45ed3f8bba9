# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thresholds: small expressions that are true when there is trouble.

The grammar is in domain/health_grammar.py. Three answers: true, false, and None where the history or the kind of
value does not tell.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Union

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import shown

Value = Union[bool, int, float, str, None]
# a point counts as "24 hours ago" within this share of them
TREND_SLACK = 0.25
# runs that are further apart than this share of a hold may have missed its end; a schedule is never exact
WIDEST_GAP = 1.5


class Point(NamedTuple):
    """An earlier value; at: POSIX seconds; value None: that run saw none."""

    at: float
    value: Value


class Found(NamedTuple):
    """true, false, or None with the reason why it is not known."""

    true: bool | None
    why: str = ""


class Threshold(Protocol):
    """A parsed expression. str() gives a text that parses to its equal."""

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """Whether there is trouble; points are earlier ones, from old to new."""

    def reach(self) -> float:
        """How many seconds of history it looks at; 0 when it needs none."""


@dataclass(frozen=True)
class Quantity:
    """A number in the check's unit (percent: of the older value), and as it was written."""

    number: float
    percent: bool = False
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text


_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
Literal = Union[Quantity, str, bool]


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, str) or math.isnan(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Comparison:
    """operator and what the value is held against."""

    sign: str
    literal: Literal

    def __str__(self) -> str:
        if isinstance(self.literal, bool):
            return f"{self.sign} {'true' if self.literal else 'false'}"
        if isinstance(self.literal, str):
            mark = '"' if "'" in self.literal else "'"
            return f"{self.sign} {mark}{self.literal}{mark}"
        return f"{self.sign} {self.literal}"

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """None when value and literal are of different kinds."""
        if value is None:
            return Found(None, "no value")
        if isinstance(self.literal, Quantity):
            number = _number(value)
            if number is None:
                return Found(None, f"{shown(value, '')} is no number")
            return Found(_OPERATORS[self.sign](number, self.literal.number))
        if type(value) is not type(self.literal):
            kind = "text" if isinstance(self.literal, str) else "true or false"
            return Found(None, f"{shown(value, '')} is not {kind}")
        return Found((value == self.literal) is (self.sign == "=="))

    def reach(self) -> float:
        """None needed."""
        return 0


@dataclass(frozen=True)
class Between:
    """Both ends included; inside False: true outside of them."""

    low: Quantity
    high: Quantity
    inside: bool = True

    def __str__(self) -> str:
        return f"{'' if self.inside else 'not '}between {self.low} and {self.high}"

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """None for what is no number."""
        number = _number(value)
        if number is None:
            return Found(None, f"{shown(value, '')} is no number")
        return Found((self.low.number <= number <= self.high.number) is self.inside)

    def reach(self) -> float:
        """None needed."""
        return 0


@dataclass(frozen=True)
class Trend:
    """How much more (rises) or less (falls) than so many seconds ago."""

    rises: bool
    sign: str
    by: Quantity
    seconds: int

    def __str__(self) -> str:
        return f"{'rises' if self.rises else 'falls'} by {self.sign} {self.by} in {_span(self.seconds)}"

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """None when nothing was measured about that long ago."""
        number = _number(value)
        if number is None:
            return Found(None, f"{shown(value, '')} is no number")
        then, slack = now - self.seconds, self.seconds * TREND_SLACK
        near = [point for point in points if abs(point.at - then) <= slack and _number(point.value) is not None]
        if not near:
            return Found(None, f"nothing was measured {human_duration(self.seconds)} ago")
        older = _number(min(near, key=lambda point: abs(point.at - then)).value) or 0.0
        step = number - older if self.rises else older - number
        if math.isnan(step):
            return Found(None, "both values are infinite")
        if self.by.percent:
            # from nothing to something is more than any share of it
            step = step / abs(older) * 100 if older else math.copysign(math.inf, step) if step else 0.0
        return Found(_OPERATORS[self.sign](step, self.by.number))

    def reach(self) -> float:
        """The span and what may be missing from it."""
        return self.seconds * (1 + TREND_SLACK)


@dataclass(frozen=True)
class Held:
    """True now and at every earlier point for so long."""

    inner: Threshold
    seconds: int

    def __str__(self) -> str:
        inner = f"({self.inner})" if isinstance(self.inner, (Joined, Held)) else str(self.inner)
        return f"{inner} for {_span(self.seconds)}"

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """False at once when it is not true now; None when the points do not reach back, or are too far apart."""
        present = self.inner.holds(value, points, now)
        if present.true is not True:
            return present
        newer = now
        for index in range(len(points) - 1, -1, -1):
            point = points[index]
            if point.at > now:
                continue
            if newer - point.at > self.seconds * WIDEST_GAP:
                return Found(None, f"the history has a gap of {human_duration(newer - point.at)}")
            before = self.inner.holds(point.value, points[:index], point.at)
            if before.true is None:
                return Found(None, f"{human_duration(now - point.at)} ago it was not known: {before.why}")
            if not before.true or point.at <= now - self.seconds:
                return before
            newer = point.at
        back = f"reaches back {human_duration(now - newer)}" if newer < now else "is empty"
        return Found(None, f"the history {back}, and {human_duration(self.seconds)} of it are needed")

    def reach(self) -> float:
        """The span, and a gap before its start."""
        return (1 + WIDEST_GAP) * self.seconds + self.inner.reach()


@dataclass(frozen=True)
class Joined:
    """and, or; unknown where the known parts do not decide."""

    word: str
    parts: tuple[Threshold, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(
            f"({part})" if isinstance(part, Joined) and part.word == "or" else str(part) for part in self.parts
        )

    def holds(self, value: Value, points: Sequence[Point], now: float) -> Found:
        """One false decides an "and", one true an "or"."""
        found = [part.holds(value, points, now) for part in self.parts]
        decides = self.word == "or"
        if any(item.true is decides for item in found):
            return Found(decides)
        return next((item for item in found if item.true is None), Found(not decides))

    def reach(self) -> float:
        """The longest of the parts."""
        return max(part.reach() for part in self.parts)


def _span(seconds: int) -> str:
    """ "1d12h", "90s": what _duration reads back."""
    text = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text
