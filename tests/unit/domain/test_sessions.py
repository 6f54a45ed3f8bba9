# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom nobody ends, who is a member of a pool, and who is chosen: the protected never, whatever is asked."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import PREPARED, Backend, Prepared
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_choice import (
    QUERY,
    SESSION,
    TRANSACTION,
    Chosen,
    Decision,
    Scene,
    by_gid,
    by_pid,
    by_user,
    choose,
    plan_of,
    reached,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import BUILT_IN, Policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sessions import (
    NAMED,
    NEVER,
    Ground,
    Login,
    pools,
    shield,
)

OWN = 1
ONE = Backend(
    100,
    "2026-11-22T20:00:00+00:00",
    "shop",
    "shop",
    "web",
    "10.0.0.1",
    "client backend",
    "active",
    "UPDATE orders SET state = 'paid'",
    1000.0,
    1000.0,
    1000.0,
    transaction_start="t1",
    query_start="q1",
    state_change="s1",
)
DBA = Login("dba", superuser=True, superusers=frozenset({"postgres", "dba"}))
GROUND = Ground(DBA, own=frozenset({OWN}))
MARK = "saasops-backup-0123456789ab"
LONG = Policy("long", ("active",), query_over=300.0)
IDLE = Policy("idle", ("idle in transaction", "idle"), idle_over=600.0)
BLOCKERS = Policy("blockers", blocking=True)


def scene(*backends: Backend, ground: Ground = GROUND, prepared: tuple[Prepared, ...] = ()) -> Scene:
    return Scene(backends, prepared, ground)


def one(pid: int, state: str = "active", **changes: object) -> Backend:
    return replace(ONE, pid=pid, state=state, **changes)  # type: ignore[arg-type]


def pids(decision: Decision) -> list[int]:
    return [item.backend.pid for item in decision.chosen]


@pytest.mark.parametrize(
    ("changes", "strength"),
    [
        ({"pid": OWN}, NEVER),
        ({"kind": "walsender"}, NEVER),
        ({"pid": 55}, NEVER),
        ({"pid": 66}, NEVER),
        ({"application": MARK}, NEVER),
        ({"kind": "autovacuum worker", "query": "autovacuum: VACUUM public.a (to prevent wraparound)"}, NEVER),
        ({"kind": "autovacuum worker", "query": ""}, NEVER),
        ({"kind": "autovacuum worker", "query": "autovacuum: VACUUM public.a"}, NAMED),
        ({"kind": "logical replication worker"}, NEVER),
        ({"kind": "logical replication apply worker"}, NEVER),
        ({"kind": "logical replication tablesync worker"}, NEVER),
        ({"kind": "checkpointer"}, NEVER),
        ({"kind": "parallel worker"}, NEVER),
        ({"kind": "pg_cron launcher"}, NEVER),
        ({"started": "", "kind": "", "query": "<insufficient privilege>"}, NEVER),
        ({"application": "pg_dump"}, NAMED),
        ({"application": "pgBackRest [backup]"}, NAMED),
        ({"query": "COPY public.orders (id, state) TO stdout;"}, NAMED),
        ({"query": "LOCK TABLE a, b IN ACCESS SHARE MODE", "state": "idle in transaction"}, NAMED),
        ({"query": "SELECT pg_backup_start('x')", "state": "idle"}, NAMED),
        ({"query": "SELECT pg_start_backup('x')", "state": "idle"}, NAMED),
        ({"query": "SELECT pg_export_snapshot()", "state": "idle in transaction"}, NAMED),
        ({"query": "SELECT pg_export_snapshot()", "state": "idle"}, None),
        ({"query": "COPY orders FROM stdin"}, None),
        ({}, None),
    ],
)
def test_who_is_protected_and_how_much(changes: dict[str, object], strength: str | None) -> None:
    ground = replace(GROUND, locked=frozenset({55}), backing_up=frozenset({66}))
    backend = replace(ONE, **changes)  # type: ignore[arg-type]
    found = shield(backend, ground)
    assert (None if found is None else found.strength) == strength
    decision = choose([*BUILT_IN, LONG, IDLE], scene(backend, ground=ground))
    assert (backend.pid in pids(decision)) is (strength is None)


def test_a_superuser_is_ended_only_when_named() -> None:
    admin = one(7, user="postgres")
    assert pids(choose([LONG], scene(admin))) == []
    assert pids(choose([replace(LONG, users=("post*",))], scene(admin))) == []
    assert pids(choose([replace(LONG, users=("postgres",))], scene(admin))) == [7]
    assert pids(by_pid(7, scene(admin))) == [7]
    assert pids(by_user("postgres", scene(admin), 10)) == [7]


@pytest.mark.parametrize("kind", ["walsender", "checkpointer", "logical replication worker"])
def test_a_protected_one_is_refused_even_by_its_pid(kind: str) -> None:
    with pytest.raises(OpsError) as refused:
        by_pid(7, scene(one(7, kind=kind)))
    assert refused.value.code == "session_protected"


def test_a_parallel_worker_that_is_named_stands_for_its_leader() -> None:
    worker = one(8, kind="parallel worker", leader=7)
    assert pids(by_pid(8, scene(one(7), worker))) == [7]


def test_only_the_root_of_a_chain_is_chosen_and_the_one_with_the_most_below_it_first() -> None:
    chain = scene(one(2), one(3, waits_for=(2,)), one(4, waits_for=(3,)), one(5), one(6, waits_for=(5,)))
    decision = choose([BLOCKERS], chain)
    assert pids(decision) == [2, 5]
    assert [item.blocks for item in decision.chosen] == [2, 1]


def test_a_protected_root_is_named_and_nobody_is_ended_in_its_place() -> None:
    decision = choose([BLOCKERS], scene(one(2, kind="walsender"), one(3, waits_for=(2,)), one(4, waits_for=(3,))))
    assert pids(decision) == []
    assert [(b.pid, "walsender" in why) for b, why in decision.spared] == [(2, True)]


def test_a_prepared_transaction_at_the_root_is_reported_and_nobody_is_ended() -> None:
    item = Prepared("transfer 7", "shop", "shop", 3600.0)
    found = scene(one(2, waits_for=(PREPARED,), gids=("transfer 7",)), one(3, waits_for=(2,)), prepared=(item,))
    decision = choose([BLOCKERS], found)
    assert pids(decision) == []
    assert [(tree.root, tree.blocked) for tree in decision.prepared] == [(item, 2)]
    assert by_gid("transfer 7", found) == (item, 2)
    assert by_gid("another", found) == (None, 0)


def test_a_circle_is_left_to_the_deadlock_detector() -> None:
    assert pids(choose([BLOCKERS], scene(one(2, waits_for=(3,)), one(3, waits_for=(2,))))) == []


def test_only_who_holds_up_others_on_these_tables_is_meant() -> None:
    wanted = {3: ("org_a.Campaign",), 5: ("org_a.Order",)}
    found = scene(one(2), one(3, waits_for=(2,)), one(4), one(5, waits_for=(4,)), ground=replace(GROUND, wanted=wanted))
    assert pids(choose([replace(BLOCKERS, relations=("*.Campaign*",))], found)) == [2]


def test_idle_members_of_a_pool_stay_and_lonely_idle_sessions_go() -> None:
    members = [one(pid, "idle", application="web") for pid in (2, 3, 4)]
    lonely = one(5, "idle", application="report", user="report")
    decision = choose([IDLE], scene(*members, lonely))
    assert pids(decision) == [5]
    assert all("pool" in why for _b, why in decision.spared)


def test_a_member_of_a_pool_that_forgot_its_transaction_goes_first() -> None:
    members = [one(pid, "idle", application="web") for pid in (2, 3, 4)]
    forgotten = one(6, "idle in transaction", application="web")
    lonely = one(5, "idle", application="report", user="report", state_age=99999.0)
    assert pids(choose([IDLE], scene(*members, lonely, forgotten))) == [6, 5]


@pytest.mark.parametrize(
    ("backends", "ground", "members"),
    [
        ([one(2, "idle"), one(3, "idle")], GROUND, set()),
        ([one(2, "idle"), one(3, "idle"), one(4, "idle")], GROUND, {2, 3, 4}),
        # one connection from each of three instances
        ([one(pid, "idle", client=f"10.0.0.{pid}") for pid in (2, 3, 4)], GROUND, {2, 3, 4}),
        # three databases, one application server
        ([one(pid, "idle", database=f"d{pid}", application=f"a{pid}") for pid in (2, 3, 4)], GROUND, {2, 3, 4}),
        ([one(pid, "idle", application="psql") for pid in (2, 3, 4)], GROUND, set()),
        ([one(2, "idle")], replace(GROUND, pool_users=("sh*",)), {2}),
        ([one(2, "idle", application="psql")], replace(GROUND, pool_applications=("ps*",)), {2}),
        ([one(pid, kind="parallel worker") for pid in (2, 3, 4)], GROUND, set()),
    ],
)
def test_who_is_a_member_of_a_pool(backends: list[Backend], ground: Ground, members: set[int]) -> None:
    assert set(pools(backends, ground)) == members


def test_missing_rights_are_named_and_who_is_out_of_reach_is_spared() -> None:
    weak = Login("ops", reaches=frozenset({"shop"}), superusers=frozenset({"postgres"}))
    found = scene(one(2), one(3, user="other"), ground=replace(GROUND, login=weak))
    decision = choose([LONG], found)
    assert pids(decision) == [2]
    assert decision.missing == ("GRANT pg_signal_backend TO ops",)
    with pytest.raises(OpsError) as refused:
        by_pid(3, found)
    assert refused.value.code == "not_permitted"


def test_a_hidden_session_in_scope_is_counted_and_one_out_of_scope_is_not() -> None:
    unseen = replace(ONE, started="", kind="", state="", query="<insufficient privilege>")
    found = scene(replace(unseen, pid=2), replace(unseen, pid=3, user="other"), replace(unseen, pid=4, user=""))
    assert choose([replace(LONG, users=("shop",))], found).unseen == 1


def test_at_most_the_limit_is_ended_and_the_rest_is_counted() -> None:
    found = scene(*(one(pid) for pid in range(2, 9)))
    decision = choose([replace(LONG, limit=3)], found)
    assert (len(decision.chosen), decision.beyond, decision.ceilings) == (3, 4, {"sessions": 3})
    assert len(choose([replace(LONG, limit=3)], found, most=1).chosen) == 1
    assert len(choose([replace(LONG, limit=3)], found, most=99).chosen) == 3


def test_an_approval_speaks_of_the_policy_and_a_number_and_not_of_pids() -> None:
    first, second = (plan_of(choose([LONG], scene(one(pid), one(pid + 50)))) for pid in (2, 9))
    assert first.envelope() == second.envelope()
    assert first.actions != second.actions
    assert plan_of(by_pid(2, scene(one(2)))).envelope() != plan_of(by_pid(3, scene(one(3)))).envelope()
    reused = one(2, started="2026-11-22T21:00:00+00:00")
    assert plan_of(by_pid(2, scene(one(2)))).envelope() != plan_of(by_pid(2, scene(reused))).envelope()


def test_the_plan_holds_no_value_of_a_statement() -> None:
    assert "paid" not in str(plan_of(choose([LONG], scene(one(2)))).as_dict())


@pytest.mark.parametrize(
    ("goal", "blocks", "now", "blocking", "over"),
    [
        (QUERY, 0, None, (), True),
        (QUERY, 0, one(2), (), False),
        (QUERY, 0, one(2, query_start="q2"), (), True),
        (QUERY, 0, one(2, "idle in transaction (aborted)"), (), True),
        (TRANSACTION, 0, one(2, "idle in transaction (aborted)"), (), False),
        (TRANSACTION, 0, one(2, transaction_start="t2"), (), True),
        (TRANSACTION, 1, one(2, "idle in transaction (aborted)"), (2,), False),
        (TRANSACTION, 1, one(2, "idle in transaction (aborted)"), (), True),
        (SESSION, 0, one(2, "idle"), (), False),
        (SESSION, 0, one(2, state_change="s2"), (), True),
    ],
)
def test_when_an_end_counts(goal: str, blocks: int, now: Backend | None, blocking: tuple[int, ...], over: bool) -> None:
    assert reached(Chosen(one(2), "policy p", "why", goal, blocks), now, blocking) is over


def test_who_is_named_is_over_only_when_he_is_gone() -> None:
    named = Chosen(one(2), "pid 2 of x", "why", SESSION)
    assert not reached(named, one(2, "idle", state_change="s9", query_start="q9"), ())
    assert reached(named, None, ())


KINDS = ("client backend", "walsender", "autovacuum worker", "parallel worker", "logical replication worker", "", "x")
BACKENDS = st.builds(
    Backend,
    pid=st.integers(1, 12),
    started=st.sampled_from(["", "2026-11-22T20:00:00+00:00"]),
    user=st.sampled_from(["", "shop", "postgres"]),
    database=st.sampled_from(["", "shop"]),
    application=st.sampled_from(["", "web", "pg_dump", MARK, "psql"]),
    client=st.just(""),
    kind=st.sampled_from(KINDS),
    state=st.sampled_from(["", "active", "idle", "idle in transaction", "idle in transaction (aborted)", "disabled"]),
    query=st.sampled_from(
        ["", "SELECT 1", "COPY a TO STDOUT", "autovacuum: VACUUM a (to prevent wraparound)", "<insufficient privilege>"]
    ),
    transaction_age=st.sampled_from([None, 0.0, 99999.0]),
    query_age=st.sampled_from([None, 0.0, 99999.0]),
    state_age=st.sampled_from([None, 0.0, 99999.0]),
    waits_for=st.lists(st.integers(0, 12), max_size=2).map(tuple),
    leader=st.sampled_from([None, 3]),
)


@given(
    st.lists(BACKENDS, max_size=8, unique_by=lambda b: b.pid),
    st.frozensets(st.integers(1, 12), max_size=3),
    st.frozensets(st.integers(1, 12), max_size=3),
    st.booleans(),
    st.integers(1, 12),
)
def test_nobody_who_is_protected_is_ever_chosen_whatever_is_asked(
    backends: list[Backend], locked: frozenset[int], backing_up: frozenset[int], superuser: bool, named: int
) -> None:
    login = Login("dba", superuser, frozenset({"shop"}), frozenset({"postgres"}))
    ground = Ground(login, frozenset({OWN}), locked, backing_up)
    found = scene(*backends, ground=ground)
    decisions = [
        choose([*BUILT_IN, LONG, IDLE, BLOCKERS, Policy("all", transaction_over=0.0, users=("*", "postgres"))], found),
        by_user("shop", found, 99),
        by_user("postgres", found, 99),
    ]
    with contextlib.suppress(OpsError):
        decisions.append(by_pid(named, found))
    waiting = {b.pid for b in backends if b.waits_for}
    for item in (item for decision in decisions for item in decision.chosen):
        b = item.backend
        assert b.pid not in {OWN} | locked | backing_up
        assert b.kind in ("client backend", "autovacuum worker")
        assert b.started
        assert b.application != MARK
        assert "wraparound" not in b.query or b.kind == "client backend"
        assert superuser or b.user not in login.superusers
        if item.object.startswith("policy"):
            assert b.kind == "client backend"
            assert b.application != "pg_dump"
        if item.object == "policy blockers":
            assert b.pid not in waiting
    for decision in decisions:
        assert len({item.backend.pid for item in decision.chosen}) == len(decision.chosen)
        assert len(decision.chosen) <= decision.ceilings.get("sessions", 0) or not decision.chosen
