# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_purge: rows that a rule calls old go, archived before, in small batches; and come back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Begun, Outcome
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import Rule, parse_rules, texts
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Pace, Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge_batch import Table, Tally
from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge_partition import drop_partition, droppable
from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge_scene import (
    Place,
    count_places,
    find_places,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.put_back import put_back
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import Recorder, new_id, recover
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import locks
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import read_server, refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers, mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.partitions import Partition
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import lag_hidden, reason_to_wait
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import prepare
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

_COUNT_SECONDS = 60
_LOOK_EVERY = 1.0  # seconds between two looks at lag and load


class PausedError(Exception):
    """The pause was longer than the rule allows: the run ends in order, the next one goes on."""


@dataclass
class Work:
    """All that one run works with."""

    system: str
    database: str
    store: Store
    context: Context
    connect: Callable[[], Session]
    guard: Session
    session: Session
    reader: Session
    server: str
    key: str

    def confirm(self) -> None:
        """Right before a batch's rows are deleted: lease and lock are still ours, the window has not ended."""
        self.context.admission.confirm()
        locks.confirm(self.guard, self.system, self.database)


def _cutoffs(store: Store, rules: Sequence[Rule], params: Mapping[str, object], now: float) -> dict[str, float | None]:
    """The moment of each rule, fixed here for the whole run; an unfinished run of the same key keeps its own."""
    found = {rule.name: rule.cutoff(now) for rule in rules}
    key = str(params.get("key") or "")
    for archive in _of_key(store, params, key) if key else []:
        if archive.begun.name in found and found[archive.begun.name] is not None:
            found[archive.begun.name] = archive.begun.cutoff
    return found


def _of_key(store: Store, params: Mapping[str, object], key: str) -> list[archives.Archive]:
    """The archives that runs of the same key made."""
    found = [archives.read(store, archive) for archive in archives.ids(store)]
    wanted = ("cleanup", str(params["system"]), str(params["database"]), key)
    return [
        item for item in found if (item.begun.verb, item.begun.system, item.begun.database, item.begun.key) == wanted
    ]


def _measured(
    places: Sequence[Place], cutoff: float | None, partitions: Mapping[int, Sequence[Partition]]
) -> dict[str, object]:
    exact = all(place.count.exact for place in places)
    measured: dict[str, object] = {
        "rows": sum(place.count.free for place in places),
        "tables": sum(1 for place in places if place.count.something),
    }
    kept = sum(place.count.referenced for place in places)
    if kept:
        measured["kept because others refer to them"] = kept
    whole = [f"{item.schema}.{item.name}" for place in places for item in partitions.get(id(place), [])]
    if whole:
        measured["partitions dropped whole"] = ", ".join(whole)
    if not exact:
        measured["counted"] = "no: the count took too long, whole tables as the planner knows them are shown"
    if cutoff is not None:
        measured["before"] = utc(cutoff)
    return measured


def _object(rule: Rule) -> str:
    """What an approval speaks of; it must not change from day to day, so tenants are named by their patterns."""
    below = "".join(f", {child.table}" for child in rule.children)
    return f"{rule.name}: {rule.table}{below} in {', '.join(rule.schemas)}"


def _plan(
    places: Sequence[Place],
    rules: Sequence[Rule],
    warnings: Sequence[str],
    partitions: Mapping[int, Sequence[Partition]],
) -> Plan:
    actions = []
    acting = [rule for rule in rules if not rule.report_only]
    for rule in acting:
        own = [place for place in places if place.rule is rule]
        if not any(place.count.something for place in own):
            continue
        old = f" older than {human_duration(rule.older_than)}" if rule.older_than is not None else ""
        actions.append(
            Action("delete", _object(rule), f"rows{old}, archived before", _measured(own, own[0].cutoff, partitions))
        )
    ceilings = {"rows": sum(rule.limit for rule in acting)} if actions else {}
    return Plan("cleanup", tuple(actions), ceilings, tuple(warnings))


def _shown(places: Sequence[Place]) -> list[dict[str, object]]:
    return [
        {
            "rule": place.rule.name,
            "table": place.node.facts.title,
            "rows": place.count.free,
            "referenced": place.count.referenced,
            "exact": place.count.exact,
            "report_only": place.rule.report_only,
        }
        for place in places
        if place.count.rows or not place.count.exact
    ]


def _wait(work: Work, rule: Rule, last: float) -> float:
    """Wait while replicas lag or the server is busy. Gives when that was looked at. Raises PausedError."""
    now = time.monotonic()
    if now - last < _LOOK_EVERY:
        return last
    began = now
    report = Ticker(work.context)
    while True:
        reason = reason_to_wait(work.reader, rule.pause)
        if not reason:
            return time.monotonic()
        if time.monotonic() - began >= rule.pause.longest:
            raise PausedError(f"{reason}, for {human_duration(time.monotonic() - began)} or longer")
        report(f"{rule.name} waits: {reason}")
        work.context.admission.confirm()
        time.sleep(min(1.0, rule.pause.longest))


def _purge(work: Work, rule: Rule, places: Sequence[Place], tally: Tally, recorder: Recorder) -> str:
    """All tables of a rule, batch by batch. Gives why it ended before its end, "" for the end."""
    total = sum(place.count.free for place in places)
    far = Pace(min(total, rule.limit), "rows", about=True)
    report = Ticker(work.context)
    looked, size = 0.0, 0
    for place in places:
        if not place.count.something:
            continue
        work.session.run(f"SET search_path = {place.path}")
        for partition in droppable(work.reader, place):
            work.context.progress(f"{rule.name}: archiving partition {partition.schema}.{partition.name}")
            drop_partition(work.session, place, partition, recorder, work.confirm, tally)
        condition = f"{place.condition} AND {place.free}"
        table = Table(work.session, rule, place.node, condition, recorder, work.confirm, tally, size or 200)
        while True:
            try:
                looked = _wait(work, rule, looked)
            except PausedError as paused:
                return str(paused)
            if not table.step():
                break
            report(lambda: f"{rule.name}: {far(tally.total)}, longest lock {tally.longest:.0f} ms")
        size = table.size
    return ""


def _run_rule(work: Work, rule: Rule, places: Sequence[Place]) -> dict[str, object]:
    """Work one rule off into an archive of its own, whose manifest is written however it ends."""
    tally = Tally()
    begun = Begun(
        archive=new_id(work.context.now),
        verb="cleanup",
        system=work.system,
        database=work.database,
        server=work.server,
        name=rule.name,
        started=time.time(),
        cutoff=places[0].cutoff,
        key=work.key,
        keep=rule.keep_archive,
        facts={"where": rule.where, "table": rule.table, "schemas": list(rule.schemas), "lock_limit": rule.most},
    )
    recorder = Recorder(work.store, open_codec("zstd"), begun)
    stopped = ""
    began = time.monotonic()
    try:
        stopped = _purge(work, rule, places, tally, recorder)
    except BaseException as error:
        outcome = _close(work, recorder, "stopped")
        raise _told(error, rule, outcome, tally) from error
    limited = tally.cut or tally.total >= rule.limit
    recorder.finish("stopped" if stopped or limited else "complete", time.time())
    return {
        "rule": rule.name,
        "archive": begun.archive if recorder.used else "",
        "cutoff": None if begun.cutoff is None else utc(begun.cutoff),
        "rows": tally.rows,
        "children": tally.children,
        "batches": tally.batches,
        "kept": tally.kept,
        "retries": tally.retries,
        "dropped_partitions": tally.dropped,
        "longest_lock_ms": round(tally.longest, 1),
        "batches_over_limit": tally.over,
        "limit_reached": limited,
        "stopped": stopped,
        "seconds": round(time.monotonic() - began, 3),
    }


def _close(work: Work, recorder: Recorder, state: str) -> Outcome | None:
    """The manifest of a run that fails; without it the next run asks the server what became of its batches."""
    with contextlib.suppress(OpsError):
        recorder.settle(work.connect)
        return recorder.finish(state, time.time())
    return None


def _told(error: BaseException, rule: Rule, outcome: Outcome | None, tally: Tally) -> BaseException:
    if not isinstance(error, OpsError):
        return error
    archive = outcome.begun.archive if outcome is not None and outcome.rows else ""
    so_far = (
        f" Rule {rule.name} had archived and deleted {tally.total} rows in whole batches"
        + (f" (archive {archive})." if archive else ".")
        if tally.total
        else f" Rule {rule.name} had deleted nothing."
    )
    back = f" To put back what was deleted: undo -e archive={archive}." if archive else ""
    return OpsError(
        error.code,
        error.cause + so_far,
        f"{error.remedy} The next run goes on from there.{back}",
        {**error.details, "rule": rule.name, "rows": tally.total, "archive": archive},
    )


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_purge."""
    if params.get("state") == "put_back":
        return put_back(params, context, "cleanup")
    system, database = str(params["system"]), str(params["database"])
    rules = parse_rules(
        cast("Sequence[Mapping[str, object]]", params.get("rules") or []),
        texts(params.get("rule")),
        texts(params.get("tenant_schemas")),
    )
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=not context.check_mode)
    anyone = Target.from_params(cast("dict[str, object]", params["connection"]))
    holder = anyone.named(mark_of("cleanup-guard", system, database))
    warnings: list[str] = []
    with contextlib.ExitStack() as stack:

        def opened(server: Target, name: str | None) -> Session:
            session = server.session(name)
            stack.callback(session.close)
            return session

        reader = opened(holder, database)
        prepare(reader)
        places = find_places(reader, rules, _cutoffs(store, rules, params, context.now), warnings)
        places = count_places(reader, places, int(str(params.get("count_seconds") or _COUNT_SECONDS)))
        warnings += _remarks(reader, places)
        key = str(params.get("key") or "")
        done = {item.begun.name for item in _of_key(store, params, key) if _complete(item)} if key else set()
        partitions = {id(place): droppable(reader, place) for place in places if place.count.something}
        plan = _plan([place for place in places if place.rule.name not in done], rules, warnings, partitions)
        evidence: dict[str, object] = {"tables": _shown(places), "rules": [], "archives": [], "recovered": []}
        names = [rule.name for rule in rules]
        if context.check_mode or (plan.empty and not archives.without_end(store, "cleanup", system, database, names)):
            return Result(plan, not plan.empty, _foretold(plan, places), evidence)
        context.authorise(plan)
        with contextlib.closing(holder.session(database)) as other:
            refuse_pooler(reader, other)
        server = read_server(reader)
        target = anyone.named(mark_of("cleanup", system, database, server))
        guard = opened(holder, None)
        prepare(guard)
        locks.hold(guard, system, database)
        cleaned = end_leftovers(target, reader, target.connection.application_name, [reader.pid])
        recovered, unclear = recover(reader, store, "cleanup", system, database, names, server, context.now)
        for error in unclear:
            context.warn(error.message)
        session = opened(target, database)
        prepare(session)
        work = Work(
            system, database, store, context, lambda: holder.session(database), guard, session, reader, server, key
        )
        results = []
        for rule in rules if not plan.empty else ():
            own = [place for place in places if place.rule is rule]
            if own and not rule.report_only and rule.name not in done:
                results.append(_run_rule(work, rule, own))
    made = [str(item["archive"]) for item in results if item["archive"]]
    made += [outcome.begun.archive for outcome in recovered if outcome.rows]
    evidence.update(
        rules=results,
        archives=made,
        cleaned=cleaned,
        recovered=[
            {"archive": outcome.begun.archive, "rule": outcome.begun.name, "rows": outcome.rows}
            for outcome in recovered
        ],
    )
    for item in results:
        if item["kept"]:
            context.warn(f"Rule {item['rule']}: {item['kept']} rows were changed or in use meanwhile and were kept.")
    total = sum(int(str(item["rows"])) + int(str(item["children"])) for item in results)
    undo: dict[str, Json] = {"verb": "cleanup", "archives": cast("list[Json]", made)} if made else {}
    message = _foretold(plan, places) + _brought_to_its_end(recovered) if plan.empty else _done(results)
    return Result(plan, bool(total), message, evidence, undo=undo)


def _complete(archive: archives.Archive) -> bool:
    return archive.outcome is not None and archive.outcome.state == "complete"


def _remarks(session: Session, places: Sequence[Place]) -> list[str]:
    """What an operator should know before, and hinders nothing."""
    said = []
    unlogged = [place.node.facts.title for place in places if place.node.facts.persistence == "u"]
    if unlogged:
        said.append(f"{', '.join(unlogged[:5])}: an unlogged table is empty after a crash; its archive stays.")
    if lag_hidden(session):
        said.append("The lag of replicas is hidden from this role, so nothing waits for them: GRANT pg_monitor to it.")
    return said


def _foretold(plan: Plan, places: Sequence[Place]) -> str:
    reported = sum(place.count.rows for place in places if place.rule.report_only)
    report = f" {reported} rows match rules that only report." if reported else ""
    if plan.empty:
        return f"Nothing to clean up.{report}"
    rows = sum(int(str(action.measured["rows"])) for action in plan.actions)
    return f"{rows} rows would be archived and deleted by {len(plan.actions)} rules.{report}"


def _brought_to_its_end(recovered: Sequence[Outcome]) -> str:
    archives_of = ", ".join(f"{item.begun.archive} ({item.rows} rows)" for item in recovered)
    return f" The archive of a run that was killed was brought to its end: {archives_of}." if recovered else ""


def _done(results: Sequence[Mapping[str, object]]) -> str:
    parts = []
    for item in results:
        text = f"{item['rule']}: {item['rows']} rows"
        if item["children"]:
            text += f" and {item['children']} that referred to them"
        text += f" archived and deleted in {item['batches']} batches, longest lock {item['longest_lock_ms']} ms"
        if item["limit_reached"]:
            text += "; the limit was reached, run it again for the rest"
        if item["stopped"]:
            text += f"; stopped because {item['stopped']}, run it again for the rest"
        parts.append(text)
    return ". ".join(parts) + "."
