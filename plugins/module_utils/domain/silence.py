# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences of Alertmanager: which one is meant, and what has to be done to it.

Two silences are the same when their comment and their matchers are, in whatever order; who made it and when it ends
do not count. One that has expired is history and never the same as anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

VERB = "silence"
LIVING = ("active", "pending")
# seconds by which an end that is reckoned from a length may differ: the clocks of two machines do
TOLERANCE = 60.0
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, order=True)
class Matcher:
    """One condition on a label, as API v2 has it."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def __str__(self) -> str:
        sign = ("=" if self.is_equal else "!") + ("~" if self.is_regex else "" if self.is_equal else "=")
        text = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{sign}"{text}"'

    def as_json(self) -> dict[str, object]:
        return {"name": self.name, "value": self.value, "isRegex": self.is_regex, "isEqual": self.is_equal}


@dataclass(frozen=True)
class Silence:
    """One silence. starts, ends and updated are POSIX seconds; id is "" for one that is to be made.

    state: active, pending or expired, as Alertmanager itself says.
    """

    matchers: tuple[Matcher, ...]
    comment: str
    created_by: str
    starts: float
    ends: float
    id: str = ""
    state: str = ""
    updated: float = 0.0

    @property
    def object(self) -> str:
        """The matchers, as amtool writes them."""
        return " ".join(str(matcher) for matcher in sorted(self.matchers))


@dataclass(frozen=True)
class Wanted:
    """What an operator asks for. Times are POSIX seconds; exactly one of ends and length (seconds) is given.

    length counts from the silence's own start, so that asking twice is asking once.
    shorten: an earlier end is taken over, too.
    """

    matchers: tuple[Matcher, ...]
    comment: str
    created_by: str = ""
    starts: float | None = None
    ends: float | None = None
    length: float | None = None
    shorten: bool = False


@dataclass(frozen=True)
class Step:
    """What is done to one silence: silence, extend, shorten, move, expire; "" for nothing. silence is the result."""

    kind: str
    silence: Silence
    before: Silence | None = None


def _bad_matcher(cause: str) -> OpsError:
    return OpsError("bad_matcher", cause, "Give name and value of a label, and is_regex or is_equal as needed.")


def parse_matchers(given: object) -> tuple[Matcher, ...]:
    """From the option matchers. Raises OpsError bad_matcher: a silence that is meant otherwise silences too much."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise _bad_matcher("There is no matcher; that would silence every alert.")
    found = []
    for item in given:
        if not isinstance(item, Mapping) or item.get("value") is None:
            raise _bad_matcher(f"{item!r} is no matcher.")
        name = str(item.get("name") or "")
        if not _LABEL.match(name):
            raise _bad_matcher(f"{name!r} is no name of a label.")
        equal = item.get("is_equal")
        found.append(Matcher(name, str(item["value"]), bool(item.get("is_regex")), equal is None or bool(equal)))
    if len(set(found)) < len(found):
        raise _bad_matcher("A matcher is given twice.")
    if not any(matcher.value and matcher.is_equal for matcher in found):
        raise _bad_matcher("No matcher asks for a label to be there; that would silence nearly every alert.")
    return tuple(found)


def parse_time(text: str, name: str) -> float:
    """POSIX seconds of an ISO 8601 time with its zone. Raises OpsError bad_time."""
    match = _STAMP.match(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        whole = datetime.fromisoformat(match.group(1) + match.group(3).replace("Z", "+00:00"))
        return (whole - _EPOCH).total_seconds() + float(match.group(2) or 0)
    except ValueError:
        raise OpsError(
            "bad_time",
            f"{name}: {text!r} is no time with a zone.",
            'Write it as "2026-12-24T18:00:00Z" or "2026-12-24T19:00:00+01:00".',
        ) from None


def stamp(moment: float) -> str:
    """POSIX seconds as RFC 3339 with milliseconds in UTC, as Alertmanager writes them."""
    found = _EPOCH + timedelta(milliseconds=round(moment * 1000))
    return found.strftime("%Y-%m-%dT%H:%M:%S.") + f"{found.microsecond // 1000:03d}Z"


def parse_silence(body: object) -> Silence:
    """From API v2's JSON. Raises ValueError when it is not one."""
    try:
        if not isinstance(body, Mapping):
            raise TypeError("no object")
        return Silence(
            matchers=tuple(
                Matcher(str(m["name"]), str(m["value"]), bool(m["isRegex"]), bool(m.get("isEqual", True)))
                for m in cast("Sequence[Mapping[str, object]]", body["matchers"])
            ),
            comment=str(body["comment"]),
            created_by=str(body["createdBy"]),
            starts=parse_time(str(body["startsAt"]), "startsAt"),
            ends=parse_time(str(body["endsAt"]), "endsAt"),
            id=str(body["id"]),
            state=str(body["status"]["state"]),
            updated=parse_time(str(body["updatedAt"]), "updatedAt"),
        )
    except (KeyError, TypeError, OpsError) as error:
        raise ValueError(f"not a silence: {error}") from error


def as_json(silence: Silence) -> dict[str, object]:
    """The body of a POST to API v2."""
    body: dict[str, object] = {
        "matchers": [matcher.as_json() for matcher in silence.matchers],
        "startsAt": stamp(silence.starts),
        "endsAt": stamp(silence.ends),
        "createdBy": silence.created_by,
        "comment": silence.comment,
    }
    return {**body, "id": silence.id} if silence.id else body


def same(found: Iterable[Silence], matchers: Sequence[Matcher], comment: str) -> list[Silence]:
    """Those of found that are the wanted one and alive, the first made first.

    The order decides which of two that were made at the same moment stays: whoever looks after making their own sees
    every earlier one, so both makers agree.
    """
    alike = [
        item
        for item in found
        if item.state in LIVING and item.comment == comment and set(item.matchers) == set(matchers)
    ]
    return sorted(alike, key=lambda item: (item.updated, item.id))


def _end(wanted: Wanted, starts: float) -> float:
    return wanted.ends if wanted.ends is not None else starts + (wanted.length or 0.0)


def decide_present(wanted: Wanted, alike: Sequence[Silence], now: float) -> Step:
    """What makes the wanted silence stand. alike: as same() gave them. Raises OpsError bad_period."""
    starts = now if wanted.starts is None else max(wanted.starts, now)
    ends = _end(wanted, starts)
    if ends <= starts:
        raise OpsError(
            "bad_period",
            f"The silence would end at {stamp(ends)}, before it begins.",
            "Give an end after now and after starts, or a duration.",
        )
    if not alike:
        return Step(VERB, Silence(wanted.matchers, wanted.comment, wanted.created_by, starts, ends))
    # of several the first one stays: the others are of makers that have not yet seen it
    there = alike[0]
    earlier = there.state == "pending" and starts < there.starts - TOLERANCE
    after = replace(there, starts=starts) if earlier else there
    ends = _end(wanted, after.starts)
    off = ends - there.ends
    close = abs(off) <= (1.0 if wanted.ends is not None else TOLERANCE)
    if not close and (off > 0 or wanted.shorten):
        return Step("extend" if off > 0 else "shorten", replace(after, ends=ends), there)
    return Step("move" if earlier else "", after, there)


def decide_absent(alike: Sequence[Silence]) -> list[Step]:
    """All living silences that are the named one end."""
    return [Step("expire", item, item) for item in alike]


def plan_of(steps: Sequence[Step]) -> Plan:
    """As a plan; a step that does nothing is none."""
    return Plan(VERB, tuple(Action(s.kind, s.silence.object, _reason(s)) for s in steps if s.kind))


def _reason(step: Step) -> str:
    if step.kind == "expire":
        return step.silence.comment
    return f"until {stamp(step.silence.ends)}: {step.silence.comment}"


def describe(silence: Silence | None) -> list[str]:
    """A silence as lines of a diff; [] for none."""
    if silence is None:
        return []
    period = f"{stamp(silence.starts)} to {stamp(silence.ends)}"
    return [f"silence {silence.object}", f"  {period}", f"  {silence.comment} ({silence.created_by})"]


def facts(silence: Silence) -> dict[str, object]:
    """A silence as a result shows it."""
    return {
        "id": silence.id,
        "matchers": [
            {"name": m.name, "value": m.value, "is_regex": m.is_regex, "is_equal": m.is_equal} for m in silence.matchers
        ],
        "starts": stamp(silence.starts),
        "ends": stamp(silence.ends),
        "comment": silence.comment,
        "created_by": silence.created_by,
    }
