# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keys and records of a lease mean, and who may take it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import (
    KEEP,
    End,
    Lease,
    Listing,
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
    safe,
    stale,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import (
    decide,
    decide_confirm,
    line,
    lost,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.keys import valid_key
from ansible_collections.saasops.runbook.tests.lab.leases import HOLDER, NAME, ask

LEASE = Lease(NAME, 7, 5, "r1", HOLDER, "restore", "response", "", 1800, 1000.0, {"a": 5, "b": 6})
STAMP = 1000.0  # of the newest record, on the store's clock


def view(*left: tuple[int, str], how: str = "", lease: Lease = LEASE) -> View:
    listing = Listing(lease.number, STAMP, frozenset(left))
    return View(NAME, listing, lease, End(how, "bert", "why", 1100.0) if how else None)


@given(st.text(min_size=1))
def test_any_name_makes_valid_keys(name: str) -> None:
    keys = [record_key("x" + name, 1), left_key("x" + name, 1, name), ended_key("x" + name, 1)]
    assert all(valid_key(key) for key in (*keys, clock_key("x" + name, name, name)))


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_names_never_share_a_key(one: str, other: str) -> None:
    assert (safe(one) == safe(other)) == (one == other)


@given(st.text(min_size=1, max_size=12))
def test_a_short_name_can_be_read_from_its_key(name: str) -> None:
    assert plain(safe(name)) == name


@pytest.mark.parametrize("name", ["", " "])
def test_a_lease_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(OpsError) as caught:
        folder(name)
    assert caught.value.code == "bad_lease"


def test_a_record_comes_back_as_it_was_written() -> None:
    assert parse_lease(NAME, 7, LEASE.as_json()) == LEASE
    end = End("released", "anna", "", 5.0)
    assert parse_end(end.as_json()) == end


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"number": 8},
        {"name": "database:other"},
        {"holder": None},
        {"holder": {"pid": 1}},
        {"present": []},
        {"present": {"a": "x"}},
        {"taken": "yesterday"},
        {"ttl": None},
    ],
)
def test_a_record_that_is_not_understood_is_refused_with_the_way_on(change: dict[str, object]) -> None:
    with pytest.raises(OpsError) as caught:
        parse_lease(NAME, 7, {**LEASE.as_json(), **change})  # type: ignore[dict-item]
    assert caught.value.code == "lease_unreadable"
    assert "unlock -e lease='database:app'" in caught.value.remedy


def test_an_end_that_cannot_be_read_still_ends() -> None:
    assert parse_end({}).how == "unlocked"


def test_the_highest_number_counts_and_strange_keys_are_passed_over() -> None:
    prefix = folder(NAME)
    names = {"0000000009.json": 9.0, "0000000010.json": 10.0, "0000000009.left.db1.example.json": 11.0}
    strange = {"0000000011.ended.json": 12.0, "11.json": 1.0, "notes.txt": 2.0, "0000000012.jsonx": 3.0}
    listing = read_listing(prefix, [(prefix + name, at) for name, at in {**names, **strange}.items()])
    assert (listing.number, listing.modified, listing.records) == (10, 10.0, (9, 10))
    assert listing.left == {(9, "db1.example")}
    assert listing.ended == {11}


@pytest.mark.parametrize(
    ("seen", "moment", "state"),
    [
        (View(NAME, Listing()), None, "free"),
        (view(), None, "held"),
        (view((5, "a")), None, "held"),
        (view((5, "a"), (5, "b")), None, "held"),  # b came in with 6: that marker is an older one
        (view((5, "a"), (6, "b")), None, "left"),
        (view(how="released"), None, "released"),
        (view(how="unlocked"), None, "unlocked"),
        (view(), STAMP + 1860, "held"),
        (view(), STAMP + 1861, "expired"),
        (view(), STAMP - 1e6, "held"),
        (view((5, "a"), (6, "b")), STAMP + 1e6, "left"),
    ],
)
def test_the_state_of_a_lease(seen: View, moment: float | None, state: str) -> None:
    assert seen.state(moment) == state


@pytest.mark.parametrize(
    ("seen", "run", "host", "options", "kind"),
    [
        (View(NAME, Listing()), "r1", "a", {}, "take"),
        (View(NAME, Listing()), "r1", "a", {"token": 5}, "lost"),
        # its own
        (view(), "r1", "a", {}, "renew"),
        (view(), "r1", "a", {"moment": STAMP + 1e6}, "renew"),
        (view(), "r1", "a", {"floor": 7}, "have"),
        (view(), "r1", "a", {"floor": 6}, "have"),
        (view(), "r1", "a", {"floor": 8}, "renew"),
        (view(), "r1", "c", {}, "join"),
        (view(), "r1", "c", {"floor": 7}, "join"),
        (view((5, "a")), "r1", "a", {}, "join"),
        (view((5, "a"), (6, "b")), "r1", "a", {"token": 5}, "take"),
        (view(how="released"), "r1", "a", {"token": 5}, "take"),
        (view(how="unlocked"), "r1", "a", {}, "lost"),
        # another's
        (view(), "r2", "a", {}, "wait"),
        (view(), "r2", "a", {"floor": 7}, "wait"),
        (view(), "r2", "a", {"token": 4}, "lost"),
        (view(), "r2", "a", {"moment": STAMP + 1860}, "wait"),
        (view(), "r2", "a", {"moment": STAMP + 1861}, "take expired"),
        (view(), "r2", "a", {"dead": frozenset({"r3"})}, "wait"),
        (view(), "r2", "a", {"dead": frozenset({"r1"})}, "take dead"),
        (view((5, "a"), (6, "b")), "r2", "a", {}, "take"),
        (view(how="released"), "r2", "a", {}, "take"),
        (view(how="unlocked"), "r2", "a", {}, "take"),
        (view(how="unlocked"), "r2", "a", {"token": 4}, "lost"),
    ],
)
def test_who_may_take_a_lease(seen: View, run: str, host: str, options: dict[str, object], kind: str) -> None:
    about = {name: options[name] for name in ("token", "dead") if name in options}
    question = ask(run, host, hosts=("a", "b"), **about)  # type: ignore[arg-type]
    told = {name: options[name] for name in ("moment", "floor") if name in options}
    if kind == "lost":
        with pytest.raises(OpsError) as caught:
            decide(seen, question, 50.0, **told)  # type: ignore[arg-type]
        assert caught.value.code == "lease_lost"
        return
    step = decide(seen, question, 50.0, **told)  # type: ignore[arg-type]
    record = step.record
    if kind in ("wait", "have"):
        assert (step.kind, record) == (kind, LEASE if kind == "have" else None)
        return
    assert step.kind == "write"
    assert record is not None
    assert record.number == seen.number + 1
    word, _space, why = kind.partition(" ")
    if word == "take":
        assert (record.token, record.run, record.taken, record.took_over_why) == (record.number, run, 50.0, why)
        assert record.took_over == ("r1" if why else "")
        assert set(record.present.values()) == {record.number}
    else:
        present = {**LEASE.present, host: record.number} if word == "join" else LEASE.present
        assert record == replace(LEASE, number=8, present=present)


@pytest.mark.parametrize(
    ("seen", "run", "token", "host", "told"),
    [
        (View(NAME, Listing()), "r1", 5, "a", "records are gone"),
        (view(), "r2", 5, "a", "this host has left"),
        (view(), "r1", 4, "a", "run r1 of anna has it"),
        (view(lease=replace(LEASE, took_over="r9", took_over_why="expired")), "r9", 4, "a", "took it over (expired)"),
        (view((5, "a")), "r1", 5, "a", "this host has left"),
        (view(), "r1", 5, "c", "this host has left"),
        (view(how="unlocked"), "r1", 5, "a", "it was unlocked by bert: why"),
        (view(how="released"), "r1", 5, "a", "it was released"),
    ],
)
def test_a_lease_is_lost_and_the_refusal_says_how(seen: View, run: str, token: int, host: str, told: str) -> None:
    with pytest.raises(OpsError) as caught:
        decide_confirm(seen, run, token, host)
    assert caught.value.code == "lease_lost"
    assert told in caught.value.cause


def test_confirming_means_renewing_since_the_question_was_asked() -> None:
    assert decide_confirm(view(), "r1", 5, "a").record == replace(LEASE, number=8)
    assert decide_confirm(view(), "r1", 5, "a", floor=7).kind == "have"


def test_tidying_leaves_the_newest_record_and_what_it_refers_to() -> None:
    prefix, number = folder(NAME), 5 + KEEP + 10
    keys = [record_key(NAME, n) for n in range(1, number + 1)] + [ended_key(NAME, 3), ended_key(NAME, 5)]
    keys += [left_key(NAME, 5, "a"), left_key(NAME, 2, "a"), clock_key(NAME, "r2", "a")]
    times = {**dict.fromkeys(keys, 9000.0), clock_key(NAME, "r3", "a"): 9000.0 - 3601}
    lease = replace(LEASE, number=number)
    gone = set(stale(View(NAME, read_listing(prefix, times.items()), lease)))
    old = {record_key(NAME, n) for n in range(1, number - KEEP)}
    assert gone == old | {ended_key(NAME, 3), left_key(NAME, 2, "a"), clock_key(NAME, "r3", "a")}


@pytest.mark.parametrize(
    ("seen", "now", "words"),
    [
        (View(NAME, Listing()), 0.0, ["free"]),
        (view((5, "a")), 1060.0, ["HELD by anna on ctl-1", "since 1 min", "1 of 2 hosts are through", "in 30 min"]),
        (view(), 9000.0, ["EXPIRED", "the next run takes it"]),
        (view(how="unlocked"), 1160.0, ["free, unlocked by bert 1 min ago (why)", "was held by anna"]),
        (view(how="released"), 1160.0, ["free, given back by anna"]),
        (view((5, "a"), (6, "b")), 1160.0, ["free, given back by anna"]),
    ],
)
def test_a_line_of_status(seen: View, now: float, words: list[str]) -> None:
    assert all(word in line(seen, now) for word in words), line(seen, now)


def test_a_lost_lease_names_the_run_that_has_it_now() -> None:
    error = lost(view(lease=replace(LEASE, run="r2", token=6, took_over="r1", took_over_why="dead")), 5)
    assert "run r2 of anna took it over (dead)" in error.cause
