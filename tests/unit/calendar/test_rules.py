# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
import time
from datetime import datetime, timezone

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import parse_freezes, parse_windows
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.rules import judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.window import WindowVerdict

NIGHTLY = {
    "name": "nightly",
    "rule": "DTSTART;TZID=Europe/Berlin:20260101T020000\nRRULE:FREQ=DAILY",
    "duration": "3h",
}
CHRISTMAS = {
    "name": "christmas",
    "reason": "nobody is here",
    "from": "2026-12-20T00:00",
    "to": "2027-01-02T06:00",
    "zone": "Europe/Berlin",
}


def at(text: str) -> float:
    """POSIX seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def utc(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M")


def verdict(
    now: str,
    windows: object = (NIGHTLY,),
    freezes: object = (CHRISTMAS,),
    verb: str = "backup",
    verb_class: str = "routine",
    expected: float | None = None,
) -> WindowVerdict:
    return judge(parse_windows(windows), parse_freezes(freezes), verb, verb_class, at(now), expected)


def opening(rule: str, now: str, zone: str = "UTC", duration: str = "1h") -> str | None:
    window = {"name": "w", "rule": rule, "zone": zone, "duration": duration}
    return utc(verdict(now, [window], []).next_opening)


@pytest.mark.parametrize(
    ("now", "code", "until", "following"),
    [
        ("2026-07-01T00:00", "", "2026-07-01T03:00", "2026-07-01T00:00"),
        ("2026-07-01T03:00", "window_closed", None, "2026-07-02T00:00"),
        ("2026-11-23T00:00", "window_closed", None, "2026-11-23T01:00"),
        ("2026-11-23T01:00", "", "2026-11-23T04:00", "2026-11-23T01:00"),
        # 02:00 does not exist: 03:00 in summer time, and three hours from there
        ("2026-03-29T00:59", "window_closed", None, "2026-03-29T01:00"),
        ("2026-03-29T01:00", "", "2026-03-29T04:00", "2026-03-29T01:00"),
        # 02:00 comes twice: the first of them, and three hours from there
        ("2026-10-24T23:59", "window_closed", None, "2026-10-25T00:00"),
        ("2026-10-25T00:00", "", "2026-10-25T03:00", "2026-10-25T00:00"),
        ("2026-12-19T22:59", "window_closed", None, "2027-01-03T01:00"),
        ("2026-12-19T23:00", "frozen", None, "2027-01-03T01:00"),
        ("2027-01-02T04:59", "frozen", None, "2027-01-03T01:00"),
        ("2027-01-02T05:00", "window_closed", None, "2027-01-03T01:00"),
    ],
)
def test_a_nightly_window_keeps_its_wall_time_and_gives_way_to_a_freeze(
    now: str, code: str, until: str | None, following: str
) -> None:
    got = verdict(now)
    assert (got.code, utc(got.until), utc(got.next_opening)) == (code, until, following)


@pytest.mark.parametrize(
    ("now", "until"), [("2027-03-14T07:00", "2027-03-14T10:00"), ("2026-11-01T07:00", "2026-11-01T10:00")]
)
def test_new_york_changes_its_clocks_too(now: str, until: str) -> None:
    window = {"name": "w", "start": "02:00", "rule": "FREQ=DAILY", "zone": "America/New_York", "duration": "3h"}
    got = verdict(now, [window], [])
    assert (got.allowed, utc(got.until)) == (True, until)
    assert verdict(utc(at(now) - 60) or "", [window], []).allowed is False


@pytest.mark.parametrize(
    ("day", "duration", "end"),
    [
        ("2026-03-28", "1d", "2026-03-29T22:00"),
        ("2026-03-28", "P1D", "2026-03-29T22:00"),
        ("2026-03-28", "24h", "2026-03-29T23:00"),
        ("2026-03-28", "PT24H", "2026-03-29T23:00"),
        ("2026-10-25", "1d", "2026-10-25T23:00"),
        ("2026-10-25", "24h", "2026-10-25T22:00"),
        ("2026-10-25", "1d1h", "2026-10-26T00:00"),
    ],
)
def test_a_day_is_the_calendars_and_hours_are_elapsed_time(day: str, duration: str, end: str) -> None:
    window = {"name": "w", "start": f"{day}T00:00", "zone": "Europe/Berlin", "duration": duration}
    # in March the day begins at 00:00 on the 28th, and the clocks change on the 29th
    if day == "2026-03-28":
        window["start"] = "2026-03-29T00:00"
    start = judge(parse_windows([window]), (), "backup", "routine", at("2026-01-01")).next_opening
    assert start is not None
    assert utc(judge(parse_windows([window]), (), "backup", "routine", start).until) == end


@pytest.mark.parametrize(
    ("rule", "now", "following"),
    [
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY;COUNT=3", "2026-01-03T01:00", "2026-01-03T02:00"),
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY;COUNT=3", "2026-01-03T04:00", None),
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY;UNTIL=20260103T020000Z", "2026-01-03T01:00", "2026-01-03T02:00"),
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY;UNTIL=20260103T015959", "2026-01-03T01:00", None),
        ("DTSTART:20260101T020000", "2025-06-01T00:00", "2026-01-01T02:00"),
        ("DTSTART:20260101T020000", "2026-06-01T00:00", None),
        ("DTSTART:20260101T020000\nRDATE:20260301T040000,20260201T040000", "2026-01-15T00:00", "2026-02-01T04:00"),
        ("DTSTART:20260101T020000\nRDATE;TZID=Asia/Tokyo:20260201T040000", "2026-01-15T00:00", "2026-01-31T19:00"),
        (
            "DTSTART:20260101T020000\nRRULE:FREQ=DAILY\nEXDATE:20260202T020000Z,20260203T020000",
            "2026-02-02T00:00",
            "2026-02-04T02:00",
        ),
        (
            "DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=MONTHLY\nEXDATE;VALUE=DATE:20260201",
            "2026-01-15T00:00",
            "2026-03-01T00:00",
        ),
        ("DTSTART:20260101T020000\nRRULE:FREQ=MONTHLY;BYDAY=-1SU", "2026-11-23T00:00", "2026-11-29T02:00"),
        (
            "DTSTART:20260105T020000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU",
            "2026-11-23T00:00",
            "2026-11-23T02:00",
        ),
        ("DTSTART:20240229T020000\nRRULE:FREQ=YEARLY", "2096-03-01T00:00", "2104-02-29T02:00"),
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY", "1999-01-01T00:00", None),
        ("DTSTART:20260101T020000\nRRULE:FREQ=DAILY", "2020-01-01T00:00", "2026-01-01T02:00"),
        ("DTSTART:19000101T020000\nRRULE:FREQ=DAILY;BYHOUR=2,14", "2500-01-01T03:00", "2500-01-01T14:00"),
        ("dtstart:20260101T020000\r\nrrule:freq=daily;byday=mo,\r\n tu", "2026-11-25T00:00", "2026-11-30T02:00"),
    ],
)
def test_a_rule_opens_when_rfc_5545_says(rule: str, now: str, following: str | None) -> None:
    assert opening(rule, now) == following


@pytest.mark.parametrize(
    ("until", "last"),
    [
        # both are 02:xx on a clock in Berlin; the standard means the first 02:30, at 00:30 UTC
        ("20261025T002959Z", "2026-10-24T00:30"),
        ("20261025T003000Z", "2026-10-25T00:30"),
        ("20261025T011000Z", "2026-10-25T00:30"),
        ("20261025T021000", "2026-10-25T00:30"),
    ],
)
def test_until_in_the_hour_that_comes_twice_is_compared_as_a_moment(until: str, last: str) -> None:
    rule = f"DTSTART:20261001T023000\nRRULE:FREQ=DAILY;UNTIL={until}"
    assert opening(rule, last, "Europe/Berlin") == last
    assert opening(rule, (utc(at(last) + 3600) or ""), "Europe/Berlin") is None


@pytest.mark.parametrize(
    ("frozen", "begins", "ends"),
    [
        (("2026-10-25T02:30", "2026-10-25T02:45"), "2026-10-25T00:30", "2026-10-25T01:45"),
        (("2026-03-29T02:30", "2026-03-29T04:00"), "2026-03-29T01:30", "2026-03-29T02:00"),
        (("2026-06-01", "2026-06-02T00:00"), "2026-05-31T22:00", "2026-06-01T22:00"),
        (("2026-06-01T00:00Z", "2026-06-02T00:00+02:00"), "2026-06-01T00:00", "2026-06-01T22:00"),
        ((datetime(2026, 6, 1), datetime(2026, 6, 2)), "2026-05-31T22:00", "2026-06-01T22:00"),
    ],
    ids=["comes twice", "skipped", "from is a day", "with an offset", "read by YAML"],
)
def test_a_freeze_takes_the_whole_of_an_hour_that_comes_twice(
    frozen: tuple[object, object], begins: str, ends: str
) -> None:
    freeze = {**CHRISTMAS, "from": frozen[0], "to": frozen[1]}
    asked = [at(begins) - 1, at(begins), at(ends) - 1, at(ends)]
    allowed = [judge((), parse_freezes([freeze]), "backup", "routine", moment).allowed for moment in asked]
    assert allowed == [True, False, False, True]


def test_a_freeze_may_return_by_a_rule() -> None:
    fridays = {
        "name": "fridays",
        "reason": "weekend ahead",
        "start": "12:00",
        "rule": "FREQ=WEEKLY;BYDAY=FR",
        "duration": "12h",
    }
    got = verdict("2026-11-27T12:00", [], [fridays])
    assert (got.code, utc(got.next_opening)) == ("frozen", "2026-11-28T00:00")
    assert utc(verdict("2026-11-26T12:00", [], [fridays]).until) == "2026-11-27T12:00"


def test_response_and_read_are_not_bound_unless_named() -> None:
    closed = "2026-12-24T12:00"
    assert verdict(closed).code == "frozen"
    assert verdict(closed, verb="restart", verb_class="response").allowed
    assert verdict(closed, verb="health", verb_class="read").allowed
    named = {**NIGHTLY, "classes": ["routine", "response"]}
    assert verdict(closed, [named], [], "restart", "response").code == "window_closed"


def test_a_freeze_can_leave_backups_running() -> None:
    freeze = {**CHRISTMAS, "except_verbs": ["backup"]}
    assert verdict("2026-12-24T12:00", [], [freeze]).allowed
    assert not verdict("2026-12-24T12:00", [], [freeze], "prune").allowed


def test_windows_of_two_zones_that_touch_are_one() -> None:
    other = {"name": "dawn", "start": "05:00", "rule": "FREQ=DAILY", "zone": "Europe/Paris", "duration": "1h"}
    got = verdict("2026-11-23T03:00", [NIGHTLY, other], [])
    assert (got.windows, utc(got.until)) == (("nightly",), "2026-11-23T05:00")


def test_what_is_open_around_the_clock_has_no_end() -> None:
    window = {"name": "w", "start": "00:00", "rule": "FREQ=DAILY", "zone": "Europe/Berlin", "duration": "1d"}
    got = verdict("2026-11-23T03:00", [window], [], expected=1e9)
    assert (got.allowed, got.until, got.fits) == (True, None, True)


def test_an_expected_duration_is_compared_with_the_end_or_the_next_freeze() -> None:
    assert verdict("2026-11-23T02:00", expected=7200).fits is True
    assert verdict("2026-11-23T02:00", expected=7201).fits is False
    early = {**CHRISTMAS, "from": "2026-11-23T04:00"}
    got = verdict("2026-11-23T02:00", freezes=[early], expected=7200)
    assert (utc(got.until), got.fits) == ("2026-11-23T03:00", False)


def test_the_refusal_says_local_times_and_utc() -> None:
    assert verdict("2026-11-23T05:00").sentence == (
        "Now, Mon 2026-11-23 06:00 CET (05:00 UTC), window nightly is closed; "
        "it may run again from Tue 2026-11-24 02:00 CET (01:00 UTC), in 20 h."
    )
    assert verdict("2026-12-19T23:00").sentence == (
        "Freeze christmas holds until Sat 2027-01-02 06:00 CET (05:00 UTC): nobody is here; "
        "it may run again from Sun 2027-01-03 02:00 CET (01:00 UTC) (window nightly), in 14 d 2 h."
    )


def test_a_window_that_ended_says_that_nothing_opens_again() -> None:
    window = {"name": "w", "rule": "DTSTART:20200101T020000\nRRULE:FREQ=DAILY;COUNT=3", "duration": "1h"}
    got = verdict("2026-11-23T05:00", [window], [])
    assert (got.code, got.next_opening) == ("window_closed", None)
    assert "nothing opens again before Thu 2038-12-02 05:00 UTC" in got.sentence


def test_a_count_is_counted_from_the_first_time_of_the_rule() -> None:
    rule = "DTSTART:20260101T020000\nRRULE:FREQ=DAILY;COUNT=30"
    assert opening(rule, "2026-01-30T01:00") == "2026-01-30T02:00"
    assert opening(rule, "2026-01-30T03:00") is None


def test_a_date_in_utc_is_taken_off_a_rule_in_another_zone() -> None:
    rule = "DTSTART:20260101T020000\nRRULE:FREQ=DAILY\nEXDATE:20260202T010000Z"
    assert opening(rule, "2026-02-02T00:00", "Europe/Berlin") == "2026-02-03T01:00"


@pytest.mark.parametrize("duration", ["1w", "7d", "P1W", "P7D", "+P1W"])
def test_a_week_is_seven_days_in_either_spelling(duration: str) -> None:
    window = {"name": "w", "start": "2026-03-25T00:00", "zone": "Europe/Berlin", "duration": duration}
    assert utc(verdict("2026-03-26T00:00", [window], []).until) == "2026-03-31T22:00"


def test_a_clock_that_is_off_by_millennia_is_refused() -> None:
    for now in (-1e15, 1e15, float("nan")):
        with pytest.raises(OpsError) as refusal:
            judge((), (), "backup", "routine", now)
        assert refusal.value.code == "bad_time"


def test_a_rule_that_starts_too_often_before_now_is_refused_in_bounded_time() -> None:
    hours = ",".join(str(hour) for hour in range(24))
    rule = f"DTSTART:00010101T000000\nRRULE:FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR={hours}"
    begun = time.process_time()
    with pytest.raises(OpsError) as refusal:
        opening(rule, "2026-01-01T00:00", duration="1m")
    assert refusal.value.code == "rule_too_dense"
    assert time.process_time() - begun < 10


def test_the_years_before_now_cost_a_daily_rule_nothing() -> None:
    hours = ",".join(str(hour) for hour in range(24))
    rule = f"DTSTART:00010101T003000\nRRULE:FREQ=DAILY;BYHOUR={hours}"
    assert opening(rule, "2026-01-01T00:00", duration="1m") == "2026-01-01T00:30"


def test_without_dateutil_the_remedy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dateutil.rrule", None)
    with pytest.raises(OpsError) as refusal:
        verdict("2026-11-23T05:00")
    assert refusal.value.code == "dateutil_missing"
    assert "python3-dateutil" in refusal.value.remedy
    assert verdict("2026-12-24T12:00", [], [CHRISTMAS]).code == "frozen"
