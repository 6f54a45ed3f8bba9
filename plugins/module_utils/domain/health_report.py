# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health for people and machines: a table worst first, the remedies as commands, Prometheus' text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import (
    Level,
    Outcome,
    rank_remedies,
    worst,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.metrics import Labels, Sample, family
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import command, told
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable, table
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import factor, plain

LONGEST_WHY = 160
SHOWN_DETAIL = 5  # lines below a check on the terminal; the result has more
_BASES = (("s", "seconds"), ("B", "bytes"), ("ratio", "ratio"))


def worst_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """By level, then in the order in which they were asked."""
    return sorted(outcomes, key=lambda outcome: -outcome.level.rank)


def sentence(outcomes: Sequence[Outcome]) -> str:
    """ "critical: 1 critical, 2 warning, 10 ok of 13 checks"."""
    levels = [outcome.level for outcome in outcomes]
    counts = [f"{levels.count(level)} {level.value}" for level in reversed(Level) if level in levels]
    return f"{worst(levels).value}: {', '.join(counts) or 'no check'} of {len(levels)}"


def table_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a check, worst first; below those that are not ok a few lines more."""
    ordered = worst_first(outcomes)
    if not ordered:
        return []
    rows = [[outcome.level.value.upper(), outcome.name, _cell(outcome), _short(outcome.why)] for outcome in ordered]
    heads = ("LEVEL", "CHECK", "VALUE", "WHY")
    lines = table(heads, rows, right=("VALUE",))
    shown = lines[: len(lines) - len(rows)]
    for outcome, line in zip(ordered, lines[len(lines) - len(rows) :]):
        shown.append(line)
        if outcome.level is not Level.OK:
            more = len(outcome.detail) - SHOWN_DETAIL
            shown += [f"    {_short(detail)}" for detail in outcome.detail[:SHOWN_DETAIL]]
            shown += [f"    ... and {more} more lines in the result"] if more > 0 else []
    return shown


def remedy_lines(outcomes: Sequence[Outcome], inventory: Sequence[str], limit: str) -> list[dict[str, str]]:
    """At most three commands, each with the check it cures and why; worst first."""
    return [
        {
            "check": outcome.name,
            "level": outcome.level.value,
            "command": command(remedy, inventory, limit),
            "why": printable(told(remedy if remedy.why else replace(remedy, why=outcome.why))),
        }
        for outcome, remedy in rank_remedies(outcomes)
    ]


def _cell(outcome: Outcome) -> str:
    value = outcome.value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if outcome.unit == "B" and isinstance(value, (int, float)):
        return human_size(value)
    text = value[:30] if isinstance(value, str) else plain(value)
    return printable(f"{text} {outcome.unit}".strip())


def _short(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= LONGEST_WHY else clean[: LONGEST_WHY - 3] + "..."


def render_health(system: str, host: str, set_name: str, outcomes: Sequence[Outcome], now: float) -> str:
    """The text of a .prom file, ending in a newline; values in Prometheus' base units (seconds, bytes, ratios)."""
    # node_exporter refuses a series that two files have
    common = {"system": system, "host": host, "set": set_name}

    def labels(outcome: Outcome) -> Labels:
        return {**common, "check": outcome.name, "source": outcome.check.source}

    values: list[Sample] = []
    for outcome in outcomes:
        value = outcome.value
        if isinstance(value, str) or value is None:
            continue
        unit, times = outcome.unit, 1.0
        for base, name in _BASES:
            found = factor(outcome.unit, base)
            if found is not None:
                unit, times = name, float(found)
        values.append(({**labels(outcome), "unit": unit}, float(value) * times))
    lines = [
        *family(
            "saasops_health_status",
            "What a check came to: 0 ok, 1 warning, 2 critical, 3 inconclusive.",
            [(labels(outcome), float(outcome.level.exit_status)) for outcome in outcomes],
        ),
        *family("saasops_health_value", "The measured value of a check's worst scope.", values),
        *family(
            "saasops_health_not_ok",
            "How many of a check's scopes (tenants, databases) are not ok.",
            [(labels(outcome), float(outcome.bad)) for outcome in outcomes],
        ),
        *family(
            "saasops_health_checked_timestamp_seconds",
            "When these checks were measured, in POSIX seconds.",
            [(common, now)],
        ),
    ]
    return "\n".join(lines) + "\n"


def metrics_name(system: str, set_name: str) -> str:
    """saasops_health_demo_daily.prom; sets have files of their own, so that one does not erase another's checks."""
    return f"saasops_health_{re.sub(r'[^A-Za-z0-9_-]', '_', f'{system}_{set_name}')}.prom"
