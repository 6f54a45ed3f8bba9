# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets as lines for a terminal: what is there, and what prune does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import table
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    UNDO,
    BackupSet,
    Decision,
    in_future,
)

_RIGHT = ("AGE", "SIZE", "TABLES", "ROWS")


@dataclass(frozen=True)
class Line:
    """One set and the numbers that only its store and manifest know; tables and rows None when unreadable."""

    facts: BackupSet
    size: int
    tables: int | None = None
    rows: int | None = None
    expires: str = ""


def _age(facts: BackupSet, now: float) -> str:
    since = facts.snapshot_at or facts.started
    if since <= 0:
        return "?"
    return human_duration(now - since) if since <= now else f"-{human_duration(since - now)}"


def subject(facts: BackupSet) -> str:
    """What a set is a backup of: "app", "app: tenant org_a", "app: schemas a, b", "app: undo of tenant org_a"."""
    group = facts.group
    if group is None:
        return "?"
    if group.tenant is not None:
        return f"{group.database}: {'undo of ' if group.kind == UNDO else ''}tenant {group.tenant}"
    return f"{group.database}: schemas {', '.join(group.schemas)}" if group.schemas else group.database


def standing(facts: BackupSet) -> str:
    """The level of proof in a word; capitals for what must not be relied on."""
    if facts.state != "complete":
        return facts.state.upper()
    return {"": "UNPROVEN", "failed": "FAILED"}.get(facts.proof, facts.proof)


def _note(facts: BackupSet, now: float) -> str:
    notes = ["dated in the future, check the clocks"] if in_future(facts, now) else []
    if facts.pin is not None:
        expired = facts.pin.until is not None and facts.pin.until <= now
        until = "" if facts.pin.until is None else f" {'expired' if expired else 'until'} {utc(facts.pin.until, False)}"
        notes.append(f"{'pin' if expired else 'pinned'}{until} ({facts.pin.reason})")
    if facts.in_use:
        notes.append(f"in use by {facts.in_use}")
    if facts.problem:
        notes.append(facts.problem)
    return "; ".join(notes)


def backup_lines(lines: Sequence[Line], now: float) -> list[str]:
    """A table of all sets, oldest first, so that the newest stands next to the verdict below."""
    rows = [
        [
            line.facts.set_id,
            _age(line.facts, now),
            human_size(line.size),
            subject(line.facts),
            standing(line.facts),
            "" if line.tables is None else f"{line.tables:,}",
            "" if line.rows is None else f"{line.rows:,}",
            line.expires,
            _note(line.facts, now),
        ]
        for line in lines
    ]
    return table(("SET", "AGE", "SIZE", "DATABASE", "PROOF", "TABLES", "ROWS", "EXPIRES", "NOTE"), rows, _RIGHT)


def prune_lines(lines: Sequence[Line], decisions: Sequence[Decision], now: float) -> list[str]:
    """A table of all sets with the decision on each and every reason for it."""
    by_id = {line.facts.set_id: line for line in lines}
    rows = []
    for decision in decisions:
        line = by_id[decision.set_id]
        rows.append(
            [
                "keep" if decision.keeps else "DELETE",
                decision.set_id,
                _age(line.facts, now),
                human_size(line.size),
                subject(line.facts),
                standing(line.facts),
                decision.because,
            ]
        )
    return table(("", "SET", "AGE", "SIZE", "DATABASE", "PROOF", "WHY"), rows, _RIGHT)
