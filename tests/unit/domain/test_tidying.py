# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to restored tables before the switch, and what waits until after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.tidying import (
    RestoredTable,
    Tidying,
    decide_tidying,
)

TABLE = RestoredTable("public", "a", "a", 10, toast=False, analyzed=False, extended=False)
FROZEN = {("public", "a")}
DONE = Tidying((), (), (), ())


@pytest.mark.parametrize(
    ("budget", "now"),
    [(0, ()), (5, ("a",)), (14, ("b", "a")), (15, ("b", "a")), (35, ("c", "b", "a"))],
)
def test_the_smallest_tables_are_vacuumed_within_the_budget_and_the_others_left(
    budget: int, now: tuple[str, ...]
) -> None:
    tables = [replace(TABLE, name=name, sql=name, bytes=size) for name, size in (("c", 20), ("a", 5), ("b", 9))]
    plan = decide_tidying(tables, set(), budget)
    assert plan.vacuum == now
    assert sorted((*plan.vacuum, *plan.left)) == ["a", "b", "c"]
    assert plan.rough == plan.left


@pytest.mark.parametrize(
    ("table", "plan"),
    [
        (TABLE, replace(DONE, analyze=("a",))),
        (replace(TABLE, analyzed=True), DONE),
        (replace(TABLE, extended=True), replace(DONE, analyze=("a",))),
        (replace(TABLE, analyzed=True, extended=True), replace(DONE, left=("a",))),
        (replace(TABLE, analyzed=True, toast=True), replace(DONE, vacuum=("a",))),
        (replace(TABLE, bytes=200), replace(DONE, rough=("a",), left=("a",))),
        (replace(TABLE, bytes=200, analyzed=True), DONE),
        (replace(TABLE, bytes=200, analyzed=True, extended=True), replace(DONE, left=("a",))),
        (replace(TABLE, bytes=200, analyzed=True, toast=True), replace(DONE, left=("a",))),
    ],
)
def test_a_table_that_was_loaded_frozen_needs_only_the_statistics_that_it_lacks(
    table: RestoredTable, plan: Tidying
) -> None:
    assert decide_tidying([table], FROZEN, 100) == plan


def test_a_large_table_with_statistics_that_is_not_frozen_is_left_for_a_vacuum() -> None:
    table = replace(TABLE, bytes=200, analyzed=True)
    assert decide_tidying([table], set(), 100) == replace(DONE, left=("a",))
