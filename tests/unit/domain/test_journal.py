# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of the journal: what a record holds, and that every kind of damage is found at its record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import (
    RECENT,
    Event,
    Head,
    head_of,
    new_id,
    parse_event,
    render,
    seal,
    written_at,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import Anchor, Entry, verify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import canonical

T0 = 1795377600.0
RUN = "20261122T201747Z-1a2b3c4d"


def event(number: int, kind: str = "outcome", run: str = RUN, **facts: object) -> Event:
    return Event(kind, T0 + number, new_id(hashlib.sha256(str(number).encode()).digest()), "shop", run, facts)


def chain(length: int, runs: int = 1) -> list[Entry]:
    """A sound journal: every run begins, acts and goes on, runs interleaved."""
    head, entries = Head(), []
    for number in range(1, length + 1):
        run = f"{RUN[:-1]}{number % runs}"
        kind = "run_started" if number <= runs else "outcome"
        text, head = render(event(number, kind, run, host=f"db{number}", changed=True), head)
        entries.append(Entry(number, text))
    return entries


def head(entries: list[Entry]) -> Anchor:
    last = entries[-1]
    return Anchor(last.number, hashlib.sha256(last.text).hexdigest(), "the anchor")


def resealed(entry: Entry, **changes: object) -> Entry:
    """The entry with other facts, as a careful forger writes it: the seal is right again."""
    body = {**json.loads(entry.text), **changes}
    body["seal"] = seal(body)
    return Entry(entry.number, canonical(body))


def renumbered(entries: list[Entry]) -> list[Entry]:
    """Entries under the names 1, 2, ..., as somebody who closes a gap names the files."""
    return [Entry(number, entry.text) for number, entry in enumerate(entries, 1)]


def rebuilt(entries: list[Entry], start: int, **changes: object) -> list[Entry]:
    """Everything from start on written anew, with every link and seal right."""
    kept = entries[: start - 1]
    previous = hashlib.sha256(kept[-1].text).hexdigest() if kept else ""
    for entry in entries[start - 1 :]:
        more = changes if entry.number == start else {}
        kept.append(resealed(entry, previous=previous, **more))
        previous = hashlib.sha256(kept[-1].text).hexdigest()
    return kept


def codes(findings: list[object]) -> list[tuple[int, str]]:
    return [(finding.number, finding.code) for finding in findings]  # type: ignore[attr-defined]


def test_a_record_names_the_sha256_of_the_whole_text_before_it() -> None:
    first, second = chain(2)
    assert json.loads(second.text)["previous"] == hashlib.sha256(first.text).hexdigest()
    assert json.loads(first.text)["previous"] == ""


def test_a_record_is_one_canonical_text_with_number_sequence_time_and_facts() -> None:
    body = json.loads(chain(3)[2].text)
    assert canonical(body) == chain(3)[2].text
    assert (body["number"], body["sequence"], body["kind"], body["run"]) == (3, 3, "outcome", f"{RUN[:-1]}0")
    assert (body["host"], body["changed"], body["at"]) == ("db3", True, "2026-11-22T20:00:03.000000Z")


def test_sequences_count_within_each_run_while_numbers_count_the_chain() -> None:
    bodies = [json.loads(entry.text) for entry in chain(6, runs=2)]
    assert [body["sequence"] for body in bodies] == [1, 1, 2, 2, 3, 3]
    assert [body["number"] for body in bodies] == [1, 2, 3, 4, 5, 6]


def test_a_run_out_of_sight_goes_on_without_a_sequence_and_verifies() -> None:
    start, entries = Head(), []
    for number in range(1, RECENT + 3):
        text, start = render(event(number, "run_started", f"2026112{number:02d}"), start)
        entries.append(Entry(number, text))
    text, start = render(event(99, "task", "202611201"), start)
    entries.append(Entry(RECENT + 3, text))
    assert json.loads(text)["sequence"] is None
    assert verify(entries) == []


def test_a_spooled_event_keeps_both_times() -> None:
    text, _head = render(replace(event(1), spooled=T0 + 500), Head())
    body = json.loads(text)
    assert body["spooled"] == {"happened": "2026-11-22T20:00:01.000000Z", "merged": "2026-11-22T20:08:20.000000Z"}
    assert body["at"] == "2026-11-22T20:00:01.000000Z"
    assert written_at(body) == T0 + 500


@pytest.mark.parametrize(
    "wrong",
    [
        replace(event(1), kind="rumour"),
        replace(event(1), id="1"),
        replace(event(1), run="../x"),
        replace(event(1), facts={"number": 7}),
        replace(event(1), facts={"seal": "x"}),
    ],
)
def test_what_no_record_can_be_is_refused(wrong: Event) -> None:
    with pytest.raises(OpsError) as caught:
        render(wrong, Head())
    assert caught.value.code == "bad_record"


def test_an_event_survives_its_line_in_a_spool() -> None:
    given_event = event(4, "task", action="ansible.builtin.copy", items={"all": 3})
    assert parse_event(json.loads(json.dumps(given_event.as_json()))) == given_event


@pytest.mark.parametrize("line", [None, [], {}, {"kind": "task"}, {**event(1).as_json(), "kind": "x"}])
def test_a_line_that_is_no_event_is_refused(line: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_event(line)


def test_secrets_never_enter_a_record() -> None:
    facts = {"plan": {"db_password": "hunter2hunter2"}, "msg": "url postgres://u:hunter2hunter2@h/db"}
    text, _head = render(event(1, **facts), Head())
    assert b"hunter2" not in text
    assert json.loads(text)["plan"] == {"db_password": "<redacted>"}


@pytest.mark.parametrize("runs", [1, 3])
def test_a_sound_journal_has_no_finding(runs: int) -> None:
    entries = chain(20, runs)
    assert verify(entries, [head(entries)]) == []
    assert verify([]) == []


def test_a_chain_goes_on_behind_a_record_that_cannot_be_read() -> None:
    entries = chain(3)
    entries[2] = Entry(3, b"\0garbage")
    text, _head = render(event(4), head_of(3, entries[2].text))
    assert codes(verify([*entries, Entry(4, text)])) == [(3, "unreadable")]


DAMAGE = [
    ("a value was edited", lambda e: [*e[:4], Entry(5, e[4].text.replace(b"db5", b"db9")), *e[5:]], [(5, "edited")]),
    ("white space was added", lambda e: [*e[:4], Entry(5, e[4].text + b"\n"), *e[5:]], [(5, "edited")]),
    ("the last was edited", lambda e: [*e[:9], Entry(10, e[9].text.replace(b"db", b"da"))], [(10, "edited")]),
    ("edited and sealed anew", lambda e: [*e[:4], resealed(e[4], host="x"), *e[5:]], [(6, "chain")]),
    ("emptied", lambda e: [*e[:4], Entry(5, b""), *e[5:]], [(5, "unreadable")]),
    ("cut", lambda e: [*e[:4], Entry(5, e[4].text[:50]), *e[5:]], [(5, "unreadable")]),
    ("a file is missing", lambda e: e[:4] + e[5:], [(5, "missing")]),
    ("three files are missing", lambda e: e[:4] + e[7:], [(5, "missing")]),
    ("the first is missing", lambda e: e[1:], [(1, "missing")]),
    (
        "removed, the gap closed",
        lambda e: renumbered(e[:4] + e[5:]),
        [(5, "moved"), (6, "moved"), (7, "moved"), (8, "moved"), (9, "moved")],
    ),
    ("two were exchanged", lambda e: renumbered([*e[:4], e[5], e[4], *e[6:]]), [(5, "moved"), (6, "moved")]),
    (
        "one was copied in at the end",
        lambda e: [*e, Entry(11, e[4].text)],
        [(11, "moved")],
    ),
    ("one of another time was put in", lambda e: [*e[:4], chain(5, 2)[4], *e[5:]], [(5, "chain"), (6, "chain")]),
    ("the beginning was removed and renamed", lambda e: renumbered(e[3:]), [(n, "moved") for n in range(1, 8)]),
]


@pytest.mark.parametrize(("what", "damage", "found"), DAMAGE, ids=[row[0] for row in DAMAGE])
def test_damage_is_found_at_its_record(what: str, damage: object, found: list[tuple[int, str]]) -> None:
    findings = verify(damage(chain(10)))  # type: ignore[operator]
    if what == "one of another time was put in":
        assert {code for _number, code in codes(findings)} == {"chain"}  # type: ignore[arg-type]
        return
    assert codes(findings) == found  # type: ignore[arg-type]
    assert all(finding.sentence.endswith(".") and str(finding.number) in finding.sentence for finding in findings)


def test_a_removed_beginning_that_was_written_anew_is_found() -> None:
    entries = [resealed(Entry(number, e.text), number=number) for number, e in enumerate(chain(10)[3:], 1)]
    assert (1, "chain") in codes(verify(entries))  # type: ignore[arg-type]


def test_a_copied_record_that_was_fitted_in_is_found_by_its_id() -> None:
    entries = chain(5)
    previous = hashlib.sha256(entries[-1].text).hexdigest()
    entries.append(resealed(Entry(6, entries[1].text), number=6, previous=previous, sequence=6))
    assert codes(verify(entries)) == [(6, "duplicated")]  # type: ignore[arg-type]


def test_a_sequence_that_jumps_is_found() -> None:
    entries = rebuilt(chain(5), 4, sequence=40)
    assert (4, "sequence") in codes(verify(entries))  # type: ignore[arg-type]


def test_removing_the_end_is_found_against_an_anchor_and_only_there() -> None:
    entries = chain(10)
    assert verify(entries[:7]) == []
    assert codes(verify(entries[:7], [head(entries)])) == [(8, "truncated")]  # type: ignore[arg-type]
    assert codes(verify([], [head(entries)])) == [(1, "truncated")]  # type: ignore[arg-type]


def test_writing_everything_anew_is_found_against_an_anchor_and_only_there() -> None:
    entries = chain(10)
    forged = rebuilt(entries, 4, host="elsewhere")
    assert verify(forged) == []
    assert codes(verify(forged, [head(entries)])) == [(10, "rewritten")]  # type: ignore[arg-type]
    assert verify(forged, [head(entries[:3])]) == [], "an anchor vouches for what came before it"


def test_the_note_of_a_lost_end_stays_a_finding() -> None:
    text, _head = render(event(1, "note", code="head_lost", head=7), Head())
    assert codes(verify([Entry(1, text)])) == [(1, "head_lost")]  # type: ignore[arg-type]


def test_known_damage_is_passed_over_from_the_record_that_is_named() -> None:
    entries = chain(10)
    entries[2] = Entry(3, b"")
    assert verify(entries, [head(entries)], first=4) == []
    del entries[6]
    assert codes(verify(entries, first=4)) == [(7, "missing")]  # type: ignore[arg-type]


SOUND = chain(12, 3)


@settings(max_examples=60)
@given(st.integers(0, 11), st.data())
def test_any_changed_byte_is_found(index: int, data: st.DataObject) -> None:
    text = bytearray(SOUND[index].text)
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    damaged = [*SOUND[:index], Entry(index + 1, bytes(text)), *SOUND[index + 1 :]]
    findings = verify(damaged)
    assert findings
    assert findings[0].number == index + 1


@settings(max_examples=60)
@given(st.sets(st.integers(1, 12), min_size=1))
def test_any_removed_records_are_found_with_the_head(gone: set[int]) -> None:
    assert verify([entry for entry in SOUND if entry.number not in gone], [head(SOUND)])


@settings(max_examples=60)
@given(st.permutations(range(12)))
def test_any_other_order_is_found(order: list[int]) -> None:
    findings = verify(renumbered([SOUND[index] for index in order]))
    assert bool(findings) == (list(order) != list(range(12)))


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12))
def test_any_record_that_is_put_in_is_found(source: int, place: int) -> None:
    entries = [entry.text for entry in SOUND]
    entries.insert(place, resealed(SOUND[source - 1], id="0" * 32).text)
    assert verify([Entry(number, text) for number, text in enumerate(entries, 1)])


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12))
def test_any_rewritten_end_is_found_by_an_anchor_behind_its_beginning(start: int, anchored: int) -> None:
    forged = rebuilt(SOUND, start, host="elsewhere")
    assert verify(forged) == []
    assert bool(verify(forged, [head(SOUND[:anchored])])) == (anchored >= start)
