# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a journal is whole: what an edit, a removal, an insertion, an exchange or a cut end leave behind.

The chain alone finds what happened inside it. Whoever removes the newest records, or writes everything anew from
some record to the end, leaves a chain that is sound by itself: only an anchor, a head that was kept elsewhere, tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import FORMAT, HEAD_LOST, digest, seal
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, canonical


@dataclass(frozen=True)
class Entry:
    """One object of a journal: the number that its name says, and its text."""

    number: int
    text: bytes


@dataclass(frozen=True)
class Anchor:
    """A head as it was kept: number and SHA-256 (hex) of what was the last record; where it was kept."""

    number: int
    sha256: str
    where: str


@dataclass(frozen=True)
class Finding:
    """Damage at one record.

    code: missing, unreadable, edited, moved, chain, duplicated, sequence, truncated, rewritten, foreign, head_lost.
    """

    number: int
    code: str
    sentence: str

    def as_json(self) -> dict[str, Json]:
        return {"number": self.number, "code": self.code, "msg": self.sentence}


@dataclass
class _Walk:
    """What is known on the way through the chain."""

    findings: list[Finding] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    def say(self, number: int, code: str, sentence: str) -> None:
        self.findings.append(Finding(number, code, sentence))


def read(text: bytes) -> dict[str, Json] | None:
    """A record's body, or None when it is no JSON object."""
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def verify(entries: Iterable[Entry], anchors: Sequence[Anchor] = (), first: int = 1) -> list[Finding]:
    """Everything that is wrong with a journal, by number; [] when nothing is.

    first: begin at this record, after damage that is known and explained; what lies before is not looked at.
    Without anchors, records that were removed from the end are not found.
    """
    walk = _Walk()
    kept = sorted((entry for entry in entries if entry.number >= first), key=lambda entry: entry.number)
    before: Entry | None = None
    doubted = False  # whether the entry before was found damaged: its successor's link then says nothing new
    expected = first
    for entry in kept:
        if entry.number > expected:
            walk.say(expected, "missing", _missing(expected, entry.number - 1))
            before, doubted = None, True
        found = len(walk.findings)
        body = _alone(walk, entry)
        if body is not None:
            _link(walk, entry, body, before, doubted, first)
            _place(walk, entry, body, doubted or before is None)
        before, doubted, expected = entry, len(walk.findings) > found, entry.number + 1
    _held_against(walk, kept, anchors, first)
    return sorted(walk.findings, key=lambda finding: finding.number)


def _missing(start: int, end: int) -> str:
    return f"Record {start} is missing." if start == end else f"Records {start} to {end} are missing."


def _alone(walk: _Walk, entry: Entry) -> dict[str, Json] | None:
    """The body of an entry that is sound by itself; None when what it says cannot be relied on."""
    number, body = entry.number, read(entry.text)
    if body is None:
        walk.say(number, "unreadable", f"Record {number} is not readable: it was overwritten or cut.")
        return None
    if body.get("seal") != seal(body) or canonical(body) != entry.text:
        walk.say(number, "edited", f"Record {number} was edited: its seal is not that of its text.")
        return None
    if body.get("number") != number:
        was = body.get("number")
        walk.say(number, "moved", f"Record {number} was written as number {was}: records were exchanged or inserted.")
        return None
    if body.get("format") != FORMAT:
        walk.say(number, "unreadable", f"Record {number} has a format that this release does not know.")
        return None
    return body


def _link(walk: _Walk, entry: Entry, body: dict[str, Json], before: Entry | None, doubted: bool, first: int) -> None:
    number = entry.number
    if number == 1 and body.get("previous") != "":
        walk.say(1, "chain", "Record 1 names a predecessor: what came before it was removed.")
    if before is not None and not doubted and body.get("previous") != digest(before.text):
        walk.say(
            number,
            "chain",
            f"Record {number} does not follow from record {before.number}: one of them was replaced or inserted.",
        )


def _place(walk: _Walk, entry: Entry, body: dict[str, Json], after_gap: bool) -> None:
    """A record's id is its own, and its sequence the next of its run."""
    number, own, run, sequence = entry.number, str(body.get("id")), str(body.get("run")), body.get("sequence")
    if own in walk.ids:
        walk.say(number, "duplicated", f"Record {number} is a copy of record {walk.ids[own]}.")
    walk.ids.setdefault(own, number)
    if isinstance(sequence, int):
        last = walk.sequences.get(run)
        # what was lost or cannot be read was reported; a run that began in there goes on at any number
        if last is not None and sequence != last + 1 and not after_gap and not _lossy(walk):
            walk.say(number, "sequence", f"Record {number} is number {sequence} of its run, after number {last}.")
        walk.sequences[run] = sequence
    if body.get("kind") == "note" and body.get("code") == HEAD_LOST:
        walk.say(
            number,
            "head_lost",
            f"When record {number} was written, the journal ended before its head (number {body.get('head')}): "
            "its newest records had been removed.",
        )


def _lossy(walk: _Walk) -> bool:
    return any(finding.code in ("missing", "unreadable", "edited", "moved") for finding in walk.findings)


def _held_against(walk: _Walk, kept: Sequence[Entry], anchors: Sequence[Anchor], first: int) -> None:
    """Anchors beyond the end tell what was cut off, others that the record they name is still the same."""
    last = kept[-1].number if kept else first - 1
    by_number = {entry.number: entry for entry in kept}
    beyond = [anchor for anchor in anchors if anchor.number > last and anchor.number >= first]
    if beyond:
        furthest = max(beyond, key=lambda anchor: anchor.number)
        gone = _missing(last + 1, furthest.number)[:-1]
        walk.say(last + 1, "truncated", f"{gone} from the end: {furthest.where} names number {furthest.number}.")
    for anchor in anchors:
        entry = by_number.get(anchor.number)
        if entry is not None and digest(entry.text) != anchor.sha256:
            damaged = any(
                finding.number == anchor.number and finding.code in ("edited", "unreadable", "moved")
                for finding in walk.findings
            )
            if not damaged:
                walk.say(
                    anchor.number,
                    "rewritten",
                    f"Record {anchor.number} is not the one that {anchor.where} names: "
                    "it, or everything from an earlier record on, was written anew.",
                )
