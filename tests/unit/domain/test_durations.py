# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import (
    ago,
    human_duration,
    human_size,
    parse_duration,
    utc,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90m", 5400),
        ("24h", 86400),
        ("7d", 604800),
        ("2w", 1209600),
        ("1d12h", 129600),
        ("1d 12h", 129600),
        (" 24H ", 86400),
        ("0s", 0),
    ],
)
def test_a_written_length_of_time_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "24", "h", "-1h", "1.5h", "1h30", "24 hours", "1y", "h24", "1h\n2x", "999999w"]
)
def test_what_is_no_length_of_time_is_refused_with_the_option_named(text: str) -> None:
    with pytest.raises(OpsError) as refusal:
        parse_duration(text, "retention.keep_all_within")
    assert refusal.value.code == "bad_duration"
    assert "retention.keep_all_within" in refusal.value.cause


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.9, "45 s"),
        (60, "1 min"),
        (12000, "3 h 20 min"),
        (86400, "24 h"),
        (172799, "47 h 59 min"),
        (172800, "2 d"),
        (172860, "2 d"),
        (1051200, "12 d 4 h"),
        (-12000, "3 h 20 min"),
    ],
)
def test_a_length_of_time_shows_its_two_largest_units(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(12000, "3 h 20 min ago"), (-300, "in 5 min"), (0.5, "just now")])
def test_an_age_says_whether_it_is_past(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (412_300_000, "412 MB"),
        (999_500, "1.0 MB"),
        (4_100_000_000, "4.1 GB"),
        (7e18, "7000 PB"),
    ],
)
def test_a_size_has_three_digits_at_most_up_to_petabytes(size: float, text: str) -> None:
    assert human_size(size) == text


def test_a_moment_is_shown_in_utc() -> None:
    assert utc(1795378667.9) == "2026-11-22 20:17:47 UTC"
    assert utc(1795378667.9, seconds=False) == "2026-11-22 20:17 UTC"


@given(st.integers(min_value=0, max_value=10**9))
def test_what_is_shown_never_overstates_by_itself(seconds: int) -> None:
    shown = human_duration(seconds).replace(" min", "m").replace(" ", "")
    # the unit after the last one that is shown is lost: less than a day of at least two days
    assert 0 <= seconds - parse_duration(shown) < max(60, seconds // 2)
