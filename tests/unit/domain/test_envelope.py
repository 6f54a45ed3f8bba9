# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was approved, and what goes beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import (
    Envelope,
    envelope_of,
    outside,
    parse_envelope,
    refuse_outside,
    together,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan

PLAN = Plan("prune", (Action("delete", "a", "old", {"bytes": 1}), Action("delete", "b", "old")), {"sets": 2})
PAIRS = st.frozensets(st.tuples(st.sampled_from(["delete", "vacuum"]), st.text(max_size=3)), max_size=4)
ENVELOPES = st.builds(
    Envelope, st.just("prune"), PAIRS, st.dictionaries(st.sampled_from(["sets", "rows"]), st.integers(0, 9))
)


def test_the_envelope_of_a_plan_has_the_plans_own_digest() -> None:
    assert envelope_of(PLAN).digest() == PLAN.envelope()


def test_measured_numbers_and_reasons_are_not_in_it() -> None:
    later = Plan("prune", (Action("delete", "b", "older", {"bytes": 9}), Action("delete", "a", "x")), {"sets": 2})
    assert envelope_of(later) == envelope_of(PLAN)


@pytest.mark.parametrize(
    ("plan", "difference"),
    [
        (Plan("prune", (Action("delete", "a", ""),), {"sets": 1}), []),
        (Plan("prune", (Action("delete", "c", ""),), {"sets": 1}), ["delete c: one more object"]),
        (Plan("prune", (Action("drop", "a", ""),), {"sets": 1}), ["drop a: another kind of action"]),
        (Plan("prune", (Action("delete", "a", ""),), {"sets": 3}), ["sets: 3 instead of at most 2"]),
        (Plan("prune", (Action("delete", "a", ""),), {"rows": 1}), ["rows: 1 instead of at most 0"]),
        (Plan("backup", (), {}), ["the verb backup instead of prune"]),
    ],
)
def test_what_goes_beyond_is_named(plan: Plan, difference: list[str]) -> None:
    assert outside(envelope_of(plan), envelope_of(PLAN)) == difference


def test_the_refusal_shows_the_difference_and_cuts_a_long_one() -> None:
    many = Plan("prune", tuple(Action("delete", f"x{n:02}", "") for n in range(12)))
    error = refuse_outside(envelope_of(many), envelope_of(PLAN), "plan 7")
    assert error is not None
    assert error.code == "outside_envelope"
    assert "plan 7" in error.cause
    assert "delete x00: one more object" in error.cause
    assert "and 2 more" in error.cause
    assert refuse_outside(envelope_of(PLAN), envelope_of(PLAN), "plan 7") is None


@given(ENVELOPES)
def test_it_survives_json(one: Envelope) -> None:
    assert parse_envelope(one.as_json()) == one


@given(ENVELOPES, ENVELOPES)
def test_both_fit_in_the_two_together(one: Envelope, other: Envelope) -> None:
    both = together([one, other])
    assert outside(one, both) == []
    assert outside(other, both) == []


@given(ENVELOPES, ENVELOPES, ENVELOPES)
def test_within_is_transitive(one: Envelope, two: Envelope, three: Envelope) -> None:
    if not outside(one, two) and not outside(two, three):
        assert outside(one, three) == []


@pytest.mark.parametrize(
    "body", [None, {}, {"verb": "x", "actions": [["a"]], "ceilings": {}}, {"verb": "x", "actions": 3}]
)
def test_what_cannot_be_read_is_refused(body: object) -> None:
    with pytest.raises(OpsError) as caught:
        parse_envelope(body)
    assert caught.value.code == "envelope_unreadable"
