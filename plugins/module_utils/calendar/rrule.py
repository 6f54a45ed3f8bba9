# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a recurrence rule (RFC 5545, section 3.3.10), checked before any library works on it.

Refused is what the standard forbids, what cannot match, and what is too fine for a window: the work that a rule causes
stays bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_TOO_FINE = ("HOURLY", "MINUTELY", "SECONDLY")
STARTS_A_DAY = 24
_NUMBERS = {
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
_NAMES = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS)
_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)\Z")
_NUMBER = re.compile(r"[+-]?\d{1,4}\Z")
_WHOLE = re.compile(r"\d{1,9}\Z")
_UNTIL = re.compile(r"\d{8}T\d{6}Z?\Z")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# part -> the frequencies that the standard does not allow it with
_FORBIDDEN = {
    "BYWEEKNO": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYYEARDAY": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYMONTHDAY": ("WEEKLY",),
}


@dataclass(frozen=True)
class Rule:
    """A checked rule. text: the value of RRULE without UNTIL; until: as written, "" for none."""

    frequency: str
    interval: int
    counted: bool
    until: str
    text: str


def refused(label: str, cause: str, remedy: str, code: str = "bad_rule") -> OpsError:
    return OpsError(code, f"{label}: {cause}.", remedy, {"option": label})


def parse_rule(value: str, label: str) -> Rule:
    """The rule that the value of RRULE says. Raises OpsError bad_rule, rule_too_fine, rule_never_matches."""
    parts = _split(value, label)
    frequency = _frequency(parts, label)
    for name in ("INTERVAL", "COUNT"):
        if name in parts and (not _WHOLE.match(parts[name]) or int(parts[name]) < 1):
            raise refused(label, f"{name}={parts[name]} is no whole number from 1 on", "Correct it, or leave it out.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise refused(label, "COUNT and UNTIL cannot both end a rule", "Keep one of them.")
    if "UNTIL" in parts and not _UNTIL.match(parts["UNTIL"]):
        raise refused(
            label,
            f"UNTIL={parts['UNTIL']} does not say the time of the day",
            "Write UNTIL=20261231T235959 (the window's zone) or UNTIL=20261231T235959Z (UTC).",
        )
    numbers = {name: _numbers(name, parts[name], label) for name in _NUMBERS if name in parts}
    _check_days(parts, frequency, label)
    _check_combinations(parts, numbers, frequency, label)
    return Rule(
        frequency,
        int(parts.get("INTERVAL", 1)),
        "COUNT" in parts,
        parts.get("UNTIL", ""),
        ";".join(f"{name}={text}" for name, text in parts.items() if name != "UNTIL"),
    )


def _split(value: str, label: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in value.strip().strip(";").upper().split(";"):
        name, equals, text = (word.strip() for word in piece.partition("="))
        if not equals or not text or name not in _NAMES:
            raise refused(label, f"{piece!r} is no part of an RRULE", f"A rule has: {', '.join(_NAMES)}.")
        if name in parts:
            raise refused(label, f"{name} stands twice in the rule", "Join the two; values are separated by commas.")
        parts[name] = text
    return parts


def _frequency(parts: dict[str, str], label: str) -> str:
    frequency = parts.get("FREQ", "")
    if frequency in _TOO_FINE:
        raise refused(
            label,
            f"FREQ={frequency} is too fine for a window",
            f"Write FREQ=DAILY with BYHOUR and BYMINUTE: at most {STARTS_A_DAY} starts a day.",
            "rule_too_fine",
        )
    if frequency not in FREQUENCIES:
        raise refused(label, f"FREQ={frequency or '(missing)'} is no frequency", f"Write {' or '.join(FREQUENCIES)}.")
    return frequency


def _numbers(name: str, text: str, label: str) -> tuple[int, ...]:
    low, high, signed = _NUMBERS[name]
    numbers = []
    for word in text.split(","):
        number = int(word) if _NUMBER.match(word) else None
        if number is None or not low <= (abs(number) if signed else number) <= high:
            allowed = f"{low} to {high}" + (f", or -{high} to -{low} counted from the end" if signed else "")
            raise refused(label, f"{name}={text} is out of range", f"{name} takes {allowed}.")
        numbers.append(number)
    return tuple(numbers)


def _check_days(parts: dict[str, str], frequency: str, label: str) -> None:
    if parts.get("WKST", "MO") not in ("MO", "TU", "WE", "TH", "FR", "SA", "SU"):
        raise refused(label, f"WKST={parts['WKST']} is no day", "Write MO, TU, WE, TH, FR, SA or SU.")
    for word in parts["BYDAY"].split(",") if "BYDAY" in parts else ():
        found = _DAY.match(word)
        if found is None or (found.group(1) and not 1 <= abs(int(found.group(1))) <= 53):
            raise refused(
                label, f"BYDAY={parts['BYDAY']} is no list of days", "Write for instance BYDAY=SU or BYDAY=1SU,-1SU."
            )
        if found.group(1) and (frequency not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts):
            raise refused(
                label,
                f"BYDAY={word} counts days of a month or year, and the rule is FREQ={frequency}",
                "Write FREQ=MONTHLY, or the day without a number.",
            )


def _check_combinations(parts: dict[str, str], numbers: dict[str, tuple[int, ...]], frequency: str, label: str) -> None:
    for name, frequencies in _FORBIDDEN.items():
        if name in parts and frequency in frequencies:
            raise refused(
                label, f"{name} means nothing with FREQ={frequency}", "RFC 5545 forbids it; choose a longer FREQ."
            )
    if "BYSETPOS" in parts and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        raise refused(
            label, "BYSETPOS picks from what another BY... gives, and there is none", "Add it, or leave it out."
        )
    starts = 1
    for name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
        starts *= len(set(numbers.get(name, (0,))))
    if starts > STARTS_A_DAY:
        raise refused(
            label,
            f"the rule starts {starts} times a day",
            f"At most {STARTS_A_DAY} are taken; make the window longer instead.",
            "rule_too_fine",
        )
    months = numbers.get("BYMONTH", tuple(range(1, 13)))
    longest = max(_MONTH_DAYS[month - 1] for month in months)
    if "BYMONTHDAY" in numbers and min(abs(day) for day in numbers["BYMONTHDAY"]) > longest:
        raise never_matches(label)


def never_matches(label: str) -> OpsError:
    return refused(
        label,
        "the rule never matches a day",
        "Compare DTSTART, UNTIL and the BY... parts: no day of the calendar fits all of them.",
        "rule_never_matches",
    )
