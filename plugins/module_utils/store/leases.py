# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases in an object store: reads and writes what domain/lease.py describes, decided by domain/lease_rules.py.

A write whose outcome is unknown (the store went away meanwhile) is decided by reading again: the record is there and
names our run, or it is not. An error is passed on only when reading fails too, or when a second write failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import (
    ROOT,
    TOLERANCE,
    End,
    Lease,
    View,
    clock_key,
    ended_key,
    folder,
    left_key,
    parse_end,
    parse_lease,
    plain,
    read_listing,
    record_key,
    stale,
    unreadable,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import (
    Ask,
    Step,
    decide,
    decide_confirm,
    held,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json, write_json

LONGEST_WAIT = 10.0  # seconds
POLL = 0.5  # seconds between two looks at a lease that somebody else holds
TIDY_FROM = 16  # stale objects that are worth a request
NEAR = 600.0  # seconds before its expiry by the asker's own clock from which on the store's clock is asked
# each attempt that fails means that somebody else got on, so this is only against a broken store
ATTEMPTS = 200
WRITES_IN_DOUBT = 2


class Leases:
    """The leases of one store. tolerance: see domain/lease.py, in seconds."""

    def __init__(self, store: Store, tolerance: float = TOLERANCE) -> None:
        self.store = store
        self.tolerance = tolerance
        # the newest record that was read or written of each lease, with its time in the store when that is known:
        # a record never changes, so it need not be read again
        self._known: dict[str, tuple[Lease, float | None]] = {}

    def look(self, name: str) -> View:
        """A lease as it is now. Raises lease_unreadable, and the store's errors."""
        for _attempt in range(ATTEMPTS):
            listing = read_listing(folder(name), _times(self.store.list(folder(name))))
            if not listing.number:
                return View(name, listing)
            try:
                lease = self._read(name, listing.number, listing.modified)
            except OpsError as error:
                if error.code == "object_missing":  # newer records came, and this one was tidied
                    continue
                if error.code not in ("object_damaged", "lease_unreadable"):
                    raise
                if listing.number in listing.ended:
                    return View(name, listing)
                raise unreadable(name, "it is no JSON.") if error.code == "object_damaged" else error from None
            for number in (lease.token, lease.number):
                if number in listing.ended:
                    return View(name, listing, lease, self._read_end(name, number))
            return View(name, listing, lease)
        raise unreadable(name, "it changes faster than it can be read.")

    def acquire(self, ask: Ask, now: float, wait_seconds: float = 0.0) -> Lease:
        """Take, join or renew a lease. now is the asker's clock.

        The asker's clock is written down, and spares a question: while it says that the lease has long to go, the
        lease is not tried. That it expired is believed of the store's clock alone.
        A lease of another run is waited for, at most wait_seconds (never more than 10), and then refused with
        lease_held; whoever can prove the holder's process dead shows that by ask.dead. Raises lease_held, lease_lost,
        lease_unreadable, and the store's errors.
        """
        began = time.monotonic()
        moment: float | None = None
        asked_clock = False

        def today() -> float:
            return now + time.monotonic() - began

        def step(view: View, floor: int) -> Step:
            return decide(view, ask, today(), moment=moment, tolerance=self.tolerance, floor=floor)

        try:
            while True:
                view, got = self._advance(ask.name, step)
                if got is not None:
                    return got
                lease = view.lease
                if lease is None:
                    continue
                if moment is None and view.remaining(today(), self.tolerance) < NEAR:
                    asked_clock = True
                    moment = self._store_clock(ask)
                    continue
                left = began + min(wait_seconds, LONGEST_WAIT) - time.monotonic()
                if left <= 0:
                    raise held(view, lease, today(), view.remaining(moment or today(), self.tolerance))
                time.sleep(min(POLL, left))
                moment = None
        finally:
            if asked_clock:
                self._forget([clock_key(ask.name, ask.run, ask.host)])

    def confirm(self, name: str, run: str, token: int, host: str) -> Lease:
        """Prove, by renewing, that a run still holds a lease with its token: right before a point of no return.

        Raises lease_lost, lease_unreadable, and the store's errors.
        """
        _view, got = self._advance(name, lambda view, floor: decide_confirm(view, run, token, host, floor=floor))
        if got is None:
            raise unreadable(name, "it changes faster than it can be renewed.")
        return got

    def leave(self, name: str, run: str, host: str, now: float) -> bool:
        """A host is through; when all are, the lease is free. False when it was not in it. Safe to repeat."""
        view = self.look(name)
        lease = view.lease
        if lease is None or lease.run != run or view.end is not None or not view.inside(host):
            return False
        write_json(self.store, left_key(name, lease.present[host], host), {"run": run, "at": iso(now)})
        return True

    def release(self, name: str, run: str, now: float, by: str = "") -> bool:
        """The whole run gives a lease back, for all its hosts. False when it did not hold it. Safe to repeat."""
        view = self.look(name)
        lease = view.lease
        if lease is None or lease.run != run or view.state() != "held":
            return False
        self._end(name, lease.token, End("released", by, "", now))
        return True

    def unlock(self, name: str, token: int, end: End) -> None:
        """End the lease of a token, or a record that cannot be read by its number, with a recorded reason."""
        self._end(name, token, end)

    def newest(self, name: str) -> int:
        """The number of the newest record, which need not be readable; 0 when there is none."""
        return read_listing(folder(name), _times(self.store.list(folder(name)))).number

    def status(self) -> tuple[list[View], list[OpsError]]:
        """All leases, by name, and a lease_unreadable for each that cannot be read. Only reads."""
        groups: dict[str, list[ObjectInfo]] = {}
        for info in self.store.list(ROOT):
            group, slash, _rest = info.key[len(ROOT) :].partition("/")
            if slash:
                groups.setdefault(group, []).append(info)
        views, bad = [], []
        for group, objects in sorted(groups.items()):
            try:
                view = self._look_group(group, objects)
            except OpsError as error:
                if error.code != "lease_unreadable":
                    raise
                bad.append(error)
                continue
            if view.lease is not None:
                views.append(view)
        return sorted(views, key=lambda view: view.name), bad

    def _look_group(self, group: str, objects: list[ObjectInfo]) -> View:
        """A lease by its folder; its name is what its newest record says, since a long name is cut in keys."""
        prefix = f"{ROOT}{group}/"
        listing = read_listing(prefix, _times(objects))
        if not listing.number:
            return View(group, listing)
        try:
            name = str(read_json(self.store, f"{prefix}{listing.number:010d}.json").get("name") or group)
        except OpsError as error:
            if error.code == "object_missing":  # tidied meanwhile
                return self._look_group(group, self.store.list(prefix))
            if error.code == "object_damaged":
                raise unreadable(plain(group), "it is no JSON.") from error
            raise
        if folder(name) != prefix:
            raise unreadable(plain(group), f"it says to be of {name}.")
        return self.look(name)

    def _read(self, name: str, number: int, modified: float) -> Lease:
        known, at = self._known.get(name, (None, None))
        if known is None or known.number != number or at not in (None, modified):
            known = parse_lease(name, number, read_json(self.store, record_key(name, number)))
        self._known[name] = (known, modified)
        return known

    def _read_end(self, name: str, number: int) -> End:
        try:
            return parse_end(read_json(self.store, ended_key(name, number)))
        except OpsError as error:
            if error.code not in ("object_damaged", "object_missing"):
                raise
            return parse_end({})

    def _advance(self, name: str, step: Callable[[View, int], Step]) -> tuple[View, Lease | None]:
        """Look, decide and write until the lease is ours; (view, None) when it is somebody else's."""
        floor, doubts = 0, 0
        for _attempt in range(ATTEMPTS):
            view = self.look(name)
            wanted = step(view, floor)
            if wanted.kind == "wait":
                return view, None
            if wanted.kind == "have" or wanted.record is None:
                self._tidy(view)
                return view, wanted.record
            floor = wanted.record.number
            try:
                write_json(self.store, record_key(name, floor), wanted.record.as_json(), if_absent=True)
                self._known[name] = (wanted.record, None)
            except OpsError as error:
                if error.code == "interrupted":
                    raise
                if error.code != "object_exists":
                    doubts += 1
                    if doubts >= WRITES_IN_DOUBT and not self._arrived(name, wanted.record):
                        raise
        raise unreadable(name, "it changes faster than it can be written.")

    def _arrived(self, name: str, record: Lease) -> bool:
        """Whether a write in doubt is in the store after all."""
        lease = self.look(name).lease
        return lease is not None and lease.run == record.run and lease.number >= record.number

    def _end(self, name: str, number: int, end: End) -> None:
        try:
            write_json(self.store, ended_key(name, number), end.as_json(), if_absent=True)
        except OpsError as error:
            if error.code != "object_exists":  # it is over, however it ended
                raise

    def _store_clock(self, ask: Ask) -> float:
        """The time on the clock that stamps the records: that of an object written now."""
        key = clock_key(ask.name, ask.run, ask.host)
        write_json(self.store, key, {"run": ask.run, "host": ask.host})
        for info in self.store.list(key):
            if info.key == key:
                return info.modified
        return 0.0  # somebody removed it: a time that lets nothing expire

    def _tidy(self, view: View) -> None:
        keys = stale(view)
        if len(keys) >= TIDY_FROM:
            self._forget(keys)

    def _forget(self, keys: list[str]) -> None:
        """Delete what nobody needs; a store that does not let us delete keeps it."""
        try:
            self.store.delete(keys)
        except OpsError as error:
            if error.code == "interrupted":
                raise


def _times(objects: list[ObjectInfo]) -> list[tuple[str, float]]:
    return [(info.key, info.modified) for info in objects]
