# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time zones: from a wall clock to POSIX seconds and back to words.

A wall time that a zone skips is moved on by the length of the gap (02:30 becomes 03:30), one that it has twice means
the first of the two: RFC 5545, section 3.3.5.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Room for a zone's offset on both sides of what a datetime can hold.
FIRST = (datetime(2, 1, 1, tzinfo=timezone.utc) - _EPOCH).total_seconds()
LAST = (datetime(9990, 1, 1, tzinfo=timezone.utc) - _EPOCH).total_seconds()


def load_zone(name: str, label: str = "zone") -> tzinfo:
    """The zone of the time zone database, or UTC without it. Raises OpsError unknown_zone that quotes label."""
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise OpsError(
            "unknown_zone",
            f"{label}: {name!r} is no time zone that this machine knows.",
            'Write a name of the time zone database, for instance "Europe/Berlin" or "UTC"; if it is one, install '
            "the database on the controller (apt install tzdata, or pip install tzdata).",
            {"option": label, "value": name},
        ) from error


def to_posix(wall: datetime, zone: tzinfo, fold: int = 0) -> float:
    """POSIX seconds of a wall time (naive). fold 1 means the second one where a zone has it twice."""
    return (wall.replace(tzinfo=zone, fold=fold) - _EPOCH).total_seconds()


def to_wall(moment: float, zone: tzinfo) -> datetime:
    """The naive wall time at POSIX seconds, clamped to what a calendar can hold."""
    utc = _EPOCH + timedelta(seconds=min(max(moment, FIRST), LAST))
    return utc.astimezone(zone).replace(tzinfo=None, fold=0)


def show(moment: float, zone: str) -> str:
    """ "Mon 2026-11-23 02:00 CET (01:00 UTC)"; the date of UTC too where it is another; seconds where there are any."""
    utc = _EPOCH + timedelta(seconds=min(max(int(moment), FIRST), LAST))
    local = utc.astimezone(load_zone(zone))
    clock = "%H:%M:%S" if utc.second or local.second else "%H:%M"
    text = local.strftime(f"%a %Y-%m-%d {clock} %Z")
    if local.utcoffset() == timedelta(0) and local.tzname() == "UTC":
        return text
    date = "" if utc.date() == local.date() else "%a %Y-%m-%d "
    return f"{text} ({utc.strftime(f'{date}{clock} UTC')})"
