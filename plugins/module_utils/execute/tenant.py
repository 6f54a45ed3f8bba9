# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_restore_tenant: one schema back to what a set says, the others served meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain import tenant as decide
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan, describe
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import (
    Shape,
    Surroundings,
    structure_differences,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import (
    structure_refusal,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute import tenant_merge, tenant_whole
from ansible_collections.saasops.runbook.plugins.module_utils.execute.reach import reach_store
from ansible_collections.saasops.runbook.plugins.module_utils.execute.tenant_run import (
    Progress,
    Run,
    clean,
    fence,
    forget,
    keep,
    refuse_small_disk,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.tenant_source import (
    choose,
    fetch,
    prove,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import tenant as beside
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import (
    read_facts,
    refuse_pooler,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import mark_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.live_merge import positions
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import hold
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.references import (
    needed_schemas,
    read_surroundings,
    referenced_large_objects,
    tables_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import default_jobs
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.shape import read_shape
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import missing_schemas, relations

STAGING = "/var/tmp"  # noqa: S108
# a catalog text leaves out the schemas of the search_path, and texts of two databases are compared
QUALIFIED = "SET search_path = pg_catalog"


def _live_counts(run: Run, reader: Session, shape: Shape) -> dict[str, decide.Count]:
    """Rows of every table on both sides, and whether their hashes are equal when the set has some."""
    restored = decide.tables_of(run.chosen.contents.fingerprint, run.tenant)
    hashes = any(entry.get("hash") for entry in restored.values())
    comparable = hashes and run.chosen.contents.fingerprint.get("server_major") == run.facts.version // 10000
    plain_view(reader)
    try:
        live = take_fingerprint([reader], relations(reader, "r", [run.tenant]), [run.tenant], hashes=comparable)
    finally:
        reader.run("COMMIT")
    return decide.counts_of(shape, restored, decide.tables_of(live, run.tenant), comparable)


def _merge(
    run: Run, guard: Session, reader: Session, shape: Shape, around: Surroundings
) -> tuple[tenant_merge.Outcome, list[str]]:
    """Scratch database, comparison of structure, staging, transaction. What was made for it is gone afterwards."""
    session = run.connect(run.database)
    cleaned = clean(run, guard, session, [guard.pid, reader.pid, session.pid])
    with contextlib.ExitStack() as stack:
        stack.callback(forget, run, guard, session)
        dump = fetch(run.target, run.facts.version, run.store, run.chosen, run.tenant, run.folder, run.jobs, run.tell)
        run.tell(f"restoring {run.tenant} beside")
        beside.create_scratch(guard, run.name, run.database)
        scratch = run.connect(run.name)
        names = (run.database, run.name, run.tenant)
        needed = needed_schemas(reader, run.tenant)

        def tick() -> None:
            run.tell(f"restoring {run.tenant} beside: rows")

        beside.build_structure(run.target, scratch, names, needed, dump, tick)
        scratch.run(QUALIFIED)
        found = structure_differences(shape.traits, read_shape(scratch, run.tenant).traits)
        if found:
            raise structure_refusal(run.tenant, found)
        beside.load_rows(run.target, scratch, names, dump, run.jobs, tick)
        more = [run.connect(run.name) for _number in range(run.jobs - 1)]
        prove(run.chosen, run.tenant, [scratch, *more])
        for other in more:
            other.close()
        job = tenant_merge.Merge(
            run.target, run.database, run.name, session, scratch, run.name, run.source, shape, around, run.bounds
        )
        wanted = tenant_merge.scratch_checksums(job)
        restored = positions(scratch, run.tenant)
        beside.create_staging(session, run.name)
        tenant_merge.stage(job, wanted, run.jobs, run.tell)
        outcome = tenant_merge.carry_out(
            job,
            wanted,
            restored,
            lambda: keep(run, hashes=True),
            lambda: fence(run, guard),
            run.tell,
        )
        tenant_merge.analyze(job, outcome.changes)
        scratch.close()
    return outcome, cleaned


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_restore_tenant."""
    system, database, tenant = (str(params[name]) for name in ("system", "database", "tenant"))
    target = Target.from_params(cast("dict[str, object]", params["connection"]), "saasops-tenant")
    store = reach_store(params, context)
    with contextlib.ExitStack() as stack:
        reader = target.session(database)
        stack.callback(reader.close)
        with contextlib.closing(target.session(database)) as other:
            refuse_pooler(reader, other)
        facts = read_facts(reader)
        mark = mark_of("tenant", system, database, facts.server)
        target = target.named(mark)

        def connect(name: str | None = None) -> Session:
            session = target.session(name)
            stack.callback(session.close)
            return session

        for tool in ("pg_dump", "pg_restore"):
            target.tool(tool, facts.version)
        reader.run(QUALIFIED)
        there = not missing_schemas(reader, [tenant])
        run = Run(
            system=system,
            database=database,
            tenant=tenant,
            target=target,
            store=store,
            context=context,
            facts=facts,
            chosen=choose(store, system, database, tenant, str(params.get("set") or "latest")),
            jobs=int(str(params.get("jobs") or 0)) or default_jobs(),
            staging=str(params.get("staging") or STAGING).rstrip("/"),
            bounds=tenant_merge.Bounds(
                float(str(params.get("lock_wait") or 2)),
                int(str(params.get("lock_attempts") or 10)),
                float(str(params.get("time_limit") or 600)),
            ),
            mark=mark,
            connect=connect,
            tell=Progress(context),
        )
        return _into_live(run, reader) if there else _anew(run, reader)


def _into_live(run: Run, reader: Session) -> Result:
    shape, around = read_shape(reader, run.tenant), read_surroundings(reader, run.tenant)
    restored = decide.tables_of(run.chosen.contents.fingerprint, run.tenant)
    counts = _live_counts(run, reader, shape) if run.context.check_mode else {}
    plan = decide.decide_tenant(run.source, shape, around, restored, counts)
    evidence: dict[str, object] = {
        "set": run.source.set_id,
        "tenant": run.tenant,
        "snapshot_at": run.source.snapshot_at,
    }
    if run.context.check_mode:
        return _foreseen(run, plan, counts, evidence)
    run.context.authorise(plan)
    guard = run.connect(None)
    hold(guard, run.system, run.database)
    started = time.monotonic()
    refuse_small_disk(run, guard, sum(item.bytes for item in relations(reader, "r", [run.tenant])))
    outcome, cleaned = _merge(run, guard, reader, shape, around)
    evidence.update(
        tables=[change.as_dict() for change in outcome.changes],
        sequences=list(outcome.raised),
        undo=_way_back(run, outcome.undo),
        seconds=round(time.monotonic() - started, 3),
        locked_seconds=outcome.held,
        attempts=outcome.attempts,
        cleaned=cleaned,
    )
    if outcome.plan.empty:
        message = f"Nothing to change: {run.tenant} is what set {run.source.set_id} says."
    else:
        total = {
            name: sum(int(str(c.as_dict()[name])) for c in outcome.changes)
            for name in ("inserted", "updated", "deleted")
        }
        message = (
            f"{run.tenant} is as it was at {run.source.snapshot_at}: "
            + ", ".join(f"{number:,} rows {name}" for name, number in total.items())
            + "."
        )
        if outcome.undo:
            message += f" To go back: {decide.command(run.tenant, outcome.undo)}"
    undo = {"verb": "restore_tenant", "tenant": run.tenant, "set": outcome.undo} if outcome.undo else {}
    return replace(_result(outcome.plan, not outcome.plan.empty, message, evidence), undo=undo)


def _anew(run: Run, reader: Session) -> Result:
    """The live database lost the schema: everything of it comes from the set."""
    restored = decide.tables_of(run.chosen.contents.fingerprint, run.tenant)
    spoke = tenant_whole.outside(run.store, run.chosen, run.tenant)
    plan = decide.decide_whole(run.source, run.tenant, restored, spoke)
    evidence: dict[str, object] = {
        "set": run.source.set_id,
        "tenant": run.tenant,
        "snapshot_at": run.source.snapshot_at,
        "outside": [{"type": o.type, "schema": o.schema, "name": o.name, "sql": o.sql} for o in spoke or []],
        "tables": [], "sequences": [], "undo": {}, "cleaned": [],
    }  # fmt: skip
    if run.context.check_mode:
        return _result(
            plan, True, f"Check mode: schema {run.tenant} would be created from set {run.source.set_id}.", evidence
        )
    run.context.authorise(plan)
    guard = run.connect(None)
    hold(guard, run.system, run.database)
    started = time.monotonic()
    session = run.connect(run.database)
    evidence["cleaned"] = clean(run, guard, session, [guard.pid, reader.pid, session.pid])
    refuse_small_disk(run, guard, run.chosen.manifest.raw_bytes if not run.chosen.whole else 0)
    try:
        dump = fetch(run.target, run.facts.version, run.store, run.chosen, run.tenant, run.folder, run.jobs, run.tell)
        fence(run, guard)
        publications = bool(run.chosen.whole and not _lacks_publications(run, reader))
        tenant_whole.load(
            tenant_whole.Whole(
                run.target, run.database, run.facts.version, run.chosen, run.tenant, dump, run.folder,
                run.bounds.lock_wait, publications,
            ),
            run.tell,
        )  # fmt: skip
        for item in relations(session, "r", [run.tenant]):
            with contextlib.suppress(OpsError):
                session.run(f"ANALYZE {item.sql}")
        missing = referenced_large_objects(session, tables_of(read_shape(session, run.tenant)))
        if missing:
            run.context.warn(
                f"Rows of {run.tenant} point at {len(missing)} large objects that do not exist ({missing[:5]}): "
                "they belong to no schema; bring them over from a set of the whole database (verb restore)."
            )
        evidence["large_objects_missing"] = missing
    finally:
        forget(run, guard, session)
    rows = sum(decide.rows_in(entry) for entry in restored.values())
    evidence["tables"] = [
        decide.Change(name, decide.rows_in(entry), 0, 0, 0).as_dict() for name, entry in sorted(restored.items())
    ]
    evidence["seconds"] = round(time.monotonic() - started, 3)
    return _result(
        plan,
        True,
        f"Schema {run.tenant} was created from set {run.source.set_id} with {rows:,} rows, proven.",
        evidence,
    )


def _lacks_publications(run: Run, reader: Session) -> list[str]:
    """Publications that the set has and the live database has not; its tables cannot be put into them."""
    wanted = cast("Mapping[str, Json]", run.chosen.contents.properties.get("publications") or {})
    present = {str(row["name"]) for row in reader.rows("SELECT pubname::text AS name FROM pg_publication")}
    missing = sorted(set(wanted) - present)
    if missing:
        run.context.warn(f"The live database lacks the publications {', '.join(missing)}: tables are added to none.")
    return missing


def _result(plan: Plan, changed: bool, message: str, evidence: dict[str, object]) -> Result:
    evidence["lines"] = describe(plan.actions)
    return Result(plan=plan, changed=changed, message=message, evidence=evidence)


def _way_back(run: Run, set_id: str | None) -> Mapping[str, Json]:
    return {"set": set_id, "command": decide.command(run.tenant, set_id)} if set_id else {}


def _foreseen(run: Run, plan: Plan, counts: Mapping[str, decide.Count], evidence: dict[str, object]) -> Result:
    """Check mode: nothing is created anywhere, so only what counts and hashes tell is known."""
    same = [name for name, count in counts.items() if count.same]
    changing = [action for action in plan.actions if action.kind == "merge"]
    evidence["tables"] = [
        {"table": name, "in_set": count.restored, "live": count.live, "same": count.same}
        for name, count in counts.items()
    ]
    evidence.update(undo={}, cleaned=[], sequences=[])
    known = f"{len(same)} of {len(counts)} tables are known to be equal by their hashes. " if same else ""
    unknown = (
        "How many rows differ in the others is known only once the set is restored beside, which check mode does not "
        "do; the plan shows the rows of both sides."
    )
    return _result(
        plan if changing else Plan(plan.verb, (), plan.ceilings, plan.warnings),
        bool(changing),
        f"Check mode: nothing was restored. {known}{unknown if changing else ''}".rstrip(),
        evidence,
    )
