# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows over the days on which the clocks change, against a count of every minute that shares no code with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import parse_freezes, parse_windows
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rules import around, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import free

MINUTE = 60
WEEKS = 3


@dataclass(frozen=True)
class Weeks:
    """Every minute of some weeks in UTC, and what a clock on the wall of a zone shows then."""

    first: int
    walls: list[datetime]

    @classmethod
    def of(cls, zone: str, begin: datetime) -> Weeks:
        first = int(begin.replace(tzinfo=timezone.utc).timestamp())
        tz = ZoneInfo(zone)
        minutes = range(WEEKS * 7 * 24 * 60)
        return cls(
            first, [datetime.fromtimestamp(first + MINUTE * minute, tz).replace(tzinfo=None) for minute in minutes]
        )

    def minute(self, wall: datetime) -> int | None:
        """The first minute at which the clock shows this, or, where it is skipped, as long after the skip began."""
        later = [minute for minute, shown in enumerate(self.walls) if shown >= wall]
        if not later or (later[0] == 0 and self.walls[0] != wall):
            return None
        skipped = self.walls[later[0]] - wall
        if not skipped:
            return later[0]
        # the clock went from `before` straight to a time past the one wanted
        before = self.walls[later[0] - 1]
        return later[0] + round((wall - before - timedelta(minutes=1)).total_seconds() / MINUTE)

    def opened(self, starts: list[datetime], minutes: int) -> list[bool]:
        flags = [False] * len(self.walls)
        for start in starts:
            begin = self.minute(start)
            for minute in range(begin, min(begin + minutes, len(flags))) if begin is not None else ():
                flags[minute] = True
        return flags

    def days(self) -> list[date]:
        return sorted({wall.date() for wall in self.walls})


CHANGES = {
    "Berlin springs forward": ("Europe/Berlin", datetime(2026, 3, 20)),
    "Berlin falls back": ("Europe/Berlin", datetime(2026, 10, 16)),
    "New York springs forward": ("America/New_York", datetime(2027, 2, 27)),
    "New York falls back": ("America/New_York", datetime(2026, 10, 23)),
    "Lord Howe moves by half an hour": ("Australia/Lord_Howe", datetime(2026, 9, 25)),
}

# name -> (the entry without its zone, whether it starts on a day, hour and minute of the start, minutes it lasts)
RULES: dict[str, tuple[dict[str, object], Callable[[date], bool], tuple[int, int], int]] = {
    "every night": ({"start": "02:00", "rule": "FREQ=DAILY", "duration": "3h"}, lambda day: True, (2, 0), 180),
    "every night at half past": (
        {"start": "02:30", "rule": "FREQ=DAILY", "duration": "PT90M"},
        lambda day: True,
        (2, 30),
        90,
    ),
    "sundays": (
        {"start": "01:30", "rule": "FREQ=WEEKLY;BYDAY=SU", "duration": "4h"},
        lambda day: day.weekday() == 6,
        (1, 30),
        240,
    ),
    "on workdays across midnight": (
        {"rule": "DTSTART:20250101T230000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "duration": "PT5H"},
        lambda day: day.weekday() < 5,
        (23, 0),
        300,
    ),
    "every other day": (
        {"start": "2020-01-01T02:15", "rule": "FREQ=DAILY;INTERVAL=2", "duration": "26h"},
        lambda day: (day - date(2020, 1, 1)).days % 2 == 0,
        (2, 15),
        26 * 60,
    ),
}


@pytest.fixture(scope="module", params=CHANGES)
def weeks(request: pytest.FixtureRequest) -> tuple[str, Weeks]:
    zone, begin = CHANGES[request.param]
    return zone, Weeks.of(zone, begin)


def starts(weeks: Weeks, on: Callable[[date], bool], clock: tuple[int, int]) -> list[datetime]:
    return [datetime(day.year, day.month, day.day, *clock) for day in weeks.days() if on(day)]


@pytest.mark.parametrize("name", RULES)
def test_every_minute_of_the_weeks_around_a_change_of_the_clocks_is_right(name: str, weeks: tuple[str, Weeks]) -> None:
    zone, calendar = weeks
    entry, on, clock, minutes = RULES[name]
    windows = parse_windows([{"name": "w", **entry}], zone)
    # from the third day on, so that what began before the first counts in both
    skip = 2 * 24 * 60
    begin, end = calendar.first + skip * MINUTE, calendar.first + len(calendar.walls) * MINUTE
    got = [False] * len(calendar.walls)
    for span in free(around(windows, (), "backup", "routine", begin, end)):
        for moment in range(max(int(span.start), begin), min(int(span.end), end), MINUTE):
            got[(moment - calendar.first) // MINUTE] = True
    assert got[skip:] == calendar.opened(starts(calendar, on, clock), minutes)[skip:]


def test_verdicts_agree_with_the_minutes_for_two_windows_and_a_freeze(weeks: tuple[str, Weeks]) -> None:
    zone, calendar = weeks
    nightly, sundays = RULES["every night"], RULES["sundays"]
    windows = parse_windows([{"name": "n", **nightly[0]}, {"name": "s", **sundays[0]}], zone)
    days = calendar.days()
    frozen = [
        datetime(days[12].year, days[12].month, days[12].day, 3, 30),
        datetime(days[14].year, days[14].month, days[14].day, 4),
    ]
    freezes = parse_freezes(
        [{"name": "f", "reason": "r", "from": frozen[0].isoformat(), "to": frozen[1].isoformat()}], zone
    )
    held = range(calendar.minute(frozen[0]) or 0, calendar.minute(frozen[1]) or 0)
    one, two = (calendar.opened(starts(calendar, rule[1], rule[2]), rule[3]) for rule in (nightly, sundays))
    truth = [(a or b) and minute not in held for minute, (a, b) in enumerate(zip(one, two))]
    changes = [minute for minute in range(1, len(truth)) if truth[minute] != truth[minute - 1]]
    asked = {*range(2 * 1440, 19 * 1440, 97), *changes, *(minute - 1 for minute in changes)}
    for minute in sorted(one for one in asked if 2 * 1440 <= one < 19 * 1440):
        got = judge(windows, freezes, "backup", "routine", calendar.first + minute * MINUTE)
        opening, closing = (truth.index(wanted, minute) * MINUTE + calendar.first for wanted in (True, False))
        assert got.allowed is truth[minute], calendar.walls[minute]
        assert got.next_opening == opening, calendar.walls[minute]
        assert got.until == (closing if got.allowed else None), calendar.walls[minute]
        if minute in held:
            assert got.code == "frozen"
