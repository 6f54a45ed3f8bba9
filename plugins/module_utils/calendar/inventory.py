# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory's saasops_windows and saasops_freezes to rules, or a refusal before anything is decided."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.ical import Zoned, read_recurrence
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.lengths import parse_length
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.recurrence import Once, Recurrence, Schedule
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.zones import load_zone, to_posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import (
    CLASSES,
    ROUTINE,
    Freeze,
    Interval,
    Scope,
    Window,
)

_COMMON = ("name", "zone", "rule", "start", "duration", "classes", "verbs", "except_verbs")
_WINDOW_KEYS = _COMMON
_FREEZE_KEYS = (*_COMMON, "reason", "from", "to")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:[Zz]|[+-]\d{2}:\d{2})?)?\Z")
_VERB = re.compile(r"[a-z][a-z0-9_]*\Z")
# The day that a time of the day alone is counted from; the rule then says every day itself.
_ANY_DAY = (2001, 1, 1)


@dataclass(frozen=True)
class WindowRule:
    """A window and when it opens."""

    window: Window
    schedule: Recurrence


@dataclass(frozen=True)
class FreezeRule:
    """A freeze and when it holds."""

    freeze: Freeze
    schedule: Schedule


class _Entry:
    """One entry of a list, with the refusals that quote it."""

    def __init__(self, value: object, option: str, position: int, code: str, keys: Collection[str]) -> None:
        self.label = f"{option}[{position}]"
        self.code = code
        if not isinstance(value, Mapping):
            raise self.refused(f"is {value!r}, not a set of keys", f"Write the keys {', '.join(keys)}.")
        self._values: dict[str, object] = {str(key): one for key, one in value.items()}
        self.name = self.text("name")
        if not self.name:
            raise self.refused("has no name", "Add the key name; refusals and the journal quote it.")
        self.label = f"{option}[{self.name}]"
        unknown = sorted(set(self._values) - set(keys))
        if unknown:
            raise self.refused(f"has the key {', '.join(unknown)}", f"Known are: {', '.join(keys)}.")

    def refused(self, cause: str, remedy: str) -> OpsError:
        return OpsError(self.code, f"{self.label} {cause}.", remedy, {"option": self.label})

    def get(self, key: str) -> object:
        value = self._values.get(key)
        return None if value == "" else value

    def text(self, key: str) -> str:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refused(f"has {key}: {value!r}, which is no text", f"Write {key} in quotes.")
        return (value or "").strip()

    def words(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if value is None:
            return ()
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
            raise self.refused(f"has {key}: {value!r}", f"Write a list of names, or leave {key} out.")
        return tuple(str(word) for word in words)

    def scope(self, known_verbs: Collection[str] | None) -> Scope:
        classes = self.words("classes") or ROUTINE
        for name in classes:
            if name not in CLASSES:
                raise self.refused(f"names the class {name!r}", f"Classes are: {', '.join(CLASSES)}.")
        verbs, except_verbs = self.words("verbs"), self.words("except_verbs")
        for name in (*verbs, *except_verbs):
            if not _VERB.match(name) or (known_verbs is not None and name not in known_verbs):
                known = f"Verbs are: {', '.join(sorted(known_verbs))}." if known_verbs else "Write it as in: backup."
                raise self.refused(f"names the verb {name!r}, which does not exist", known)
        return Scope(classes, verbs, except_verbs)

    def moment(self, key: str) -> datetime:
        """A wall time (naive), or a time with its own offset (aware)."""
        value = self.get(key)
        example = f'Write for instance {key}: "2026-12-20T00:00".'
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if key == "to" and _DAY.match(text):
            raise self.refused(f"ends on {text} without a time of the day", example)
        try:
            # fromisoformat takes more forms on some versions of Python than on others
            return datetime.fromisoformat(re.sub(r"[Zz]\Z", "+00:00", text) if _MOMENT.match(text) else "")
        except ValueError as error:
            raise self.refused(f"has {key}: {value!r}, which is no date and time", example) from error

    def start(self, zone: str) -> Zoned | None:
        value = self.get("start")
        if value is None:
            return None
        if isinstance(value, (int, float)):
            raise self.refused(
                f"has start: {value}, a number, as YAML reads a time like 22:00 without quotes (in base 60)",
                'Write it in quotes: start: "22:00".',
            )
        clock = _CLOCK.match(str(value).strip())
        if clock:
            hour, minute, second = (int(word or 0) for word in clock.groups())
            if hour > 23 or minute > 59 or second > 59:
                raise self.refused(f"has start: {value}, which is no time of the day", 'Write for instance "02:00".')
            return Zoned(datetime(*_ANY_DAY, hour, minute, second), zone, any_day=True)
        moment = self.moment("start")
        if moment.tzinfo is not None:
            raise self.refused(
                f"has start: {value} with an offset, which no rule can keep over the year",
                'Write the wall time, and the key zone, for instance "Europe/Berlin".',
            )
        return Zoned(moment, zone)

    def recurrence(self, zone_default: str) -> tuple[Recurrence, str]:
        zone = self.text("zone")
        if self.get("duration") is None:
            raise self.refused("does not say how long it lasts", "Add the key duration, for instance duration: 3h.")
        length = parse_length(self.get("duration"), f"{self.label}.duration")
        return read_recurrence(self.text("rule"), self.start(zone), zone, zone_default, length, f"{self.label}.rule")


def _entries(value: object, option: str, code: str, keys: Collection[str]) -> list[_Entry]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise OpsError(code, f"{option} is not a list.", "Begin each entry with a dash.", {"option": option})
    entries = [_Entry(one, option, position, code, keys) for position, one in enumerate(value)]
    for position, entry in enumerate(entries):
        if entry.name in {earlier.name for earlier in entries[:position]}:
            raise entry.refused("stands twice in the list", "Give each entry a name of its own.")
    return entries


def parse_windows(
    value: object, zone_default: str = "UTC", known_verbs: Collection[str] | None = None
) -> tuple[WindowRule, ...]:
    """The windows of saasops_windows.

    zone_default: the zone of entries that name none; known_verbs: None takes every name.
    Raises OpsError bad_window, bad_rule, rule_too_fine, rule_too_dense, rule_never_matches, bad_duration, unknown_zone,
    dateutil_missing.
    """
    found = []
    for entry in _entries(value, "saasops_windows", "bad_window", _WINDOW_KEYS):
        scope = entry.scope(known_verbs)
        recurrence, zone = entry.recurrence(zone_default)
        found.append(WindowRule(Window(entry.name, scope, zone), recurrence))
    return tuple(found)


def parse_freezes(
    value: object, zone_default: str = "UTC", known_verbs: Collection[str] | None = None
) -> tuple[FreezeRule, ...]:
    """The freezes of saasops_freezes; see parse_windows. Raises OpsError bad_freeze, and what a rule raises."""
    found = []
    for entry in _entries(value, "saasops_freezes", "bad_freeze", _FREEZE_KEYS):
        scope, reason = entry.scope(known_verbs), entry.text("reason")
        if not reason:
            raise entry.refused("gives no reason", "Add the key reason; the refusal tells it to the operator.")
        if entry.get("from") is None and entry.get("to") is None:
            schedule: Schedule
            schedule, zone = entry.recurrence(zone_default)
        else:
            schedule, zone = _once(entry, zone_default)
        found.append(FreezeRule(Freeze(entry.name, reason, scope, zone), schedule))
    return tuple(found)


def _once(entry: _Entry, zone_default: str) -> tuple[Once, str]:
    mixed = [key for key in ("rule", "start", "duration") if entry.get(key) is not None]
    if mixed:
        raise entry.refused(f"has from or to, and {', '.join(mixed)} too", "Write from and to, or rule and duration.")
    for key in ("from", "to"):
        if entry.get(key) is None:
            raise entry.refused(f"has no {key}", f"Add the key {key}, with date and time.")
    name = entry.text("zone") or zone_default
    zone = load_zone(name, f"{entry.label}.zone")
    # Of an hour that the clock shows twice a freeze takes both: from its first, to its second.
    ends = [
        to_posix(moment, zone, fold)
        if moment.tzinfo is None
        else to_posix(moment.astimezone(timezone.utc), timezone.utc)
        for fold, moment in enumerate((entry.moment("from"), entry.moment("to")))
    ]
    if ends[0] >= ends[1]:
        raise entry.refused("ends before it begins", "Set to to a time after from.")
    return Once(Interval(*ends)), name
