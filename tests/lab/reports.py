# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up year of a system for the report: every kind of record, set and drill, and texts that mean harm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.expiry import expiries
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Level
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import Kept as Checked
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import Run as Measured
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, Head, new_id, render
from ansible_collections.saasops.runbook.plugins.module_utils.domain.listing import Line
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, new_set_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import recovery_points
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_drills import Drill, drills_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_health import Newest, health_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_runs import runs_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_store import Kept, store_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_view import Proof, report_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import (
    BackupSet,
    Group,
    Pin,
    Policy,
    Rule,
    decide_retention,
)

NOW = 1795392000.0  # 2026-11-23 00:00 UTC
DAY = 86400.0
SCRIPT = "<script>window.harmed = true</script>"
QUOTE = "\"><img src=x onerror='window.harmed = true'>"
# typed where no journal has cleaned it
SECRET = "postgresql://app:hunter2@db/shop"
POLICY = Policy({"daily": Rule(7), "weekly": Rule(4), "monthly": Rule(12)})
GROUP = Group("shop", "app", "database")


class Chain:
    """A journal in memory: its records as they are read back from a store."""

    def __init__(self) -> None:
        self.head = Head()
        self.bodies: list[dict[str, Json]] = []

    def add(self, kind: str, at: float, run: str = "", **facts: object) -> None:
        identifier = new_id(hashlib.sha256(f"{len(self.bodies)}".encode()).digest())
        text, self.head = render(Event(kind, at, identifier, "shop", run, facts), self.head)
        self.bodies.append(json.loads(text))

    def run(self, at: float, verb: str, *, host: str = "db1", operator: str = "ann", end: str = "changed") -> str:
        """One run of a verb on one host; end: a result of the report, or "bypassed". Returns its id."""
        run = new_set_id(at, hashlib.sha256(f"{at}{verb}{host}".encode()).digest())
        who: dict[str, object] = {"verb": verb, "operator": operator, "controller": "ctl-1", "host": host}
        who = {**who, "class": "routine", "action": f"saasops.runbook.pg_{verb}"}
        plan = plan_of(verb)
        self.add("run_started", at, run, versions={"ansible_core": "2.21.5"}, **who)
        if end == "refused":
            told = {"code": "window_closed", "cause": "Window nightly is closed.", "remedy": "Wait."}
            self.add("refusal", at + 1, run, failed=True, **told, **who)
            return run
        if end == "bypassed":
            past = [{"code": "approval_required", "cause": "Nobody has approved it."}]
            self.add("bypass", at + 1, run, reason=f"incident 4711 {SCRIPT}", past=past, **who)
        self.add("intent", at + 1, run, plan=plan, **who)
        if end == "failed":
            told = {"code": "store_full", "cause": "No room is left.", "remedy": "Run prune."}
            self.add("outcome", at + 5, run, failed=True, seconds=4.2, **told, **who)
        elif end != "open":
            changed = end != "unchanged"
            self.add(
                "outcome", at + 72, run, changed=changed, failed=False, seconds=71.0, message="Done.", plan=plan, **who
            )
        return run


def plan_of(verb: str, table: str = f"public.{SCRIPT}") -> dict[str, object]:
    """A plan of two actions, one on a table whose name means harm."""
    acts = (Action("dump", table, "12 tables in one view", {"rows": 1234567}), Action("write", "manifest", "last"))
    return Plan(verb, acts, {"sets": 1}).as_dict()


ENDS = ("changed", "changed", "refused", "failed", "bypassed", "unchanged", "open", "changed")


def busy(runs: int, every: float = DAY / 2) -> Chain:
    """A journal of so many runs up to NOW, with all ends, on two hosts; the newest is a changed backup of db1."""
    chain = Chain()
    for number in reversed(range(runs)):
        verb = ("backup", "prune", "restore_drill")[number % 3]
        host = ("db1", "db2")[number % 2]
        chain.run(NOW - 60 - number * every, verb, host=host, end=ENDS[number % len(ENDS)])
    chain.add("approval", NOW - 3 * DAY, operator="carla", plan=f"plan-1 {QUOTE}", until="2026-11-24")
    return chain


def sets(days: Sequence[int]) -> list[BackupSet]:
    """One proven set so many days before NOW, each."""
    found = []
    for day in sorted(days, reverse=True):
        at = NOW - day * DAY - 3600
        pin = Pin(f"before version 2 {SCRIPT} of {SECRET}") if day == 40 else None
        name = new_set_id(at, hashlib.sha256(str(day).encode()).digest())
        proof = "restored" if day % 7 == 0 else "stored"
        found.append(BackupSet(name, "complete", GROUP, at, at + 60, at, at + 60, proof, pin))
    return found


def drills(count: int) -> list[Drill]:
    """One a week, the third of them failed."""
    return [
        Drill(
            at=NOW - week * 7 * DAY - 7200,
            set_id="20261122T230000Z-1a2b3c4d",
            database="app",
            outcome="failed" if week == 2 else "passed",
            rto=100.0 + week,
            rpo=2.5,
            reasons=(f"table {SCRIPT}: 3 rows differ",) if week == 2 else (),
            differences=int(week == 2),
            where="beside the live database",
        )
        for week in range(count)
    ]


def kept(found: Sequence[BackupSet], policy: Policy | None = POLICY) -> list[Kept]:
    """The sets with what retention says at NOW."""
    ends: Mapping[str, float | None] = expiries(found, policy, NOW, DAY) if policy else {}
    said = {item.set_id: item for item in decide_retention(found, policy, NOW)} if policy else {}
    return [Kept(Line(item, 412_000_000, 12, 345_678), said.get(item.set_id), ends.get(item.set_id)) for item in found]


def health() -> dict[str, Json]:
    """Two hosts, one of them ill."""
    ill = {
        "<b>queue": Checked(Level.CRITICAL, 21, {}),
        "disk": Checked(Level.WARNING, 85.5, {}),
        "site": Checked(Level.OK, "ok", {}),
    }
    well = {"site": Checked(Level.OK, "ok", {}), "unseen": Checked(Level.INCONCLUSIVE, None, {})}
    return health_view(
        [Newest("shop-1", "daily", Measured(NOW - 60, "a", well)), Newest("shop-2", "all", Measured(NOW, "b", ill))],
        NOW,
    )


def view(chain: Chain, *, last: int = 200, proof: Proof | None = None) -> dict[str, Json]:
    """The whole view at NOW."""
    count = len(chain.bodies)
    sound = Proof([], f"The journal is whole: {count} records.", count, count, chain.head.sha256, count, True)
    found = sets([*range(10), 14, 21, 40, 70])
    points = recovery_points(found, POLICY, NOW, DAY, "shop", None)
    backups = store_view(kept(found), points, POLICY, DAY, NOW)
    ledger = drills_view(drills(12), 12, 180.0, DAY, NOW)
    runs = runs_view(chain.bodies, last)
    return report_view("shop", "/var/backups/shop", proof or sound, runs, backups, ledger, NOW, 1.0, health())
