# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about each index, from what is wanted and what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import (
    Decision,
    Scene,
    Target,
    decide,
    plan_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import (
    NEW,
    OLD,
    Definition,
    Key,
    as_entry,
    beside,
    differences,
    grouped,
    is_leftover,
    same,
    show,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_drop import against, only_for, remarks
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import parse_wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_progress import Progress, line
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import (
    Builder,
    ForeignKey,
    Index,
    Table,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_space import (
    ceiling,
    needed,
    refuse_full,
    size,
)

INT = ("pg_catalog", "int4_ops")
A, B = Key("a", "a", INT), Key("b", "b", INT)
ON_A, ON_B = Definition("btree", (A,)), Definition("btree", (B,))
TABLE = Table(1, "s", "t", "r", 1000.0, 81920, ())
THERE = Index(10, "s", "i", 1, ON_A, "CREATE INDEX i ...", True, True, True, 16384)
ENTRY: dict[str, object] = {"name": "i", "table": "s.t", "columns": ["a"]}


def target(definition: Definition | None = ON_A, table: Table | None = TABLE, **entry: object) -> Target:
    return Target(parse_wish({**ENTRY, **entry}, 1), "s", table, definition)


def scene(*indexes: Index, table: Table = TABLE, **more: object) -> Scene:
    return replace(Scene(indexes, {table.oid: table}), **more)  # type: ignore[arg-type]


def outcome(decision: Decision) -> list[str]:
    return [f"{step.kind} {step.full}" for step in decision.steps] + [error.code for error in decision.refusals]


BUILDER = Builder(77, 1, 10, "building index", "somebody")
UNIQUE = replace(ON_A, unique=True)
PRESENT = [
    ("nothing there", target(), scene(), ["create s.i"]),
    ("it is there", target(), scene(THERE), []),
    ("it is there, and built on by somebody", target(), scene(THERE, builders=[BUILDER]), []),
    ("another one", target(ON_B), scene(THERE), ["index_differs"]),
    ("another one to be replaced", target(ON_B, replace=True), scene(THERE), ["replace s.i"]),
    (
        "another one of a constraint",
        target(ON_B, replace=True),
        scene(replace(THERE, constraint=("c", "u"))),
        ["not_replaceable"],
    ),
    (
        "another one that is the replica identity",
        target(ON_B, replace=True),
        scene(replace(THERE, replica_identity=True)),
        ["not_replaceable"],
    ),
    (
        "another one that is referenced",
        target(ON_B, replace=True),
        scene(replace(THERE, rests=("f",))),
        ["not_replaceable"],
    ),
    (
        "another one of partitions",
        target(ON_B, replace(TABLE, kind="p"), replace=True),
        scene(THERE, table=replace(TABLE, kind="p")),
        ["not_replaceable"],
    ),
    ("invalid", target(), scene(replace(THERE, valid=False)), ["repair s.i"]),
    ("not ready", target(), scene(replace(THERE, ready=False)), ["repair s.i"]),
    ("half dropped", target(), scene(replace(THERE, live=False)), ["repair s.i"]),
    ("invalid and another", target(ON_B), scene(replace(THERE, valid=False)), ["repair s.i"]),
    (
        "invalid of a constraint",
        target(),
        scene(replace(THERE, valid=False, constraint=("c", "u"))),
        ["index_of_constraint"],
    ),
    ("being built", target(), scene(replace(THERE, valid=False), builders=[BUILDER]), ["build_under_way"]),
    ("another is being built on the table", target(), scene(builders=[replace(BUILDER, index=0)]), ["build_under_way"]),
    ("one is built on another table", target(), scene(builders=[replace(BUILDER, table=2)]), ["create s.i"]),
    ("a twin", target(), scene(replace(THERE, name="j")), []),
    ("an invalid twin", target(), scene(replace(THERE, name="j", valid=False)), ["create s.i"]),
    ("a twin on another table", target(), scene(replace(THERE, name="j", table=2)), ["create s.i"]),
    ("a unique one of the same key", target(), scene(replace(THERE, name="j", definition=UNIQUE)), ["create s.i"]),
    ("the name of a table", target(), scene(taken={("s", "i")}), ["name_taken"]),
    ("the name on another table", target(), scene(replace(THERE, table=2)), ["name_taken"]),
    ("not the owner", target(table=replace(TABLE, owned=False, owner="boss")), scene(), ["not_permitted"]),
    (
        "unique without the partition key",
        target(UNIQUE, replace(TABLE, kind="p", partition_key=("b",))),
        scene(),
        ["partition_key_missing"],
    ),
    (
        "unique by an expression",
        target(UNIQUE, replace(TABLE, kind="p", partition_key=("",))),
        scene(),
        ["partition_key_missing"],
    ),
    (
        "unique with the partition key",
        target(UNIQUE, replace(TABLE, kind="p", partition_key=("a",))),
        scene(),
        ["create s.i"],
    ),
]


@pytest.mark.parametrize(("wanted", "there", "decided"), [case[1:] for case in PRESENT], ids=[c[0] for c in PRESENT])
def test_what_is_to_be_done_about_an_index_that_is_wanted(wanted: Target, there: Scene, decided: list[str]) -> None:
    assert outcome(decide([wanted], [], there)) == decided


def test_what_the_entry_does_not_speak_of_may_be_as_it_is_and_stays_so_when_it_is_replaced() -> None:
    there = replace(THERE, definition=replace(ON_A, options=("fillfactor=70",), tablespace="fast"))
    assert outcome(decide([target()], [], scene(there))) == []
    asked = replace(ON_A, options=("fillfactor=80",))
    assert outcome(decide([target(asked, **{"with": {"fillfactor": 80}})], [], scene(there))) == ["index_differs"]
    assert outcome(decide([target(tablespace="")], [], scene(there))) == ["index_differs"]
    (step,) = decide([target(ON_B, replace=True)], [], scene(there)).steps
    assert step.definition == replace(ON_B, options=("fillfactor=70",), tablespace="fast")


def test_two_entries_that_mean_one_index_build_one_and_two_of_one_name_are_refused() -> None:
    other = target(name="j")
    decision = decide([target(), other], [], scene())
    assert outcome(decision) == ["create s.i"]
    assert "s.j is there as s.i" in decision.notes[0]
    assert outcome(decide([target(), target(ON_B)], [], scene()))[-1] == "index_named_twice"
    assert "index_named_twice" in outcome(decide([target()], [target(state="absent")], scene()))


LEFTOVERS = [
    (replace(THERE, name="x_ccnew", valid=False), True),
    (replace(THERE, name="x_ccold12", valid=False), True),
    (replace(THERE, name="x_ccnew"), False),
    (replace(THERE, name="x_ccnewest", valid=False), False),
    (replace(THERE, name="x", valid=False), False),
    (replace(THERE, name=beside("x", NEW), valid=False), True),
    (replace(THERE, name=beside("x", OLD)), True),
    (replace(THERE, name="x_ccold", valid=False, constraint=("c", "u")), False),
    (replace(THERE, name="x_ccnew", valid=False, parent=3), False),
    (replace(THERE, name="x_ccnew", valid=False, table=2), False),
]


@pytest.mark.parametrize(("left", "goes"), LEFTOVERS, ids=[f"{i.name} {i.table} {i.valid}" for i, _goes in LEFTOVERS])
def test_leftovers_of_interrupted_work_are_removed_and_nothing_else(left: Index, goes: bool) -> None:
    left = replace(left, oid=11, definition=ON_B)
    there = replace(scene(THERE, left), tables={1: TABLE, 2: replace(TABLE, oid=2)})
    assert outcome(decide([target()], [], there)) == ([f"clean {left.full}"] if goes else [])
    # while somebody builds on the table it may be his
    assert outcome(decide([target()], [], replace(there, builders=[BUILDER]))) == []


def test_the_new_index_of_a_replacement_is_no_leftover_of_it() -> None:
    new = replace(THERE, oid=11, name=beside("i", NEW), definition=ON_B)
    assert outcome(decide([target(ON_B, replace=True)], [], scene(THERE, new))) == ["replace s.i"]


ABSENT = [
    ("not there", THERE, {"name": "j"}, []),
    ("there", THERE, {}, ["drop s.i"]),
    ("invalid", replace(THERE, valid=False), {}, ["drop s.i"]),
    ("primary key", replace(THERE, constraint=("k", "p")), {}, ["index_of_constraint"]),
    ("unique constraint", replace(THERE, constraint=("k", "u")), {}, ["index_of_constraint"]),
    ("exclusion", replace(THERE, constraint=("k", "x")), {}, ["index_of_constraint"]),
    ("replica identity", replace(THERE, replica_identity=True), {}, ["index_is_replica_identity"]),
    ("referenced", replace(THERE, rests=("f of x",)), {}, ["index_is_referenced"]),
    ("part", replace(THERE, parent=5), {}, ["index_of_partition"]),
    ("extension", replace(THERE, extension="e"), {}, ["index_of_extension"]),
]


@pytest.mark.parametrize(("there", "entry", "decided"), [case[1:] for case in ABSENT], ids=[c[0] for c in ABSENT])
def test_what_is_to_be_done_about_an_index_that_shall_be_absent(
    there: Index, entry: dict[str, object], decided: list[str]
) -> None:
    gone = target(None, None, state="absent", **entry)
    assert outcome(decide([], [gone], scene(there))) == decided


def test_an_absent_entry_with_a_definition_means_that_index_only() -> None:
    assert outcome(decide([], [target(ON_A, state="absent")], scene(THERE))) == ["drop s.i"]
    assert outcome(decide([], [target(ON_B, state="absent")], scene(THERE))) == ["index_differs"]
    elsewhere = target(ON_A, replace(TABLE, oid=9), state="absent")
    assert outcome(decide([], [elsewhere], scene(THERE))) == ["index_differs"]


AB, BA, BAC = (
    replace(THERE, oid=oid, name=name, definition=Definition("btree", keys))
    for oid, name, keys in ((21, "ab", (A, B)), (22, "ba", (B, A)), (23, "bac", (B, A, Key("c", "c", INT))))
)
PAIR, SINGLE = ForeignKey("f", "parents", ("a", "b")), ForeignKey("g", "parents", ("a",))
PARTIAL = replace(AB, oid=24, definition=replace(AB.definition, predicate="(a > 1)"))


@pytest.mark.parametrize(
    ("others", "keys", "alone"),
    [
        ([], [PAIR], ["f"]),
        ([], [SINGLE], ["g"]),
        ([BA], [PAIR], []),
        ([BA], [PAIR, SINGLE], ["g"]),
        ([BAC], [PAIR], []),
        ([PARTIAL], [PAIR], ["f"]),
        ([replace(BA, valid=False)], [PAIR], ["f"]),
        ([], [ForeignKey("h", "x", ("b",))], []),
        ([], [], []),
    ],
)
def test_an_index_is_the_only_one_for_a_foreign_key_when_no_other_is_led_by_its_columns(
    others: list[Index], keys: list[ForeignKey], alone: list[str]
) -> None:
    assert [key.name for key in only_for(AB, [AB, *others], keys)] == alone
    codes = [error.code for error in against(AB, [AB, *others], keys)]
    assert codes == (["index_of_foreign_key"] if alone else [])
    assert against(AB, [AB, *others], keys, {"index_of_foreign_key"}) == []


def test_two_indexes_for_one_foreign_key_do_not_both_go() -> None:
    there = replace(scene(AB, BA), foreign_keys={1: [PAIR]})
    gone = [target(None, None, name=name, state="absent") for name in ("ab", "ba")]
    assert outcome(decide([], gone[:1], there)) == ["drop s.ab"]
    assert outcome(decide([], gone, there)) == ["index_of_foreign_key", "index_of_foreign_key"]


def test_what_the_end_of_an_index_means_is_said() -> None:
    assert remarks(THERE, 0) == []
    said = remarks(replace(THERE, definition=UNIQUE, scans=1234, clustered=True), 3)
    assert "ON CONFLICT on these columns fails. 3 such statements" in said[0]
    assert "1,234 times" in said[1]
    assert "CLUSTER" in said[2]


def test_the_envelope_does_not_move_with_the_measured_numbers() -> None:
    decision = decide([target()], [], scene())
    sized = replace(
        decision, steps=tuple(replace(s, size=10**6, table=replace(TABLE, rows=5.0)) for s in decision.steps)
    )
    assert plan_of(decision).envelope() == plan_of(sized).envelope()
    assert plan_of(sized).ceilings == {"indexes": 1, "bytes": 1 << 30}
    assert plan_of(Decision()).ceilings == {}


@pytest.mark.parametrize(
    ("sizes", "bound"),
    [([0], 1 << 30), ([1 << 29], 1 << 30), ([(1 << 29) + 1], 1 << 31), ([1 << 30, 1 << 30], 1 << 32)],
)
def test_the_ceiling_of_bytes_is_a_power_of_two_with_room(sizes: list[int], bound: int) -> None:
    assert ceiling(sizes) == bound


def test_an_index_is_estimated_from_the_widths_of_its_columns() -> None:
    two = Definition("btree", (A, B))
    # 8 + 4 of each entry, 4 + 4 of its values; a page is filled to nine tenths
    assert size(two, TABLE, {"a": 4, "b": 4}, 900) == 2 * 8192 + int(900 * 20 / 0.9)
    assert size(ON_A, TABLE, {"a": 4}, 900) == size(two, TABLE, {"a": 4, "b": 4}, 900)
    assert size(ON_A, TABLE, {}, 900) > size(ON_A, TABLE, {"a": 4}, 900)
    assert size(replace(ON_A, method="brin"), TABLE, {"a": 4}, 10**9) < 10**6


@pytest.mark.parametrize(
    ("sizes", "jobs", "need"),
    [
        ([100], 1, 100 + 100),
        ([100, 100], 2, 200 + 150),
        ([60, 200, 300], 1, 560 + 300 + 150),
        ([60, 200, 300], 2, 560 + 500 + 150),
    ],
)
def test_space_is_needed_for_the_indexes_their_sorts_and_the_log(sizes: list[int], jobs: int, need: int) -> None:
    assert needed(sizes, jobs, work_memory=100, max_wal=150) == need
    assert refuse_full("/data", need, need) is None
    full = refuse_full("/data", need - 1, need)
    assert full is not None
    assert full.code == "no_space"


DEFINITION = Definition(
    "btree",
    (replace(A, option=3), Key("lower(c)", "", ("pg_catalog", "text_ops"), ("pg_catalog", "default"))),
    ("b",),
    "(a > 1)",
    unique=True,
)
FIRST, SECOND = DEFINITION.keys


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "hash"}, "the method"),
        ({"keys": (A,)}, "the key"),
        ({"keys": (replace(A, option=0), DEFINITION.keys[1])}, "the order of a is ASC NULLS LAST"),
        (
            {"keys": (replace(DEFINITION.keys[0], opclass=("x", "y")), DEFINITION.keys[1])},
            "the operator class of a is x.y",
        ),
        ({"keys": (replace(DEFINITION.keys[0], parameters=("p=1",)), DEFINITION.keys[1])}, "options of a is p=1"),
        (
            {"keys": (DEFINITION.keys[0], replace(DEFINITION.keys[1], collation=("x", "C")))},
            "the collation of lower(c)",
        ),
        ({"include": ()}, "included is none instead of b"),
        ({"predicate": ""}, "the condition is none"),
        ({"unique": False}, "unique is no"),
        ({"nulls_not_distinct": True}, "NULLS NOT DISTINCT is yes"),
        ({"options": ("fillfactor=70",)}, "WITH is fillfactor=70"),
        ({"tablespace": "fast"}, "the tablespace is fast"),
    ],
)
def test_each_difference_is_found_and_told(change: dict[str, object], said: str) -> None:
    other = replace(DEFINITION, **change)  # type: ignore[arg-type]
    assert same(DEFINITION, DEFINITION)
    (told,) = differences(other, DEFINITION)
    assert said in told


def test_a_definition_is_shown_and_written_as_an_entry() -> None:
    assert show(DEFINITION) == "unique btree (a DESC NULLS FIRST, lower(c)) include (b) where (a > 1)"
    entry = as_entry("i", "s", "t", DEFINITION)
    wish = parse_wish(entry, 1)
    assert (wish.schema, wish.table, wish.include, wish.where, wish.unique) == ("s", "t", ("b",), "(a > 1)", True)
    assert [(c.name, c.expression, c.order, c.nulls) for c in wish.columns] == [
        ("a", "", "desc", "first"),
        ("", "lower(c)", "", ""),
    ]
    assert (wish.options, wish.tablespace) == ((), "")


@given(st.lists(st.tuples(st.sampled_from(["i", "j"]), st.text("ab*?_", min_size=1, max_size=4)), unique=True))
def test_grouping_entries_loses_none_and_writes_no_pattern(pairs: list[tuple[str, str]]) -> None:
    entries = [as_entry(name, schema, "t", ON_A) for name, schema in pairs]
    found = []
    for entry in grouped(entries):
        schemas = cast("list[str]", entry.get("schemas") or [entry["schema"]])
        found += [(str(entry["name"]), schema) for schema in schemas]
        assert not any(set(schema) & set("*?") for schema in cast("list[str]", entry.get("schemas") or []))
    assert sorted(found) == sorted(pairs)


@given(st.text(min_size=1))
def test_a_name_beside_another_fits(name: str) -> None:
    for suffix in (NEW, OLD):
        found = beside(name, suffix)
        assert len(found.encode("utf-8", "surrogatepass")) <= 63
        assert found.endswith(suffix)


def test_only_the_names_of_reindex_are_its_leftovers() -> None:
    assert [name for name in ("a_ccnew", "a_ccold3", "ccnew", "a_ccnew_b", "a_cc") if is_leftover(name)] == [
        "a_ccnew",
        "a_ccold3",
    ]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            Progress(1, "building index: scanning table", blocks_total=400, blocks_done=100),
            "s.i: building index: scanning table, 100 of 400 blocks (25 %), 10 blocks/s, about 30 s left",
        ),
        (
            Progress(1, "building index: loading tuples in tree", 0, 0, 0, 400, 400, 1000, 500),
            "s.i: building index: loading tuples in tree, 500 of 1,000 rows (50 %), 50 rows/s, about 10 s left",
        ),
        (
            Progress(1, "waiting for old snapshots", lockers_total=3, lockers_done=1, locker=99),
            "s.i: waiting for old snapshots (1 of 3 ended, now for pid 99), 7 s",
        ),
        (Progress(1, "initializing"), "s.i: initializing"),
    ],
)
def test_a_build_is_told_with_share_and_end(seen: Progress, told: str) -> None:
    assert line("s.i", seen, 10.0, 7.0) == told
