# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a verified restore with the live database, undo that, and finish by dropping what stands aside."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import DRILL, Restoration
from ansible_collections.saasops.runbook.plugins.module_utils.execute.guard import guarded
from ansible_collections.saasops.runbook.plugins.module_utils.execute.poolers import release_left
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reach import is_down
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_acts import finish, switch, undo, vacuum_rest
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_catalog import from_catalog
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_scene import SwapJob
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import poolers_of
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save


def _choose(
    job: SwapJob, records: list[Restoration], state: str, wanted: str
) -> tuple[Restoration | None, Restoration | None]:
    """(the record to act on, the record that shows that it was done already)."""
    known = [r for r in records if wanted in ("latest", r.id)]
    if wanted != "latest" and not known:
        raise OpsError(
            "restore_unknown",
            f"There is no restore {wanted} of database {job.database!r}.",
            "Look at restores/ in the store, or leave restore out: the newest is taken.",
        )
    begin, ends = {
        "switched": (("verified",), ("switched",)),
        "undone": (("switched",), ("undone",)),
        "finished": (("switched", "undone"), ("finished",)),
    }[state]
    if state == "finished" and wanted != "latest":
        # a copy is dropped only when it is named
        begin = (*begin, "verified")
    ready = [r for r in known if r.state in begin]
    if state == "switched":
        # a copy that somebody dropped is not waiting any more
        ready = [r for r in ready if look.database_oid(job.session, r.target) == r.target_oid]
        if wanted == "latest":
            # neither some schemas nor the scratch database of a drill were restored to go live
            ready = [r for r in ready if r.reason != DRILL]
            ready = [r for r in ready if not r.partial] or ready
    done = [r for r in known if r.state in ends]
    newest_done = done[-1] if done else None
    if ready and (newest_done is None or state != "switched" or _later(ready[-1], newest_done)):
        return ready[-1], None
    return None, newest_done


def _choose_or_find(
    job: SwapJob, records: list[Restoration], state: str, wanted: str
) -> tuple[Restoration | None, Restoration | None]:
    """_choose; an undo whose record lies in a store that does not answer goes by the server's catalog."""
    if state == "undone" and is_down(job.store) and not any(item.state == "switched" for item in records):
        return from_catalog(job, wanted), None
    return _choose(job, records, state, wanted)


def _later(one: Restoration, other: Restoration) -> bool:
    return one.verified_at > (other.switched_at or other.verified_at)


_NOTHING = {
    "switched": (
        "no_verified_restore",
        "has no verified restore that could be switched",
        "Run the verb restore first.",
    ),
    "undone": ("nothing_to_undo", "was not switched", "Nothing has to be undone."),
    "finished": ("nothing_to_finish", "has no switch or undo that waits to be finished", "Nothing has to be done."),
}


def _sentence(record: Restoration, state: str, changed: bool) -> str:
    if state == "finished":
        return f"{record.aside or 'What stood aside'} is dropped; restore {record.id} is finished."
    kept = f" {record.aside} is kept, closed, until restore_finish." if record.aside else ""
    word = "now" if changed else "already"
    if state == "switched":
        return f"{record.database} is {word} set {record.set} ({record.snapshot_at}).{kept}"
    return f"{record.database} is {word} again what it was before the switch.{kept}"


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_swap."""
    state, acknowledged = str(params["state"]), params.get("acknowledge_loss")
    with guarded(params, context) as guard:
        job = SwapJob(
            system=str(params["system"]),
            database=str(params["database"]),
            target=guard.target,
            store=guard.store,
            session=guard.session,
            server=guard.server,
            context=context,
            acknowledged_rows=None if acknowledged is None else int(str(acknowledged)),
            poolers=tuple(poolers_of(params, guard.target.connection.application_name)),
        )
        records = [_resumed(job, item, guard.cleaned) for item in guard.records]
        wanted = str(params.get("restore") or "latest")
        record, done = _choose_or_find(job, records, state, wanted)
        if record is None:
            if done is None:
                code, what, remedy = _NOTHING[state]
                raise OpsError(code, f"Database {job.database!r} {what}.", remedy)
            left = done.vacuum_left
            if state == "switched" and not context.check_mode:
                done = vacuum_rest(job, done)
            evidence: dict[str, object] = {"restore": _evidence(done), "cleaned": guard.cleaned}
            changed = guard.concluded or done.vacuum_left != left
            return Result(Plan(state, ()), changed, _sentence(done, state, False), evidence)
        act = {"switched": switch, "undone": undo, "finished": finish}[state]
        plan, record, more = act(job, record)
        warnings = (*plan.warnings, *guard.warnings, *_aside(job, records, record))
        plan = replace(plan, warnings=warnings)
    message = _would(plan) if context.check_mode else _sentence(record, state, True)
    return Result(
        plan,
        not plan.empty or guard.concluded,
        message,
        {"restore": _evidence(record), "cleaned": guard.cleaned, **more},
        undo={"verb": "undo", "restore": record.id, "database": record.database} if state == "switched" else {},
    )


def _resumed(job: SwapJob, record: Restoration, cleaned: list[str]) -> Restoration:
    """The record once what its dead run had paused goes on again; what was found is added to cleaned."""
    if not record.paused:
        return record
    after, said = release_left(job.target, job.poolers, record, check_mode=job.context.check_mode)
    cleaned += said
    return after if job.context.check_mode or after == record else save(job.store, after)


def _aside(job: SwapJob, records: list[Restoration], acted_on: Restoration) -> list[str]:
    """Databases of other switches and undos that still stand aside."""
    return [
        f"{r.aside} stands aside since {r.undone_at or r.switched_at}; restore_finish -e restore={r.id} drops it."
        for r in records
        if r.id != acted_on.id
        and r.state in ("switched", "undone")
        and r.aside
        and look.database_of_oid(job.session, r.aside_oid) == r.aside
    ]


def _would(plan: Plan) -> str:
    return "Would: " + "; ".join(f"{action.kind} {action.object}" for action in plan.actions) + "."


def _evidence(record: Restoration) -> dict[str, object]:
    return {
        "id": record.id,
        "set": record.set,
        "database": record.database,
        "state": record.state,
        "aside": record.aside,
        "snapshot_at": record.snapshot_at,
        "switched_at": record.switched_at,
        "undone_at": record.undone_at,
    }
