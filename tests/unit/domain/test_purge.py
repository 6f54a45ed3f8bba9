# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Purge rules are understood whole or refused, and batches grow and shrink with the time that they hold locks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import (
    BATCH_BYTES,
    next_size,
    parse_rule,
    parse_rules,
)

DAY = 86400
GOOD: dict[str, object] = {"name": "runs", "table": "job_runs", "age_column": "at", "older_than": "90d"}


def test_the_cut_off_is_one_whole_second() -> None:
    assert parse_rule(GOOD).cutoff(100 * DAY + 0.9) == 10 * DAY
    assert parse_rule({"name": "x", "table": "t", "where": "done"}).cutoff(5.0) is None


BAD = [
    ({"name": "a b"}, "no name"),
    ({"table": ""}, "no table"),
    ({"older_than": None}, "belong together"),
    ({"age_column": None, "older_than": None}, "every row"),
    ({"where": "at < now() - interval '1 day'"}, "asks for the time (now)"),
    ({"where": "at < CURRENT_DATE"}, "asks for the time"),
    ({"older": "3d"}, "older is not known"),
    ({"limit": "many"}, "whole number"),
    ({"limit": 0}, "whole number"),
    ({"lock_target": "100"}, "100ms"),
    ({"pause": {"lag": "3s"}}, "lag is not known"),
    ({"pause": {"replica_bytes": "3"}}, "a size"),
    ({"children": ["clicks"]}, "dictionary"),
    ({"children": [{"columns": ["x"]}]}, "no table"),
    ({"schemas": "tenants"}, "saasops_tenant_schemas"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_a_rule_that_is_not_understood_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(OpsError) as caught:
        parse_rule({**GOOD, **changes})
    assert caught.value.code == "rule_invalid"
    assert says in caught.value.message


def test_a_bare_number_is_no_age() -> None:
    with pytest.raises(OpsError) as caught:
        parse_rule({**GOOD, "older_than": 90})
    assert caught.value.code == "bad_duration"


def test_rules_are_chosen_by_name_and_an_unknown_name_is_refused_with_the_known_ones() -> None:
    rules = [GOOD, {**GOOD, "name": "other"}]
    assert [rule.name for rule in parse_rules(rules, [], [])] == ["runs", "other"]
    assert [rule.name for rule in parse_rules(rules, ["other"], [])] == ["other"]
    with pytest.raises(OpsError) as caught:
        parse_rules(rules, ["nothing"], [])
    assert caught.value.code == "rule_unknown"
    assert "runs, other" in caught.value.message
    with pytest.raises(OpsError):
        parse_rules([GOOD, GOOD], [], [])


def test_tenants_stand_for_the_patterns_of_the_system() -> None:
    assert parse_rule({**GOOD, "schemas": "tenants"}, ["org_*"]).schemas == ("org_*",)


@given(st.integers(1, 10_000), st.floats(0, 1e6), st.integers(0, 10_000), st.integers(0, 10**9), st.integers(1, 10_000))
def test_a_batch_is_never_empty_more_than_doubled_or_larger_than_asked(
    size: int, milliseconds: float, rows: int, raw: int, most: int
) -> None:
    rule = parse_rule({**GOOD, "batch_rows": most})
    found = next_size(size, milliseconds, rule, rows, raw)
    assert 1 <= found <= max(1, min(most, 2 * size))


def test_a_batch_shrinks_when_locks_were_held_too_long_and_when_rows_are_wide() -> None:
    rule = parse_rule(GOOD)
    assert next_size(1000, 100.0, rule, 1000, 1000) < 1000
    assert next_size(1000, 1000.0, rule, 1000, 1000) == 250
    assert next_size(1000, 10.0, rule, 1000, 1000) == 2000
    assert next_size(1000, 10.0, rule, 10, BATCH_BYTES) == 10
