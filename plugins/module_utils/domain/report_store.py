# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets as the report shows them: a line a set, and a calendar of what is kept by which slot."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import (
    ago,
    human_duration,
    human_size,
    utc,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.listing import Line, standing, subject
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import Decision, Policy, in_future
from ansible_collections.saasops.runbook.plugins.module_utils.domain.slots import PERIODS, slot

MOST_SETS = 400  # lines of the table, the newest
MOST_MONTHS = 24
GOES_NEXT = 5
CROSS = "\u00d7"
# not calendar.month_name, which speaks the language of the host
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Kept:
    """One set with what retention says of it; decision and expiry (POSIX seconds) None without a policy or for ever."""

    line: Line
    decision: Decision | None
    expires: float | None

    @property
    def slots(self) -> list[str]:
        """The rules that keep it, the coarsest first."""
        reasons = self.decision.reasons if self.decision is not None and self.decision.keeps else ()
        return [name for name in reversed(PERIODS) if any(reason.startswith(f"{name} ") for reason in reasons)]


def _pinned(item: Kept, now: float) -> bool:
    pin = item.line.facts.pin
    return pin is not None and (pin.until is None or pin.until > now)


def _pin(item: Kept, now: float) -> str:
    pin = item.line.facts.pin
    if pin is None:
        return ""
    if pin.until is None:
        return f"pinned: {pin.reason}"
    return f"{'pinned' if pin.until > now else 'pin expired'} until {utc(pin.until, seconds=False)}: {pin.reason}"


def _fate(item: Kept, now: float) -> str:
    """When prune deletes it, in words."""
    if item.decision is None:
        return "no retention is set"
    if not item.decision.keeps:
        return "next prune"
    return "never by itself" if item.expires is None else utc(max(now, item.expires), seconds=False)


def _next(items: Sequence[Kept], now: float) -> list[Kept]:
    """The sets that go first: those that the next prune deletes, then by their time."""
    going = [item for item in items if item.decision is not None and (not item.decision.keeps or item.expires)]
    going.sort(key=lambda item: (item.decision is not None and item.decision.keeps, item.expires or now))
    due = [item for item in going if item.decision is not None and not item.decision.keeps]
    return going[: max(GOES_NEXT, len(due))]


def _set(item: Kept, now: float) -> dict[str, Json]:
    facts = item.line.facts
    since = facts.snapshot_at or facts.started
    word = standing(facts)
    return {
        "set": facts.set_id,
        "subject": subject(facts),
        "at": utc(since, seconds=False) if since > 0 else "unknown",
        "age": ago(now - since) if since > 0 else "unknown",
        "size": human_size(item.line.size),
        "tables": item.line.tables,
        "rows": None if item.line.rows is None else f"{item.line.rows:,}",
        "proof": word.lower(),
        "sound": not word.isupper(),
        "keeps": item.decision is None or item.decision.keeps,
        "because": item.decision.sentence if item.decision is not None else "",
        "pin": _pin(item, now),
        "problem": facts.problem,
        "in_use": facts.in_use,
        "expires": _fate(item, now),
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _day(items: Sequence[Kept], going: frozenset[str], now: float) -> dict[str, Json]:
    """A cell of the calendar: the coarsest slot colours it, letters and a sentence say all of them."""
    slots = [name for name in reversed(PERIODS) if any(name in item.slots for item in items)]
    pinned = sum(_pinned(item, now) for item in items)
    doubtful = sum(standing(item.line.facts).isupper() for item in items)
    goes = sum(item.line.facts.set_id in going for item in items)
    told = [_count(len(items), "set")]
    told += [f"kept as {', '.join(slots)}"] if slots else []
    told += [f"{pinned} pinned"] if pinned else []
    told += [f"{doubtful} not to be relied on"] if doubtful else []
    told += [f"{goes} to go next"] if goes else []
    marks = "".join(name[0].upper() for name in slots) + ("P" if pinned else "")
    marks += ("!" if doubtful else "") + (CROSS if goes else "")
    return {
        "sets": len(items),
        "slot": slots[0] if slots else "none",
        "marks": marks,
        "label": "; ".join(told),
    }


def _months(items: Sequence[Kept], now: float) -> tuple[list[Json], int]:
    """(one grid of weeks a month that has sets, the newest first; how many older months are left out)."""
    going = frozenset(item.line.facts.set_id for item in _next(items, now))
    days: dict[str, list[Kept]] = {}
    for item in items:
        if item.line.facts.started > 0:
            days.setdefault(slot("daily", item.line.facts.started), []).append(item)
    names = sorted({day[:7] for day in days}, reverse=True)
    months: list[Json] = []
    for name in names[:MOST_MONTHS]:
        year, month = int(name[:4]), int(name[5:])
        weeks: list[Json] = []
        for week in calendar.Calendar().monthdayscalendar(year, month):
            cells: list[Json] = []
            for number in week:
                there = days.get(f"{name}-{number:02d}")
                found = _day(there, going, now) if there else {}
                cells.append({"day": number, **found} if number else None)
            weeks.append(cells)
        months.append({"name": f"{MONTHS[month - 1]} {year}", "weeks": weeks})
    return months, max(0, len(names) - MOST_MONTHS)


def policy_words(policy: Policy | None) -> str:
    """What is kept, in a sentence."""
    if policy is None:
        return "No retention is set (saasops_retention), so nothing is ever deleted."
    told = []
    for name in PERIODS:
        rule = policy.rules.get(name)
        if rule is not None and rule.active:
            count = f"{rule.count} " if rule.count is not None else ""
            age = f" up to {human_duration(rule.max_age)} old" if rule.max_age is not None else ""
            told.append(f"{count}{name}{age}")
    if policy.keep_all_within:
        told.append(f"everything younger than {human_duration(policy.keep_all_within)}")
    least = "the newest proven set" if policy.minimum_proven == 1 else f"the {policy.minimum_proven} newest proven sets"
    return f"Kept are {', '.join(told)}, and always {least} of each database. Slots are in UTC."


def store_view(
    items: Sequence[Kept], points: Sequence[RecoveryPoint], policy: Policy | None, rpo: float | None, now: float
) -> dict[str, Json]:
    """All that the report tells of backups; items oldest first, as take_stock gives them."""
    newest_first = sorted(items, key=lambda item: (item.line.facts.started, item.line.facts.set_id), reverse=True)
    months, months_more = _months(items, now)
    return {
        "rpo": human_duration(rpo) if rpo is not None else "",
        "points": [
            {
                "database": _point_name(point),
                "set": point.set_id or "",
                "at": "" if point.at is None else utc(point.at),
                "age": "" if point.age is None else human_duration(point.age),
                "share": None if point.age is None or not rpo else round(100 * point.age / rpo),
                "proof": _proof_of(point, items),
                "verdict": point.verdict,
                "sentence": point.sentence,
            }
            for point in points
        ],
        "sets": [_set(item, now) for item in newest_first[:MOST_SETS]],
        "sets_more": max(0, len(items) - MOST_SETS),
        "future": sum(in_future(item.line.facts, now) for item in items),
        "count": len(items),
        "size": human_size(sum(item.line.size for item in items)),
        "policy": policy_words(policy),
        "months": months,
        "months_more": months_more,
        "next": [
            {"set": item.line.facts.set_id, "subject": subject(item.line.facts), "when": _fate(item, now)}
            for item in _next(items, now)
        ],
    }


def _point_name(point: RecoveryPoint) -> str:
    if point.tenant is not None:
        return f"{point.database}, tenant {point.tenant}"
    return f"{point.database}, schemas {', '.join(point.schemas)}" if point.schemas else point.database


def _proof_of(point: RecoveryPoint, items: Sequence[Kept]) -> str:
    levels: Mapping[str, str] = {"stored": "read back from the store", "restored": "restored and compared by a drill"}
    for item in items:
        if item.line.facts.set_id == point.set_id:
            return levels.get(item.line.facts.proof, item.line.facts.proof)
    return ""
