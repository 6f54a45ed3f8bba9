# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison that README and demo show: what thirty lines of upstream modules say and what is true, beside ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import postgres

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import comparison  # noqa: E402
from comparison import ARCHIVE, OURS, SCRIPT, Row  # noqa: E402

Table = dict[tuple[str, str], Row]


@pytest.fixture(scope="module")
def rows(server18: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Table:
    found = comparison.compare(server18, tmp_path_factory.mktemp("comparison") / "work")
    print(comparison.table(found, 120))
    return {(row.fault, row.approach): row for row in found}


@pytest.mark.parametrize("approach", [SCRIPT, ARCHIVE, OURS])
def test_without_a_fault_all_three_bring_every_row_and_key_back(rows: Table, approach: str) -> None:
    row = rows["none", approach]
    assert row.backup.ok
    assert row.restore is not None
    assert row.restore.ok, row.restore.message
    assert row.live.rows == row.before.rows
    assert row.live.sums == row.before.sums
    assert row.live.constraints == row.before.constraints > 0


def test_a_cut_dump_goes_live_without_a_word_in_the_script_format(rows: Table) -> None:
    row = rows["cut", SCRIPT]
    assert (row.noticed, row.silent) == ("", True)
    assert row.live.missing_rows(row.before) > 0


def test_a_cut_dump_is_a_good_backup_in_the_archive_format_until_it_is_needed(rows: Table) -> None:
    row = rows["cut", ARCHIVE]
    assert row.backup.ok
    assert row.noticed == "restore"
    assert row.half is not None
    assert row.half.missing_rows(row.before) > 0
    assert row.live_is_whole


def test_a_cut_dump_is_refused_by_ours_when_it_is_made_and_nothing_of_it_is_kept(rows: Table) -> None:
    row = rows["cut", OURS]
    assert (row.noticed, row.backup.code, row.stored) == ("backup", "dump_incomplete", 0)
    assert row.live_is_whole


@pytest.mark.parametrize("approach", [SCRIPT, ARCHIVE])
def test_a_flipped_bit_leaves_a_half_restored_database_with_upstream(rows: Table, approach: str) -> None:
    row = rows["flipped", approach]
    assert row.noticed == "restore"
    assert row.half is not None
    assert row.half.sums != row.before.sums
    assert row.live_is_whole


def test_a_flipped_bit_is_refused_by_ours_and_leaves_no_database(rows: Table) -> None:
    row = rows["flipped", OURS]
    assert row.noticed == "restore"
    assert row.restore is not None
    assert (row.restore.code, row.half) == ("object_damaged", None)
    assert row.live_is_whole


@pytest.mark.parametrize("approach", [SCRIPT, ARCHIVE])
def test_grants_and_settings_of_the_database_are_lost_upstream_without_a_word(rows: Table, approach: str) -> None:
    row = rows["grant", approach]
    assert row.silent
    assert row.before.application_works
    assert row.before.stranger_kept_out
    assert (row.live.application_works, row.live.stranger_kept_out) == (False, False)


def test_grants_and_settings_of_the_database_come_back_with_ours(rows: Table) -> None:
    row = rows["grant", OURS]
    assert not row.silent
    assert (row.live.application_works, row.live.stranger_kept_out) == (True, True)


def test_the_comparison_leaves_no_database_and_no_role_behind(rows: Table, server18: postgres.Server) -> None:
    assert rows
    assert server18.psql(r"SELECT datname FROM pg_database WHERE datname LIKE 'comparison%'") == ""
    assert server18.psql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'comparison%'") == ""


def test_the_playbook_of_thirty_lines_has_no_more(rows: Table) -> None:
    assert rows
    assert len((ROOT / "examples" / "thirty_lines.yml").read_text(encoding="utf-8").splitlines()) <= 30


def test_the_table_names_every_fault_and_fits_a_terminal(rows: Table) -> None:
    shown = comparison.table(list(rows.values()), 100)
    assert max(len(line) for line in shown.splitlines()) <= 100
    words = " ".join(shown.replace("|", " ").split())
    for word in (*comparison.APPROACHES, "dump_incomplete", "object_damaged", "ROWS"):
        assert word in words
