# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a rule starts: a recurrence set by RFC 5545, expanded on the wall clock of its zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Protocol

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.lengths import Length
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rrule import Rule, refused
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.zones import to_posix, to_wall
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import Interval

# What one look at one rule may cost; 24 starts a day for 12 years are well below it.
MAX_STARTS = 200_000
_MARGIN = timedelta(days=2)


class Schedule(Protocol):
    """Something that happens at times."""

    def occurrences(self, low: float, high: float) -> list[Interval]:
        """Those that end after low and start up to and including high (POSIX seconds), in no order."""


@dataclass(frozen=True)
class Once:
    """A single time, from and to."""

    at: Interval

    def occurrences(self, low: float, high: float) -> list[Interval]:
        return [self.at] if self.at.end > low and self.at.start <= high else []


@dataclass(frozen=True)
class Recurrence:
    """Times by a rule, each of the same length.

    zone:    where the wall clock hangs that the rule is about
    start:   DTSTART as naive wall time; itself a time only when there is no rule
    rule:    the checked RRULE or None
    until:   the last moment a rule's time may start at, POSIX seconds, None for no end
    added:   RDATE, removed: EXDATE, both in POSIX seconds
    label:   what the rule is quoted as in a refusal
    """

    zone: tzinfo
    start: datetime
    length: Length
    rule: Rule | None = None
    until: float | None = None
    added: tuple[float, ...] = ()
    removed: tuple[float, ...] = ()
    label: str = "rule"

    def occurrences(self, low: float, high: float) -> list[Interval]:
        """See Schedule. Raises OpsError dateutil_missing, rule_too_dense."""
        found = self.starts(low - self.length.longest, high)
        spans = [Interval(begin, self._end(begin, wall)) for begin, wall in found.items()]
        return [span for span in spans if span.end > low]

    def starts(self, low: float, high: float) -> dict[float, datetime]:
        """Every start in [low, high], POSIX seconds, with its wall time as the rule gives it."""
        found: dict[float, datetime] = {}
        for wall in self._walls(to_wall(low, self.zone) - _MARGIN, to_wall(high, self.zone) + _MARGIN):
            begin = to_posix(wall, self.zone)
            if low <= begin <= high and (self.until is None or begin <= self.until):
                # 02:30 and 03:30 may be the same moment; the first of them counts
                found.setdefault(begin, wall)
        for begin in self.added:
            if low <= begin <= high:
                found.setdefault(begin, to_wall(begin, self.zone))
        for begin in self.removed:
            found.pop(begin, None)
        return found

    def matches(self) -> bool:
        """Whether the rule gives any time at all."""
        if self.rule is None or self.added:
            return True
        first = next(self._expand(self.start), None)
        return first is not None and (self.until is None or to_posix(first, self.zone) <= self.until)

    def _end(self, begin: float, wall: datetime) -> float:
        if not self.length.days:
            return begin + self.length.seconds
        return to_posix(wall + timedelta(days=self.length.days), self.zone) + self.length.seconds

    def _walls(self, low: datetime, high: datetime) -> Iterator[datetime]:
        if self.rule is None:
            yield self.start
            return
        for count, wall in enumerate(self._expand(self._beginning(self.rule, low))):
            if wall > high:
                return
            if count >= MAX_STARTS:
                raise refused(
                    self.label,
                    f"the rule starts more than {MAX_STARTS} times before it comes to the time asked for",
                    "Move DTSTART to a recent year, or start less often.",
                    "rule_too_dense",
                )
            yield wall

    def _beginning(self, rule: Rule, low: datetime) -> datetime:
        """A start in step with DTSTART, from which the rule gives the same times after low without all those before."""
        if rule.counted or rule.frequency not in ("DAILY", "WEEKLY"):
            return self.start
        step = rule.interval * (7 if rule.frequency == "WEEKLY" else 1)
        skipped = (low - self.start).days // step - 1
        return self.start + timedelta(days=skipped * step) if skipped > 0 else self.start

    def _expand(self, beginning: datetime) -> Iterator[datetime]:
        try:
            from dateutil.rrule import rrulestr  # only where somebody has defined a rule
        except ImportError as error:
            raise OpsError(
                "dateutil_missing",
                "The Python package python-dateutil is not there to read the rules of windows and freezes with.",
                "Install it on the controller, for the Python that runs Ansible "
                "(apt install python3-dateutil, or pip install python-dateutil).",
            ) from error
        text = self.rule.text if self.rule else ""
        times: Iterator[datetime] = iter(rrulestr(f"RRULE:{text}", dtstart=beginning))
        return times
