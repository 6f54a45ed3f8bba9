# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import platform
import socket
from dataclasses import replace

from ansible_collections.saasops.runbook.benchmarks import machine
from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample
from ansible_collections.saasops.runbook.benchmarks.report import Json, as_json, samples_of, table
from ansible_collections.saasops.runbook.benchmarks.row import Row

BASE, OURS = "pg_dump | gzip", "ours"
SAMPLES = [
    Sample(BASE, 0, 20.0, {"bytes": 100_000_000}),
    Sample(OURS, 0, 10.0, {"bytes": 90_000_000}),
    Sample(OURS, 1, 16.0, {"bytes": 90_000_000}),
    Sample(BASE, 1, 24.0, {"bytes": 100_000_000}),
]
ROW = Row(
    "backup", "Backup", SAMPLES, [Goal("faster than", BASE, 1.8, OURS)], ["A note."], {BASE: "pg_dump demo | gzip"}
)


def rendered(row: Row) -> Json:
    """As it is read back from results.json."""
    made: Json = json.loads(json.dumps(as_json(row, machine.facts(), 2000)))
    return made


def test_results_keep_every_run() -> None:
    assert samples_of(rendered(ROW)) == SAMPLES


def test_the_table_shows_median_worst_and_the_speedup_of_each_side() -> None:
    line = next(line for line in table({"backup": rendered(ROW)}).splitlines() if line.startswith("| pg_dump"))
    assert line == r"| pg_dump \| gzip | 22.00 | 24.00 | 100.0 | 1.75 (worst 1.50) |"


def test_a_missed_goal_is_said() -> None:
    assert "| 1.750 | **missed** |" in table({"backup": rendered(ROW)})


def test_a_failed_run_voids_every_goal_of_its_row_and_is_shown() -> None:
    good = replace(ROW, goals=[Goal("faster than", BASE, 1.2, OURS)])
    assert "| met |" in table({"backup": rendered(good)})
    bad = replace(good, samples=[*SAMPLES, Sample(OURS, 2, 1.0, failed="the rows\ndiffer")])
    said = table({"backup": rendered(bad)})
    assert "| met |" not in said
    assert "ours, pair 3: the rows differ" in said


def test_the_time_of_a_failed_run_is_no_figure() -> None:
    # it failed at once: ten thousand times faster
    row = replace(ROW, samples=[*SAMPLES, Sample(BASE, 2, 20.0), Sample(OURS, 2, 0.002, failed="refused")])
    assert "| 1.750 | **missed** |" in table({"backup": rendered(row)})


def test_a_side_that_always_failed_is_in_the_table() -> None:
    row = replace(ROW, samples=[SAMPLES[0], Sample(OURS, 0, 1.0, failed="no space")])
    assert "| ours | failed |" in table({"backup": rendered(row)})


def test_peaks_stand_by_size() -> None:
    samples = [
        Sample("pg_backup", number, 1, {"megabytes": size, "peak": 50_000_000 + number})
        for number, size in enumerate((500, 1000))
    ]
    row = Row("memory", "Peak memory", samples, [Goal("flat", "peak", 1.2, "pg_backup")])
    said = table({"memory": rendered(row)})
    assert "| module | 500 MB | 1,000 MB |" in said
    assert "| pg_backup | 50.0 MB | 50.0 MB |" in said


def test_machine_facts_name_no_host_and_no_folder() -> None:
    said = json.dumps(machine.facts())
    assert socket.gethostname() not in said
    assert os.path.expanduser("~") not in said
    assert platform.release() in said


def test_a_limit_is_told_in_the_unit_of_what_it_limits() -> None:
    samples = [Sample(OURS, 0, 1.0, {"seen_writing_ms": 187.2, "gap": 0.1})]
    goals = [Goal("at most", "seen_writing_ms", 1000, OURS), Goal("at most", "gap", 0.5, OURS)]
    said = table({"cleanup": rendered(replace(ROW, samples=samples, goals=goals))})
    assert "| ours: no transaction with writes seen open for more than 1000 ms | 187.200 | met |" in said
    assert "| ours: gap at most 0.5 s | 0.100 | met |" in said
