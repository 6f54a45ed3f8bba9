# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which migrations are to run, and every reason not to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate import (
    APPLIED,
    APPLYING,
    BASELINE,
    UNDOING,
    Row,
    Situation,
    decide,
    decide_baseline,
    decide_undo,
    plan_of,
    statements_checksum,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import (
    checksum,
    read_folder,
    read_script,
    seconds,
)

ONE, TWO, THREE = "SELECT 1;", "SELECT 2;", "SELECT 3;"
FILES = {"001_a.sql": ONE, "002_b.sql": TWO, "003_c.sql": THREE}


def row(version: str, name: str, text: str, **changes: object) -> Row:
    body: dict[str, object] = {"state": APPLIED, "run": "r1", "schema": "", **changes}
    return Row(version=version, name=name, checksum=checksum(text), **body)  # type: ignore[arg-type]


def situation(
    files: Mapping[str, str],
    rows: Sequence[Row] = (),
    *,
    tenants: Sequence[str] = (),
    ledger: bool = True,
    tables: int = 0,
) -> tuple[Situation, list[OpsError]]:
    migrations, errors = read_folder(files)
    patterns = {one.script.metadata.tenants for one in migrations if one.script.metadata.tenants}
    return Situation(migrations, rows, dict.fromkeys(patterns, tenants), ledger, tables), errors


def codes(found: Sequence[OpsError]) -> list[str]:
    return [one.code for one in found]


def pending(files: Mapping[str, str], rows: Sequence[Row] = (), to: int | None = None, **more: object) -> list[str]:
    steps, found = decide(*situation(files, rows, **more), to)  # type: ignore[arg-type]
    assert found == []
    return [step.place for step in steps]


@pytest.mark.parametrize(
    ("rows", "to", "expected"),
    [
        ([], None, ["001_a", "002_b", "003_c"]),
        ([row("001", "a", ONE)], None, ["002_b", "003_c"]),
        ([row("001", "a", ONE)], 2, ["002_b"]),
        ([row("001", "a", ONE, state=BASELINE), row("002", "b", TWO, state=BASELINE)], None, ["003_c"]),
        ([row("001", "a", ONE), row("002", "b", TWO), row("003", "c", THREE)], None, []),
        (
            [row("001", "a", ONE), row("002", "b", TWO, state=APPLYING, done_checksum=checksum(""))],
            None,
            ["002_b", "003_c"],
        ),
    ],
)
def test_what_the_ledger_does_not_have_is_pending(rows: list[Row], to: int | None, expected: list[str]) -> None:
    assert pending(FILES, rows, to) == expected


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        ({**FILES, "002_b.sql": "SELECT 22;"}, [row("001", "a", ONE), row("002", "b", TWO)], ["file_edited"]),
        ({"002_b.sql": TWO}, [row("001", "a", ONE)], ["file_missing"]),
        (FILES, [row("001", "a", ONE), row("003", "c", THREE)], ["out_of_order"]),
        ({**FILES, "002_d.sql": TWO}, [], ["number_twice"]),
        ({**FILES, "2_d.sql": TWO}, [], ["number_twice"]),
        ({**FILES, "note.sql": TWO}, [], ["file_name"]),
        ({**FILES, "004_d.undo.sql": TWO}, [], ["orphan_script"]),
        ({**FILES, "003_x.undo.sql": TWO}, [], ["orphan_script"]),
        ({**FILES, "004_d.sql": "BEGIN; SELECT 1; COMMIT;"}, [], ["transaction_control"]),
        ({**FILES, "004_d.sql": "CREATE INDEX CONCURRENTLY i ON t (a)"}, [], ["needs_no_transaction"]),
        (
            {**FILES, "004_d.sql": "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY ON t (a)"},
            [],
            ["index_unnamed"],
        ),
        ({**FILES, "004_d.sql": "-- saasops: transaction=false\nSELECT 1"}, [], ["bad_metadata"]),
        ({**FILES, "004_d.sql": "-- saasops: transactional=maybe\nSELECT 1"}, [], ["bad_metadata"]),
        ({**FILES, "004_d.sql": "\\i other.sql"}, [], ["file_unreadable"]),
        ({**FILES, "004_d.sql": "COPY t FROM stdin;\n1\n\\.\n"}, [], ["file_unreadable"]),
        ({**FILES, "004_d.sql": "COPY t FROM stdin"}, [], ["file_unreadable"]),
        ({**FILES, "004_d.sql": "-- nothing"}, [], ["file_empty"]),
        (FILES, [row("001", "a", ONE, state=UNDOING)], ["undo_unfinished"]),
        (
            {"002_b.sql": TWO, "003_c.sql": "SELECT 33;", "bad.sql": ""},
            [row("001", "a", ONE), row("003", "c", THREE)],
            ["file_name", "file_missing", "file_edited", "out_of_order"],
        ),
    ],
)
def test_every_reason_not_to_is_told_at_once(files: Mapping[str, str], rows: list[Row], expected: list[str]) -> None:
    _steps, found = decide(*situation(files, rows))
    assert codes(found) == expected


def test_a_database_with_tables_and_no_ledger_asks_for_a_baseline() -> None:
    _steps, found = decide(*situation(FILES, tables=3, ledger=False))
    assert codes(found) == ["baseline_needed"]
    assert pending(FILES, tables=3, ledger=True) == ["001_a", "002_b", "003_c"]


def test_a_baseline_writes_down_what_ran_before_and_only_once() -> None:
    steps, found = decide_baseline(*situation(FILES), 2)
    assert ([step.place for step in steps], found) == (["001_a", "002_b"], [])
    _steps, found = decide_baseline(*situation(FILES, [row("001", "a", ONE)]), 2)
    assert codes(found) == ["ledger_exists"]
    _steps, found = decide_baseline(*situation(FILES), 9)
    assert codes(found) == ["version_unknown"]


def test_each_tenant_is_a_step_of_its_own_and_a_new_one_gets_what_the_others_have() -> None:
    files = {"001_a.sql": "-- saasops: tenants=org_*\nSELECT 1;", "002_b.sql": TWO}
    assert pending(files, tenants=["org_a", "org_b"]) == ["001_a in org_a", "001_a in org_b", "002_b"]
    rows = [row("001", "a", files["001_a.sql"], schema="org_a"), row("002", "b", TWO)]
    assert pending(files, rows, tenants=["org_a", "org_b"]) == ["001_a in org_b"]


def test_a_file_that_stopped_may_be_corrected_behind_what_is_through() -> None:
    text = "-- saasops: transactional=false\nVACUUM a;\nVACUUM b;\n"
    script = read_script("001_a.sql", text)
    half = row("001", "a", text, state=APPLYING, done=1, begun=2, done_checksum=statements_checksum(script, 1))
    corrected = {"001_a.sql": text.replace("VACUUM b", "VACUUM c")}
    steps, found = decide(*situation(corrected, [half]))
    assert (found, steps[0].done) == ([], 1)
    _steps, found = decide(*situation({"001_a.sql": text.replace("VACUUM a", "VACUUM c")}, [half]))
    assert codes(found) == ["file_edited"]


def test_an_undo_takes_a_run_newest_first_and_nothing_from_under_a_later_one() -> None:
    rows = [row("001", "a", ONE, undo="x"), row("002", "b", TWO, undo="x"), row("003", "c", THREE, run="r2")]
    own, found = decide_undo(rows[:2], "r1")
    assert ([one.version for one in own], found) == (["002", "001"], [])
    assert codes(decide_undo(rows, "r1")[1]) == ["later_applied", "later_applied"]
    assert codes(decide_undo(rows, "r2")[1]) == ["undo_missing"]
    assert decide_undo(rows, "r9") == ([], [])
    assert codes(decide_undo([row("001", "a", ONE, state=BASELINE)], "r1")[1]) == ["undo_of_baseline"]


def test_a_file_that_stopped_half_way_is_in_the_way_of_an_undo_only_when_something_of_it_is_through() -> None:
    def half(run: str, done: int) -> Row:
        return row("002", "b", TWO, state=APPLYING, run=run, done=done, begun=done + 1, total=3)

    one = row("001", "a", ONE, undo="x")
    assert decide_undo([one, half("r1", 0)], "r1") == ([one], [])
    assert decide_undo([one, half("r2", 0)], "r1") == ([one], [])
    assert decide_undo([half("r1", 0)], "r1") == ([], [])
    assert codes(decide_undo([one, half("r1", 1)], "r1")[1]) == ["apply_unfinished"]
    assert codes(decide_undo([one, half("r2", 1)], "r1")[1]) == ["apply_unfinished"]


def test_a_file_that_was_edited_is_another_object_of_the_plan() -> None:
    def objects(text: str) -> list[str]:
        steps, _found = decide(*situation({"001_a.sql": text}))
        return [action.object for action in plan_of(steps).actions]

    assert objects("SELECT 1;") == objects("\ufeffSELECT 1;\r\n\r\n")
    assert objects("SELECT 1;") != objects("SELECT 2;")
    assert plan_of(decide(*situation(FILES))[0]).ceilings == {"files": 3, "schemas": 1}


def test_metadata_stands_before_the_first_statement_only() -> None:
    script = read_script(
        "1_a.sql",
        "-- what for\n-- saasops: transactional=false limit=2h\n-- saasops: tenants=org_*,team_* lock_limit=1500ms\n"
        "/* c */ VACUUM;\n-- saasops: nonsense=1\n",
    )
    assert not script.metadata.transactional
    assert (script.metadata.limit, script.metadata.lock_limit) == (7200.0, 1.5)
    assert script.metadata.tenants == ("org_*", "team_*")
    locks = read_script("1_a.sql", "-- saasops: locks=public.t,o:SHARE_ROW_EXCLUSIVE\nCALL p();").metadata.locks
    assert [(touch.table, touch.mode) for touch in locks] == [
        (("public", "t"), "ACCESS EXCLUSIVE"),
        (("o",), "SHARE ROW EXCLUSIVE"),
    ]


@pytest.mark.parametrize(("text", "expected"), [("500ms", 0.5), ("5s", 5.0), ("2m", 120.0)])
def test_short_times_may_be_milliseconds(text: str, expected: float) -> None:
    assert seconds(text, "limit") == expected


@given(st.lists(st.sampled_from("123"), unique=True), st.sampled_from([None, 1, 2, 3]))
def test_what_is_pending_and_what_is_applied_never_overlap_and_order_holds(applied: list[str], to: int | None) -> None:
    texts = {"1": ("a", ONE), "2": ("b", TWO), "3": ("c", THREE)}
    rows = [row(f"00{number}", *texts[number]) for number in sorted(applied)]
    steps, found = decide(*situation(FILES, rows), to)
    numbers = [step.migration.number for step in steps]
    assert numbers == sorted(numbers)
    assert not {str(number) for number in numbers} & set(applied)
    assert to is None or all(number <= to for number in numbers)
    if not found and rows:
        assert all(number > max(one.number for one in rows) for number in numbers)
