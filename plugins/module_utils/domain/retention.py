# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets stay, which go, and why.

Sets of the same system, database, kind, schemas and tenant form a group; groups never speak for each other.

- A rule (hourly, daily, weekly, monthly) keeps one set in each of its newest slots. A slot without a proven set is
  not counted, so that a pause in backups does not push old sets out. In each slot the first proven set is taken: it
  is the same set from the day it is made until it goes, and the first of a month is also the first of its day, hour
  and (or) week, so the coarser rules never find that the finer ones have deleted their candidate.
- A set that no rule keeps goes only when a newer set of its group is proven. The newest minimum_proven proven sets
  stay whatever the rules say.
- What is partial goes when nothing in it changed for a grace, because a younger one may be a backup that runs.
- What is damaged, foreign or dated in the future is kept and reported; the first two go only when named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.slots import PERIODS, slot

KEEP = "keep"
DELETE = "delete"
CLOCK_TOLERANCE = 300.0
PROOFS = ("stored", "restored")
UNDO = "undo"


@dataclass(frozen=True)
class Group:
    """What a set is a backup of. Sets replace each other only within one group.

    kind: database, schemas or tenant; UNDO for what a tenant's restore kept to go back to, which shows rows that
    somebody wanted to be rid of and so stands for no backup.
    """

    system: str
    database: str
    kind: str
    schemas: tuple[str, ...] = ()
    tenant: str | None = None


@dataclass(frozen=True)
class Pin:
    """A person's wish that a set stays: why, and until when (POSIX seconds; None is for ever)."""

    reason: str
    until: float | None = None


@dataclass(frozen=True)
class BackupSet:
    """What retention needs to know of one set.

    state: complete, partial, damaged, foreign. group is None unless the manifest could be read.
    started, snapshot_at, finished, newest_change: POSIX seconds; of a partial set only newest_change and the
    start in its id are known.
    proof: "" (never verified), "failed", or one of PROOFS.
    in_use: what still needs the set, as it is shown; "" when nothing does.
    half_deleted: an earlier prune was interrupted in this set, which is then partial.
    """

    set_id: str
    state: str
    group: Group | None
    started: float
    newest_change: float
    snapshot_at: float = 0.0
    finished: float = 0.0
    proof: str = ""
    pin: Pin | None = None
    in_use: str = ""
    half_deleted: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Rule:
    """One set per slot: in the count newest slots (None: any number), if not older than max_age seconds (None: any)."""

    count: int | None = None
    max_age: float | None = None

    @property
    def active(self) -> bool:
        return (self.count is not None or self.max_age is not None) and self.count != 0


@dataclass(frozen=True)
class Policy:
    """What an operator wants kept. Ages in seconds.

    minimum_proven >= 1; proof: the least of PROOFS that makes a set proven; also_delete: ids of damaged or
    foreign sets to delete; rules: by the names of PERIODS.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    keep_all_within: float = 0.0
    minimum_proven: int = 2
    proof: str = "stored"
    partial_grace: float = 86400.0
    also_delete: frozenset[str] = frozenset()

    def proves(self, candidate: BackupSet) -> bool:
        """Whether a set may stand for others."""
        return (
            candidate.state == "complete"
            and candidate.proof in PROOFS
            and PROOFS.index(candidate.proof) >= PROOFS.index(self.proof)
        )


@dataclass(frozen=True)
class Decision:
    """keep or delete, and every reason for it."""

    set_id: str
    decision: str
    reasons: tuple[str, ...]

    @property
    def keeps(self) -> bool:
        return self.decision == KEEP

    @property
    def sentence(self) -> str:
        """ "kept: daily 2026-11-20, weekly 2026-W47" or "goes: superseded by proven 2026..." """
        return f"{'kept' if self.keeps else 'goes'}: {self.because}"

    @property
    def because(self) -> str:
        """The reasons alone."""
        return (", " if self.keeps else "; ").join(self.reasons)


def in_future(candidate: BackupSet, now: float) -> bool:
    """Whether a set claims to have started later than clocks may differ."""
    return candidate.started > now + CLOCK_TOLERANCE


def by_age(sets: Iterable[BackupSet]) -> list[BackupSet]:
    """Oldest first; the id decides between equal starts."""
    return sorted(sets, key=lambda item: (item.started, item.set_id))


def representatives(period: str, sets: Sequence[BackupSet], policy: Policy) -> dict[str, BackupSet]:
    """The set that stands for each slot, by the slot's name: its first proven set, else its first."""
    chosen: dict[str, BackupSet] = {}
    for item in by_age(sets):
        name = slot(period, item.started)
        if name not in chosen or (policy.proves(item) and not policy.proves(chosen[name])):
            chosen[name] = item
    return chosen


def newer_proven_slots(chosen: Mapping[str, BackupSet], policy: Policy) -> dict[str, int]:
    """By a slot's name, how many later slots hold a proven set."""
    counts, so_far = {}, 0
    for name in sorted(chosen, reverse=True):
        counts[name] = so_far
        so_far += policy.proves(chosen[name])
    return counts


def _by_rule(
    period: str, rule: Rule, present: Sequence[BackupSet], policy: Policy, now: float
) -> tuple[dict[str, str], dict[str, str]]:
    """What one rule says: by set id why it keeps a set, and why it does not."""
    keeps: dict[str, str] = {}
    lets_go: dict[str, str] = {}
    chosen = representatives(period, present, policy)
    newer = newer_proven_slots(chosen, policy)
    for item in present:
        name = slot(period, item.started)
        if chosen[name] is not item:
            lets_go[item.set_id] = f"{period}: {chosen[name].set_id} stands for {name}"
        elif rule.count is not None and newer[name] >= rule.count:
            lets_go[item.set_id] = f"{period}: {name} is older than the {rule.count} kept"
        elif rule.max_age is not None and now - item.started >= rule.max_age:
            lets_go[item.set_id] = f"{period}: {name} is older than {human_duration(rule.max_age)}"
        else:
            keeps[item.set_id] = f"{period} {name}"
    return keeps, lets_go


def _held(item: BackupSet, now: float) -> list[str]:
    """Reasons to keep that hold for a set in any state."""
    reasons = []
    if item.pin is not None and (item.pin.until is None or item.pin.until > now):
        until = "" if item.pin.until is None else f" until {utc(item.pin.until, seconds=False)}"
        reasons.append(f"pinned{until} ({item.pin.reason})")
    if item.in_use:
        reasons.append(f"in use by {item.in_use}")
    if in_future(item, now):
        reasons.append(f"dated {human_duration(item.started - now)} in the future, check the clocks")
    return reasons


def _pin_expired(item: BackupSet, now: float) -> list[str]:
    if item.pin is None or item.pin.until is None or item.pin.until > now:
        return []
    return [f"pin expired {utc(item.pin.until, seconds=False)}"]


def _decide_group(sets: Sequence[BackupSet], policy: Policy, now: float) -> dict[str, Decision]:
    """Decisions on the complete sets of one group, by set id."""
    present = [item for item in by_age(sets) if not in_future(item, now)]
    proven = [item for item in present if policy.proves(item)]
    least = {item.set_id for item in proven[-policy.minimum_proven :]}
    rules = [(period, policy.rules[period]) for period in PERIODS if period in policy.rules]
    verdicts = [_by_rule(period, rule, present, policy, now) for period, rule in rules if rule.active]
    decisions = {}
    for item in sets:
        reasons = _held(item, now)
        if not in_future(item, now):
            reasons += [keeps[item.set_id] for keeps, _lets_go in verdicts if item.set_id in keeps]
            if now - item.started < policy.keep_all_within:
                reasons.append(f"younger than {human_duration(policy.keep_all_within)}")
            if item.set_id in least:
                count = min(policy.minimum_proven, len(proven))
                reasons.append("the newest proven set" if count == 1 else f"one of the {count} newest proven sets")
            elif not proven or (proven[-1].started, proven[-1].set_id) < (item.started, item.set_id):
                reasons.append("no newer set is proven")
        if reasons:
            decisions[item.set_id] = Decision(item.set_id, KEEP, tuple(reasons))
            continue
        why = [f"superseded by proven {proven[-1].set_id}", *_pin_expired(item, now)]
        why += [lets_go[item.set_id] for _keeps, lets_go in verdicts]
        decisions[item.set_id] = Decision(item.set_id, DELETE, tuple(why))
    return decisions


def _decide_partial(item: BackupSet, policy: Policy, now: float) -> Decision:
    held = _held(item, now)
    if held:
        return Decision(item.set_id, KEEP, tuple(held))
    if item.half_deleted:
        return Decision(item.set_id, DELETE, ("an earlier prune was interrupted while it deleted this set",))
    quiet = now - item.newest_change
    if quiet >= policy.partial_grace:
        return Decision(item.set_id, DELETE, (f"partial, and nothing in it changed for {human_duration(quiet)}",))
    return Decision(
        item.set_id,
        KEEP,
        (f"partial, but changed less than {human_duration(policy.partial_grace)} ago: a backup may be running",),
    )


def _decide_unusable(item: BackupSet, policy: Policy, now: float) -> Decision:
    """A damaged or foreign set: its problem is shown, and it goes only when named."""
    held = _held(item, now)
    if not held and item.set_id in policy.also_delete:
        return Decision(item.set_id, DELETE, (f"{item.state}, and named in also_delete", *filter(None, [item.problem])))
    problem = f": {item.problem}" if item.problem else ""
    return Decision(item.set_id, KEEP, (f"{item.state}{problem}", *held))


def decide_retention(sets: Sequence[BackupSet], policy: Policy, now: float) -> list[Decision]:
    """One decision per set, oldest set first. now is in POSIX seconds.

    Holds for every input: at least min(minimum_proven, proven sets there are) proven sets stay in each group;
    a complete set goes only when a newer one of its group is proven and stays; the answer to what is left after the
    deletions is to delete nothing more; with the same sets and a later now never fewer go.
    """
    groups: dict[Group | None, list[BackupSet]] = {}
    decisions: dict[str, Decision] = {}
    for item in sets:
        if item.state == "complete":
            groups.setdefault(item.group, []).append(item)
        elif item.state == "partial":
            decisions[item.set_id] = _decide_partial(item, policy, now)
        else:
            decisions[item.set_id] = _decide_unusable(item, policy, now)
    for members in groups.values():
        decisions.update(_decide_group(members, policy, now))
    return [decisions[item.set_id] for item in by_age(sets)]
