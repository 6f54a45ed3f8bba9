# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, judge
from ansible_collections.saasops.runbook.benchmarks.report import as_json, table
from ansible_collections.saasops.runbook.benchmarks.row import Row
from ansible_collections.saasops.runbook.benchmarks.row_maintenance import BASELINE, OURS, needs

NAMES = [f"org_{tenant}.t{table}" for tenant in range(500) for table in range(4)]


def test_the_list_is_the_same_each_time_and_says_of_every_table_one_thing() -> None:
    first = needs(NAMES)
    assert first == needs(NAMES)
    assert (len(first.analyze), len(first.vacuum), len(first.noise)) == (100, 80, 190)
    assert first.vacuum < first.analyze
    assert not first.noise & first.analyze


def test_a_fifth_of_the_blocks_is_met_and_more_is_missed() -> None:
    goal = Goal("blocks of", BASELINE, 0.2, OURS)

    def samples(blocks: int) -> list[Sample]:
        return [Sample(BASELINE, 0, 2.0, {"blocks": 1000}), Sample(OURS, 0, 1.0, {"blocks": blocks})]

    assert judge(goal, samples(200)) == (True, 0.2)
    assert judge(goal, samples(201))[0] is False
    machine = {"cores": 2, "processor": "x", "memory_gb": 1, "kernel": "y"}
    shown = table({"maintenance": as_json(Row("maintenance", "M", samples(200), [goal]), machine, 1.0)})
    assert f"{OURS} reads at most 20% of the blocks of {BASELINE}" in shown
