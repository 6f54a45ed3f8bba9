# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease in an object store that has no compare-and-swap, only "create unless it is there".

A lease is a sequence of numbered records, leases/<name>/<number>.json, and the newest one counts. Taking, joining and
renewing all mean creating the next number after having read the newest. Of those who read the same number only one
can create the next, so a holder that renews and a rival that takes over exclude each other, and no clock decides
between them. Giving up needs no order and lies beside the records:

    <entry>.left.<host>.json   a host of the run is through; entry is the number with which the host came in
    <number>.ended.json        the lease of that token (or that record) is over: released, or unlocked with a reason
    clock.<run host>.json      written by one who waits, to learn the time on the store's clock

The token of a lease is the number of the record that took it. Later records of the same run carry it along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix

FORMAT = 1
ROOT = "leases/"
TTL = 1800  # seconds
# Expiry is measured on the store's clock alone. This is for a store whose own clock is stepped, or that answers from
# several machines.
TOLERANCE = 60.0  # seconds
KEEP = 4  # records below the newest that are kept for a reader under way
OLD_CLOCK = 3600.0  # seconds after which a forgotten clock object is tidied
_LONGEST = 150  # characters of a name or host in a key
_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_RECORD = re.compile(r"(\d{10})\.json\Z")
_LEFT = re.compile(r"(\d{10})\.left\.(.+)\.json\Z")
_ENDED = re.compile(r"(\d{10})\.ended\.json\Z")
_CLOCK = re.compile(r"clock\..+\.json\Z")


@dataclass(frozen=True)
class Holder:
    """Who works. controller, boot_id, pid_namespace, pid and process_started (clock ticks) name one process."""

    operator: str
    controller: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: int


@dataclass(frozen=True)
class Lease:
    """One record. ttl in seconds; taken is a POSIX time on the clock of the host that took it, only to be shown.

    present: each host of the run, with the number by which it came in. took_over: the run that held the lease before
    and did not give it up, or "", and why it could be taken ("expired", "dead").
    """

    name: str
    number: int
    token: int
    run: str
    holder: Holder
    verb: str
    verb_class: str
    reason: str
    ttl: int
    taken: float
    present: Mapping[str, int]
    took_over: str = ""
    took_over_why: str = ""

    def as_json(self) -> dict[str, Json]:
        body = {**vars(self), "format": FORMAT, "holder": dict(vars(self.holder)), "taken": iso(self.taken)}
        return {**cast("dict[str, Json]", body), "present": dict(self.present)}


@dataclass(frozen=True)
class End:
    """How a lease was ended by an object of its own: "released" or "unlocked"; at is a POSIX time, 0 if unknown."""

    how: str
    by: str
    reason: str
    at: float

    def as_json(self) -> dict[str, Json]:
        return {"how": self.how, "by": self.by, "reason": self.reason, "at": iso(self.at)}


@dataclass(frozen=True)
class Listing:
    """What the keys of one lease tell. number: of the newest record, 0 without any; modified: its time in the store.

    left: (entry, host as it stands in keys). ended: numbers. clocks: keys with their times in the store.
    """

    number: int = 0
    modified: float = 0.0
    left: frozenset[tuple[int, str]] = frozenset()
    ended: frozenset[int] = frozenset()
    records: tuple[int, ...] = ()
    clocks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A lease as it was at one moment: the newest record, and what was given up since."""

    name: str
    listing: Listing
    lease: Lease | None = None
    end: End | None = None

    @property
    def number(self) -> int:
        return self.listing.number

    def inside(self, host: str) -> bool:
        """Whether a host is in the lease and has not left."""
        if self.lease is None or host not in self.lease.present:
            return False
        return (self.lease.present[host], safe(host)) not in self.listing.left

    @property
    def hosts(self) -> list[str]:
        """The hosts that have not left."""
        return [host for host in self.lease.present if self.inside(host)] if self.lease is not None else []

    def remaining(self, moment: float, tolerance: float = TOLERANCE) -> float:
        """Seconds until others may take the lease, at a moment on the store's clock; negative when it expired."""
        ttl = self.lease.ttl if self.lease is not None else 0
        return ttl + tolerance - (moment - self.listing.modified)

    def state(self, moment: float | None = None, tolerance: float = TOLERANCE) -> str:
        """free, released, unlocked, left, expired (only when a moment on the store's clock is given) or held."""
        if self.lease is None:
            return "free"
        if self.end is not None:
            return self.end.how
        if not self.hosts:
            return "left"
        if moment is not None and self.remaining(moment, tolerance) < 0:
            return "expired"
        return "held"


def safe(text: str) -> str:
    """A name as part of a key: other characters become =XX (UTF-8), what is too long is cut and gets a hash."""
    parts = [
        char if _PLAIN.match(char) and not (char == "." and place == 0) else "".join(f"={b:02X}" for b in char.encode())
        for place, char in enumerate(text)
    ]
    whole = "".join(parts)
    if len(whole) <= _LONGEST:
        return whole
    return f"{whole[: _LONGEST - 34]}=={hashlib.sha256(text.encode()).hexdigest()[:32]}"


def plain(text: str) -> str:
    """The reverse of safe, as far as it can be reversed."""
    if "==" in text:
        return text
    head, *rest = text.split("=")
    try:
        return (head.encode() + b"".join(bytes.fromhex(piece[:2]) + piece[2:].encode() for piece in rest)).decode()
    except ValueError:
        return text


def folder(name: str) -> str:
    """The prefix of a lease's objects. Raises OpsError bad_lease for an empty name."""
    if not name.strip():
        raise OpsError("bad_lease", "A lease needs a name.", "Name it, for instance database:app.")
    return f"{ROOT}{safe(name)}/"


def record_key(name: str, number: int) -> str:
    return f"{folder(name)}{number:010d}.json"


def left_key(name: str, entry: int, host: str) -> str:
    return f"{folder(name)}{entry:010d}.left.{safe(host)}.json"


def ended_key(name: str, number: int) -> str:
    return f"{folder(name)}{number:010d}.ended.json"


def clock_key(name: str, run: str, host: str) -> str:
    return f"{folder(name)}clock.{safe(f'{run} {host}')}.json"


def read_listing(prefix: str, objects: Iterable[tuple[str, float]]) -> Listing:
    """The keys (with their times in the store) of one lease; what else lies there is passed over."""
    found, left, ended, clocks = {}, set(), set(), {}
    for key, modified in objects:
        name = key[len(prefix) :]
        if match := _RECORD.match(name):
            found[int(match[1])] = modified
        elif match := _LEFT.match(name):
            left.add((int(match[1]), match[2]))
        elif match := _ENDED.match(name):
            ended.add(int(match[1]))
        elif _CLOCK.match(name):
            clocks[key] = modified
    number = max(found, default=0)
    return Listing(number, found.get(number, 0.0), frozenset(left), frozenset(ended), tuple(sorted(found)), clocks)


def stale(view: View) -> list[str]:
    """The keys that say nothing any more. The newest record, and what it refers to, always stay."""
    lease, listing = view.lease, view.listing
    if lease is None:
        return []
    prefix, below = folder(view.name), listing.number - KEEP
    entries = set(lease.present.values())
    keys = [f"{prefix}{number:010d}.json" for number in listing.records if number < below]
    keys += [
        f"{prefix}{entry:010d}.left.{host}.json"
        for entry, host in sorted(listing.left)
        if entry < below and entry not in entries
    ]
    keys += [f"{prefix}{n:010d}.ended.json" for n in sorted(listing.ended) if n < below and n != lease.token]
    return keys + [key for key, modified in listing.clocks.items() if modified < listing.modified - OLD_CLOCK]


def unreadable(name: str, why: str) -> OpsError:
    return OpsError(
        "lease_unreadable",
        f"The newest record of the lease {name} cannot be read: {why}",
        f"Make sure that no run works there, then end it: unlock -e lease='{name}' -e \"reason='<why>'\".",
        {"lease": name},
    )


def parse_lease(name: str, number: int, body: Mapping[str, Json]) -> Lease:
    """The record with this number. Raises OpsError lease_unreadable."""
    if body.get("format") != FORMAT:
        raise unreadable(name, f"its format is {body.get('format')!r}, this release knows {FORMAT}.")
    try:
        who = cast("dict[str, str | int]", body["holder"])
        holder = Holder(
            str(who["operator"]),
            str(who["controller"]),
            str(who["boot_id"]),
            str(who["pid_namespace"]),
            int(who["pid"]),
            int(who["process_started"]),
        )
        lease = Lease(
            name=str(body["name"]),
            number=int(cast("int", body["number"])),
            token=int(cast("int", body["token"])),
            run=str(body["run"]),
            holder=holder,
            verb=str(body["verb"]),
            verb_class=str(body["verb_class"]),
            reason=str(body["reason"]),
            ttl=int(cast("int", body["ttl"])),
            taken=posix(str(body["taken"])),
            present={str(host): int(entry) for host, entry in cast("dict[str, int]", body["present"]).items()},
            took_over=str(body["took_over"]),
            took_over_why=str(body["took_over_why"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(name, f"{type(error).__name__} in {error}.") from error
    if lease.number != number or lease.name != name:
        raise unreadable(name, f"it says to be number {lease.number} of {lease.name}, and is number {number}.")
    return lease


def parse_end(body: Mapping[str, Json]) -> End:
    """An end; one that cannot be read still ends the lease."""
    try:
        at = posix(str(body.get("at")))
    except ValueError:
        at = 0.0
    how = "released" if body.get("how") == "released" else "unlocked"
    return End(how, str(body.get("by") or ""), str(body.get("reason") or ""), at)


def renewed(lease: Lease) -> Lease:
    """The next record of the same lease."""
    return replace(lease, number=lease.number + 1)


def joined(lease: Lease, host: str, ttl: int) -> Lease:
    """The next record, with a host that was not in it or had left."""
    number = lease.number + 1
    return replace(lease, number=number, ttl=max(ttl, lease.ttl), present={**lease.present, host: number})
