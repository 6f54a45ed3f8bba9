# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times and sizes as operators write and read them: "24h" in, "3 h 20 min ago" and "412 MB" out."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WHOLE = re.compile(r"(?:\d+[smhdw])+\Z")
_PART = re.compile(r"(\d+)([smhdw])")
_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_LONGEST = 100 * 366 * 86400


def parse_duration(text: str, name: str = "duration") -> int:
    """Seconds of "90s", "90m", "24h", "7d", "2w" or a sum like "1d12h".

    name is the option that is quoted when the text is refused. A bare number is refused, because nobody can tell
    whether 24 is hours or seconds. Raises OpsError bad_duration.
    """
    compact = text.replace(" ", "").lower()
    seconds = sum(int(count) * SECONDS[unit] for count, unit in _PART.findall(compact))
    if not _WHOLE.match(compact) or seconds > _LONGEST:
        raise OpsError(
            "bad_duration",
            f"{name}: {text!r} is not a length of time.",
            'Write a number with s, m, h, d or w, at most 100 years, for instance "24h", "7d" or "1d12h".',
            {"option": name, "value": text},
        )
    return seconds


def human_duration(seconds: float) -> str:
    """The two largest units, days from two on: "45 s", "3 h 20 min", "26 h", "12 d 4 h"; rounded down."""
    rest = int(abs(seconds))
    parts: list[str] = []
    for unit, size in _STEPS[1:] if rest < 2 * 86400 else _STEPS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def ago(seconds: float) -> str:
    """ "3 h 20 min ago"; "in 5 min" for what is still to come; "just now" within a second."""
    if abs(seconds) < 1:
        return "just now"
    return f"{human_duration(seconds)} ago" if seconds > 0 else f"in {human_duration(seconds)}"


def human_size(size: float) -> str:
    """Bytes in decimal units with three digits at most: "0 B", "4.1 GB", "412 MB"."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if round(value) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "B" and value < 9.95 else f"{value:.0f} {unit}"


def utc(moment: float, seconds: bool = True) -> str:
    """POSIX seconds as "2026-11-22 20:17:47 UTC", or without the seconds."""
    # not fromtimestamp: it refuses what lies outside the platform's range
    stamp = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(moment))
    return stamp.strftime("%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC")
