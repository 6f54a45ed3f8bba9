# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a system's checks, judge them, keep the history; reads only."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import History, Outcome, judge, worst
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_history import (
    days_back,
    points,
    run_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_report import (
    metrics_name,
    remedy_lines,
    render_health,
    sentence,
    table_lines,
    worst_first,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_select import choose
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_checks import Asked, groups, read_checks
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import gather
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.health_log import add_run, read_days
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

STORE_LIMIT = 10.0  # seconds that the history may take, to be read and to be written
_Got = TypeVar("_Got")


def execute(params: dict[str, object], context: Context) -> Result:
    """The module health_check. Raises OpsError bad_check, bad_threshold, bad_remedy, unknown_set, unknown_check."""
    target = Target.from_params(cast("Mapping[str, object]", params.get("connection") or {}), "saasops health")
    every = read_checks(params, with_builtin=bool(params.get("database")) and params.get("builtin") is not False)
    set_name = str(params.get("set") or "")
    sets = cast("Mapping[str, Sequence[str]]", params.get("sets") or {})
    only = [str(name) for name in cast("Sequence[object]", params.get("only") or [])]
    names = choose([item.check.name for item in every], only, set_name, sets)
    asked = [item for item in every if item.check.name in names]
    if not asked:
        raise OpsError(
            "no_checks", "There is nothing to check.", "Write checks into saasops_checks, or name saasops_database."
        )
    work = groups(asked, params, target, context.now)
    store = _store(params, context)
    history = _history(store, asked, params, context)
    measured = gather(work, float(str(params.get("deadline") or 60)))
    outcomes = [judge(item.check, measured[item.check.name], history, context.now) for item in asked]
    label = set_name or ("some" if only else "all")
    if store is not None and not context.check_mode:
        run = run_of(outcomes, measured, context.now, os.urandom(6).hex())
        _keep(lambda: add_run(store, _host(params), label, run), context)
    return _result(params, outcomes, label, context.now)


def _host(params: Mapping[str, object]) -> str:
    return str(params.get("host") or params["system"])


def _store(params: Mapping[str, object], context: Context) -> Store | None:
    given = cast("Mapping[str, object] | None", params.get("store"))
    if not given:
        return None
    try:
        return open_store(given)
    except OpsError as error:
        context.warn(f"The history is left out: {error.cause}")
        return None


def _history(
    store: Store | None, asked: Sequence[Asked], params: Mapping[str, object], context: Context
) -> History | None:
    """The points that the thresholds look back at; None when there are none to be had."""
    reach = max((limit.reach() for item in asked for limit in item.check.thresholds() if limit), default=0.0)
    if store is None or not reach:
        return None
    found = _keep(lambda: read_days(store, _host(params), days_back(context.now, reach)), context)
    if found is None:
        return None
    runs, told = found
    for line in told:
        context.warn(f"Part of the history is left out: {line}.")
    return points(run for run in runs if run.at < context.now)


def _keep(act: Callable[[], _Got], context: Context) -> _Got | None:
    """What the history's store gives within its time; None after a warning. A store that is down is no ill health."""
    got: list[_Got] = []
    failed: list[str] = []

    def work() -> None:
        try:
            got.append(act())
        except OpsError as error:
            failed.append(error.cause)
        except Exception as error:  # noqa: BLE001 - nothing about its history may fail the health of a system
            failed.append(f"{type(error).__name__}: {str(error)[:200]}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(STORE_LIMIT)
    if got:
        if isinstance(got[0], list):
            for line in got[0]:
                context.warn(f"The history: {line}.")
        return got[0]
    why = failed[0] if failed else f"the store did not answer within {STORE_LIMIT:g} s"
    context.warn(f"The history is left out: {why}")
    return None


def _result(params: Mapping[str, object], outcomes: Sequence[Outcome], label: str, now: float) -> Result:
    level = worst([outcome.level for outcome in outcomes])
    inventory = [str(item) for item in cast("Sequence[object]", params.get("inventory") or [])]
    remedies = remedy_lines(outcomes, inventory, str(params.get("limit") or ""))
    lines = table_lines(outcomes)
    if remedies:
        lines += ["", "What to do:"]
        for remedy in remedies:
            lines += [f"  # {remedy['check']} is {remedy['level']}: {remedy['why']}", f"  {remedy['command']}"]
    lines += ["", f"{_host(params)} is {sentence(outcomes)}"]
    return Result(
        message=f"{_host(params)} is {sentence(outcomes)}",
        evidence={
            "level": level.value,
            "exit_status": level.exit_status,
            "set": label,
            "checks": [outcome.as_dict() for outcome in worst_first(outcomes)],
            "remedies": remedies,
            "lines": lines,
            "metrics": render_health(str(params["system"]), _host(params), label, outcomes, now),
            "metrics_file": metrics_name(_host(params), label),
        },
    )
