# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what was done, as a chain of records, each naming the SHA-256 of the one before.

A record is one canonical JSON text. `previous` is the SHA-256 of the predecessor's whole text, so that sha256sum
checks a link by hand; `seal` is the SHA-256 of the record's own text without the seal, so that a careless edit is
found at the record that was edited. Verification: domain/journal_proof.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, canonical, iso, posix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import clean

FORMAT = 1
KINDS = (
    "run_started",  # operator, controller, verb, class, versions, check mode
    "intent",  # what one module is about to do: host, action, plan
    "outcome",  # what became of it: changed, failed, seconds
    "refusal",  # what the guard or the verb refused, with its codes
    "task",  # a changed or failed task that no admission saw; written by the callback
    "bypass",  # what break glass or `guard: none` went past, and why
    "approval",
    "unlock",
    "reverted",  # an open item that was put back, by whom
    "notification",
    "note",
)
HEAD_LOST = "head_lost"  # code of the note that an append writes when the chain ended before its head
RECENT = 8  # runs whose last sequence every record carries on
_RUN = re.compile(r"[A-Za-z0-9._-]{0,64}\Z")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_OWN = frozenset(
    ("format", "number", "previous", "id", "kind", "at", "system", "run", "sequence", "recent", "spooled", "seal")
)


@dataclass(frozen=True)
class Event:
    """What happened, before it has a place in the chain.

    id: 32 hex digits, made once at the edge; the same id is never written twice.
    at: POSIX seconds. run: the run's id, "" for what belongs to none.
    facts: operator, controller, host, verb, class, action, task, plan, changed, failed, ...; secrets are taken out
    and long values cut when the record is made.
    spooled: POSIX seconds of the merge when the event waited in a spool.
    """

    kind: str
    at: float
    id: str
    system: str = ""
    run: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    spooled: float | None = None

    def as_json(self) -> dict[str, Json]:
        """As a line of a spool or of the callback's file."""
        return {
            "kind": self.kind,
            "at": self.at,
            "id": self.id,
            "system": self.system,
            "run": self.run,
            "facts": clean(self.facts),
        }


def parse_event(body: object) -> Event:
    """The reverse of as_json. Raises ValueError."""
    if not isinstance(body, dict):
        raise ValueError("an event is a JSON object")
    event = Event(
        str(body.get("kind")),
        float(body.get("at", "")),
        str(body.get("id")),
        str(body.get("system") or ""),
        str(body.get("run") or ""),
        dict(body.get("facts") or {}),
    )
    problem = _problem(event)
    if problem:
        raise ValueError(problem)
    return event


def new_id(randomness: bytes) -> str:
    """The id of an event; randomness is 16 bytes."""
    return randomness[:16].hex()


def _problem(event: Event) -> str:
    if event.kind not in KINDS:
        return f"{event.kind!r} is not a kind of record"
    if not _ID.match(event.id):
        return f"{event.id[:40]!r} is not the id of a record"
    if not _RUN.match(event.run):
        return f"{event.run[:70]!r} is not the id of a run"
    reserved = sorted(_OWN.intersection(event.facts))
    return f"the facts {', '.join(reserved)} are the journal's own" if reserved else ""


@dataclass(frozen=True)
class Head:
    """The end of a chain: number and SHA-256 (hex) of the last record, and the last sequence of recent runs."""

    number: int = 0
    sha256: str = ""
    recent: Mapping[str, int] = field(default_factory=dict)


def digest(text: bytes) -> str:
    """SHA-256 (hex) of a record's whole text."""
    return hashlib.sha256(text).hexdigest()


def seal(body: Mapping[str, Json]) -> str:
    """SHA-256 (hex) of a record without its seal."""
    return hashlib.sha256(canonical({name: value for name, value in body.items() if name != "seal"})).hexdigest()


def head_of(number: int, text: bytes) -> Head:
    """The head that a last record makes; one that cannot be read is still followed, and found by the proof."""
    recent: dict[str, int] = {}
    try:
        found = json.loads(text).get("recent")
        recent = {str(run): int(last) for run, last in found.items()}
    except (ValueError, AttributeError, TypeError):
        recent = {}
    return Head(number, digest(text), recent)


def render(event: Event, head: Head) -> tuple[bytes, Head]:
    """The record that puts event behind head, as text, and the new head. Raises OpsError bad_record."""
    problem = _problem(event)
    if problem:
        raise OpsError("bad_record", f"This cannot be journaled: {problem}.", "This is a defect; please report it.")
    sequence = _sequence(event, head)
    recent = dict(head.recent)
    if sequence is not None:
        recent[event.run] = sequence
        # ids of runs begin with their time: the oldest goes
        for run in sorted(recent)[:-RECENT]:
            if run != event.run:
                del recent[run]
    body = cast("dict[str, Json]", clean(event.facts))
    body.update(
        {
            "format": FORMAT,
            "number": head.number + 1,
            "previous": head.sha256,
            "id": event.id,
            "kind": event.kind,
            "at": iso(event.at),
            "system": event.system,
            "run": event.run,
            "sequence": sequence,
            "recent": cast("dict[str, Json]", recent),
        }
    )
    if event.spooled is not None:
        body["spooled"] = {"happened": iso(event.at), "merged": iso(event.spooled)}
    body["seal"] = seal(body)
    text = canonical(body)
    return text, Head(head.number + 1, digest(text), recent)


def _sequence(event: Event, head: Head) -> int | None:
    """The event's place in its run: 1, 2, ...; None when the run's earlier records are out of sight."""
    if event.run in head.recent:
        return head.recent[event.run] + 1
    return 1 if event.kind == "run_started" and event.run else None


def written_at(body: Mapping[str, Json]) -> float:
    """When a record entered the chain, POSIX seconds. Raises ValueError."""
    spooled = body.get("spooled")
    return posix(str(spooled.get("merged") if isinstance(spooled, dict) else body.get("at")))
