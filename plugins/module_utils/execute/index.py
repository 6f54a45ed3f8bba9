# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_index: read what is there, have the server spell out what is wanted, decide, build, prove."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size, parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import refusal
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import (
    REPLACE,
    Decision,
    Step,
    decide,
    plan_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import as_entry, grouped
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import parse_wishes
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import PARTITIONED
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_acts import Limits, Made
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_read import Reading, read
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_run import Failure, carry_out
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_watch import unbounded
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import fix_names
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm, hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

SHOWN = 5


def _limits(params: Mapping[str, object]) -> Limits:
    given = {
        name: float(parse_duration(str(params[option]), option))
        for name, option in (("wait", "wait"), ("old", "old"), ("build", "time_limit"), ("drop", "drop_limit"))
        if params.get(option)
    }
    return Limits(**given)


def _undo(made: Made, whole: bool) -> dict[str, Json]:
    """The entries that bring everything back: what was made goes, what was dropped comes."""
    entries: list[dict[str, Json]] = []
    for step, _index in made.indexes:
        if step.kind == REPLACE and step.found is not None:
            before = as_entry(step.name, step.schema, step.table.name, step.found.definition)
            entries.append({**before, "replace": True})
        elif step.wish is not None and (step.table.kind != PARTITIONED or step.full not in made.kept):
            entries.append(step.wish.absent_again(step.schema))
    for step in made.dropped:
        if step.found is not None and step.found.sound:
            entries.append(as_entry(step.name, step.schema, step.table.name, step.found.definition))
    if not entries:
        return {}
    return {"verb": "index", "indexes": cast("list[Json]", grouped(entries)), "whole": whole}


def _evidence(decision: Decision, made: Made) -> dict[str, object]:
    return {
        "made": [
            {
                "index": step.full,
                "table": step.table.full,
                "act": step.kind,
                "bytes": index.bytes,
                "definition": index.text,
            }
            for step, index in made.indexes
        ],
        "dropped": [
            {"index": step.full, "table": step.table.full, "definition": step.found.text if step.found else ""}
            for step in made.dropped
        ],
        "cleaned": list(made.cleaned),
        "notes": list(decision.notes),
    }


def _count(number: int, word: str) -> str:
    return f"{number} index{'es' if number != 1 else ''} {word}"


def _message(decision: Decision, made: Made) -> str:
    parts = []
    if made.indexes:
        size = human_size(sum(index.bytes for _step, index in made.indexes))
        parts.append(f"{_count(len(made.indexes), 'built, valid and ready')} ({size})")
    if made.dropped:
        parts.append(_count(len(made.dropped), "dropped"))
    if made.cleaned:
        parts.append(f"{len(made.cleaned)} leftovers removed ({'; '.join(made.cleaned[:SHOWN])})")
    repaired = [step.full for step, _index in made.indexes if step.kind == "repair"]
    if repaired:
        parts.append(f"repaired: {', '.join(repaired[:SHOWN])}")
    return "; ".join(parts) + "." + _notes(decision)


def _notes(decision: Decision) -> str:
    told = [note for note in decision.notes if "same definition" in note]
    text = "".join(f" {note[0].upper()}{note[1:]}." for note in told[:SHOWN])
    rest = len(decision.notes) - len(told[:SHOWN])
    return text + (f" {rest} more as asked for." if rest and text else f" {rest} as asked for." if rest else "")


def _foretold(plan_steps: Sequence[Step]) -> str:
    kinds: dict[str, int] = {}
    for step in plan_steps:
        kinds[step.kind] = kinds.get(step.kind, 0) + 1
    return "Check mode: would " + ", ".join(f"{kind} {number}" for kind, number in kinds.items()) + "."


def _fail(failures: Sequence[Failure], made: Made, total: int) -> OpsError:
    """One error for all that failed; what was made stays and is named."""
    first = failures[0].error
    said = "; ".join(dict.fromkeys(failure.error.cause.rstrip(".") for failure in failures[:SHOWN]))
    more = f"; and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
    done = len(made.indexes) + len(made.dropped)
    return OpsError(
        first.code,
        f"{said}{more}. {done} of {total} were done before or beside it, and stay.",
        f"{first.remedy} The next run goes on from here.",
        {
            **first.details,
            "failed": [{"index": one.full, "code": one.error.code} for one in failures],
            "made": [step.full for step, _index in made.indexes],
            "dropped": [step.full for step in made.dropped],
        },
    )


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_index."""
    system, database = str(params["system"]), str(params["database"])
    wishes = parse_wishes(
        cast("list[Mapping[str, object]]", params.get("indexes") or []),
        str(params.get("name") or ""),
        str(params.get("state") or ""),
        replacing=bool(params.get("replace")),
    )
    limits = _limits(params)
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of("index-guard", system, database))
    with contextlib.ExitStack() as stack:

        def connect(server: Target, name: str | None = None) -> Session:
            session = server.session(name)
            stack.callback(session.close)
            return session

        reader = connect(holder, database)
        with contextlib.closing(holder.session(database)) as other:
            refuse_pooler(reader, other)
        unbounded(reader)
        fix_names(reader)
        # a table that somebody locks against everybody must not hold up what only looks
        reader.run("SET lock_timeout = '5s'")
        if reader.value("SELECT pg_is_in_recovery()"):
            raise OpsError(
                "in_recovery",
                "This server is a standby: its indexes are those of the primary.",
                "Point saasops_connection to the primary.",
            )
        target = anyone.named(mark_of("index", system, database, read_server(reader)))
        reading: Reading = read(reader, target, wishes, params, limits, context)
        decision = decide(
            reading.present,
            reading.absent,
            reading.scene,
            [str(code) for code in cast("list[object]", params.get("acknowledge") or [])],
        )
        decision, refusals, warnings = reading.measured(decision)
        if refusals:
            raise refusal(refusals)
        plan = plan_of(decision, [*reading.warnings, *warnings])
        made = Made()
        if plan.empty or context.check_mode:
            message = (
                "Nothing to do." + _notes(decision) if plan.empty else _foretold(decision.steps) + _notes(decision)
            )
            return Result(plan, not plan.empty, message, _evidence(decision, made), before=reading.before(decision))
        context.authorise(plan)
        guard = connect(holder)
        hold(guard, system, database)
        # who carries the mark while we hold the lock is the backend of a killed run, which may build still
        made.cleaned += end_leftovers(target, reader, target.connection.application_name, [reader.pid])
        failures = carry_out(
            decision,
            target,
            database,
            limits,
            int(str(params.get("jobs") or 2)),
            made,
            context,
            lambda: confirm(guard, system, database),
        )
    undo = _undo(made, not failures)
    if failures:
        if undo:
            # a failed run has an outcome without a way back; what it did make is on record all the same
            context.admission.says("note", {"code": "partly_done", "undo": undo})
        raise _fail(failures, made, len(decision.steps))
    for remark in made.remarks:
        context.warn(remark)
    return Result(
        plan, True, _message(decision, made), _evidence(decision, made), before=reading.before(decision), undo=undo
    )
