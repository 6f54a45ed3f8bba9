# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order, within which budget: emergencies by age, then what gains most for its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    FREEZE,
    KINDS,
    LEFTOVER,
    REINDEX,
    REWRITE,
    Act,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan

# acts that keep others from a table longest come last
_LATE = {LEFTOVER: 1, REINDEX: 2, REWRITE: 3}
SHOWN = 5


@dataclass(frozen=True)
class Budget:
    """seconds of wall time with so many connections, None without an end; ceilings: tables, and bytes rewritten."""

    seconds: float | None = None
    jobs: int = 1
    tables: int | None = None
    rewrite_bytes: int | None = None


@dataclass(frozen=True)
class Decision:
    """acts in the order of their doing; left: what is due and not done in this run, with the reason; remarks."""

    acts: tuple[Act, ...]
    left: tuple[tuple[Act, str], ...] = ()
    remarks: tuple[str, ...] = ()
    # tables that need something and may not be touched by this role, with their owners
    forbidden: tuple[tuple[str, str], ...] = ()
    scope: int = 0
    budget: Budget = field(default_factory=Budget)

    def plan(self, main: str) -> Plan:
        """Its envelope names kinds and databases for what changes by the minute, and objects for what locks."""
        kinds = {act.kind for act in self.acts}
        ceilings: dict[str, int] = {}
        if self.acts:
            # not how many are due now, which changes by the minute: how many may be touched at most
            ceilings["tables"] = self.scope if self.budget.tables is None else min(self.scope, self.budget.tables)
            ceilings["databases"] = len({act.database for act in self.acts})
            if self.budget.seconds is not None:
                ceilings["minutes"] = int(-(-self.budget.seconds // 60))
        if REWRITE in kinds and self.budget.rewrite_bytes is not None:
            ceilings["bytes"] = self.budget.rewrite_bytes
        remarks = list(self.remarks)
        if self.left:
            remarks.append(tell_left(self.left))
        for name, owner in self.forbidden[:SHOWN]:
            remarks.append(f"{name} is due, and only its owner {owner} (or a superuser) may maintain it.")
        if len(self.forbidden) > SHOWN:
            remarks.append(f"{len(self.forbidden) - SHOWN} more tables are due that this role may not maintain.")
        return Plan("maintenance", tuple(act.as_action(main) for act in self.acts), ceilings, tuple(remarks))


def tell_left(left: Sequence[tuple[Act, str]]) -> str:
    """What is due and stays, in a sentence."""
    reasons: dict[str, list[str]] = {}
    for act, reason in left:
        reasons.setdefault(reason, []).append(f"{act.kind} {act.title}")
    parts = []
    for reason, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        parts.append(f"{', '.join(names[:SHOWN])}{more} ({reason})")
    return "Left: " + "; ".join(parts) + "."


def ordered(acts: Sequence[Act]) -> list[Act]:
    """Emergencies first, the oldest before; then freezes by age; then gain for time, acts of one table together.

    Rebuilds come after all of that, and rewrites last.
    """
    weights: dict[tuple[str, int], float] = {}
    for act in acts:
        if act.kind not in _LATE:
            key = (act.database, act.table)
            weights[key] = weights.get(key, 0.0) + act.gain / act.seconds

    def rank(act: Act) -> tuple[int, float, float, float, str, int, int]:
        late = _LATE.get(act.kind, 0) + (0.5 if act.last else 0)
        weight = act.gain / act.seconds if act.kind in _LATE else weights[(act.database, act.table)]
        # what samples comes before what depends on the sample
        step = KINDS.index(act.kind) + (len(KINDS) if act.conditional else 0)
        frozen = act.gain if act.kind == FREEZE else 0.0
        return (-act.urgent, late, -frozen, -weight, act.database, act.table, step)

    return sorted(acts, key=rank)


def without_doubles(acts: Sequence[Act]) -> list[Act]:
    """A rewrite does what vacuum, analyze and reindex of its table would do, but for what an ended pg_repack left."""
    rewritten = {(act.database, act.table) for act in acts if act.kind == REWRITE}

    def kept(act: Act) -> bool:
        ours = act.kind == REWRITE or (act.kind == LEFTOVER and act.oid == act.table)
        return ours or (act.database, act.table) not in rewritten

    return [act for act in acts if kept(act)]


def within(acts: Sequence[Act], budget: Budget) -> tuple[list[Act], list[tuple[Act, str]]]:
    """(what fits, what is left and why). Emergencies against wraparound are never left for lack of time."""
    chosen: list[Act] = []
    left: list[tuple[Act, str]] = []
    spent, rewritten = 0.0, 0
    room = None if budget.seconds is None else budget.seconds * max(1, budget.jobs)
    tables: set[tuple[str, int]] = set()
    for act in ordered(without_doubles(acts)):
        new = (act.database, act.table) not in tables
        if budget.tables is not None and new and len(tables) >= budget.tables and not act.urgent:
            left.append((act, f"more than {budget.tables:,} tables"))
            continue
        if room is not None and spent + act.seconds > room and not act.urgent:
            left.append((act, f"no time in {human_duration(budget.seconds or 0)}"))
            continue
        if act.kind == REWRITE:
            if budget.rewrite_bytes is not None and rewritten + act.bytes > budget.rewrite_bytes:
                left.append((act, f"more than {budget.rewrite_bytes:,} bytes to rewrite"))
                continue
            rewritten += act.bytes
        tables.add((act.database, act.table))
        spent += act.seconds
        chosen.append(act)
    return chosen, left


def summary(results: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """What was gained, over all acts that were done: rows, bytes, blocks read, and acts by kind."""
    done = [item for item in results if item.get("outcome") == "done"]

    def fell(name: str) -> int:
        return sum(
            max(0, int(str(item[f"{name}_before"])) - int(str(item[f"{name}_after"])))
            for item in done
            if item.get(f"{name}_before") is not None and item.get(f"{name}_after") is not None
        )

    found = {
        "dead_rows_removed": fell("dead"),
        "bytes_freed": fell("bytes"),
        "blocks_read": sum(int(str(item.get("blocks_read") or 0)) for item in done),
    }
    for kind in KINDS:
        count = sum(1 for item in done if item["kind"] == kind)
        if count:
            found[kind.replace(" ", "_")] = count
    return found
