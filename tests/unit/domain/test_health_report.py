# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health for people and machines."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement, Outcome, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_report import (
    metrics_name,
    remedy_lines,
    render_health,
    sentence,
    table_lines,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.remedy import Remedy

NOW = 1_000_000.0


def outcome(name: str, value: object, unit: str = "", **changes: object) -> Outcome:
    check = Check(name, "sql", "> 5", "> 10", unit, remedy=Remedy("backup", why=f"Because of {name}."))
    return judge(check, [Measurement(value, **changes)], None, NOW)  # type: ignore[arg-type]


def test_the_table_is_worst_first_aligned_and_has_details_of_what_is_not_ok_alone() -> None:
    lines = table_lines(
        [
            outcome("fine", 1, detail=("unseen",)),
            outcome("unknown", None),
            outcome("bad", 11, "s", detail=tuple(f"row {n}" for n in range(9))),
            outcome("warned", 6),
        ]
    )
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "LEVEL",
        "CRITICAL",
        "WARNING",
        "INCONCLUSIVE",
        "OK",
    ]
    assert not any("unseen" in line for line in lines)
    assert "    row 4" in lines
    assert "    row 5" not in lines
    assert "    ... and 4 more lines in the result" in lines
    assert (
        len(
            {
                line.index("bad" if "bad" in line else "warned")
                for line in lines
                if "when" in line and "fine" not in line
            }
        )
        == 1
    )


def test_numbers_are_as_a_person_reads_them() -> None:
    (size,) = table_lines([outcome("used", 1_040_413.15, "B")])[1:2]
    (share,) = table_lines([outcome("dead", 100 / 3, "%")])[1:2]
    assert size.split()[2:4] == ["1.0", "MB"]
    assert share.split()[2:4] == ["33.33", "%"]


def test_a_value_cannot_write_to_the_terminal() -> None:
    lines = table_lines([outcome("x", "a\x1b[2J\nOK everything", detail=("\x1b[31m",))])
    assert all(line.isprintable() for line in lines)


def test_the_sentence_counts_every_level() -> None:
    assert sentence([outcome("a", 11), outcome("b", 6), outcome("c", 1), outcome("d", 1)]) == (
        "critical: 1 critical, 1 warning, 2 ok of 4"
    )
    assert sentence([]) == "inconclusive: no check of 0"


def test_remedies_are_commands_with_their_reason() -> None:
    assert remedy_lines([outcome("fine", 1), outcome("bad", 11)], ["inv"], "db") == [
        {
            "check": "bad",
            "level": "critical",
            "command": "ansible-playbook saasops.runbook.backup -i inv -l db",
            "why": "Because of bad; outside of the verb's windows, or in a freeze, add -e break_glass='<why>'",
        }
    ]


def test_metrics_are_in_base_units_and_their_labels_are_escaped() -> None:
    text = render_health(
        'a"b',
        "h\\1",
        "daily",
        [
            outcome("age", 2, "min"),
            outcome("share", 50, "%"),
            outcome("word", "x"),
            outcome("none", None),
            outcome("n", True),
        ],
        NOW,
    )
    labels = 'system="a\\"b",host="h\\\\1",set="daily"'
    assert f'saasops_health_value{{{labels},check="age",source="sql",unit="seconds"}} 120.000\n' in text
    assert f'saasops_health_value{{{labels},check="share",source="sql",unit="ratio"}} 0.500\n' in text
    assert f'saasops_health_status{{{labels},check="none",source="sql"}} 3.000\n' in text
    assert 'check="word",source="sql",unit' not in text
    assert 'check="n",source="sql",unit=""} 1.000' in text
    assert text.endswith(f"saasops_health_checked_timestamp_seconds{{{labels}}} {NOW:.3f}\n")


def test_two_sets_write_two_files() -> None:
    assert metrics_name("demo", "daily") != metrics_name("demo", "all")
    assert metrics_name("a/../b", "x") == "saasops_health_a____b_x.prom"
