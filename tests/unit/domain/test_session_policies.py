# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies: how they are read, and whom each means, just below and just above its limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import (
    MOST,
    Policy,
    matches,
    noticed,
    parse_policies,
    parse_policy,
    why,
)

INVENTORIES = Path(__file__).resolve().parents[3] / "inventories"
ONE = Backend(
    100,
    "2026-11-22T20:00:00+00:00",
    "shop",
    "shop",
    "web",
    "10.0.0.1",
    "client backend",
    "active",
    "SELECT 1",
    1000.0,
    1000.0,
    1000.0,
)


def backend(state: str = "active", query: float = 0, transaction: float | None = None, idle: float = 0) -> Backend:
    return replace(ONE, state=state, query_age=query, transaction_age=transaction, state_age=idle)


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ({"query_over": "5m"}, "bad_policy", "needs a name"),
        ({"name": "a,b", "query_over": "5m"}, "bad_policy", "without a comma"),
        ({"name": "a"}, "bad_policy", "does harm"),
        ({"name": "a", "state": "idle"}, "bad_policy", "does harm"),
        ({"name": "a", "query_over": "5"}, "bad_duration", "a.query_over"),
        ({"name": "a", "query_over": "5m", "state": "sleeping"}, "bad_policy", "no state"),
        ({"name": "a", "query_over": "5m", "limit": 0}, "bad_policy", "limit"),
        ({"name": "a", "query_over": "5m", "limit": "many"}, "bad_policy", "limit"),
        ({"name": "a", "query_over": "5m", "age": "5m"}, "bad_policy", "age is not known"),
        ({"name": "a", "query_over": "5m", "user": {"a": 1}}, "bad_policy", "user"),
        ({"name": "a", "query_over": "5m", "user": [""]}, "bad_policy", "user"),
        ({"name": "a", "blocking": "yes"}, "bad_policy", "blocking"),
        ({"name": "a", "query_over": "5m", "relation": "x"}, "bad_policy", "relation"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(given: dict[str, object], code: str, told: str) -> None:
    with pytest.raises(OpsError) as refused:
        parse_policy(given)
    assert refused.value.code == code
    assert told in refused.value.cause


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(OpsError, match="two of this name"):
        parse_policies([{"name": "a", "blocking": True}, {"name": "a", "query_over": "5m"}])


def test_built_in_policies_are_there_and_an_own_one_of_the_same_name_replaces_them() -> None:
    assert set(parse_policies([])) == {"blockers", "idle_in_transaction", "idle", "long_queries"}
    own = parse_policies([{"name": "blockers", "blocking": True, "limit": 3}])
    assert own["blockers"].limit == 3
    assert own["long_queries"].limit == MOST


@pytest.mark.parametrize(
    ("policy", "found", "meant"),
    [
        (Policy("q", query_over=300.0), backend(query=300.0), False),
        (Policy("q", query_over=300.0), backend(query=300.1), True),
        (Policy("q", query_over=300.0), backend("idle", query=9999), False),
        (Policy("q", query_over=300.0), backend("idle in transaction", query=9999, transaction=9999), False),
        (Policy("t", transaction_over=30.0), backend(transaction=30.0), False),
        (Policy("t", transaction_over=30.0), backend(transaction=30.1), True),
        (Policy("t", transaction_over=30.0), backend("idle", idle=9999), False),
        (Policy("i", idle_over=3600.0), backend("idle", idle=3600.0), False),
        (Policy("i", idle_over=3600.0), backend("idle", idle=3600.1), True),
        (Policy("i", idle_over=3600.0), backend("active", query=9999, idle=9999), False),
        (Policy("i", ("idle in transaction",), idle_over=60.0), backend("idle", idle=9999), False),
        (
            Policy("i", ("idle in transaction",), idle_over=60.0),
            backend("idle in transaction (aborted)", transaction=99, idle=61),
            True,
        ),
        (Policy("b", transaction_over=30.0, query_over=10.0), backend(query=5, transaction=60), False),
        (Policy("u", query_over=1.0, users=("sh?p",)), backend(query=2), True),
        (Policy("u", query_over=1.0, users=("SHOP",)), backend(query=2), False),
        (Policy("u", query_over=1.0, applications=("web*", "api"), databases=("other",)), backend(query=2), False),
        (Policy("q", query_over=1.0), backend("disabled", query=99), False),
    ],
)
def test_whom_a_policy_means(policy: Policy, found: Backend, meant: bool) -> None:
    assert matches(policy, found) is meant


def test_an_age_that_cannot_be_seen_is_never_over_a_limit() -> None:
    assert not matches(Policy("q", query_over=1.0), replace(ONE, query_age=None))


@pytest.mark.parametrize(("age", "shown"), [(30.0, False), (30.1, True), (300.0, True), (300.1, False)])
def test_a_session_is_shown_before_it_is_meant(age: float, shown: bool) -> None:
    policy = Policy("long", ("active",), query_over=300.0, list_over=30.0)
    assert noticed(policy, backend(query=age)) is shown
    assert matches(policy, backend(query=age)) is (age > 300)


def test_the_reason_tells_the_age_that_counts() -> None:
    said = why(Policy("i", idle_over=60.0, transaction_over=1.0), backend("idle in transaction", 0, 500.0, 400.0))
    assert said == "idle in transaction for 6 min 40 s, more than 1 min"


def of_system(system: str) -> dict[str, Policy]:
    """The policies that a shipped inventory gives."""
    body = yaml.safe_load((INVENTORIES / system / "group_vars" / "all" / "sessions.yml").read_text(encoding="utf-8"))
    return parse_policies(body["saasops_session_policies"])


@pytest.mark.parametrize(
    ("system", "policy", "below", "above"),
    [
        # PA-02, NL-03: a statement of more than five minutes
        ("podcast_analytics", "long_queries", backend(query=299), backend(query=301)),
        ("newsletter", "long_queries", backend(query=299), backend(query=301)),
        # PA-11: idle for more than an hour, in a transaction or not
        ("podcast_analytics", "idle", backend("idle", idle=3599), backend("idle", idle=3601)),
        (
            "podcast_analytics",
            "idle",
            backend("idle in transaction", transaction=3599, idle=3599),
            backend("idle in transaction", transaction=3601, idle=3601),
        ),
        # PF-03: who holds up a campaign for more than ten seconds
        ("podcastflow", "campaign_locks", backend(transaction=9.9), backend(transaction=10.1)),
        # AE-04
        ("affiliate_empire", "pool_exhausted", backend("idle", idle=599), backend("idle", idle=601)),
    ],
)
def test_the_thresholds_of_the_runbooks(system: str, policy: str, below: Backend, above: Backend) -> None:
    found = of_system(system)[policy]
    assert not matches(found, below)
    assert matches(found, above)


@pytest.mark.parametrize(("age", "shown"), [(29.9, False), (30.1, True)])
def test_podcast_analytics_lists_statements_of_more_than_thirty_seconds(age: float, shown: bool) -> None:
    assert noticed(of_system("podcast_analytics")["long_queries"], backend(query=age)) is shown
