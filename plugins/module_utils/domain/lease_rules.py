# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may create the next record of a lease: the run that holds it, or another one when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import ago, human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import (
    TOLERANCE,
    TTL,
    Holder,
    Lease,
    View,
    joined,
    renewed,
)

OVER = ("free", "released", "left", "unlocked", "expired")


@dataclass(frozen=True)
class Ask:
    """One host of a run asks for a lease. hosts: all hosts of the run, which the lease waits for; ttl in seconds.

    token: what the run was given before, 0 when it never was: a run that had a lease and finds it with another run
    is refused instead of waiting for it, because its plan is stale.
    dead: runs whose controller process is proven to be gone.
    """

    name: str
    run: str
    host: str
    holder: Holder
    verb: str
    verb_class: str
    hosts: tuple[str, ...]
    reason: str = ""
    ttl: int = TTL
    token: int = 0
    dead: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """What comes next: "have" (it is yours), "write" (try to create record), "wait" (somebody else holds it)."""

    kind: str
    record: Lease | None = None


def decide(
    view: View, ask: Ask, now: float, *, moment: float | None = None, tolerance: float = TOLERANCE, floor: int = 0
) -> Step:
    """The next step towards a lease. Raises OpsError lease_lost when the run had it and has it no longer.

    now: on the asker's clock, only written down. moment: on the store's clock, taken before view; without it nothing
    expires. floor: the number that the asker tried to create last. A record of its own run with that number or a
    later one is a renewal after the question was asked, whoever of the run made it.
    """
    lease = view.lease
    if lease is None:
        if ask.token:
            raise lost(view, ask.token)
        return Step("write", _taken(view, ask, now))
    state = view.state(moment, tolerance)
    if lease.run == ask.run:
        if state == "unlocked":
            raise lost(view, ask.token or lease.token)
        if state in ("released", "left"):
            return Step("write", _taken(view, ask, now))
        if not view.inside(ask.host):
            return Step("write", joined(lease, ask.host, ask.ttl))
        return Step("have", lease) if view.number >= floor > 0 else Step("write", renewed(lease))
    if ask.token:
        raise lost(view, ask.token)
    if state in OVER:
        return Step("write", _taken(view, ask, now, "expired" if state == "expired" else ""))
    if lease.run in ask.dead:
        return Step("write", _taken(view, ask, now, "dead"))
    return Step("wait")


def decide_confirm(view: View, run: str, token: int, host: str, *, floor: int = 0) -> Step:
    """The next step towards proof that a run still holds a lease with its token. Raises OpsError lease_lost.

    The proof is a renewal: whoever creates the next number knows that nobody took the lease until then, and that
    nobody can for a whole ttl. So a lease that nobody took when it expired is not lost.
    """
    lease = view.lease
    if lease is None or lease.run != run or lease.token != token or view.state() != "held" or not view.inside(host):
        raise lost(view, token)
    return Step("have", lease) if view.number >= floor > 0 else Step("write", renewed(lease))


def _taken(view: View, ask: Ask, now: float, over: str = "") -> Lease:
    number = view.number + 1
    return Lease(
        name=ask.name,
        number=number,
        token=number,
        run=ask.run,
        holder=ask.holder,
        verb=ask.verb,
        verb_class=ask.verb_class,
        reason=ask.reason,
        ttl=ask.ttl,
        taken=now,
        present=dict.fromkeys((*ask.hosts, ask.host), number),
        took_over=view.lease.run if over and view.lease is not None else "",
        took_over_why=over,
    )


def held_by(lease: Lease, now: float) -> str:
    """ "anna on ctl-1 (restore, run 2026…), since 12 min (reason)"."""
    since = f"since {human_duration(max(0.0, now - lease.taken))}"
    why = f": {lease.reason}" if lease.reason else ""
    return f"{lease.holder.operator} on {lease.holder.controller} ({lease.verb}, run {lease.run}), {since}{why}"


def held(view: View, lease: Lease, now: float, remaining: float) -> OpsError:
    """The refusal of whoever asks for what another run holds; remaining: seconds until it expires by itself."""
    remaining = min(remaining, lease.ttl + TOLERANCE)
    details: dict[str, object] = {
        "lease": view.name,
        "run": lease.run,
        "token": lease.token,
        "verb": lease.verb,
        "taken": utc(lease.taken),
        "expires_in": round(remaining),
        "holder": dict(vars(lease.holder)),
        "hosts": view.hosts,
    }
    return OpsError(
        "lease_held",
        f"The lease {view.name} is held by {held_by(lease, now)}.",
        f"Wait: it ends with that run, or by itself in {human_duration(max(0.0, remaining))} when the run no longer "
        f"renews it. Or, if you know that the run is gone: unlock -e lease='{view.name}' -e \"reason='<why>'\".",
        details,
    )


def lost(view: View, token: int) -> OpsError:
    """The refusal of a run that had a lease and has it no longer."""
    lease = view.lease
    if lease is None:
        how = "its records are gone from the store"
    elif lease.token == token and view.end is not None:
        who = f" by {view.end.by}" if view.end.by else ""
        how = f"it was {view.end.how}{who}" + (f": {view.end.reason}" if view.end.reason else "")
    elif lease.token == token:
        how = "this host has left it"
    elif lease.took_over:
        how = f"run {lease.run} of {lease.holder.operator} took it over ({lease.took_over_why})"
    else:
        how = f"run {lease.run} of {lease.holder.operator} has it"
    return OpsError(
        "lease_lost",
        f"This run no longer holds the lease {view.name} (token {token}): {how}.",
        "Nothing was done past this point. Look at status, then run the verb again, which plans anew.",
        {"lease": view.name, "token": token},
    )


def line(view: View, now: float) -> str:
    """One line of status; now is the reader's own clock, so that times are approximate."""
    lease = view.lease
    if lease is None:
        return f"{view.name}: free"
    state = view.state(now)
    who = held_by(lease, now)
    if state == "held":
        out = len(lease.present) - len(view.hosts)
        through = f", {out} of {len(lease.present)} hosts are through" if out else ""
        ends = f"renewed {ago(max(0.0, now - view.listing.modified))}, expires in {human_duration(view.remaining(now))}"
        return f"{view.name}: HELD by {who}{through}; {ends} unless renewed"
    if state == "expired":
        return f"{view.name}: EXPIRED {ago(-view.remaining(now))}, the next run takes it; held by {who}"
    if view.end is not None and state == "unlocked":
        when = f" {ago(now - view.end.at)}" if view.end.at else ""
        return (
            f"{view.name}: free, unlocked by {view.end.by or 'somebody'}{when} ({view.end.reason}); was held by {who}"
        )
    return f"{view.name}: free, given back by {lease.holder.operator} ({lease.verb}, run {lease.run})"
