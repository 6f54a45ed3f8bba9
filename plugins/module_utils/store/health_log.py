# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of health in a store: read what thresholds look back at, add a run.

There is no compare-and-swap in a store. Two runs of one host and one set that end at the same moment are rare, as each
set has objects of its own; a writer reads back what it wrote, and writes again when the other one's object lies there
instead. What can still be lost is one run of a history, never a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import (
    ROOT,
    Run,
    day_of,
    folder,
    key,
    pack,
    thinned,
    unpack,
    with_run,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_health import Newest
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_all

ATTEMPTS = 3
# what is as old as that is thinned, so that "for 10m" works past midnight
_THIN_AFTER = 2 * 86400


def read_days(store: Store, host: str, days: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The runs of all sets of a host on these days, and a sentence on each object that could not be read.

    Raises OpsError when the store does not answer.
    """
    wanted = {f"{day[5:]}.json.gz": day for day in days}
    runs: list[Run] = []
    told: list[str] = []
    for info in store.list(folder(host)):
        day = wanted.get(info.key.rpartition("/")[2])
        if day is None:
            continue
        found, why = _read(store, info.key, day)
        runs += found
        told += [why] if why else []
    return runs, told


def newest_runs(store: Store, most: int = 50) -> list[Newest]:
    """The last run of each host and set; what cannot be read is left out. Raises OpsError when the store fails."""
    newest: dict[tuple[str, str], ObjectInfo] = {}
    for info in store.list(ROOT):
        parts = info.key.split("/")
        if len(parts) == 4 and parts[3].endswith(".json.gz"):
            known = newest.get((parts[1], parts[2]))
            if known is None or info.modified > known.modified:
                newest[parts[1], parts[2]] = info
    found: list[Newest] = []
    for (host, set_name), info in sorted(newest.items(), key=lambda item: -item[1].modified)[:most]:
        runs, _why = _read(store, info.key, "")
        found += [Newest(host, set_name, max(runs, key=lambda run: run.at))] if runs else []
    return found


def add_run(store: Store, host: str, set_name: str, run: Run) -> list[str]:
    """Add a run to its day; sentences on what was found damaged. Raises OpsError when the store takes nothing."""
    day = day_of(run.at)
    where = key(host, set_name, day)
    told: list[str] = []
    for _attempt in range(ATTEMPTS):
        runs, why = _read(store, where, day)
        told += [f"{why}; it is begun anew"] if why else []
        if not runs:
            _thin(store, host, set_name, day_of(run.at - _THIN_AFTER))
        store.put(where, [pack(day, with_run(runs, run))])
        written, _why = _read(store, where, day)
        if any(other.id == run.id for other in written):
            break
    return told


def _read(store: Store, where: str, day: str) -> tuple[list[Run], str]:
    """The runs of an object, and why it cannot be read; neither when it is not there."""
    try:
        return unpack(read_all(store, where), day), ""
    except ValueError as error:
        return [], f"{where} is no history ({error})"
    except OpsError as error:
        if error.code == "object_missing":
            return [], ""
        if error.code == "object_damaged":
            return [], f"{where} is damaged"
        raise


def _thin(store: Store, host: str, set_name: str, day: str) -> None:
    where = key(host, set_name, day)
    runs, _why = _read(store, where, day)
    fewer = thinned(runs)
    if len(fewer) < len(runs):
        store.put(where, [pack(day, fewer)])
