# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery points as Prometheus' text format (exposition format 0.0.4), for node_exporter's textfile collector.

Alerts rest on the timestamps: a file that nobody writes any more goes on being scraped, and its ages stand still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def _label(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # a name that is no UTF-8 must not make the collector refuse the whole file
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def family(name: str, about: str, samples: Sequence[Sample]) -> list[str]:
    """One metric with its help and type; nothing when there is no sample."""
    lines = [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        text = ",".join(f'{key}="{_label(content)}"' for key, content in labels.items())
        lines.append(f"{name}{{{text}}} {value:.3f}")
    return lines if samples else []


def render_metrics(system: str, store: str, points: Sequence[RecoveryPoint], rpo: float | None, now: float) -> str:
    """The text of a .prom file, ending in a newline. store is its address without credentials; now in POSIX seconds."""
    common = {"system": system, "store": store}

    def labels(point: RecoveryPoint) -> Labels:
        schemas = ",".join(point.schemas) if point.tenant is None else ""
        return {**common, "database": point.database, "schemas": schemas, "tenant": point.tenant or ""}

    there = [(labels(point), point) for point in points if point.at is not None and point.age is not None]
    lines = [
        *family(
            "saasops_recovery_point_timestamp_seconds",
            "Time of the newest proven recovery point, in POSIX seconds.",
            [(its, float(point.at or 0)) for its, point in there],
        ),
        *family(
            "saasops_recovery_point_age_seconds",
            "Age of the newest proven recovery point when this was written.",
            [(its, float(point.age or 0)) for its, point in there],
        ),
        *family(
            "saasops_recovery_point_proven",
            "Whether there is any proven backup.",
            [(labels(point), float(point.at is not None)) for point in points],
        ),
        *family(
            "saasops_recovery_point_critical",
            "Whether more would be lost than the RPO allows, or nothing is proven.",
            [(labels(point), float(point.verdict == "critical")) for point in points],
        ),
        *family(
            "saasops_rpo_seconds",
            "The longest time whose commits may be lost.",
            [] if rpo is None else [(common, float(rpo))],
        ),
        *family(
            "saasops_backups_checked_timestamp_seconds",
            "When the store was last looked at, in POSIX seconds.",
            [(common, now)],
        ),
    ]
    return "\n".join(lines) + "\n"
