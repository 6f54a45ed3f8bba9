# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal tells of its runs."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_runs import run_lines, runs
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso

T0 = 1795377600.0


def record(kind: str, at: float, run: str = "r1", **facts: Json) -> dict[str, Json]:
    return {"kind": kind, "at": iso(T0 + at), "run": run, **facts}


START = record("run_started", 0, verb="backup", operator="ann")
INTENT = record("intent", 2, host="a", action="pg_backup")


@pytest.mark.parametrize(
    ("records", "result"),
    [
        ([], "unchanged"),
        ([INTENT], "open"),
        ([INTENT, record("outcome", 5, host="b", action="pg_backup")], "open"),
        ([INTENT, record("outcome", 5, host="a", action="pg_backup")], "unchanged"),
        ([INTENT, record("outcome", 5, host="a", action="pg_backup", changed=True)], "changed"),
        ([INTENT, INTENT, record("outcome", 5, host="a", action="pg_backup", changed=True)], "open"),
        ([record("outcome", 5, host="a", failed=True)], "failed"),
        ([record("task", 5, host="a", failed=True, ignored=True)], "unchanged"),
        ([record("refusal", 5, host="a")], "refused"),
        ([INTENT, record("note", 9, "r2", code="interrupted", of="r1")], "interrupted"),
    ],
)
def test_the_result_of_a_run(records: list[dict[str, Json]], result: str) -> None:
    run = runs([START, *records])[0]
    assert run.result == result
    assert (run.ended is None) == (result in ("open", "interrupted"))


def test_a_run_has_its_hosts_operator_and_duration() -> None:
    told = [START, *(record("outcome", 5, host=name, changed=True) for name in "abcda"), record("note", 90)]
    (run,) = runs(told)
    assert (run.hosts, run.operator, run.verb, run.changed) == (["a", "b", "c", "d"], "ann", "backup", True)
    assert run.as_json()["seconds"] == 90
    assert (
        run_lines([run])[1] == "2026-11-22 20:00:00 UTC  r1   backup  ann       a, b, c and 1 more  changed  1 min 30 s"
    )


def test_runs_come_by_their_start_and_late_records_join_their_own() -> None:
    told = [
        record("run_started", 100, "r2"),
        record("run_started", 0, "r1"),
        record("task", 50, "r1", host="a"),
        record("note", 7, ""),
    ]
    assert [(run.id, run.records) for run in runs(told)] == [("r1", 2), ("r2", 1)]
