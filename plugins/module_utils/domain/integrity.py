# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data corruption: what was looked at, what a suspicion is, what it holds back, and which sets are from before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import clean_text
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    CLOCK_TOLERANCE,
    UNDO,
    BackupSet,
    Group,
    Policy,
)

# what must wait: it deletes sets, rows or the database that was damaged, writes tables anew from damaged pages, or
# throws away what is only in memory any more
HOLDS = ("prune", "cleanup", "restart", "restore_finish", "maintenance:rewrite")
ROOT = "integrity/"  # in the store: integrity/<item>-<time>.json
MOST = 200  # findings that are kept
TEXT = 300  # characters of one
SUSPECT, KEEP_EVIDENCE = "suspect", "keep evidence"
CHECKSUM, HEAP, INDEX, READ = "checksum", "heap", "index", "read"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. relation: schema.name, "" for a whole database; block: page number or None."""

    database: str
    relation: str
    kind: str
    text: str
    block: int | None = None
    file: str = ""

    def as_json(self) -> dict[str, Json]:
        """For the store and the module's result."""
        return {
            "database": self.database,
            "relation": self.relation,
            "kind": self.kind,
            "block": self.block,
            "file": self.file,
            "text": clean_text(self.text, limit=TEXT),
        }

    def tell(self) -> str:
        """One line."""
        where = f"{self.database}: {self.relation}" if self.relation else self.database
        page = "" if self.block is None else f" page {self.block}"
        return f"{where}{page} ({self.kind}): {clean_text(self.text, limit=TEXT)}"


@dataclass(frozen=True)
class Survey:
    """What was looked at and what was found.

    checked: relations that were read whole. unchecked: (database or relation, why not). earliest: POSIX seconds of the
    first sign, None when nothing tells it. facts: version, checksums, server log, for the evidence.
    """

    findings: tuple[Finding, ...] = ()
    checked: int = 0
    unchecked: tuple[tuple[str, str], ...] = ()
    earliest: float | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Before:
    """The newest proven set of a database from before a moment, and the newest one that was restored from; or None."""

    group: Group
    proven: BackupSet | None
    restored: BackupSet | None

    def tell(self) -> str:
        """One line."""
        name = self.group.database if self.group.tenant is None else f"tenant {self.group.tenant}"
        if self.proven is None:
            return f"{name}: NO proven set from before the suspicion"
        told = f"{name}: last proven set from before the suspicion is {self.proven.set_id}, "
        told += f"of {utc(self.proven.snapshot_at)} ({self.proven.proof})"
        if self.restored is not None and self.restored != self.proven:
            told += f"; the last one that was restored and compared is {self.restored.set_id}"
        return told


def item_id(system: str) -> str:
    """The open item's id: a system is suspected once."""
    return "integrity-" + hashlib.sha256(system.encode()).hexdigest()[:12]


def evidence_key(system: str, now: float) -> str:
    """Where the evidence of a suspicion of that moment is kept."""
    return f"{ROOT}{item_id(system)}-{iso(now).replace(':', '').replace('-', '')}.json"


def sets_before(sets: Iterable[BackupSet], moment: float) -> list[Before]:
    """For each group of sets: the newest proven ones whose snapshot was taken before a moment (POSIX seconds)."""
    groups: dict[Group, list[BackupSet]] = {}
    for item in sets:
        if item.group is not None and item.group.kind != UNDO:
            groups.setdefault(item.group, []).append(item)
    found = []
    any_proof, restored = Policy(), Policy(proof="restored")
    for group in sorted(groups, key=str):
        in_time = [item for item in groups[group] if item.snapshot_at < moment]
        earlier = sorted(in_time, key=lambda item: (item.snapshot_at, item.set_id))
        proven = [item for item in earlier if any_proof.proves(item)]
        tried = [item for item in earlier if restored.proves(item)]
        found.append(Before(group, proven[-1] if proven else None, tried[-1] if tried else None))
    return found


def to_pin(found: Sequence[Before]) -> list[str]:
    """The sets that are kept whatever the retention says."""
    return sorted({item.set_id for one in found for item in (one.proven, one.restored) if item is not None})


def since(survey: Survey, now: float) -> float:
    """The moment from which on data are in doubt: the first sign, with room for differing clocks."""
    return min(now, survey.earliest if survey.earliest is not None else now) - (
        CLOCK_TOLERANCE if survey.earliest is not None else 0.0
    )


def fresh(findings: Sequence[Finding], known: Iterable[Mapping[str, Json]]) -> list[Finding]:
    """Findings that the evidence does not hold yet."""
    keys = ("database", "relation", "kind", "block")
    seen = {tuple(item.get(key) for key in keys) for item in known}
    return [item for item in findings if tuple(item.as_json()[key] for key in keys) not in seen]


def decide(
    system: str, survey: Survey, suspected: str, item: OpenItem | None, evidence: Mapping[str, Json] | None
) -> Plan:
    """What is to be recorded. suspected: what a person says, "" for none. item: the suspicion that stands, if any.

    evidence: what the store holds of it, None when that is missing: a run was killed between the two.
    """
    findings = survey.findings
    if item is None and (findings or suspected):
        why = suspected or f"{len(findings)} findings, the first: {findings[0].tell()}"
        kept = Action(KEEP_EVIDENCE, system, "what was found, and which sets are from before it")
        return Plan("integrity", (Action(SUSPECT, system, why, {"findings": len(findings)}), kept))
    if item is not None and evidence is None:
        return Plan("integrity", (Action(KEEP_EVIDENCE, system, item.what, {"findings": len(findings)}),))
    if item is not None and evidence is not None:
        known = evidence.get("findings")
        new = fresh(findings, [one for one in known if isinstance(one, Mapping)] if isinstance(known, list) else [])
        if new:
            said = f"{len(new)} more findings, the first: {new[0].tell()}"
            return Plan("integrity", (Action(KEEP_EVIDENCE, system, said, {"findings": len(new)}),))
    return Plan("integrity", ())


def decide_release(system: str, item: OpenItem | None, reason: str) -> Plan:
    """What is to be done to end a suspicion."""
    if item is None:
        return Plan("integrity", ())
    return Plan("integrity", (Action("release", system, f"{reason}; it was: {item.what}"),))


def lines(survey: Survey, spent: float, found: Sequence[Before]) -> list[str]:
    """What an operator reads."""
    text = [f"{survey.checked} relations were read whole in {human_duration(spent)}, {len(survey.findings)} findings"]
    text += [f"  {item.tell()}" for item in survey.findings[:20]]
    if len(survey.findings) > 20:
        text.append(f"  and {len(survey.findings) - 20} more")
    reasons: dict[str, list[str]] = {}
    for name, why in survey.unchecked:
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        text.append(f"not checked: {', '.join(names[:5])}{more}: {why}")
    return text + [one.tell() for one in found]
