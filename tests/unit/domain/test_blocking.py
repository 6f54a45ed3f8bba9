# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import (
    PREPARED,
    Backend,
    Prepared,
    lines,
    roots,
    trees,
)

IDLE = Backend(
    pid=1,
    started="2026-01-01T00:00:00+00:00",
    user="app",
    database="shop",
    application="",
    client="",
    kind="client backend",
    state="active",
    query="SELECT 1",
    transaction_age=3.0,
    query_age=2.0,
    state_age=1.0,
)


def backend(pid: int, *waits_for: int, gids: tuple[str, ...] = ()) -> Backend:
    return replace(IDLE, pid=pid, waits_for=waits_for, gids=gids)


def test_the_root_with_the_most_below_it_comes_first() -> None:
    found = trees([backend(1), backend(2, 1), backend(3), backend(4, 3), backend(5, 4), backend(6)])
    assert [(tree.root.pid if isinstance(tree.root, Backend) else None, tree.blocked) for tree in found] == [
        (3, 2),
        (1, 1),
    ]
    assert [(depth, b.pid) for depth, b in found[0].waiting] == [(1, 4), (2, 5)]


def test_a_session_that_waits_for_two_roots_is_below_both() -> None:
    assert [tree.blocked for tree in trees([backend(1), backend(2), backend(3, 1, 2)])] == [1, 1]


def test_a_circle_is_one_tree_without_a_root() -> None:
    (tree,) = trees([backend(1, 2), backend(2, 1), backend(3, 2)])
    assert tree.root is None
    assert {b.pid for _depth, b in tree.waiting} == {1, 2, 3}
    assert roots([backend(1, 2), backend(2, 1)]) == []
    assert lines([tree])[0] == "a circle of 3 that wait for each other"


def test_a_prepared_transaction_is_a_root_by_its_name() -> None:
    mine = Prepared("mine", "app", "shop", 60.0)
    other = Prepared("other", "app", "shop", 9.0)
    (tree,) = trees([backend(2, PREPARED, gids=("mine",)), backend(3, 2)], [mine, other])
    assert tree.root == mine
    assert tree.blocked == 2


def test_members_of_a_parallel_group_are_their_leaders_business() -> None:
    worker = replace(backend(7), leader=6)
    assert [root.pid for root in roots([backend(6), worker, backend(8, 7)])] == [6]


def test_long_trees_are_cut_with_a_count() -> None:
    many = [backend(1), *[backend(pid, 1) for pid in range(2, 60)]]
    text = lines(trees(many), 10)
    assert len(text) == 10
    assert text[-1] == "and 50 more"


@given(st.lists(st.lists(st.integers(1, 8), max_size=3), min_size=8, max_size=8))
def test_everybody_who_waits_is_in_some_tree_and_no_root_waits(edges: list[list[int]]) -> None:
    found = [backend(pid, *(p for p in waits if p != pid)) for pid, waits in enumerate(edges, 1)]
    told = {b.pid for tree in trees(found) for _depth, b in tree.waiting}
    assert told == {b.pid for b in found if b.waits_for}
    assert all(not root.waits_for for root in roots(found))
