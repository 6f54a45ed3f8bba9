# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which silence is the same, and what is done to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.silence import (
    Matcher,
    Silence,
    Wanted,
    as_json,
    decide_absent,
    decide_present,
    parse_matchers,
    parse_silence,
    parse_time,
    same,
    stamp,
)

NOW = 1_795_000_000.0
MATCHERS = (Matcher("instance", "db1"), Matcher("severity", "info|warning", is_regex=True))
THERE = Silence(MATCHERS, "why", "anna", NOW - 600, NOW + 3600, "a1", "active", NOW - 600)
PENDING = replace(THERE, state="pending", starts=NOW + 1800, ends=NOW + 5400)


def wanted(**changes: object) -> Wanted:
    return replace(Wanted(MATCHERS, "why", "anna", ends=NOW + 3600), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "found", "kind", "ends"),
    [
        (wanted(), [], "silence", 3600),
        (wanted(), [THERE], "", 3600),
        (wanted(ends=NOW + 3602), [THERE], "extend", 3602),
        (wanted(ends=NOW + 1800), [THERE], "", 3600),
        (wanted(ends=NOW + 1800, shorten=True), [THERE], "shorten", 1800),
        # a length counts from the silence's own start, so the second time changes nothing
        (wanted(ends=None, length=4200.0), [THERE], "", 3600),
        (wanted(ends=None, length=4261.0), [THERE], "extend", 3661),
        (wanted(ends=None, length=4259.0), [THERE], "", 3600),
        (wanted(ends=None, length=600.0, starts=NOW + 60), [], "silence", 660),
        (wanted(ends=NOW + 5400, starts=NOW + 1800), [PENDING], "", 5400),
        (wanted(ends=NOW + 5400), [PENDING], "move", 5400),
        (wanted(ends=NOW + 9000), [PENDING], "extend", 9000),
    ],
)
def test_what_is_done_follows_from_what_stands(ask: Wanted, found: list[Silence], kind: str, ends: float) -> None:
    step = decide_present(ask, found, NOW)
    assert (step.kind, step.silence.ends) == (kind, NOW + ends)
    assert step.silence.id == (found[0].id if found else "")


@pytest.mark.parametrize("ask", [wanted(ends=NOW), wanted(ends=None, length=0.0), wanted(starts=NOW + 7200)])
def test_a_silence_that_ends_before_it_begins_is_refused(ask: Wanted) -> None:
    with pytest.raises(OpsError) as caught:
        decide_present(ask, [], NOW)
    assert caught.value.code == "bad_period"


def test_comment_and_matchers_in_any_order_make_a_silence_the_same_and_an_expired_one_is_none() -> None:
    turned = tuple(reversed(MATCHERS))
    others = [
        replace(THERE, id="b", comment="else"),
        replace(THERE, id="c", matchers=MATCHERS[:1]),
        replace(THERE, id="d", state="expired"),
        replace(THERE, id="e", created_by="berta", updated=NOW),
    ]
    assert [item.id for item in same([*others, THERE], turned, "why")] == ["a1", "e"]
    assert [step.silence.id for step in decide_absent(same([*others, THERE], turned, "why"))] == ["a1", "e"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        None,
        "alertname=x",
        [{"name": "a b", "value": "x"}],
        [{"name": "a"}],
        [{"name": "a", "value": ""}],
        [{"name": "a", "value": "x", "is_equal": False}],
        [{"name": "a", "value": "x"}, {"name": "a", "value": "x"}],
    ],
)
def test_matchers_that_silence_too_much_or_nothing_are_refused(given: object) -> None:
    with pytest.raises(OpsError) as caught:
        parse_matchers(given)
    assert caught.value.code == "bad_matcher"


@pytest.mark.parametrize(
    ("matcher", "text"),
    [
        (Matcher("a", "x"), 'a="x"'),
        (Matcher("a", "x", is_equal=False), 'a!="x"'),
        (Matcher("a", "x.*", is_regex=True), 'a=~"x.*"'),
        (Matcher("a", 'x"', is_regex=True, is_equal=False), 'a!~"x\\""'),
    ],
)
def test_a_matcher_reads_as_amtool_writes_it(matcher: Matcher, text: str) -> None:
    assert str(matcher) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-18T11:06:40Z", NOW),
        ("2026-11-18T12:06:40.5+01:00", NOW + 0.5),
        ("2026-11-18T11:06Z", NOW - 40),
    ],
)
def test_times_are_read_with_their_zone(text: str, moment: float) -> None:
    assert parse_time(text, "ends") == moment


@pytest.mark.parametrize("text", ["2026-11-18T08:26:40", "tomorrow", "2026-13-01T00:00:00Z"])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(OpsError) as caught:
        parse_time(text, "ends")
    assert caught.value.code == "bad_time"


def test_what_the_api_says_is_what_it_is_told() -> None:
    body = {**as_json(THERE), "status": {"state": "active"}, "updatedAt": stamp(THERE.updated)}
    assert parse_silence(body) == THERE
    with pytest.raises(ValueError, match="not a silence"):
        parse_silence({"id": "x"})
