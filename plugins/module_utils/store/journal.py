# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal in a store: one object a record, so that a store without append and compare-and-swap can hold a chain.

journal/00000017.json is created only if it is absent: of two writers one gets the number, the other reads that record
and tries the next. journal/head.json only saves a listing: what it says is believed no further than the record that
it names is there. A crash at any moment leaves whole records in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import (
    HEAD_LOST,
    Event,
    Head,
    digest,
    head_of,
    render,
    written_at,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import Anchor, Entry, Finding, read
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import safe
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import canonical
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import Crew
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_all

ROOT = "journal/"
HEAD = "journal/head.json"
_RECORD = re.compile(r"journal/(\d{8,18})\.json\Z")
_ANCHOR = re.compile(r"(\d{8,18})-([0-9a-f]{64})\Z")
STEPS = 32  # records that an append follows one by one before it takes a listing
READERS = 8
DAY = 86400.0


def key(number: int) -> str:
    """Where a record lies; eight digits or more, so that listings of the first hundred million are in order."""
    return f"{ROOT}{number:08d}.json"


def _number(object_key: str) -> int | None:
    """The number of a record's key; None when it is no key that this journal writes."""
    found = _RECORD.match(object_key)
    number = int(found.group(1)) if found else 0
    return number if number > 0 and key(number) == object_key else None


@dataclass(frozen=True)
class Appended:
    """The end of the chain after an append, and the numbers that the events got, in their order."""

    head: Head
    numbers: tuple[int, ...]


def append(store: Store, events: Sequence[Event], again_since: float | None = None) -> Appended:
    """Put events behind the chain's end, in order; durable on return. Four requests and one more for each further.

    again_since: an earlier attempt to append these, begun at this POSIX time, may have written some of them: they are
    looked for and not written twice. Raises the store's errors; what was written by then stays, in order.
    """
    head, lost = _find_head(store)
    numbers: dict[str, int] = {}
    if again_since is not None:
        numbers = _written(store, head, {event.id for event in events}, again_since)
    waiting = [event for event in events if event.id not in numbers]
    if lost is not None and waiting:
        waiting.insert(0, _note_of_loss(waiting[0], lost, head))
    for event in waiting:
        head = _put(store, event, head)
        numbers[event.id] = head.number
    if waiting:
        write_hint(store, head)
    return Appended(head, tuple(numbers[event.id] for event in events))


def _put(store: Store, event: Event, head: Head) -> Head:
    """The head after event, behind head or behind what others have written meanwhile."""
    steps = 0
    while True:
        text, after = render(event, head)
        try:
            store.put(key(after.number), [text], if_absent=True)
            return after
        except OpsError as error:
            if error.code != "object_exists":
                raise
        there = read_all(store, key(after.number))
        if there == text:
            return after  # our own: the answer to the first request was lost on the way
        steps += 1
        # a hint that is far behind, for instance out of a copy of the store, is not followed record by record
        head = head_of(after.number, there) if steps % STEPS else _listed(store)


def write_hint(store: Store, head: Head) -> None:
    """Keep where the chain ends, last of all, so that it is never ahead of the records."""
    store.put(HEAD, [canonical({"number": head.number, "sha256": head.sha256})])


def _hint(store: Store) -> Anchor | None:
    try:
        body = read(read_all(store, HEAD)) or {}
    except OpsError as error:
        if error.code not in ("object_missing", "object_damaged"):
            raise
        return None
    number, sha256 = body.get("number"), body.get("sha256")
    if not isinstance(number, int) or number < 1 or not isinstance(sha256, str):
        return None
    return Anchor(number, sha256, f"the object {HEAD}")


def _find_head(store: Store) -> tuple[Head, Anchor | None]:
    """The end of the chain; and the hint, when the chain ends before it, which an honest writer never leaves."""
    hint = _hint(store)
    if hint is None:
        return _listed(store), None
    try:
        head = head_of(hint.number, read_all(store, key(hint.number)))
    except OpsError as error:
        if error.code != "object_missing":
            raise
        listed = _listed(store)
        return listed, hint if listed.number < hint.number else None
    return head, None


def _listed(store: Store) -> Head:
    """The head as a listing gives it."""
    numbers = [number for number in (_number(info.key) for info in store.list(ROOT)) if number]
    if not numbers:
        return Head()
    return head_of(max(numbers), read_all(store, key(max(numbers))))


def current_head(store: Store) -> Head:
    """The end of the chain now; Head() of an empty one."""
    head, _lost = _find_head(store)
    for _step in range(STEPS):
        try:
            head = head_of(head.number + 1, read_all(store, key(head.number + 1)))
        except OpsError as error:
            if error.code != "object_missing":
                raise
            return head
    return _listed(store)


def _note_of_loss(event: Event, lost: Anchor, head: Head) -> Event:
    facts = {"code": HEAD_LOST, "head": lost.number, "head_sha256": lost.sha256, "end": head.number}
    own = digest(f"{lost.number} {lost.sha256} {event.id}".encode())[:32]
    return Event("note", event.at if event.spooled is None else event.spooled, own, event.system, event.run, facts)


def _written(store: Store, head: Head, ids: set[str], since: float) -> dict[str, int]:
    """Which of these ids the chain holds already, looking back from its end to what was written a day before since."""
    found: dict[str, int] = {}
    number = max(head.number, current_head(store).number)
    while number > 0 and len(found) < len(ids):
        try:
            body = read(read_all(store, key(number))) or {}
        except OpsError as error:
            if error.code != "object_missing":
                raise
            body = {}
        own = str(body.get("id"))
        if own in ids:
            found[own] = number
        try:
            # clocks of controllers and hosts differ, but not by a day
            if body and written_at(body) < since - DAY:
                break
        except ValueError:
            pass
        number -= 1
    return found


@dataclass(frozen=True)
class Chain:
    """A journal as it lies in a store: its records, objects that are none, and the head's hint."""

    entries: tuple[Entry, ...]
    strangers: tuple[Finding, ...]
    hint: Anchor | None


def read_chain(store: Store, first: int = 1) -> Chain:
    """All records from first on, eight at a time."""
    hint = _hint(store)  # before the listing: a record that is written meanwhile is then no loss
    listed = store.list(ROOT)
    numbers = sorted(n for n in (_number(info.key) for info in listed) if n is not None and n >= first)

    def one(index: int) -> Entry | None:
        try:
            return Entry(numbers[index], read_all(store, key(numbers[index])))
        except OpsError as error:
            if error.code not in ("object_missing", "object_damaged"):
                raise
            return None if error.code == "object_missing" else Entry(numbers[index], b"")

    found = Crew(READERS).run(one, len(numbers))
    return Chain(tuple(entry for entry in found if entry is not None), tuple(_strangers(listed)), hint)


def _strangers(listed: Iterable[ObjectInfo]) -> Iterable[Finding]:
    for info in listed:
        if info.key != HEAD and _number(info.key) is None:
            yield Finding(0, "foreign", f"The object {info.key} is none of the journal's.")


def open_anchor(params: Mapping[str, object] | str, store: Store) -> Store:
    """The second place: suboptions of a store, or a folder. Raises OpsError anchor_in_store when it is no second."""
    found = open_store({"type": "posix", "path": params, "create": True} if isinstance(params, str) else params)
    if found.url == store.url:
        raise OpsError(
            "anchor_in_store",
            f"The journal's anchor {found.url} is the store itself, where the journal lies.",
            "Set saasops_journal_anchor to another folder or bucket, best under another credential.",
        )
    return found


def _anchors_of(system: str) -> str:
    """The prefix of a system's anchors; characters that a key must not have are written =XX."""
    return f"anchors/{safe(system) or '='}/"


def write_anchor(place: Store, system: str, head: Head, at: float) -> str:
    """Keep a head in the second place; its key. Two requests at most.

    Every anchor is an object of its own that is never overwritten, so that the place can forbid overwriting. Its name
    alone says everything, so that verification takes one listing. at: POSIX seconds.
    """
    name = f"{_anchors_of(system)}{head.number:08d}-{head.sha256}"
    try:
        place.put(name, [json.dumps({"at": at}).encode()], if_absent=True)
    except OpsError as error:
        if error.code != "object_exists":
            raise
    return name


def read_anchors(place: Store, system: str) -> list[Anchor]:
    """All heads that were kept, oldest first; one listing."""
    prefix = _anchors_of(system)
    found = []
    for info in place.list(prefix):
        match = _ANCHOR.match(info.key[len(prefix) :])
        if match:
            found.append(Anchor(int(match.group(1)), match.group(2), f"the anchor in {place.url}"))
    return found


def spooled(events: Iterable[Event], now: float, system: str) -> list[Event]:
    """Events out of a spool, marked with the time of their merge (POSIX seconds)."""
    return [Event(e.kind, e.at, e.id, e.system or system, e.run, e.facts, spooled=now) for e in events]
