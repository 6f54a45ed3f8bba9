# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as JSON (every run) and as a table (medians, worst cases, goals): pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, fact, judge, seconds, speedup, void
from ansible_collections.saasops.runbook.benchmarks.row import Row

Json = dict[str, object]


def as_json(row: Row, machine: Mapping[str, object], megabytes: float) -> Json:
    """One row with all its runs; `void` names the failed ones, and then no goal counts as met."""
    return {
        "title": row.title,
        "started": row.started,
        "load_at_start": row.load,
        "megabytes": megabytes,
        "machine": dict(machine),
        "commands": dict(row.commands),
        "notes": list(row.notes),
        "void": void(row.samples),
        "goals": [_goal(goal, row.samples) for goal in row.goals],
        "samples": [
            {"side": s.side, "pair": s.pair + 1, "seconds": round(s.seconds, 3), "failed": s.failed, **s.facts}
            for s in row.samples
        ],
    }


def _goal(goal: Goal, samples: Sequence[Sample]) -> Json:
    found: Json = {"kind": goal.kind, "of": goal.of, "ours": goal.ours, "limit": goal.limit}
    try:
        # a failed run ends early: its time is no figure
        met, reached = judge(goal, [item for item in samples if not item.failed])
    except ValueError as error:
        return {**found, "met": False, "reached": None, "why": str(error)}
    return {**found, "met": met and not void(samples), "reached": round(reached, 4)}


def samples_of(row: Json) -> list[Sample]:
    """The runs of a row of results.json."""
    found = []
    for entry in cast("list[dict[str, object]]", row["samples"]):
        facts = {k: v for k, v in entry.items() if k not in ("side", "pair", "seconds", "failed")}
        found.append(
            Sample(
                str(entry["side"]),
                int(str(entry["pair"])) - 1,
                float(str(entry["seconds"])),
                cast("dict[str, float]", facts),
                str(entry["failed"]),
            )
        )
    return found


def table(results: Mapping[str, Json]) -> str:
    """All rows as Markdown."""
    return "\n".join(["# Figures", "", *(line for name, row in results.items() for line in _section(name, row))])


def _section(name: str, row: Json) -> list[str]:
    samples = samples_of(row)
    lines = [f"## {row['title']}", "", _setting(row), ""]
    bad = cast("list[str]", row["void"])
    if bad:
        lines += ["**Void**, because a run failed:", "", *(f"- {_one_line(text)}" for text in bad), ""]
    lines += _memory(samples) if name == "memory" else _times(row, samples)
    lines += [
        "",
        "| goal | reached | |",
        "|---|---|---|",
        *(_goal_line(goal) for goal in cast("list[Json]", row["goals"])),
    ]
    lines += ["", *(f"- {note}" for note in cast("list[str]", row["notes"])), ""]
    for title, command in cast("dict[str, str]", row["commands"]).items():
        lines += [f"`{title}`:", "", "```text", command, "```", ""]
    return lines


def _setting(row: Json) -> str:
    machine = cast("dict[str, object]", row["machine"])
    return (
        f"{row['started']}; {float(str(row['megabytes'])):,.0f} MB of tables and indexes; {machine['cores']} cores"
        f" ({machine['processor']}), {machine['memory_gb']} GB, kernel {machine['kernel']};"
        f" load at start {row['load_at_start']}."
    )


def _times(row: Json, samples: Sequence[Sample]) -> list[str]:
    goals = cast("list[Json]", row["goals"])
    own = list(dict.fromkeys(str(goal["ours"]) for goal in goals))
    sides = list(dict.fromkeys(s.side for s in samples))
    lines = ["| side | median s | worst s | MB stored | " + " | ".join(f"{name}: times faster" for name in own) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(own))
    for side in sides:
        good = [s for s in samples if not s.failed]
        try:
            spread = seconds(good, side)
        except ValueError:
            lines.append(f"| {_cell(side)} | failed | | |" + " |" * len(own))
            continue
        size = fact(good, side, "bytes")
        cells = [f"{spread.median:.2f}", f"{spread.worst:.2f}", f"{size.worst / 1e6:,.1f}" if size else ""]
        for name in own:
            try:
                ratio = None if side in own else speedup(good, side, name)
            except ValueError:
                ratio = None
            cells.append(f"{ratio.median:.2f} (worst {ratio.worst:.2f})" if ratio else "")
        lines.append(f"| {_cell(side)} | " + " | ".join(cells) + " |")
    return [*lines, *_parts(samples, sides)]


# facts of a side that are shown below the table: name -> what it is
PARTS = {
    "gap": "largest gap for clients",
    "restore": "pg_restore",
    "switch": "until the switch",
    "swap_returned": "until pg_swap returned",
    "whole_run": "until ansible-playbook ended",
    "proof": "the proof",
    "statistics": "statistics",
    "effect": "until the first effect",
    "journal": "the journal's records",
}


# goals on a fact that is no time in seconds
AT_MOST = {
    "journal_share": "the journal at most {limit:.0%} of the run's time",
    "tasks": "at most {limit:.0f} tasks",
    "batches_over_limit": "at most {limit} batches over the limit of their locks",
    "seen_writing_ms": "no transaction with writes seen open for more than {limit} ms",
    "slow_share": "at most {limit:.0%} of the statements slow",
}


def _parts(samples: Sequence[Sample], sides: Sequence[str]) -> list[str]:
    """Figures within a side, in seconds."""
    lines = []
    good = [item for item in samples if not item.failed]
    for side in sides:
        found = {what: fact(good, side, name) for name, what in PARTS.items()}
        said = [f"{what} {spread.median:.3f} s (worst {spread.worst:.3f})" for what, spread in found.items() if spread]
        lines += [f"- `{side}`: {', '.join(said)}."] if said else []
    return ["", *lines] if lines else []


def _memory(samples: Sequence[Sample]) -> list[str]:
    sizes = list(dict.fromkeys(float(str(s.facts["megabytes"])) for s in samples if not s.failed))
    lines = ["| module | " + " | ".join(f"{size:,.0f} MB" for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for side in dict.fromkeys(s.side for s in samples):
        peaks = {s.facts["megabytes"]: float(str(s.facts["peak"])) for s in samples if s.side == side and not s.failed}
        cells = [f"{peaks[size] / 1e6:.1f} MB" if size in peaks else "failed" for size in sizes]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return lines


def _goal_line(goal: Json) -> str:
    what = {
        "faster than": f"{goal['ours']} at least {goal['limit']} times faster than {goal['of']}",
        "no larger than": f"{goal['ours']} no larger than {goal['of']}",
        "blocks of": f"{goal['ours']} reads at most {float(str(goal['limit'])):.0%} of the blocks of {goal['of']}",
        "at most": f"{goal['ours']}: {AT_MOST.get(str(goal['of']), '{of} at most {limit} s').format(**goal)}",
        "seconds more than": f"{goal['ours']} at most {goal['limit']} s slower than {goal['of']}",
        "flat": f"{goal['ours']}: largest peak at most {goal['limit']} times the smallest",
    }[str(goal["kind"])]
    reached = "none" if goal["reached"] is None else f"{float(str(goal['reached'])):.3f}"
    return f"| {_cell(what)} | {reached} | {'met' if goal['met'] else '**missed**'} |"


def _cell(text: object) -> str:
    """A text inside a table, where a bar would end the cell."""
    return str(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]
