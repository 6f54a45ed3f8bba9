# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of a journal as the report shows them: plan against result, refusals, and what was gone past.

The newest runs are told in full, older ones are counted by month and verb, and bypasses are told whatever their age,
so that a year of runs is a page that a telephone opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix

Body = Mapping[str, Json]

# the gravest first; what a run is called, and what its word means
RESULTS: Mapping[str, str] = {
    "failed": "a step failed after it had begun",
    "refused": "the guard or the verb said no before anything was changed",
    "open": "begun, and no end is on record: it still runs, or it was killed",
    "changed": "did what it planned",
    "unchanged": "there was nothing to do",
}
MOST_STEPS = 50  # of one run
MOST_ACTIONS = 50  # of one plan
MOST_BYPASSES = 200
MOST_OTHERS = 200
_WORK = ("run_started", "intent", "outcome", "refusal", "bypass", "task", "note", "reverted")
_TOLD_ELSEWHERE = frozenset(
    (
        *("format", "number", "previous", "id", "kind", "at", "system", "run", "sequence", "recent", "spooled", "seal"),
        *("host", "verb", "class", "action", "operator", "controller", "plan", "changed", "failed", "seconds"),
        *("message", "code", "cause", "remedy", "reason", "past", "result", "ignored"),
    )
)


def took(seconds: float) -> str:
    """A length of time with tenths while they matter: "0.4 s", "12 s", "3 min 20 s"."""
    return f"{seconds:.1f} s" if seconds < 9.95 else human_duration(seconds)


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return "" if value is None else str(value)


def _plain(value: Json) -> str:
    """A fact in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(inner) for inner in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _evidence(body: Body) -> list[Json]:
    """What a record says beyond what the page has a place for."""
    found: list[Json] = []
    for name, value in body.items():
        if name not in _TOLD_ELSEWHERE and value not in (None, "", [], {}):
            found.append({"name": name.replace("_", " "), "value": _plain(value)})
    return found[:20]


def _actions(body: Body) -> list[Body]:
    plan = body.get("plan")
    actions = plan.get("actions") if isinstance(plan, Mapping) else None
    return [item for item in actions if isinstance(item, Mapping)] if isinstance(actions, list) else []


@dataclass
class Step:
    """One module on one host: what it was going to do, and what became of it."""

    host: str
    action: str
    intent: Body
    outcome: Body | None = None

    @property
    def result(self) -> str:
        if self.outcome is None:
            return "open"
        if self.outcome.get("failed") is True:
            return "failed"
        return "changed" if self.outcome.get("changed") is True else "unchanged"

    def _held_against(self) -> list[Json]:
        """Each planned action and whether the outcome has it; then what the outcome has beyond the plan."""
        planned = _actions(self.intent)
        outcome = self.outcome or {}
        told = isinstance(outcome.get("plan"), Mapping)
        done = {(_text(item, "kind"), _text(item, "object")): item for item in _actions(outcome)}
        lines: list[Json] = []
        for item in planned:
            own = (_text(item, "kind"), _text(item, "object"))
            met = "done" if own in done else "not done" if told else "not told"
            if self.result == "open":
                met = "no end on record"
            elif self.result == "failed":
                met = "stopped"
            lines.append(_line({**item, **done.pop(own, {})}, met))
        lines += [_line(item, "beyond the plan") for item in done.values()]
        return lines

    def view(self) -> dict[str, Json]:
        lines = self._held_against()
        outcome, plan = self.outcome or {}, self.intent.get("plan")
        ceilings = plan.get("ceilings") if isinstance(plan, Mapping) else None
        numbers = [str(body.get("number")) for body in (self.intent, self.outcome) if body]
        seconds = outcome.get("seconds")
        return {
            "host": self.host,
            "action": self.action.rpartition(".")[2],
            "result": self.result,
            "actions": lines[:MOST_ACTIONS],
            "more": max(0, len(lines) - MOST_ACTIONS),
            "ceilings": _plain(ceilings) if ceilings else "",
            "envelope": _text(plan, "envelope") if isinstance(plan, Mapping) else "",
            "seconds": took(float(str(seconds))) if isinstance(seconds, (int, float)) else "",
            "message": _text(outcome, "message"),
            "code": _text(outcome, "code"),
            "cause": _text(outcome, "cause"),
            "remedy": _text(outcome, "remedy"),
            "evidence": _evidence(outcome),
            "records": ", ".join(numbers),
        }


def _line(item: Body, met: str) -> dict[str, Json]:
    measured = item.get("measured")
    return {
        "kind": _text(item, "kind"),
        "object": _text(item, "object"),
        "reason": _text(item, "reason"),
        "measured": _plain(measured) if measured else "",
        "met": met,
    }


@dataclass
class RunView:
    """One run while its records are read. Times are POSIX seconds."""

    id: str
    started: float
    last: float
    facts: dict[str, str] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    versions: str = ""
    steps: list[Step] = field(default_factory=list)
    refusals: list[Body] = field(default_factory=list)
    bypasses: list[Body] = field(default_factory=list)
    tasks: list[Body] = field(default_factory=list)
    others: list[Body] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    @property
    def result(self) -> str:
        """The gravest word of RESULTS that holds."""
        steps = {step.result for step in self.steps}
        failed = any(body.get("failed") is True and body.get("ignored") is not True for body in self.tasks)
        if "failed" in steps or failed or any(body.get("failed") is True for body in self.others):
            return "failed"
        if self.refusals:
            return "refused"
        if "open" in steps:
            return "open"
        changed = "changed" in steps or any(body.get("changed") is True for body in self.tasks)
        return "changed" if changed else "unchanged"

    def take_in(self, body: Body, at: float) -> None:
        kind = body.get("kind")
        if kind in _WORK:
            self.started, self.last = min(self.started, at), max(self.last, at)
        number = body.get("number")
        if isinstance(number, int):
            self.numbers.append(number)
        for name in ("verb", "class", "operator", "controller"):
            if kind != "approval" and not self.facts.get(name):
                self.facts[name] = _text(body, name)
        host = _text(body, "host")
        if host and host not in self.hosts:
            self.hosts.append(host)
        if kind == "intent":
            self.steps.append(Step(host, _text(body, "action"), body))
        elif kind == "outcome":
            self._settle(body, host, _text(body, "action"))
        elif kind == "run_started":
            self.versions = _plain(body.get("versions") or "")
        else:
            room = {"refusal": self.refusals, "bypass": self.bypasses, "task": self.tasks}
            room.get(str(kind), self.others).append(body)

    def _settle(self, body: Body, host: str, action: str) -> None:
        for step in self.steps:
            if step.outcome is None and (step.host, step.action) == (host, action):
                step.outcome = body
                return
        # nothing was planned: an outcome of its own
        self.steps.append(Step(host, action, {}, body))

    def view(self) -> dict[str, Json]:
        numbers = sorted(self.numbers)
        whole = bool(numbers) and numbers[-1] - numbers[0] == len(numbers) - 1
        span = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 and whole else ", ".join(map(str, numbers[:20]))
        return {
            "id": self.id,
            "started": utc(self.started),
            "started_iso": iso(self.started),
            "took": "" if self.result == "open" else took(self.last - self.started),
            "verb": self.facts.get("verb") or "unnamed",
            "class": self.facts.get("class", ""),
            "operator": self.facts.get("operator") or "unknown",
            "controller": self.facts.get("controller", ""),
            "hosts": cast("list[Json]", self.hosts[:100]),
            "versions": self.versions,
            "result": self.result,
            "bypassed": bool(self.bypasses),
            "steps": [step.view() for step in self.steps[:MOST_STEPS]],
            "steps_more": max(0, len(self.steps) - MOST_STEPS),
            "refusals": [_refusal(body) for body in self.refusals[:MOST_STEPS]],
            "bypasses": [_bypass(body) for body in self.bypasses[:MOST_STEPS]],
            "tasks": [_task(body) for body in self.tasks[:MOST_STEPS]],
            "tasks_more": max(0, len(self.tasks) - MOST_STEPS),
            "others": [_other(body) for body in self.others[:MOST_STEPS]],
            "records": span,
        }


def _refusal(body: Body) -> dict[str, Json]:
    return {name: _text(body, name) for name in ("host", "code", "cause", "remedy")}


def _bypass(body: Body) -> dict[str, Json]:
    past = body.get("past")
    went = [item for item in past if isinstance(item, Mapping)] if isinstance(past, list) else []
    return {
        "host": _text(body, "host"),
        "reason": _text(body, "reason"),
        "past": [{"code": _text(item, "code"), "cause": _text(item, "cause")} for item in went],
        "record": _text(body, "number"),
    }


def _task(body: Body) -> dict[str, Json]:
    ignored = " (ignored)" if body.get("ignored") is True else ""
    result = f"failed{ignored}" if body.get("failed") is True else "changed"
    return {
        "host": _text(body, "host"),
        "action": _text(body, "action"),
        "name": _text(body, "task") or _text(body, "name"),
        "result": result,
        "message": _text(body, "message") or _text(body, "msg"),
    }


def _other(body: Body) -> dict[str, Json]:
    told = [_text(body, name) for name in ("reason", "cause", "message") if body.get(name)]
    # an approval names a plan by its id; an intent's plan is no text
    told += [f"plan {body['plan']}"] if isinstance(body.get("plan"), str) else []
    told += [f"{item['name']} {item['value']}" for item in cast("list[dict[str, str]]", _evidence(body))]
    return {
        "at": utc(posix(_text(body, "at"))),
        "kind": _text(body, "kind").replace("_", " "),
        "code": _text(body, "code"),
        "operator": _text(body, "operator"),
        "text": "; ".join(told),
        "record": _text(body, "number"),
    }


def collect(bodies: Iterable[Body]) -> tuple[list[RunView], list[Body]]:
    """(runs by their start, records that belong to no run's work); those without a readable time are passed over."""
    found: dict[str, RunView] = {}
    alone: list[Body] = []
    for body in bodies:
        name = _text(body, "run")
        try:
            at = posix(_text(body, "at"))
        except ValueError:
            continue
        if name in found or (name and body.get("kind") in _WORK):
            found.setdefault(name, RunView(name, at, at)).take_in(body, at)
        else:
            alone.append(body)
    return sorted(found.values(), key=lambda run: (run.started, run.id)), alone


def _older(runs: Sequence[RunView]) -> dict[str, Json]:
    """Runs that are only counted: one row a month and verb, the newest first."""
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for run in runs:
        row = rows.setdefault((iso(run.started)[:7], run.facts.get("verb") or "unnamed"), {})
        for name in ("runs", run.result, *(["bypassed"] if run.bypasses else [])):
            row[name] = row.get(name, 0) + 1
    counted = ("runs", *RESULTS, "bypassed")
    ordered = sorted(sorted(rows, key=lambda pair: pair[1]), key=lambda pair: pair[0], reverse=True)
    return {
        "runs": len(runs),
        "first": utc(runs[0].started, seconds=False) if runs else "",
        "last": utc(runs[-1].started, seconds=False) if runs else "",
        "rows": [
            {"month": month, "verb": verb, **{name: rows[month, verb].get(name, 0) for name in counted}}
            for month, verb in ordered
        ],
    }


def runs_view(bodies: Iterable[Body], last: int) -> dict[str, Json]:
    """All that the report tells of runs: the newest `last` of them in full."""
    told, alone = collect(bodies)
    split = max(0, len(told) - last)
    shown = list(reversed(told[split:]))
    passed = [(run, body) for run in reversed(told) for body in run.bypasses]
    totals = {name: sum(run.result == name for run in told) for name in RESULTS}
    full = {run.id for run in shown}
    return {
        "runs": [run.view() for run in shown],
        "older": _older(told[:split]),
        "totals": {"runs": len(told), "bypassed": sum(bool(run.bypasses) for run in told), **totals},
        "first": utc(told[0].started, seconds=False) if told else "",
        "bypasses": [
            {
                **_bypass(body),
                "at": utc(posix(_text(body, "at"))),
                "run": run.id,
                "told": run.id in full,
                "verb": run.facts.get("verb") or "unnamed",
                "operator": run.facts.get("operator") or "unknown",
                "result": run.result,
            }
            for run, body in passed[:MOST_BYPASSES]
        ],
        "bypasses_more": max(0, len(passed) - MOST_BYPASSES),
        "others": [_other(body) for body in list(reversed(alone))[:MOST_OTHERS]],
        "others_more": max(0, len(alone) - MOST_OTHERS),
        "results": [{"name": name, "means": means} for name, means in RESULTS.items()],
        "verbs": cast("list[Json]", sorted({run.facts.get("verb") or "unnamed" for run in shown})),
        "hosts": cast("list[Json]", sorted({host for run in shown for host in run.hosts})),
    }
