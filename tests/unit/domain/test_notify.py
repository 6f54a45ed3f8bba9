# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told what."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.notify import (
    EVENTS,
    Notice,
    parse_notifiers,
    request,
    wants,
)

SLACK = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/geheim"}
DUTY = {"type": "pagerduty", "routing_key": "geheim"}
GOOD = Notice("end", "shop", "backup", "", "anna", "r1", result="succeeded")
BAD = Notice("end", "shop", "backup", "", "anna", "r1", result="failed")
FAILED = Notice("failure", "shop", "backup", "db1", "anna", "r1", code="store_full", cause="No <room> left.")


def test_slack_hears_everything_and_pagerduty_failures_unless_told_otherwise() -> None:
    slack, duty = parse_notifiers([SLACK, DUTY])
    assert (slack.on, duty.on) == (frozenset(EVENTS), frozenset({"failure"}))
    assert "geheim" not in repr((slack, duty))


@pytest.mark.parametrize(
    "entry",
    [
        "geheim",
        {"type": "pigeon"},
        {"type": "slack"},
        {"type": "slack", "token": "geheim"},
        {**SLACK, "token": "geheim", "channel": "#ops"},
        {**SLACK, "webhook_url": "geheim"},
        {**SLACK, "routing_key": "geheim"},
        {"type": "pagerduty"},
        {**DUTY, "on": "failure"},
        {**DUTY, "on": ["noon"]},
        {**DUTY, "api_url": "geheim"},
    ],
)
def test_an_entry_that_is_not_understood_is_refused_and_its_values_are_not_quoted(entry: object) -> None:
    with pytest.raises(OpsError) as caught:
        parse_notifiers([entry])
    assert caught.value.code == "guard_misconfigured"
    assert "geheim" not in caught.value.message + repr(caught.value.details)


@pytest.mark.parametrize(
    ("entry", "notice", "told", "hears"),
    [
        (SLACK, GOOD, False, True),
        (SLACK, BAD, False, True),
        (SLACK, BAD, True, False),
        (SLACK, FAILED, False, True),
        ({**SLACK, "on": ["start"]}, FAILED, False, False),
        ({**SLACK, "on": ["failure"]}, GOOD, False, False),
        # an incident that was opened by an earlier run is over with a good one
        (DUTY, GOOD, False, True),
        (DUTY, BAD, True, False),
        ({**DUTY, "on": ["start"]}, GOOD, False, False),
    ],
)
def test_each_hears_what_it_asks_for(entry: object, notice: Notice, told: bool, hears: bool) -> None:
    (notifier,) = parse_notifiers([entry])
    assert wants(notifier, notice, told) is hears


def test_pagerduty_resolves_with_the_key_that_it_was_triggered_with() -> None:
    (duty,) = parse_notifiers([DUTY])
    (trigger,) = request(duty, FAILED)["calls"]  # type: ignore[misc]
    (resolve,) = request(duty, GOOD)["calls"]  # type: ignore[misc]
    assert (trigger["kind"], resolve["kind"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"] == "saasops/shop/backup"
    assert trigger["payload"]["summary"] == "shop: backup failed on db1: [store_full] No <room> left."
    assert trigger["payload"]["severity"] == "error"


def test_what_slack_takes_for_markup_is_escaped() -> None:
    (slack,) = parse_notifiers([SLACK])
    assert "No &lt;room&gt; left." in str(request(slack, FAILED)["text"])
