# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is due, in which order, within which budget; and how a table is built anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import envelope_of, outside
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import SESSION, SLOT, Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    ANALYZE,
    FREEZE,
    LEFTOVER,
    REINDEX,
    REWRITE,
    VACUUM,
    Act,
    Mark,
    Settings,
    Table,
    Toast,
    Wish,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_decide import (
    Rule,
    Scope,
    Survey,
    Wishes,
    decide,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import Pace, needs
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_options import read_wishes
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_plan import Budget, ordered, within

HOUR = 3600.0
STANDARD = Settings()
HEALTHY = Table(
    "app", "org_a", "orders", 7, pages=1250, visible=1250, rows=10_000, bytes=10_240_000, total_bytes=12_000_000,
    live=10_000, counted=10_000, vacuumed=HOUR, analyzed=HOUR,
)  # fmt: skip


def kinds(table: Table, wish: Wish | None = None, *holders: Holder, mark: Mark | None = None) -> list[str]:
    found = needs(STANDARD, table, [], wish or Wish(), holders, mark or Mark())
    return [f"{need.kind}{'?' if need.conditional else ''}{' blocked' if need.blocked else ''}" for need in found]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        # half of autovacuum's scale factor on top of its threshold: 50 + 10 % of 10,000
        ({"dead": 1050}, []),
        ({"dead": 1051}, [VACUUM]),
        (
            {"dead": 21, "options": {"autovacuum_vacuum_threshold": "20", "autovacuum_vacuum_scale_factor": "0"}},
            [VACUUM],
        ),
        ({"dead": 20, "options": {"autovacuum_vacuum_threshold": "20", "autovacuum_vacuum_scale_factor": "0"}}, []),
        ({"dead": 501, "options": {"autovacuum_vacuum_max_threshold": "1000"}}, [VACUUM]),
        ({"inserted": 2000}, []),
        ({"inserted": 2001}, [VACUUM]),
        ({"inserted": 2001, "options": {"autovacuum_vacuum_insert_threshold": "-1"}}, []),
        ({"changed": 550}, []),
        ({"changed": 551}, [ANALYZE]),
        ({"dead": 1051, "changed": 551}, [VACUUM, ANALYZE]),
        ({"visible": 600, "index_scans": 5, "inserted": 500}, [VACUUM]),
        ({"visible": 600, "index_scans": 0, "inserted": 500}, []),
        ({"visible": 600, "index_scans": 5, "inserted": 499}, []),
        ({"visible": 626, "index_scans": 5, "inserted": 500}, []),
        ({"toast": Toast(dead=151, live=1000, bytes=10**6)}, [VACUUM]),
        ({"toast": Toast(dead=150, live=1000, bytes=10**6)}, []),
        ({"xid_age": 149_999_999}, []),
        ({"xid_age": 150_000_000}, [FREEZE]),
        ({"mxid_age": 300_000_000}, [FREEZE]),
        ({"toast": Toast(xid_age=150_000_000)}, [FREEZE]),
        ({"xid_age": 80_000_000, "options": {"autovacuum_freeze_max_age": "100000000"}}, [FREEZE]),
        ({"xid_age": 150_000_000, "dead": 5000}, [FREEZE]),
        # counters that begin at nothing
        ({"vacuumed": None, "analyzed": None, "counted": 100, "dead": 0}, [ANALYZE, f"{VACUUM}?"]),
        ({"vacuumed": None, "analyzed": None, "counted": 9_000, "dead": 0}, []),
        ({"vacuumed": None, "analyzed": None, "counted": 100, "measured": 1051}, [VACUUM]),
        ({"vacuumed": None, "analyzed": None, "counted": 100, "measured": 1050}, []),
        ({"vacuumed": None, "analyzed": HOUR, "counted": 100, "dead": 0}, []),
    ],
)
def test_what_a_table_needs(changes: dict[str, object], expected: list[str]) -> None:
    assert kinds(replace(HEALTHY, **changes)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(dead_share=0.02), []),
        (Wish(dead_share=0.01), [VACUUM]),
        (Wish(dead_rows=150), [VACUUM]),
        (Wish(dead_rows=200), []),
        (Wish(changed_share=0.01), [ANALYZE]),
        (Wish(max_age=HOUR + 1), []),
        (Wish(max_age=HOUR), [VACUUM, ANALYZE]),
        (Wish(max_age=HOUR, measures=(ANALYZE,)), [ANALYZE]),
        (Wish(max_age=HOUR, skip=True), []),
        (Wish(ahead=0.0, measures=(VACUUM,)), [VACUUM]),
    ],
)
def test_the_inventory_may_wish_otherwise(wish: Wish, expected: list[str]) -> None:
    assert kinds(replace(HEALTHY, dead=200, changed=200), wish) == expected


def test_a_table_that_did_not_change_is_not_due_however_old_its_last_vacuum() -> None:
    assert kinds(replace(HEALTHY, vacuumed=90 * 86400.0), Wish(max_age=HOUR)) == []


OLD = Holder(SESSION, "42", 1_000, seconds=2 * HOUR, database="app")
YOUNG = Holder(SESSION, "43", 10, seconds=60.0, database="app")


@pytest.mark.parametrize(
    ("holder", "mark", "expected"),
    [
        (OLD, Mark(), [f"{VACUUM} blocked"]),
        (YOUNG, Mark(), [VACUUM]),
        (Holder(SLOT, "old", 10), Mark(), [VACUUM]),
        (Holder(SLOT, "old", 10, xid="700"), Mark(held=Holder(SLOT, "old", 5, xid="700").key), [f"{VACUUM} blocked"]),
        (Holder(SLOT, "old", 10, xid="701"), Mark(held=Holder(SLOT, "old", 5, xid="700").key), [VACUUM]),
        (Holder(SLOT, "another", 10, xid="700"), Mark(held=Holder(SLOT, "old", 5, xid="700").key), [VACUUM]),
    ],
)
def test_a_vacuum_that_would_remove_nothing_is_blocked_by_name(holder: Holder, mark: Mark, expected: list[str]) -> None:
    assert kinds(replace(HEALTHY, dead=5000), None, holder, mark=mark) == expected


@pytest.mark.parametrize(("held", "expected"), [(179_000_000, [f"{FREEZE} blocked"]), (100_000_000, [FREEZE])])
def test_a_freeze_that_the_horizon_leaves_nothing_to_is_blocked(held: int, expected: list[str]) -> None:
    assert kinds(replace(HEALTHY, xid_age=180_000_000), None, Holder(SLOT, "old", held)) == expected


def test_what_the_store_remembers_is_believed_for_a_day_after_the_statistics_were_lost() -> None:
    lost = replace(HEALTHY, vacuumed=None, analyzed=None, counted=0)
    assert kinds(lost, mark=Mark(vacuumed=HOUR)) == []
    assert kinds(lost, mark=Mark(vacuumed=25 * HOUR)) == [ANALYZE, f"{VACUUM}?"]


def act(kind: str, oid: int, seconds: float = 1.0, gain: float = 1.0, urgent: int = 0, size: int = 0) -> Act:
    return Act(kind, "app", "s", f"t{oid}", oid, oid, "why", seconds, gain, urgent, bytes=size)


def test_emergencies_come_first_by_age_then_what_gains_most_for_its_time_then_rebuilds() -> None:
    acts = [
        act(REWRITE, 1, gain=1e9),
        act(REINDEX, 2, gain=1e9),
        act(LEFTOVER, 3),
        act(VACUUM, 4, seconds=10, gain=100),
        act(VACUUM, 5, seconds=1, gain=50),
        act(ANALYZE, 4, seconds=1, gain=1),
        act(FREEZE, 6, gain=160e6),
        act(FREEZE, 7, gain=190e6),
        act(FREEZE, 8, gain=1.2e9, urgent=1_200_000_000),
        act(FREEZE, 9, gain=1.5e9, urgent=1_500_000_000),
    ]
    assert [(a.kind, a.oid) for a in ordered(acts)] == [
        (FREEZE, 9), (FREEZE, 8), (FREEZE, 7), (FREEZE, 6), (VACUUM, 5), (VACUUM, 4), (ANALYZE, 4),
        (LEFTOVER, 3), (REINDEX, 2), (REWRITE, 1),
    ]  # fmt: skip


def test_a_rewrite_stands_for_all_else_of_its_table() -> None:
    chosen, left = within([act(VACUUM, 1), act(REINDEX, 1), act(REWRITE, 1), act(VACUUM, 2)], Budget())
    assert ([(a.kind, a.oid) for a in chosen], left) == ([(VACUUM, 2), (REWRITE, 1)], [])


ACTS = st.lists(
    st.builds(
        act,
        st.sampled_from([VACUUM, FREEZE, ANALYZE, REINDEX, REWRITE]),
        st.integers(1, 20),
        st.floats(0.01, 500),
        st.floats(0, 1e9),
        st.sampled_from([0, 0, 0, 2_000_000_000]),
        st.integers(0, 10**9),
    ),
    max_size=40,
)


@given(ACTS, st.floats(0, 1000), st.integers(1, 8), st.integers(0, 20), st.integers(0, 10**9))
def test_a_plan_never_exceeds_its_budget_but_for_emergencies(
    acts: list[Act], seconds: float, jobs: int, tables: int, size: int
) -> None:
    chosen, left = within(acts, Budget(seconds, jobs, tables, size))
    calm = [a for a in chosen if not a.urgent]
    assert sum(a.seconds for a in calm) <= seconds * jobs + 1e-6
    urgent = {a.table for a in chosen if a.urgent}
    assert len({a.table for a in calm} - urgent) <= tables
    assert sum(a.bytes for a in chosen if a.kind == REWRITE) <= size
    assert all(not a.urgent for a, _why in left if a.kind != REWRITE)


TABLES = st.builds(
    replace,
    st.just(HEALTHY),
    oid=st.integers(1, 10**6),
    dead=st.integers(0, 20_000),
    changed=st.integers(0, 20_000),
    inserted=st.integers(0, 20_000),
    rows=st.integers(-1, 20_000).map(float),
    live=st.integers(0, 20_000),
    visible=st.integers(0, 1250),
    index_scans=st.integers(0, 3),
    counted=st.integers(0, 20_000),
    vacuumed=st.none() | st.floats(1, 1e7),
    analyzed=st.none() | st.floats(1, 1e7),
    xid_age=st.integers(0, 2_000_000_000),
    mxid_age=st.integers(0, 2_000_000_000),
    toast=st.none() | st.builds(Toast, st.integers(0, 9999), st.integers(0, 9999), st.just(10**6)),
)


def after(table: Table, did: set[str]) -> Table:
    """A table as it is after the acts were done, when nobody holds anything back."""
    if ANALYZE in did:
        table = replace(table, changed=0, analyzed=1.0, rows=float(table.live))
    if VACUUM in did or FREEZE in did:
        table = replace(
            table, dead=0, measured=None, inserted=0, visible=table.pages, vacuumed=1.0, rows=float(table.live),
            toast=replace(table.toast, dead=0) if table.toast else None,
        )  # fmt: skip
    if FREEZE in did:
        table = replace(table, xid_age=0, mxid_age=0)
    return table


@given(TABLES, st.sampled_from([None, 60.0, 86400.0]))
def test_after_what_was_decided_is_done_nothing_is_left_to_decide(table: Table, max_age: float | None) -> None:
    wish = Wish(max_age=max_age)
    did = {need.kind for need in needs(STANDARD, table, [], wish, (), Mark())}
    assert needs(STANDARD, after(table, did), [], wish, (), Mark()) == []


def test_an_approval_names_databases_where_what_is_due_changes_by_the_minute_and_objects_where_it_locks() -> None:
    def plan(*dead: int) -> Survey:
        tables = [replace(HEALTHY, name=f"t{n}", oid=n, dead=count) for n, count in enumerate(dead, 1)]
        return Survey("app", 180000, STANDARD, tables)

    first, later = (
        envelope_of(decide([one], Scope(), Wishes(Wish()), {}, Budget(60.0), Pace()).plan("app"))
        for one in (plan(5000, 0, 0), plan(0, 5000, 5000))
    )
    assert outside(later, first) == []
    assert first.actions == {("vacuum", "database app")}
    assert first.ceilings == {"tables": 3, "databases": 1, "minutes": 1}
    assert act(REWRITE, 1).as_action("app").agreed == "s.t1"
    assert act(REWRITE, 1).as_action("other").agreed == "app: s.t1"


def test_what_the_role_may_not_touch_and_what_autovacuum_works_on_is_said_and_not_planned() -> None:
    tables = [
        replace(HEALTHY, name="theirs", oid=1, dead=5000, permitted=False, owner="ann"),
        replace(HEALTHY, name="busy", oid=2, dead=5000, autovacuum="wraparound"),
        replace(HEALTHY, schema="pg_catalog", name="pg_class", oid=3, dead=5000, permitted=False, system=True),
    ]
    found = decide([Survey("app", 180000, STANDARD, tables)], Scope(), Wishes(Wish()), {}, Budget(), Pace())
    assert found.acts == ()
    assert found.forbidden == (("org_a.theirs", "ann"),)
    assert "Autovacuum works on org_a.busy" in found.remarks[0]


@pytest.mark.parametrize(
    ("schemas", "tables", "held"),
    [
        ((), (), True),
        (("org_*",), (), True),
        (("org_b",), (), False),
        ((), ("org_*.orders",), True),
        ((), ("org_*.Orders",), False),
        (("org_b",), ("org_*.orders",), False),
    ],
)
def test_patterns_choose_tables(schemas: tuple[str, ...], tables: tuple[str, ...], held: bool) -> None:
    assert Scope(schemas, tables).holds(HEALTHY) is held


def test_the_last_rule_that_matches_wins() -> None:
    rules = (Rule(("org_*.*",), {"dead_share": 0.1, "max_age": 5.0}), Rule(("*.orders",), {"dead_share": 0.2}))
    assert Wishes(Wish(), rules).of(HEALTHY) == Wish(dead_share=0.2, max_age=5.0)


@pytest.mark.parametrize(("version", "expected"), [(170000, ["root"]), (180000, ["leaf", "root"])])
def test_before_18_an_analyze_of_a_parent_is_one_of_its_partitions(version: int, expected: list[str]) -> None:
    root = replace(HEALTHY, name="root", oid=1, kind="p", analyzed=None, bytes=0)
    leaf = replace(HEALTHY, name="leaf", oid=2, root=1, changed=5000)
    found = decide([Survey("app", version, STANDARD, [root, leaf])], Scope(), Wishes(Wish()), {}, Budget(), Pace())
    assert sorted(a.name for a in found.acts if a.kind == ANALYZE) == expected


def test_a_parent_is_due_by_what_was_written_in_its_partitions_since_its_last_analyze() -> None:
    root = replace(HEALTHY, name="root", oid=1, kind="p", bytes=0)
    leaf = replace(HEALTHY, oid=2, root=1, written=10_550)

    def due(written: int) -> bool:
        return bool(needs(STANDARD, root, [leaf], Wish(), (), Mark(analyzed=HOUR, written=written)))

    assert [due(9_999), due(10_000)] == [True, False]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"thresholds": {"dead_share": 20}}, "bad_threshold"),
        ({"thresholds": {"dead_rows": -1}}, "bad_threshold"),
        ({"thresholds": {"max_age": "7"}}, "bad_duration"),
        ({"rules": [{"tables": ["a.b"], "freeze": 2}]}, "bad_threshold"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(options: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as caught:
        read_wishes(options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("wish", "superuser", "expected", "said"),
    [
        (Wish(), True, [(LEFTOVER, ("pg_repack",))], 0),
        (Wish(measures=(REWRITE,)), True, [(LEFTOVER, ("pg_repack",))], 0),
        (Wish(measures=(VACUUM,)), True, [], 0),
        (Wish(skip=True), True, [], 0),
        (Wish(), False, [], 1),
    ],
)
def test_what_an_ended_pg_repack_left_is_removed_by_a_superuser_where_rebuilds_are_asked_for(
    wish: Wish, superuser: bool, expected: list[tuple[str, tuple[str, ...]]], said: int
) -> None:
    survey = Survey("app", 150000, STANDARD, [HEALTHY], unfinished=(7, 8), superuser=superuser)
    found = decide([survey], Scope(), Wishes(wish), {}, Budget(), Pace())
    assert [(one.kind, one.options) for one in found.acts] == expected
    assert len([remark for remark in found.remarks if "only a superuser" in remark]) == said


def test_a_rewrite_comes_after_the_removal_of_what_a_pg_repack_left_on_its_table() -> None:
    left = replace(act(LEFTOVER, 7), table=7, options=("pg_repack",))
    index = replace(act(LEFTOVER, 9), table=7)
    found, _left = within([act(REWRITE, 7), index, left], Budget())
    assert [(one.kind, one.oid) for one in found] == [(LEFTOVER, 7), (REWRITE, 7)]
