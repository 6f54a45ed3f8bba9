# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import (
    Action,
    Plan,
    envelope_line,
    parse_plan,
    preview,
)

PRUNE = Plan("prune", tuple(Action("delete", f"set-{n}", "old", {"bytes": n}) for n in range(50)), {"sets": 50})


def test_a_plan_comes_back_out_of_a_result_with_the_same_envelope() -> None:
    again = parse_plan(PRUNE.as_dict())
    assert again == PRUNE
    assert again.envelope() == PRUNE.envelope()


def test_a_preview_shows_the_first_of_many_acts_counts_the_rest_and_ends_with_the_envelope() -> None:
    lines = preview(PRUNE, 3)
    assert lines[:3] == [f"delete set-{n}: old (bytes {n})" for n in range(3)]
    assert lines[3] == "and 47 more"
    assert lines[4] == f"envelope {PRUNE.envelope()[:12]}: 50 acts, at most 50 sets"
    assert len(lines) == 5


def test_an_empty_plan_says_so() -> None:
    assert preview(Plan("prune", ())) == ["nothing to do"]


def test_an_envelope_counts_an_act_that_comes_twice_once() -> None:
    assert ": 1 acts" in envelope_line(Plan("v", (Action("k", "o", "a"), Action("k", "o", "b"))))
