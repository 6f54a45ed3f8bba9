# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a rule as calendars write them (RFC 5545): DTSTART, RRULE, RDATE, EXDATE."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.lengths import Length
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.recurrence import Recurrence
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rrule import (
    Rule,
    never_matches,
    parse_rule,
    refused,
)
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.zones import load_zone, to_posix

_KNOWN = ("DTSTART", "RRULE", "RDATE", "EXDATE")
_LINE = re.compile(r"([A-Za-z-]+)((?:;[A-Za-z-]+=[^;:]+)*):(.*)\Z")
_DATE = re.compile(r"\d{8}\Z")
_TIME = re.compile(r"\d{8}T\d{6}Z?\Z")


@dataclass(frozen=True)
class _Property:
    name: str
    parameters: dict[str, str]
    value: str


def _properties(text: str, label: str) -> list[_Property]:
    if "\\n" in text:
        raise refused(
            label,
            "the rule holds a backslash and an n instead of a new line",
            "Write it in double quotes or as a block (|).",
        )
    # a line that begins with a blank goes on the one before
    unfolded = re.sub(r"\r?\n[ \t]", "", text.strip())
    found = []
    for written in filter(None, (line.strip() for line in unfolded.splitlines())):
        line = f"RRULE:{written}" if re.match(r"FREQ\s*=", written, re.IGNORECASE) else written
        match = _LINE.match(line)
        name = match.group(1).upper() if match else ""
        if match is None or name not in _KNOWN:
            raise refused(
                label,
                f"{line!r} is no line of a rule",
                f"A rule has the lines {', '.join(_KNOWN)}; the length goes into the key duration.",
            )
        pairs = (word.split("=", 1) for word in match.group(2).split(";")[1:])
        found.append(_Property(name, {key.upper(): value.strip('"') for key, value in pairs}, match.group(3).strip()))
    return found


def _single(properties: list[_Property], name: str, label: str) -> _Property | None:
    lines = [line for line in properties if line.name == name]
    if len(lines) > 1:
        raise refused(
            label, f"the rule has {len(lines)} lines {name}", "Keep one; write a second window for the other."
        )
    return lines[0] if lines else None


def _wall(text: str, label: str, dates: bool) -> datetime:
    """20260101T020000 without zone, or 20260101 as midnight where dates are meant."""
    if not (_DATE if dates else _TIME).match(text):
        remedy = "Write for instance 20261220." if dates else "Write for instance 20260101T020000."
        raise refused(label, f"{text!r} is no {'date' if dates else 'date and time'}", remedy)
    try:
        return datetime.strptime(text.rstrip("Z"), "%Y%m%d" if dates else "%Y%m%dT%H%M%S")
    except ValueError as error:
        raise refused(label, f"{text!r} is not on the calendar", "Correct the day or the time.") from error


def _check_parameters(line: _Property, label: str) -> bool:
    """Whether its values are dates without a time."""
    unknown = set(line.parameters) - {"TZID", "VALUE"}
    kind = line.parameters.get("VALUE", "DATE-TIME").upper()
    if unknown or kind not in ("DATE", "DATE-TIME"):
        raise refused(
            label,
            f"{line.name} has the parameter {', '.join(sorted(unknown)) or f'VALUE={kind}'}",
            "Only TZID, VALUE=DATE and VALUE=DATE-TIME are read here.",
        )
    return kind == "DATE"


def _moments(lines: list[_Property], zone: tzinfo, all_day: bool, label: str) -> tuple[float, ...]:
    """POSIX seconds of RDATE or EXDATE. A day without a time is only taken beside a DTSTART that is one too."""
    found = []
    for line in lines:
        dates = _check_parameters(line, label)
        if dates and not all_day:
            raise refused(
                label,
                f"{line.name} names days, and DTSTART a time: it would not match",
                f"Write the times that are meant, for instance {line.name};TZID=...:20261224T020000.",
            )
        own = load_zone(line.parameters["TZID"], label) if "TZID" in line.parameters else zone
        for text in line.value.split(","):
            wall = _wall(text.strip().upper(), label, dates)
            in_utc = text.strip().upper().endswith("Z")
            found.append(to_posix(wall, load_zone("UTC") if in_utc else own))
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class Zoned:
    """A naive wall time and the name of the zone it is meant in, "" for the default.

    all_day: it was written as a date; any_day: only the time of the day was written.
    """

    wall: datetime
    zone: str
    all_day: bool = False
    any_day: bool = False


def _start(line: _Property, zone: str, label: str) -> Zoned:
    """zone: the inventory's own for this entry, "" when it has none."""
    dates = _check_parameters(line, label)
    wall = _wall(line.value.upper(), label, dates)
    named = "UTC" if line.value.upper().endswith("Z") else line.parameters.get("TZID", "")
    if named and zone and named != zone:
        raise refused(label, f"DTSTART is in {named} and the key zone says {zone}", "Keep one of them.")
    return Zoned(wall, named or zone, dates)


def read_recurrence(
    text: str, start: Zoned | None, zone: str, zone_default: str, length: Length, label: str
) -> tuple[Recurrence, str]:
    """The recurrence and the name of its zone.

    start: the entry's key start, instead of a line DTSTART; zone: its key zone, "" for none.
    Raises OpsError bad_rule, rule_too_fine, rule_never_matches, unknown_zone.
    """
    properties = _properties(text, label)
    line = _single(properties, "DTSTART", label)
    if line and start:
        raise refused(label, "the rule has a line DTSTART and the entry a key start", "Keep one of them.")
    begun = _start(line, zone, label) if line else start
    if begun is None:
        raise refused(label, "nothing says when the first time is", "Add the key start, or a line DTSTART to the rule.")
    name = begun.zone or zone_default
    tz = load_zone(name, label)
    rrule = _single(properties, "RRULE", label)
    if rrule and rrule.parameters:
        raise refused(label, "RRULE has parameters", "Write RRULE:FREQ=...; the zone belongs to DTSTART.")
    rule = parse_rule(rrule.value, label) if rrule else None
    if begun.any_day and not _says_its_days(rule):
        raise refused(
            label,
            "start is a time of the day, and the rule alone does not say which days",
            "Write the first start with its date (2026-01-01T02:00), or name the days (BYDAY, BYMONTHDAY).",
        )
    recurrence = Recurrence(
        tz,
        begun.wall,
        length,
        rule,
        _until(rule, tz, label),
        _moments([line for line in properties if line.name == "RDATE"], tz, begun.all_day, label),
        label=label,
    )
    if not recurrence.matches():
        raise never_matches(label)
    return _without(recurrence, [line for line in properties if line.name == "EXDATE"], begun.all_day, label), name


def _says_its_days(rule: Rule | None) -> bool:
    """Whether the rule gives the same days whatever day it began on."""
    if rule is None or rule.counted or rule.interval > 1:
        return False
    parts = {"DAILY": ("FREQ=",), "WEEKLY": ("BYDAY=",), "MONTHLY": ("BYDAY=", "BYMONTHDAY=")}
    return any(part in rule.text for part in parts.get(rule.frequency, ("BYDAY=", "BYMONTHDAY=", "BYYEARDAY=")))


def _until(rule: Rule | None, zone: tzinfo, label: str) -> float | None:
    if rule is None or not rule.until:
        return None
    in_utc = rule.until.endswith("Z")
    # of a time that the clock shows twice the second one: what starts in between is still meant
    return to_posix(_wall(rule.until, label, False), load_zone("UTC") if in_utc else zone, fold=1)


def _without(recurrence: Recurrence, lines: list[_Property], all_day: bool, label: str) -> Recurrence:
    """The recurrence without its EXDATEs. One that is no time of the rule is refused: the night would stay as it is."""
    removed = _moments(lines, recurrence.zone, all_day, label)
    if not removed:
        return recurrence
    starts = recurrence.starts(removed[0], removed[-1])
    for moment in removed:
        if moment not in starts:
            text = to_text(moment, recurrence.zone)
            raise refused(label, f"EXDATE {text} is no time of the rule", "Correct it: it must equal a start.")
    return replace(recurrence, removed=removed)


def to_text(moment: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M:%S")
