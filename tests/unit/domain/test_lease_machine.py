# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Never two runs that rightly believe to hold one lease, however their reads and writes interleave.

The store is what its contract says and nothing more: a key can be created once while it is there, a listing is whole.
Every actor is one host of one run that reads, decides on what may be old by then, and writes; a write may be lost, or
arrive later, and the actor does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import (
    End,
    Lease,
    View,
    ended_key,
    folder,
    left_key,
    read_listing,
    record_key,
    stale,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import decide, decide_confirm
from ansible_collections.saasops.runbook.tests.lab.leases import NAME, ask

TTL, TOLERANCE = 10, 3
RUNS, HOSTS = ("r1", "r2"), ("a", "b")


@dataclass
class Actor:
    """until: on the store's clock, how long it may believe to hold the lease; 0 when it does not."""

    run: str
    host: str
    view: View | None = None
    seen: View | None = None
    moment: float | None = None
    floor: int = 0
    token: int = 0
    until: float = 0.0


@dataclass
class Objects:
    """The store: records with their times, ends, and the hosts that left."""

    times: dict[str, float] = field(default_factory=dict)
    records: dict[str, Lease] = field(default_factory=dict)

    def view(self) -> View:
        listing = read_listing(folder(NAME), self.times.items())
        if not listing.number:
            return View(NAME, listing)
        lease = self.records[record_key(NAME, listing.number)]
        ended = lease.token in listing.ended
        return View(NAME, listing, lease, End(self.ends[lease.token], "", "", 0.0) if ended else None)

    ends: dict[int, str] = field(default_factory=dict)

    def create(self, record: Lease, now: float) -> None:
        key = record_key(NAME, record.number)
        if key not in self.times:
            self.times[key], self.records[key] = now, record


class Machine(RuleBasedStateMachine):
    """Two runs of two hosts each and one lease."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.store = Objects()
        self.actors = [Actor(run, host) for run in RUNS for host in HOSTS]
        self.late: list[Lease] = []
        self.dead: set[str] = set()
        self.highest = 0

    who = st.integers(0, len(RUNS) * len(HOSTS) - 1)

    @rule(seconds=st.sampled_from([1, TTL // 2, TTL + TOLERANCE, TTL + TOLERANCE + 1]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(who=who)
    def read_the_clock(self, who: int) -> None:
        actor = self.actors[who]
        actor.moment, actor.view = self.now, None

    @rule(who=who)
    def look(self, who: int) -> None:
        self.actors[who].view = self.actors[who].seen = self.store.view()

    @rule(who=who, confirming=st.booleans())
    def go_through_without_a_pause(self, who: int, confirming: bool) -> None:
        self.read_the_clock(who)
        for _round in range(2):
            self.look(who)
            self.act(who, confirming, "done")

    @rule(who=who, confirming=st.booleans(), fate=st.sampled_from(["done", "done", "done", "lost", "late"]))
    def act(self, who: int, confirming: bool, fate: str) -> None:
        actor = self.actors[who]
        view = actor.view
        if view is None:
            return
        actor.view = None
        try:
            if confirming and actor.token:
                step = decide_confirm(view, actor.run, actor.token, actor.host, floor=actor.floor)
            else:
                question = ask(actor.run, actor.host, hosts=HOSTS, ttl=TTL, dead=frozenset(self.dead))
                step = decide(view, question, 0.0, moment=actor.moment, tolerance=TOLERANCE, floor=actor.floor)
        except OpsError as error:
            if error.code != "lease_lost":
                raise
            actor.token, actor.floor, actor.until = 0, 0, 0.0
            return
        if step.kind == "have" and step.record is not None:
            actor.token, actor.floor = step.record.token, 0
            actor.until = view.listing.modified + TTL + TOLERANCE
            if step.record.token in self.store.ends:
                actor.until = 0.0
        elif step.kind == "write" and step.record is not None:
            actor.floor = step.record.number
            if fate == "done":
                self.store.create(step.record, self.now)
            elif fate == "late":
                self.late.append(step.record)

    @precondition(lambda self: self.late)
    @rule()
    def a_late_write_arrives(self) -> None:
        self.store.create(self.late.pop(0), self.now)

    @rule(who=who)
    def leave(self, who: int) -> None:
        actor, view = self.actors[who], self.store.view()
        if view.lease is not None and view.lease.run == actor.run and view.inside(actor.host):
            self.store.times[left_key(NAME, view.lease.present[actor.host], actor.host)] = self.now
        actor.until, actor.view, actor.floor = 0.0, None, 0

    @rule(how=st.sampled_from(["released", "unlocked"]))
    def end(self, how: str) -> None:
        view = self.store.view()
        if view.lease is not None and view.state() == "held":
            self.store.times[ended_key(NAME, view.lease.token)] = self.now
            self.store.ends[view.lease.token] = how
            for actor in self.actors:
                if actor.run == view.lease.run:
                    actor.until = 0.0

    @rule(run=st.sampled_from(RUNS))
    def a_controller_dies_and_another_run_begins(self, run: str) -> None:
        """The new run has the place of the dead one."""
        for actor in self.actors:
            if actor.run.split(".")[0] == run:
                self.dead.add(actor.run)
                actor.__init__(f"{run}.{len(self.dead)}.{self.now}", actor.host)  # type: ignore[misc]

    @rule(who=who)
    def tidy_by_an_old_view(self, who: int) -> None:
        view = self.actors[who].seen
        for key in stale(view) if view is not None else []:
            self.store.times.pop(key, None)

    @invariant()
    def never_two_holders(self) -> None:
        holders = {actor.run for actor in self.actors if actor.until >= self.now}
        assert len(holders) <= 1, holders

    @invariant()
    def the_newest_number_never_falls(self) -> None:
        number = self.store.view().number
        assert number >= self.highest
        self.highest = number

    @invariant()
    def the_newest_record_is_of_a_believer(self) -> None:
        for actor in self.actors:
            if actor.until >= self.now:
                lease = self.store.view().lease
                assert lease is not None
                assert (lease.run, lease.token) == (actor.run, actor.token)


TestNeverTwoHolders = Machine.TestCase
TestNeverTwoHolders.settings = settings(max_examples=150, stateful_step_count=60)
