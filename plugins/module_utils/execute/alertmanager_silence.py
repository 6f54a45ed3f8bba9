# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a silence stand in Alertmanager, or end it."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.silence import (
    LIVING,
    Step,
    Wanted,
    decide_absent,
    decide_present,
    describe,
    facts,
    parse_matchers,
    parse_time,
    plan_of,
    same,
    stamp,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.providers.alertmanager import (
    Alertmanager,
    open_alertmanager,
)


def execute(params: dict[str, object], context: Context) -> Result:
    """The module alertmanager_silence."""
    manager = open_alertmanager(cast("dict[str, object]", params["alertmanager"]))
    return (_present if params["state"] == "present" else _absent)(manager, params, context)


def _wanted(params: dict[str, object]) -> Wanted:
    def moment(name: str) -> float | None:
        return parse_time(str(params[name]), name) if params.get(name) else None

    comment = str(params["comment"]).strip()
    if not comment:
        raise OpsError("comment_missing", "A silence needs a comment.", "Say in comment why these alerts are silent.")
    length = params.get("duration")
    return Wanted(
        matchers=parse_matchers(params["matchers"]),
        comment=comment,
        created_by=str(params["created_by"]),
        starts=moment("starts"),
        ends=moment("ends"),
        length=parse_duration(str(length), "duration") if length else None,
        shorten=bool(params.get("shorten")),
    )


def _present(manager: Alertmanager, params: dict[str, object], context: Context) -> Result:
    wanted = _wanted(params)
    step = decide_present(wanted, same(manager.silences(), wanted.matchers, wanted.comment), context.now)
    plan = plan_of([step])
    context.authorise(plan)
    stands = step.silence if context.check_mode else manager.carry_out(step, wanted)
    shown: dict[str, object] = {"id": stands.id, "silence": facts(stands)}
    if not step.kind:
        return Result(plan, False, f"Silent already until {stamp(stands.ends)}.", shown)
    verb = "would be silent" if context.check_mode else "is silent"
    message = f"{stands.object} {verb} from {stamp(stands.starts)} to {stamp(stands.ends)}."
    return Result(plan, True, message, shown, before=describe(step.before))


def _absent(manager: Alertmanager, params: dict[str, object], context: Context) -> Result:
    found = manager.silences()
    if params.get("id"):
        alike = [item for item in found if item.id == params["id"] and item.state in LIVING]
    else:
        alike = same(found, parse_matchers(params["matchers"]), str(params["comment"]).strip())
    steps: list[Step] = decide_absent(alike)
    plan = plan_of(steps)
    context.authorise(plan)
    for step in steps:
        if not context.check_mode:
            manager.expire(step.silence.id)
    before = [line for item in alike for line in describe(item)]
    shown: dict[str, object] = {"id": alike[0].id if alike else "", "ended": [item.id for item in alike]}
    if not alike:
        return Result(plan, False, "There is no such silence.", shown)
    verb = "would end" if context.check_mode else "ended"
    return Result(plan, True, f"{len(alike)} silence{'s' if len(alike) > 1 else ''} {verb}.", shown, before=before)
