# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says: counts out of JUnit files, the table of parts and times, the verdict."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

RED, GREEN, YELLOW, PLAIN = "\033[31m", "\033[32m", "\033[33m", "\033[0m"


@dataclass(frozen=True)
class Outcome:
    """How one part ended. status: passed, failed or left out; seconds: wall time; note: counts or the reason."""

    name: str
    status: str
    seconds: float
    note: str = ""


def coloured(text: str, colour: str) -> str:
    """The text in this colour, when a person is looking."""
    if os.environ.get("NO_COLOR") or not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return text
    return f"{colour}{text}{PLAIN}"


def counts(junit: Path) -> str:
    """ "12 passed, 1 skipped" from pytest's JUnit file; "no tests" when it ran none."""
    suite = next(ElementTree.parse(junit).iter("testsuite"))  # noqa: S314 - written by our own pytest a moment ago
    number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    passed = number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    words = [(passed, "passed"), (number["failures"], "failed")]
    words += [(number["errors"], "errors"), (number["skipped"], "skipped")]
    return ", ".join(f"{count} {word}" for count, word in words if count) or "no tests"


def table(outcomes: Sequence[Outcome], wall: float) -> str:
    """One line a part, slowest first, with those left out at the end, and the sum beside the wall time."""
    order = sorted(outcomes, key=lambda o: (o.status == "left out", -o.seconds))
    width = max((len(o.name) for o in order), default=0)
    colours = {"passed": GREEN, "failed": RED, "left out": YELLOW}
    lines = [
        f"  {o.name:<{width}}  {coloured(f'{o.status:<8}', colours[o.status])}  {o.seconds:7.1f} s  {o.note}".rstrip()
        for o in order
    ]
    total = sum(o.seconds for o in order)
    return "\n".join([*lines, f"  {'all':<{width}}  {'':8}  {total:7.1f} s  in {wall:.1f} s of wall time"])


def verdict(outcomes: Sequence[Outcome]) -> str:
    """One paragraph: what failed, or that nothing did, and what was left out."""
    failed = [o for o in outcomes if o.status == "failed"]
    left_out = [o for o in outcomes if o.status == "left out"]
    lines = []
    if left_out:
        lines.append(coloured(f"LEFT OUT: {', '.join(o.name for o in left_out)}", YELLOW))
    if failed:
        lines.append(coloured(f"FAILED: {', '.join(o.name for o in failed)}", RED))
        lines += [coloured(f"  {o.name}: .cache/logs/{o.name}.log", RED) for o in failed]
    else:
        lines.append(coloured(f"PASSED: all {len(outcomes) - len(left_out)} parts that ran", GREEN))
    return "\n".join(lines)
