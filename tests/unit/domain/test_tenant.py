# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore of one tenant does, warns of and refuses, as tables."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Volume
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import (
    Column,
    Foreign,
    Shape,
    Surroundings,
    Table,
    Trait,
    Trigger,
    Unique,
    plain_text,
    structure_differences,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant import (
    Change,
    Count,
    Position,
    Source,
    command,
    counts_of,
    data_relevant,
    decide_changes,
    decide_tenant,
    decide_whole,
    sequences_behind,
    spoke_of,
    tables_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import (
    Referring,
    disk_refusal,
    listed,
    referring_refusal,
)

SOURCE = Source("20261122T201747Z-1a2b3c4d", "database", "2026-11-22T20:17:47.000000Z")
KEY = Unique("pk", ("id",), ("OPERATOR(pg_catalog.=)",), ("id",))
ORDER = Table("order", False, (Column("id"), Column("total", generated="s")), KEY, parts=("order",))
EVENT = Table("event", True, (Column("id"),), KEY, parts=("event_1", "event_2"))
BARE = Table("bare", False, (Column("word"),), None, parts=("bare",))
SHAPE = Shape("org_a", (ORDER, EVENT, BARE), (), ())
BILL = Foreign("bill_fkey", "public", "bill", ("o",), "org_a", "order", ("id",), ("=",), "c")
RESTORED = {"order": {"rows": 3}, "event_1": {"rows": 2}, "event_2": {"rows": 0}, "bare": {"rows": 1}}


def refusal(shape: Shape = SHAPE, around: Surroundings | None = None, **changes: object) -> OpsError:
    with pytest.raises(OpsError) as caught:
        decide_tenant(SOURCE, shape, around or Surroundings(), {**RESTORED, **changes}, {})  # type: ignore[dict-item]
    return caught.value


def test_every_table_is_part_of_the_plan_and_a_way_back_comes_first() -> None:
    plan = decide_tenant(SOURCE, SHAPE, Surroundings(own_views=(("totals", True),)), RESTORED, {})
    assert [(a.kind, a.object) for a in plan.actions] == [
        ("keep", "org_a"),
        ("merge", "org_a.order"),
        ("merge", "org_a.event"),
        ("merge", "org_a.bare"),
        ("refresh", "org_a.totals"),
    ]


def test_a_table_that_is_known_to_be_equal_is_not_part_of_the_plan() -> None:
    plan = decide_tenant(SOURCE, SHAPE, Surroundings(), RESTORED, {"order": Count(3, 3, True), "bare": Count(1, 9)})
    merges = {a.object: dict(a.measured) for a in plan.actions if a.kind == "merge"}
    assert merges == {
        "org_a.event": {},
        "org_a.bare": {"in the set": 1, "live": 9, "deleted, at least": 8},
    }


@pytest.mark.parametrize(
    ("around", "code"),
    [
        (Surroundings(rules=("r on order",)), "tenant_has_rules"),
        (Surroundings(elsewhere=("public.p of event",)), "partition_elsewhere"),
    ],
)
def test_what_cannot_be_merged_is_refused(around: Surroundings, code: str) -> None:
    assert refusal(around=around).code == code


def test_a_table_without_a_key_is_refused_only_when_it_is_referred_to() -> None:
    referred = replace(SHAPE, foreign=(replace(BILL, to_table="bare"),))
    assert refusal(referred).code == "table_without_key"
    assert "public.bill" in refusal(referred).cause


def test_refusals_come_together() -> None:
    error = refusal(around=Surroundings(rules=("r",), elsewhere=("p",)))
    assert error.details["codes"] == ["tenant_has_rules", "partition_elsewhere"]


def test_a_table_that_only_one_side_has_is_another_structure() -> None:
    error = refusal(gone={"rows": 1})
    assert (error.code, error.details["differences"]) == (
        "structure_differs",
        [{"kind": "table", "object": "gone", "text": "table gone is missing"}],
    )
    with pytest.raises(OpsError) as caught:
        decide_tenant(SOURCE, SHAPE, Surroundings(), {"order": {"rows": 1}}, {})
    assert "table bare is new" in caught.value.cause


def test_the_plan_warns_of_everything_that_looks_on() -> None:
    around = Surroundings(
        triggers=(Trigger("order", "audit", "O"), Trigger("order", "asleep", "D")),
        readers=("public.v",),
        stale=("public.m",),
        publications=("pub",),
        foreign_tables=("far",),
    )
    said = "\n".join(decide_tenant(SOURCE, replace(SHAPE, foreign=(BILL,)), around, RESTORED, {}).warnings)
    for part in ("audit on order", "public.v", "public.m", "pub", "far", "bare", "ON DELETE CASCADE"):
        assert part in said
    assert "asleep" not in said


def test_nothing_that_differs_makes_an_empty_plan() -> None:
    plan = decide_changes(SOURCE, SHAPE, Surroundings(own_views=(("v", True),)), [Change("order", 0, 0, 0, 3)], {})
    assert plan.empty


def test_exact_numbers_are_in_the_plan_and_only_changed_tables() -> None:
    changes = [Change("order", 1, 2, 3, 4, rewritten=5), Change("bare", 0, 0, 0, 9)]
    plan = decide_changes(SOURCE, SHAPE, Surroundings(), changes, {"s": "to 5"})
    assert [(a.kind, a.object) for a in plan.actions] == [
        ("keep", "org_a"),
        ("merge", "org_a.order"),
        ("raise", "org_a.s"),
    ]
    assert plan.actions[1].measured == {"inserted": 1, "updated": 2, "deleted": 3, "unchanged": 4, "rewritten": 5}


def test_a_sequence_alone_needs_no_way_back() -> None:
    plan = decide_changes(SOURCE, SHAPE, Surroundings(), [Change("order", 0, 0, 0, 3)], {"s": "to 5"})
    assert [a.kind for a in plan.actions] == ["raise"]


@pytest.mark.parametrize(
    ("live", "restored", "raised"),
    [
        (Position(5, True, 1), Position(9, True, 1), True),
        (Position(9, True, 1), Position(5, True, 1), False),
        (Position(5, True, 1), Position(5, True, 1), False),
        (Position(5, False, 1), Position(5, True, 1), True),
        (Position(5, True, 1), Position(6, False, 1), False),
        (Position(-5, True, -1), Position(-9, True, -1), True),
        (Position(-9, True, -1), Position(-5, True, -1), False),
        (Position(10, True, 10), Position(11, True, 10), True),
    ],
)
def test_sequences_are_raised_in_their_own_direction_only(live: Position, restored: Position, raised: bool) -> None:
    assert (sequences_behind({"s": live}, {"s": restored}) == {"s": restored}) is raised
    assert sequences_behind({}, {"s": restored}) == {}


def test_parts_of_a_partitioned_table_are_summed_up() -> None:
    restored = {"event_1": {"rows": 2, "hash": "a"}, "event_2": {"rows": 3, "hash": "b"}}
    live = {"event_1": {"rows": 2, "hash": "a"}, "event_2": {"rows": 3, "hash": "c"}}
    assert counts_of(SHAPE, restored, live, True)["event"] == Count(5, 5, False)
    assert counts_of(SHAPE, restored, restored, True)["event"] == Count(5, 5, True)
    assert counts_of(SHAPE, restored, restored, False)["event"] == Count(5, 5, False)
    assert counts_of(SHAPE, {}, {}, True)["event"] == Count(0, 0, True)


def test_equal_counts_without_hashes_prove_nothing() -> None:
    side = {"order": {"rows": 2, "hash": None}}
    assert counts_of(SHAPE, side, side, True)["order"].same is False


def test_only_the_tenants_tables_are_taken_from_a_fingerprint() -> None:
    entries = {
        json.dumps(["org_a", "t"]): {"rows": 1, "kind": "r"},
        json.dumps(["org_a", "m"]): {"rows": None, "kind": "m"},
        json.dumps(["org_b", "t"]): {"rows": 2, "kind": "r"},
    }
    assert tables_of({"tables": entries}, "org_a") == {"t": {"rows": 1, "kind": "r"}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("tenant", "plain"), [("org_acme", True), ("Org-1.x", True), ("a b", False), ("x=y", False), ("é'\"\n", False)]
)
def test_the_way_back_can_be_pasted_for_any_name(tenant: str, plain: bool) -> None:
    words = shlex.split(command(tenant, "S"))
    assert words[:3] == ["ansible-playbook", "saasops.runbook.restore_tenant", "-e"]
    if plain:
        assert words[3:] == [f"tenant={tenant}", "-e", "set=S"]
    else:
        assert json.loads(words[3]) == {"tenant": tenant, "set": "S"}


LISTING = """;
; Archive created at 2026-11-22
5; 2615 16390 SCHEMA - org_a demo_owner
215; 1259 16389 TABLE org_a VIEW demo_owner
216; 1259 16399 VIEW public v demo_owner
217; 1259 16400 MATERIALIZED VIEW org_a m demo_owner
3; 0 16400 MATERIALIZED VIEW DATA org_a m demo_owner
218; 1259 16401 SEQUENCE org_a s demo_owner
3400; 2604 16402 DEFAULT org_a t id demo_owner
3401; 0 0 ACL org_a TABLE t demo_owner
3402; 0 16389 TABLE DATA org_a VIEW demo_owner
3403; 0 0 SEQUENCE SET org_a s demo_owner
3404; 2606 16403 CONSTRAINT org_a t t_pkey demo_owner
3405; 2606 16404 FK CONSTRAINT org_a t t_fkey demo_owner
3406; 2620 16405 TRIGGER org_a t guard demo_owner
"""


def test_what_rows_and_keys_do_not_need_is_left_out() -> None:
    kept = [line.split(" ", 3)[3] for line in data_relevant(LISTING).splitlines() if line[0].isdigit()]
    assert [line.partition(" demo_owner")[0] for line in kept] == [
        "SCHEMA - org_a",
        "TABLE org_a VIEW",
        "SEQUENCE org_a s",
        "TABLE DATA org_a VIEW",
        "SEQUENCE SET org_a s",
        "CONSTRAINT org_a t t_pkey",
        "FK CONSTRAINT org_a t t_fkey",
    ]


SCHEMA_SQL = """--
-- PostgreSQL database dump
--

--
-- Name: Order; Type: TABLE; Schema: org_a; Owner: o
--

CREATE TABLE "org_a"."Order" ();

--
-- Name: v; Type: VIEW; Schema: public; Owner: o
--

CREATE VIEW "public"."v" AS SELECT 1 FROM "org_a"."Order";

--
-- Name: w; Type: VIEW; Schema: public; Owner: o
--

CREATE VIEW "public"."w" AS SELECT 1 FROM "org_ab"."Order";

--
-- Name: bill bill_fkey; Type: FK CONSTRAINT; Schema: public; Owner: o
--

ALTER TABLE ONLY "public"."bill" ADD FOREIGN KEY ("o") REFERENCES "org_a"."Order"("id");

--
-- Name: pub Order; Type: PUBLICATION TABLE; Schema: org_a; Owner: o
--

ALTER PUBLICATION "pub" ADD TABLE ONLY "org_a"."Order";
"""


def test_what_other_schemas_had_of_a_lost_one_is_found_with_its_sql() -> None:
    found = spoke_of(SCHEMA_SQL, "org_a")
    assert [(o.type, o.schema, o.name) for o in found] == [
        ("VIEW", "public", "v"),
        ("FK CONSTRAINT", "public", "bill bill_fkey"),
    ]
    assert found[1].sql.startswith("ALTER TABLE ONLY")


def test_a_lost_schema_is_planned_whole() -> None:
    found = spoke_of(SCHEMA_SQL, "org_a")
    plan = decide_whole(SOURCE, "org_a", RESTORED, found)
    assert [a.kind for a in plan.actions] == ["create schema"] + ["load"] * 4
    assert any("VIEW public.v" in line for line in plan.warnings)
    assert any("does not tell" in line for line in decide_whole(SOURCE, "org_a", RESTORED, None).warnings)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CHECK ((x = ANY (ARRAY['a'::text, 'b'::text])))", "CHECK ((x = ANY (ARRAY['a', 'b'])))"),
        (
            "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ),
        (
            "CHECK ((t > '2020-01-01'::timestamp without time zone))",
            "CHECK (t > '2020-01-01'::timestamp with time zone)",
        ),
        ("CHECK ((x = 'a'::public.\"My Type\"))", "CHECK (x = 'a')"),
    ],
)
def test_an_expression_is_the_same_however_the_server_casts_it(one: str, other: str) -> None:
    assert plain_text(one) == plain_text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CHECK ((x > 1))", "CHECK ((x > 2))"),
        ("CHECK ((x = 'a'::text))", "CHECK ((y = 'a'::text))"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("FOREIGN KEY (a) REFERENCES s.t(b)", "FOREIGN KEY (a) REFERENCES s.t(c)"),
    ],
)
def test_what_really_differs_stays_different(one: str, other: str) -> None:
    assert plain_text(one) != plain_text(other)


@pytest.mark.parametrize(
    ("live", "restored", "said"),
    [
        ([], [Trait("column", "t.a", "text")], ["column t.a is missing (text)"]),
        ([Trait("column", "t.a", "text")], [], ["column t.a is new (text)"]),
        (
            [Trait("column", "t.a", "bigint")],
            [Trait("column", "t.a", "integer")],
            ["column t.a is bigint and was integer"],
        ),
        ([Trait("constraint", "t", "CHECK (a)")], [], ["t has a new constraint: CHECK (a)"]),
        ([], [Trait("constraint", "t", "UNIQUE (a)")], ["t lacks the constraint: UNIQUE (a)"]),
        ([Trait("partition", "p of t", "FOR VALUES")], [], []),
        ([Trait("sequence", "s", "increment 1")], [], []),
        ([], [Trait("partition", "p of t", "FOR VALUES")], ["partition p of t is missing (FOR VALUES)"]),
        (
            [Trait("type", "e", "enum 'a', 'b'")],
            [Trait("type", "e", "enum 'a'")],
            ["type e is enum 'a', 'b' and was enum 'a'"],
        ),
        ([Trait("constraint", "t", "CHECK ((a))")], [Trait("constraint", "t", "CHECK (a)")], []),
    ],
)
def test_differences_of_structure(live: list[Trait], restored: list[Trait], said: list[str]) -> None:
    assert [text for _kind, _object, text in structure_differences(live, restored)] == said


def test_rows_in_the_way_are_listed_with_counts_and_values() -> None:
    error = referring_refusal("org_a", [Referring(BILL, 7, ("(1)", "(2)"))])
    assert (
        "7 rows of public.bill (o) -> org_a.order (id), constraint bill_fkey, ON DELETE CASCADE: (1), (2), ..."
        in error.cause
    )


def test_every_volume_that_is_too_small_is_named() -> None:
    error = disk_refusal([Volume("/a", 1_000_000, {"data": 5_000_000}), Volume("/b", 0, {"staging": 1_000_000})])
    assert error.code == "disk_too_small"
    assert "/a has 1 MB free" in error.cause
    assert "/b" in error.cause


def test_long_lists_say_how_many_more_there_are() -> None:
    assert listed(["a", "b", "c"], 2) == "a; b; and 1 more"
