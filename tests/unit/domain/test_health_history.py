# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A day of runs: packed and read back, thinned, found again by its name, refused when it is none."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Level, Measurement, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import (
    MOST_SCOPES,
    Kept,
    Run,
    day_of,
    days_back,
    key,
    pack,
    points,
    run_of,
    thinned,
    unpack,
    with_run,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Point

NOON = 1795435200.0  # 2026-11-23 12:00 UTC
DAY = "2026-11-23"


def run(at: float, level: Level = Level.OK, value: float = 1.0) -> Run:
    return Run(at, f"{at}", {"load": Kept(level, value, {})})


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=5))
RUNS = st.builds(
    Run,
    st.floats(NOON, NOON + 3600),
    st.text("abcdef0123456789", min_size=1, max_size=6),
    st.dictionaries(
        st.sampled_from(["load", "queue"]),
        st.builds(Kept, st.sampled_from(Level), VALUES, st.dictionaries(st.text(max_size=3), VALUES, max_size=3)),
    ),
)


@given(st.lists(RUNS, max_size=6))
def test_what_is_packed_is_read_back(runs: list[Run]) -> None:
    assert unpack(pack(DAY, runs), DAY) == runs


def test_the_same_runs_give_the_same_bytes() -> None:
    assert pack(DAY, [run(NOON)]) == pack(DAY, [run(NOON)])


def test_an_object_of_last_year_is_no_history_of_this_day() -> None:
    assert key("db", "all", "2025-11-23") == key("db", "all", DAY) == "health/db/all/11-23.json.gz"
    assert unpack(pack("2025-11-23", [run(NOON)]), DAY) == []


def test_hosts_and_sets_are_written_as_keys() -> None:
    assert key("a/b", "../x", DAY).count("/") == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        gzip.compress(b"{}"),
        gzip.compress(b"[1]"),
        gzip.compress(b"{")[:-3],
        pack(DAY, [run(NOON)])[:-4],
        gzip.compress(json.dumps({"format": 2, "day": DAY, "runs": []}).encode()),
        gzip.compress(json.dumps({"format": 1, "day": DAY, "runs": [[1, "a", {"x": ["bad", 1]}]]}).encode()),
        gzip.compress(json.dumps({"format": 1, "day": DAY, "runs": [[1, "a", {"x": ["ok", [1]]}]]}).encode()),
        gzip.compress(json.dumps({"format": 1, "day": DAY, "runs": [[1]]}).encode()),
        gzip.compress(json.dumps({"format": 1, "day": DAY, "runs": 7}).encode()),
        gzip.compress(b"[" * 100_000),
    ],
)
def test_what_is_no_history_is_refused_as_that(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(data, DAY)


def test_a_day_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        unpack(gzip.compress(b" " * (65 * 1024 * 1024), 1), DAY)


def test_the_days_that_a_threshold_looks_back_at() -> None:
    assert days_back(NOON, 600) == [DAY]
    assert days_back(NOON - 12 * 3600 + 60, 600) == ["2026-11-22", DAY]
    assert days_back(NOON, 86400) == ["2026-11-22", DAY]
    assert len(days_back(NOON, 10 * 366 * 86400)) == 366
    assert day_of(NOON) == DAY


def test_thinning_keeps_the_worst_run_of_each_quarter_of_an_hour() -> None:
    runs = [run(NOON + 60 * minute, Level.CRITICAL if minute == 20 else Level.OK) for minute in range(60)]
    kept = thinned(runs)
    assert [int((item.at - NOON) / 60) for item in kept] == [14, 20, 44, 59]
    assert thinned(kept) == kept
    assert thinned([]) == []


def test_a_run_comes_into_its_place_and_only_once() -> None:
    first, second = run(NOON), run(NOON + 60)
    assert with_run([second], first) == [first, second]
    assert with_run([first, second], second) == [first, second]


def test_points_come_from_old_to_new_and_by_scope() -> None:
    runs = [
        Run(NOON + 60, "b", {"q": Kept(Level.OK, 9, {"x": 2, "y": 9})}),
        Run(NOON, "a", {"q": Kept(Level.OK, 1, {"x": 1})}),
    ]
    assert points(runs) == {
        ("q", "x"): [Point(NOON, 1), Point(NOON + 60, 2)],
        ("q", "y"): [Point(NOON + 60, 9)],
    }


def test_every_tenant_is_kept_only_for_checks_that_look_back() -> None:
    measured = {
        name: [Measurement(n, scope=f"org_{n}") for n in range(MOST_SCOPES + 5)] for name in ("plain", "held", "trend")
    }
    checks = [
        Check("plain", "sql", "> 1"),
        Check("held", "sql", "> 1", hold="10m"),
        Check("trend", "sql", "rises by 1 in 1h"),
    ]
    kept = run_of([judge(check, measured[check.name], None, NOON) for check in checks], measured, NOON, "id").checks
    assert [len(kept[check.name].scopes) for check in checks] == [0, MOST_SCOPES, MOST_SCOPES]


def test_what_json_does_not_know_is_kept_as_not_seen_and_texts_are_cut() -> None:
    checks = [Check("nan", "sql"), Check("text", "sql")]
    measured = {"nan": [Measurement(float("inf"))], "text": [Measurement("x" * 999)]}
    kept = run_of([judge(check, measured[check.name], None, NOON) for check in checks], measured, NOON, "id").checks
    assert kept["nan"].value is None
    assert kept["text"].value == "x" * 200


def test_a_year_of_one_run_a_minute_stays_small() -> None:
    names = [f"check_number_{number}" for number in range(30)]
    runs = [
        Run(NOON + 60 * n, f"{n:012x}", {name: Kept(Level.OK, (n * 37 % 1000) / 7, {}) for name in names})
        for n in range(1440)
    ]
    assert len(pack(DAY, runs)) < 600_000
    assert len(pack(DAY, thinned(runs))) < 50_000
