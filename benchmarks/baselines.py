# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The written list of what this collection is measured against: argument lists, as an operator would type them.

Each baseline is a list of steps, each step a pipeline of argument lists; the words in braces are filled in and
nothing else is changed. `stdin` and `stdout` of a step are files. Every step ends before the next begins, and a
program that does not exit 0 ends the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A pipeline."""

    pipeline: tuple[Argv, ...]
    stdin: str = ""
    stdout: str = ""

    def filled(self, values: Mapping[str, str]) -> Step:
        """With the words in braces replaced. Raises KeyError for an unknown one."""
        commands = tuple(tuple(word.format_map(values) for word in argv) for argv in self.pipeline)
        return Step(commands, self.stdin.format_map(values), self.stdout.format_map(values))

    def __str__(self) -> str:
        text = " | ".join(" ".join(argv) for argv in self.pipeline)
        return text + (f" < {self.stdin}" if self.stdin else "") + (f" > {self.stdout}" if self.stdout else "")


DUMP = ("{bin}/pg_dump", "{database}")
# ours ends with fsync of each object and of its folder; so do these
SYNC = Step((("find", "{store}", "-exec", "sync", "{{}}", "+"),))

BASELINES: Mapping[str, tuple[Step, ...]] = {
    "pg_dump | gzip": (Step((DUMP, ("gzip",)), stdout="{store}/dump.sql.gz"), SYNC),
    "pg_dump | zstd": (Step((DUMP, ("zstd", "-q")), stdout="{store}/dump.sql.zst"), SYNC),
    "pg_dump -Fd -j2, zstd, sha256sum": (
        Step((("{bin}/pg_dump", "-Fd", "-j2", "-Z0", "--no-sync", "-f", "{staging}/dump", "{database}"),)),
        Step((("zstd", "-q", "-T2", "-r", "{staging}/dump", "--output-dir-flat", "{store}"),)),
        Step((("find", "{store}", "-name", "*.zst", "-exec", "sha256sum", "{{}}", "+"),), stdout="{store}/SHA256SUMS"),
        SYNC,
        Step((("rm", "-r", "{staging}/dump"),)),
    ),
    "gunzip | psql": (
        Step((("{bin}/createdb", "-T", "template0", "{copy}"),)),
        Step(
            (
                ("gunzip", "-c", "{store}/dump.sql.gz"),
                ("{bin}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "{copy}"),
            ),
            stdout="/dev/null",
        ),
    ),
    # what a careful operator adds: the bytes are those that were stored, and the planner knows its tables
    "sha256sum": (Step((("sha256sum", "--check", "--quiet", "{store}/SHA256SUMS"),)),),
    "vacuumdb --analyze-only -j2": (Step((("{bin}/vacuumdb", "-q", "--analyze-only", "-j2", "-d", "{copy}"),)),),
    "vacuumdb -z -j2": (Step((("{bin}/vacuumdb", "-q", "-z", "-j2", "-d", "{database}"),)),),
}


def programs(name: str) -> set[str]:
    """Programs besides PostgreSQL's own that a baseline needs."""
    return {argv[0] for step in BASELINES[name] for argv in step.pipeline if not argv[0].startswith("{bin}")}


def written(name: str) -> str:
    """A baseline as a person reads it, a line a step."""
    return "\n".join(str(step).replace("{{}}", "{}") for step in BASELINES[name])
