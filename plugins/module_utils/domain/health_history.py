# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of health: what a run leaves behind, how a day of it is kept, and the points that thresholds look at.

One object holds a day of one host's runs of one set of checks. Its name is the day of the year, without the year: the
same day of the next year overwrites it, so the history is a ring of 366 objects and nobody needs the right to delete.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Level, Measurement, Outcome
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Point, Value
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import safe

ROOT = "health/"
LARGEST = 64 * 1024 * 1024  # bytes of a day, unpacked
THIN = 900  # seconds: what is left of an older day is one run for each of these
MOST_SCOPES = 2000
LONGEST_TEXT = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Kept:
    """One check in one run: its level, the value of its worst scope, and those of all scopes where they are needed."""

    level: Level
    value: Value
    scopes: Mapping[str, Value]


@dataclass(frozen=True)
class Run:
    """One run; at: POSIX seconds; id: makes it different from another of the same moment."""

    at: float
    id: str
    checks: Mapping[str, Kept]

    @property
    def level(self) -> Level:
        """The worst of its checks."""
        return max((kept.level for kept in self.checks.values()), key=lambda level: level.rank, default=Level.OK)


def day_of(moment: float) -> str:
    """ "2026-11-23", in UTC."""
    return (_EPOCH + timedelta(seconds=int(moment))).strftime("%Y-%m-%d")


def folder(host: str) -> str:
    """Where the history of a host lies: health/<host>/."""
    return f"{ROOT}{safe(host)}/"


def key(host: str, set_name: str, day: str) -> str:
    """Where a day lies: health/<host>/<set>/11-23.json.gz."""
    return f"{folder(host)}{safe(set_name)}/{day[5:]}.json.gz"


def days_back(now: float, seconds: float) -> list[str]:
    """The days from so many seconds ago to today, at most a year of them."""
    count = min(365, int(now // 86400) - int((now - seconds) // 86400))
    return [day_of(now - 86400 * back) for back in range(count, -1, -1)]


def run_of(
    outcomes: Sequence[Outcome], measured: Mapping[str, Sequence[Measurement]], now: float, identifier: str
) -> Run:
    """What is kept of a run. Every scope's value only of checks whose thresholds look back."""
    checks: dict[str, Kept] = {}
    for outcome in outcomes:
        scopes: dict[str, Value] = {}
        looks_back = any(limit and limit.reach() for limit in outcome.check.thresholds())
        if looks_back and any(its.scope for its in measured[outcome.name]):
            scopes = {its.scope: _short(its.value) for its in measured[outcome.name][:MOST_SCOPES]}
        checks[outcome.name] = Kept(outcome.level, _short(outcome.value), scopes)
    return Run(now, identifier, checks)


def points(runs: Iterable[Run]) -> dict[tuple[str, str], list[Point]]:
    """(check, scope) -> points from old to new."""
    found: dict[tuple[str, str], list[Point]] = {}
    for run in sorted(runs, key=lambda run: run.at):
        for name, kept in run.checks.items():
            for scope, value in (kept.scopes or {"": kept.value}).items():
                found.setdefault((name, scope), []).append(Point(run.at, value))
    return found


def with_run(runs: Sequence[Run], run: Run) -> list[Run]:
    """The runs of a day with one more, in order of time."""
    return sorted([*(other for other in runs if other.id != run.id), run], key=lambda item: (item.at, item.id))


def thinned(runs: Sequence[Run]) -> list[Run]:
    """The worst run of each quarter of an hour, the last of equals: a short failure stays to be seen."""
    slots: dict[int, Run] = {}
    for run in runs:
        slot = int(run.at // THIN)
        if slot not in slots or run.level.rank >= slots[slot].level.rank:
            slots[slot] = run
    return [slots[slot] for slot in sorted(slots)]


def pack(day: str, runs: Sequence[Run]) -> bytes:
    """The bytes of a day's object; the same runs give the same bytes."""
    body = {"format": 1, "day": day, "runs": [_written(run) for run in runs]}
    return gzip.compress(json.dumps(body, separators=(",", ":")).encode(), mtime=0)


def unpack(data: bytes, day: str) -> list[Run]:
    """The runs of a day; none when the object is of another year. day "" takes any.

    Raises ValueError for what is no history.
    """
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(data, LARGEST)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise ValueError("too long, or cut")
        body = json.loads(text)
        if body["format"] != 1:
            raise ValueError("of another format")
        if day and body["day"] != day:
            return []
        return [_read(item) for item in body["runs"]]
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError, IndexError, OverflowError) as error:
        raise ValueError(type(error).__name__) from error


def _short(value: Value) -> Value:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    # JSON has no word for NaN and the infinite ones
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _written(run: Run) -> list[object]:
    checks: dict[str, list[object]] = {}
    for name, kept in run.checks.items():
        checks[name] = [kept.level.value, kept.value, *([dict(kept.scopes)] if kept.scopes else [])]
    return [run.at, run.id, checks]


def _read(item: Sequence[object]) -> Run:
    checks: dict[str, Kept] = {}
    for name, kept in cast("Mapping[str, Sequence[object]]", item[2]).items():
        scopes = cast("Mapping[object, object]", kept[2]) if len(kept) > 2 else {}
        checks[str(name)] = Kept(
            Level(kept[0]), _value(kept[1]), {str(scope): _value(value) for scope, value in scopes.items()}
        )
    return Run(float(cast("float", item[0])), str(item[1]), checks)


def _value(given: object) -> Value:
    if given is None or isinstance(given, (bool, int, float, str)):
        return given
    raise ValueError("a value that is none")
