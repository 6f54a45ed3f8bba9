# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The poolers before the live database: asked for the plan, held during the renames, never left paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pooler import Pool
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pause import Hold, resume_left
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import Pooler, read_pools


def look_at(target: Target, poolers: Sequence[Pooler], database: str) -> tuple[list[Pool], list[OpsError]]:
    """The pools that lead to the database, and why poolers could not be asked; nothing is changed."""
    pools: list[Pool] = []
    errors: list[OpsError] = []
    for pooler in poolers:
        try:
            pools += read_pools(target, pooler, database)
        except OpsError as error:
            errors.append(error)
    return pools, errors


def hold_of(target: Target, poolers: Sequence[Pooler], pools: Sequence[Pool]) -> Hold:
    """What pauses these pools, each at its own pooler."""
    by_name = {pooler.name: pooler for pooler in poolers}
    return Hold(target, [(by_name[pool.pooler], pool) for pool in pools])


def told(hold: Hold) -> dict[str, object]:
    """Evidence of a hold."""
    return {"paused": list(hold.labels), "paused_seconds": round(hold.seconds, 3)} if hold.labels else {}


def said(hold: Hold) -> list[str]:
    """What the operator has to know of it."""
    lines = []
    if hold.undrained:
        lines.append(
            f"Transactions that still ran through {', '.join(hold.undrained)} after the time they were given were "
            "ended by the switch; all other clients waited."
        )
    if hold.expired:
        lines.append(f"{', '.join(hold.labels)}: resumed after {hold.seconds:.0f} s, before the renames were done.")
    lines += _unconfirmed(hold.left)
    return lines


def _unconfirmed(labels: Sequence[str]) -> list[str]:
    return [
        f"{label} was not seen resumed: unless that pooler was restarted or stopped, say RESUME in its console. "
        "The next run of this verb looks again."
        for label in labels
    ]


def release_left(
    target: Target, poolers: Sequence[Pooler], record: Restoration, *, check_mode: bool
) -> tuple[Restoration, list[str]]:
    """Resume what an interrupted run of this record left paused: (the record, sentences); call it under the lock.

    What somebody else paused is not in the record, and is left alone. What cannot be asked stays in the record.
    """
    lines, left = [], []
    for label in record.paused:
        name, _at, address = label.rpartition(" at ")
        pooler = next((item for item in poolers if item.name == address), None)
        if pooler is None or check_mode:
            left.append(label)
            continue
        try:
            if resume_left(target, pooler, name):
                lines.append(f"{label} had been left paused by an interrupted run; it is resumed.")
        except OpsError as error:
            left.append(label)
            lines.append(error.cause)
    return replace(record, paused=tuple(left)), lines + _unconfirmed(left)
