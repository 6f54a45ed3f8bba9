# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a window is open: hours are elapsed time, days are the calendar's (RFC 5545, sections 3.3.6 and 3.8.5.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

# Two neighbours of a yearly rule touch at most.
LONGEST_DAYS = 366
_ISO = re.compile(r"\+?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?\Z")
_DAYS = re.compile(r"(\d+)([dw])")
_REST = re.compile(r"\d+[smh]")


@dataclass(frozen=True)
class Length:
    """days of the calendar, counted from the wall clock's time of the start, and elapsed seconds after them."""

    days: int
    seconds: int

    @property
    def longest(self) -> float:
        """Seconds that it lasts at most, whatever a zone does in between."""
        return (self.days + 1) * 86400 + self.seconds


def parse_length(value: object, label: str) -> Length:
    """The length that "3h", "1d12h", "PT3H" or "P1DT12H" names. Raises OpsError bad_duration that quotes label."""
    text = str(value).replace(" ", "")
    if text.lstrip("+").upper().startswith("P"):
        found = _ISO.match(text.upper())
        counts = [int(count or 0) for count in found.groups()] if found and text[-1] not in "TtPp" else None
        if counts is None:
            raise _refused(value, label, "is not a length of time by ISO 8601")
        weeks, days, hours, minutes, seconds = counts
        length = Length(7 * weeks + days, 3600 * hours + 60 * minutes + seconds)
    else:
        parse_duration(text, label)
        days = sum(int(count) * (7 if unit == "w" else 1) for count, unit in _DAYS.findall(text.lower()))
        length = Length(days, sum(parse_duration(part) for part in _REST.findall(text.lower())))
    if not length.days and not length.seconds:
        raise _refused(value, label, "lasts no time at all")
    if length.days * 86400 + length.seconds > LONGEST_DAYS * 86400:
        raise _refused(value, label, f"is longer than {LONGEST_DAYS} days")
    return length


def _refused(value: object, label: str, why: str) -> OpsError:
    return OpsError(
        "bad_duration",
        f"{label}: {str(value)!r} {why}.",
        f'Write for instance "3h", "1d12h" or "PT3H", at most {LONGEST_DAYS} days.',
        {"option": label, "value": str(value)},
    )
