# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs that a journal tells of, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import INTERRUPTED, without_end
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import table

HEADS = ("started", "run", "verb", "operator", "hosts", "result", "took")


@dataclass
class Run:
    """One run. Times are POSIX seconds.

    result: the gravest that holds of failed, refused, interrupted (found dead by a later run), open (an intent has
    no outcome: it runs, or it was killed), changed and unchanged. Nobody writes a record when a playbook ends: a run
    is over when each of its intents has an outcome.
    """

    id: str
    started: float
    last: float
    system: str = ""
    verb: str = ""
    operator: str = ""
    hosts: list[str] = field(default_factory=list)
    open: bool = False
    dead: bool = False
    failed: bool = False
    refused: bool = False
    changed: bool = False
    records: int = 0

    @property
    def result(self) -> str:
        if self.failed or self.refused:
            return "failed" if self.failed else "refused"
        if self.dead or self.open:
            return "interrupted" if self.dead else "open"
        return "changed" if self.changed else "unchanged"

    @property
    def ended(self) -> float | None:
        """Its last record; None while an intent waits for its outcome."""
        return None if self.dead or self.open else self.last

    def as_json(self) -> dict[str, Json]:
        return {
            "run": self.id,
            "system": self.system,
            "verb": self.verb,
            "operator": self.operator,
            "hosts": list(self.hosts),
            "started": iso(self.started),
            "ended": None if self.ended is None else iso(self.ended),
            "seconds": None if self.ended is None else round(self.ended - self.started, 3),
            "result": self.result,
            "changed": self.changed,
            "records": self.records,
        }


def runs(bodies: Iterable[Mapping[str, Json]]) -> list[Run]:
    """The runs of these records, by their start. Records of no run and without a readable time are passed over."""
    bodies = list(bodies)
    found: dict[str, Run] = {}
    dead = {str(body.get("of")) for body in bodies if body.get("code") == INTERRUPTED}
    begun = {one.run for one in without_end(bodies)}
    for body in bodies:
        name = str(body.get("run") or "")
        try:
            at = posix(str(body.get("at")))
        except ValueError:
            continue
        if name:
            _take_in(found.setdefault(name, Run(name, at, at, open=name in begun, dead=name in dead)), body, at)
    return sorted(found.values(), key=lambda run: run.started)


def _take_in(run: Run, body: Mapping[str, Json], at: float) -> None:
    run.records += 1
    run.started, run.last = min(run.started, at), max(run.last, at)
    run.system = run.system or str(body.get("system") or "")
    run.verb = run.verb or str(body.get("verb") or "")
    run.operator = run.operator or str(body.get("operator") or "")
    host = body.get("host")
    if isinstance(host, str) and host and host not in run.hosts:
        run.hosts.append(host)
    ignored = body.get("ignored") is True
    run.failed = run.failed or (body.get("failed") is True and not ignored)
    run.changed = run.changed or body.get("changed") is True
    run.refused = run.refused or body.get("kind") == "refusal"


def run_lines(chosen: Iterable[Run]) -> list[str]:
    """A table of runs as lines for a terminal."""
    rows = [
        (
            utc(run.started),
            run.id,
            run.verb or "-",
            run.operator or "-",
            _hosts(run.hosts),
            run.result,
            "" if run.ended is None else human_duration(run.ended - run.started),
        )
        for run in chosen
    ]
    return table(HEADS, rows)


def _hosts(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
