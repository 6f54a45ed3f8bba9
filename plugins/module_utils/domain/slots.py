# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slots of the calendar that retention counts: hours, days, ISO weeks and months, all in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

PERIODS = ("hourly", "daily", "weekly", "monthly")


def _moment(when: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=when)


def slot(period: str, when: float) -> str:
    """The name of the slot a POSIX time falls in; names of one period sort by time.

    "2026-11-20 14:00", "2026-11-20", "2026-W47" (the ISO week's own year) and "2026-11".
    """
    moment = _moment(when)
    if period == "hourly":
        return moment.strftime("%Y-%m-%d %H:00")
    if period == "daily":
        return moment.strftime("%Y-%m-%d")
    if period == "weekly":
        year, week, _day = moment.isocalendar()
        return f"{year}-W{week:02d}"
    return moment.strftime("%Y-%m")


def slot_end(period: str, when: float) -> float:
    """The first POSIX second after the slot that when falls in."""
    moment = _moment(when)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "hourly":
        end = moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    elif period == "daily":
        end = midnight + timedelta(days=1)
    elif period == "weekly":
        end = midnight + timedelta(days=7 - moment.weekday())
    else:
        end = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return end.timestamp()
