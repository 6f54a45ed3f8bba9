# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.calendar.inventory import parse_freezes, parse_windows
from ansible_collections.saasops.runbook.plugins.module_utils.calendar.zones import show
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

GOOD = {"name": "nightly", "start": "02:00", "rule": "FREQ=DAILY", "duration": "3h"}
FROZEN = {"name": "xmas", "reason": "away", "from": "2026-12-20T00:00", "to": "2027-01-02T06:00"}
RULE = "DTSTART:20260101T020000\nRRULE:"


def refusal_of(value: object, freezes: bool = False) -> OpsError:
    with pytest.raises(OpsError) as refusal:
        (parse_freezes if freezes else parse_windows)(value, "Europe/Berlin", ("backup", "prune"))
    return refusal.value


def entry(**changes: object) -> list[dict[str, object]]:
    return [{key: value for key, value in {**GOOD, **changes}.items() if value is not None}]


def freeze(**changes: object) -> list[dict[str, object]]:
    return [{key.rstrip("_"): value for key, value in {**FROZEN, **changes}.items() if value is not None}]


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ({"name": "x"}, "bad_window", "saasops_windows is not a list"),
        (["nightly"], "bad_window", "saasops_windows[0] is 'nightly'"),
        (entry(name=None), "bad_window", "has no name"),
        (entry(name=3), "bad_window", "name: 3"),
        (entry() + entry(), "bad_window", "twice"),
        (entry(verb="backup"), "bad_window", "the key verb"),
        (entry(reason="x"), "bad_window", "the key reason"),
        (entry(classes=["routin"]), "bad_window", "'routin'"),
        (entry(classes=[]), "bad_window", "classes: []"),
        (entry(verbs=["bakcup"]), "bad_window", "'bakcup'"),
        (entry(except_verbs=["Backup"]), "bad_window", "'Backup'"),
        (entry(verbs=[{"backup": True}]), "bad_window", "verbs"),
        (entry(duration=None), "bad_window", "how long"),
        (entry(duration=3), "bad_duration", "nightly"),
        (entry(duration="0h"), "bad_duration", "no time"),
        (entry(duration="367d"), "bad_duration", "longer than"),
        (entry(duration="PT"), "bad_duration", "ISO 8601"),
        (entry(duration="P1M"), "bad_duration", "ISO 8601"),
        (entry(duration="-PT1H"), "bad_duration", "nightly"),
        (entry(start=1320), "bad_window", "base 60"),
        (entry(start="24:00"), "bad_window", "time of the day"),
        (entry(start="tomorrow"), "bad_window", "no date and time"),
        (entry(start="2026-02-30T02:00"), "bad_window", "no date and time"),
        (entry(start="2026-01-01T02:00+01:00"), "bad_window", "offset"),
        (entry(start=None), "bad_rule", "first time"),
        (entry(rule="FREQ=DAILY;INTERVAL=2"), "bad_rule", "which days"),
        (entry(rule="FREQ=DAILY;COUNT=2"), "bad_rule", "which days"),
        (entry(rule="FREQ=WEEKLY"), "bad_rule", "which days"),
        (entry(rule="FREQ=MONTHLY"), "bad_rule", "which days"),
        (entry(rule=None), "bad_rule", "which days"),
        (entry(rule=RULE + "FREQ=DAILY"), "bad_rule", "DTSTART and the entry a key start"),
        (entry(zone="Europe/Bielefeld"), "unknown_zone", "Europe/Bielefeld"),
        (entry(zone="../../etc/passwd"), "unknown_zone", "passwd"),
        (entry(zone="Europe"), "unknown_zone", "Europe"),
    ],
)
def test_a_window_that_is_not_understood_is_refused(value: object, code: str, said: str) -> None:
    error = refusal_of(value)
    assert (error.code, said in error.cause) == (code, True), error.cause
    assert error.remedy


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ("FREQ=SECONDLY", "rule_too_fine", "SECONDLY"),
        ("FREQ=MINUTELY;INTERVAL=999", "rule_too_fine", "MINUTELY"),
        ("FREQ=HOURLY", "rule_too_fine", "HOURLY"),
        ("FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=0,10,20,30,40", "rule_too_fine", "25 times a day"),
        ("FREQ=FORTNIGHTLY", "bad_rule", "FORTNIGHTLY"),
        ("INTERVAL=2", "bad_rule", "(missing)"),
        ("FREQ=DAILY;FREQ=DAILY", "bad_rule", "twice"),
        ("FREQ=DAILY;BYEASTER=1", "bad_rule", "BYEASTER"),
        ("FREQ=DAILY;INTERVAL=0", "bad_rule", "INTERVAL=0"),
        ("FREQ=DAILY;COUNT=-1", "bad_rule", "COUNT=-1"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20261231T000000Z", "bad_rule", "COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=20261231", "bad_rule", "time of the day"),
        ("FREQ=DAILY;UNTIL=20261331T000000", "bad_rule", "not on the calendar"),
        ("FREQ=DAILY;BYHOUR=24", "bad_rule", "BYHOUR"),
        ("FREQ=DAILY;BYMONTHDAY=0", "bad_rule", "BYMONTHDAY"),
        ("FREQ=DAILY;BYMONTH=-1", "bad_rule", "BYMONTH"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "bad_rule", "FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYWEEKNO=3", "bad_rule", "FREQ=MONTHLY"),
        ("FREQ=DAILY;BYYEARDAY=3", "bad_rule", "FREQ=DAILY"),
        ("FREQ=WEEKLY;BYDAY=1SU", "bad_rule", "1SU"),
        ("FREQ=MONTHLY;BYDAY=54SU", "bad_rule", "54SU"),
        ("FREQ=DAILY;BYDAY=SUN", "bad_rule", "SUN"),
        ("FREQ=DAILY;WKST=XX", "bad_rule", "WKST"),
        ("FREQ=MONTHLY;BYSETPOS=1", "bad_rule", "BYSETPOS"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "rule_never_matches", "never"),
        # every fourth year from 2026 on is no leap year
        ("FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29", "rule_never_matches", "never"),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6", "rule_never_matches", "never"),
        ("FREQ=MONTHLY;INTERVAL=12;BYMONTH=5", "rule_never_matches", "never"),
        ("FREQ=DAILY;UNTIL=20251231T000000Z", "rule_never_matches", "never"),
        ("FREQ=DAILY\nRRULE:FREQ=WEEKLY", "bad_rule", "2 lines RRULE"),
        ("FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "bad_rule", "EXRULE"),
        ("FREQ=DAILY\nDURATION:PT3H", "bad_rule", "DURATION"),
        ("FREQ=DAILY\\nEXDATE:20260102T020000", "bad_rule", "backslash"),
        ("FREQ=DAILY\nEXDATE:20260102T030000", "bad_rule", "2026-01-02 03:00:00 is no time of the rule"),
        ("FREQ=DAILY\nEXDATE;VALUE=DATE:20260102", "bad_rule", "names days"),
        ("FREQ=DAILY\nRDATE;VALUE=PERIOD:20260102T030000/PT3H", "bad_rule", "VALUE=PERIOD"),
        ("FREQ=DAILY\nRDATE:20260102", "bad_rule", "no date and time"),
        ("FREQ=DAILY\nRDATE;TZID=Nowhere/City:20260102T020000", "unknown_zone", "Nowhere/City"),
    ],
)
def test_a_rule_is_refused_when_it_is_wrong_too_fine_or_never_matches(rule: str, code: str, said: str) -> None:
    value = entry(start=None, rule=RULE + rule)
    error = refusal_of(value)
    assert (error.code, said in error.cause) == (code, True), error.cause
    assert "saasops_windows[nightly].rule" in error.cause


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;",
        "freq=daily",
        "FREQ=YEARLY;INTERVAL=2;BYYEARDAY=366",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=SA",
        "FREQ=MONTHLY;BYDAY=-1SU",
    ],
)
def test_a_rule_that_the_standard_allows_is_taken(rule: str) -> None:
    assert len(parse_windows(entry(start=None, rule=RULE + rule))) == 1


def test_a_zone_that_is_said_twice_must_be_the_same() -> None:
    rule = "DTSTART;TZID=Europe/Berlin:20260101T020000\nRRULE:FREQ=DAILY"
    assert parse_windows(entry(start=None, rule=rule, zone="Europe/Berlin"))
    assert "Europe/Berlin" in refusal_of(entry(start=None, rule=rule, zone="UTC")).cause


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        (freeze(reason=None), "bad_freeze", "no reason"),
        (freeze(to=None), "bad_freeze", "has no to"),
        (freeze(from_=None, **{"from": None}), "bad_freeze", "has no from"),
        (freeze(to="2027-01-02"), "bad_freeze", "without a time of the day"),
        (freeze(to="2026-12-20T00:00"), "bad_freeze", "ends before it begins"),
        (freeze(to="soon"), "bad_freeze", "no date and time"),
        (freeze(duration="3h"), "bad_freeze", "duration too"),
        (freeze(zone="Mars/Olympus"), "unknown_zone", "Mars/Olympus"),
        (freeze(to=None, **{"from": None}), "bad_freeze", "how long"),
        (freeze(until="x"), "bad_freeze", "the key until"),
    ],
)
def test_a_freeze_that_is_not_understood_is_refused(value: object, code: str, said: str) -> None:
    error = refusal_of(value, freezes=True)
    assert (error.code, said in error.cause) == (code, True), error.cause


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_nothing_defined_is_no_rule_at_all(nothing: object) -> None:
    assert parse_windows(nothing) == ()
    assert parse_freezes(nothing) == ()


def test_the_zone_is_that_of_the_entry_then_that_of_the_rule_then_the_default() -> None:
    rule = "DTSTART;TZID=Asia/Tokyo:20260101T020000\nRRULE:FREQ=DAILY"
    values = [
        *entry(name="a"),
        *entry(name="b", zone="Europe/Paris"),
        *entry(name="c", start=None, rule=rule),
        *entry(name="d", start=None, rule="DTSTART:20260101T020000Z"),
    ]
    got = [one.window.zone for one in parse_windows(values, "Europe/Berlin")]
    assert got == ["Europe/Berlin", "Europe/Paris", "Asia/Tokyo", "UTC"]


@pytest.mark.parametrize(
    ("moment", "zone", "text"),
    [
        (0, "UTC", "Thu 1970-01-01 00:00 UTC"),
        (1795388400, "Europe/Berlin", "Mon 2026-11-23 00:00 CET (Sun 2026-11-22 23:00 UTC)"),
        (1795431600, "Europe/Berlin", "Mon 2026-11-23 12:00 CET (11:00 UTC)"),
        (1795431601.9, "Europe/Berlin", "Mon 2026-11-23 12:00:01 CET (11:00:01 UTC)"),
        (1e18, "UTC", "Mon 9990-01-01 00:00 UTC"),
    ],
)
def test_a_moment_is_shown_in_its_zone_and_in_utc(moment: float, zone: str, text: str) -> None:
    assert show(moment, zone) == text
