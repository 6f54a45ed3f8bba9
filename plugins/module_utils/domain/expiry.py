# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When prune would delete each set.

The answer is computed rule by rule instead of by asking decide_retention again for every hour of the coming year;
a property test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    BackupSet,
    Group,
    Policy,
    Rule,
    by_age,
    in_future,
    newer_proven_slots,
    representatives,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.slots import PERIODS, slot, slot_end

NEVER = math.inf
_HORIZON = 100 * 366 * 86400.0


class _Schedule:
    """The proven backups that are expected: one every interval seconds after the last, none without an interval."""

    def __init__(self, last: float | None, interval: float | None, now: float) -> None:
        self.interval = interval
        self.now = now
        overdue = last is None or interval is None or last + interval <= now
        self.anchor = now if overdue or last is None else last

    def nth(self, number: int) -> float:
        """When the expected backup of this number (from 1) starts."""
        return self.anchor + number * self.interval if self.interval else NEVER

    def first_from(self, moment: float) -> float:
        """When the first expected backup at moment or later starts."""
        if not self.interval:
            return NEVER
        number = max(1, math.ceil((moment - self.anchor) / self.interval))
        while self.nth(number) < moment:
            number += 1
        return self.nth(number)

    def new_slots(self, period: str, taken: frozenset[str], count: int) -> list[float]:
        """When each of the next count slots gets its first proven set; slots in taken have one already."""
        arrivals: list[float] = []
        moment = self.first_from(self.now)
        while len(arrivals) < count and moment < self.now + _HORIZON:
            if slot(period, moment) not in taken:
                arrivals.append(moment)
            moment = self.first_from(slot_end(period, moment))
        return arrivals


def _rule_ends(
    period: str, rule: Rule, present: Sequence[BackupSet], policy: Policy, schedule: _Schedule
) -> dict[str, float]:
    """By set id, when the rule lets go of the sets that stand for a slot."""
    chosen = representatives(period, present, policy)
    newer = newer_proven_slots(chosen, policy)
    proven = frozenset(name for name, item in chosen.items() if policy.proves(item))
    arrivals = schedule.new_slots(period, proven, rule.count) if rule.count is not None else []
    ends = {}
    for name, item in chosen.items():
        end = NEVER
        if rule.count is not None:
            missing = rule.count - newer[name]
            if missing <= 0:
                continue
            end = arrivals[missing - 1] if missing <= len(arrivals) else NEVER
        if name not in proven:
            replaced = schedule.first_from(schedule.now)
            end = min(end, replaced if replaced < NEVER and slot(period, replaced) == name else NEVER)
        if rule.max_age is not None:
            end = min(end, item.started + rule.max_age)
        ends[item.set_id] = end
    return ends


def _group_ends(sets: Sequence[BackupSet], policy: Policy, now: float, interval: float | None) -> dict[str, float]:
    present = [item for item in by_age(sets) if not in_future(item, now)]
    proven = [item for item in present if policy.proves(item)]
    schedule = _Schedule(proven[-1].started if proven else None, interval, now)
    by_rule = [
        _rule_ends(period, policy.rules[period], present, policy, schedule)
        for period in PERIODS
        if period in policy.rules and policy.rules[period].active
    ]
    newest_first = [item.set_id for item in reversed(proven)]
    ends = {}
    for item in sets:
        moments = [rule[item.set_id] for rule in by_rule if item.set_id in rule]
        moments += [item.started + policy.keep_all_within, *_held_until(item)]
        if in_future(item, now):
            moments.append(NEVER)
        elif item.set_id in newest_first[: policy.minimum_proven]:
            moments.append(schedule.nth(policy.minimum_proven - newest_first.index(item.set_id)))
        elif not proven or (item.started, item.set_id) > (proven[-1].started, proven[-1].set_id):
            moments.append(schedule.nth(1))
        ends[item.set_id] = max(moments)
    return ends


def _held_until(item: BackupSet) -> list[float]:
    moments = [NEVER] if item.in_use else []
    if item.pin is not None:
        moments.append(NEVER if item.pin.until is None else item.pin.until)
    return moments


def expiries(
    sets: Sequence[BackupSet], policy: Policy, now: float, interval: float | None = None
) -> Mapping[str, float | None]:
    """By set id the POSIX time from which prune deletes it, now at the earliest, None when it never would.

    interval: seconds between the proven backups that are expected of each group; None when nothing new comes.
    Sets from the future, in use or damaged have no expiry: they wait for a person.
    """
    groups: dict[Group | None, list[BackupSet]] = {}
    ends: dict[str, float] = {}
    for item in sets:
        if item.state == "complete":
            groups.setdefault(item.group, []).append(item)
        elif item.state == "partial" and not in_future(item, now):
            quiet = now if item.half_deleted else item.newest_change + policy.partial_grace
            ends[item.set_id] = max([quiet, *_held_until(item)])
        else:
            ends[item.set_id] = NEVER
    for members in groups.values():
        ends.update(_group_ends(members, policy, now, interval))
    return {set_id: None if end >= now + _HORIZON else max(now, end) for set_id, end in ends.items()}
