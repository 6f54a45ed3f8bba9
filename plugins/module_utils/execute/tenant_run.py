# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ways of restoring a tenant share: the run's facts, its traces before and after, the way back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain import tenant as decide
from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup import Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import UNDO_KEY, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import (
    disk_refusal,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute import tenant_merge
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_set import (
    Job,
    make_set,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.leftovers import remove_partial
from ansible_collections.saasops.runbook.plugins.module_utils.execute.tenant_source import (
    Chosen,
)
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import tenant as beside
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import (
    DatabaseFacts,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.leftovers import end_leftovers
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import confirm
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import read_volumes
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import join, take_snapshot
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec


class Progress:
    """A line at once when the step changes, else one every few seconds."""

    def __init__(self, context: Context, every: float = 3.0) -> None:
        self._context, self._every, self._last, self._step = context, every, 0.0, ""

    def __call__(self, text: str) -> None:
        step = text.split(":")[0]
        if step != self._step or time.monotonic() - self._last >= self._every:
            self._last, self._step = time.monotonic(), step
            self._context.progress(text)


@dataclass(frozen=True)
class Run:
    """All that one run of the module works with. mark names its processes, scratch database and staging alike."""

    system: str
    database: str
    tenant: str
    target: Target
    store: Store
    context: Context
    facts: DatabaseFacts
    chosen: Chosen
    jobs: int
    staging: str
    bounds: tenant_merge.Bounds
    mark: str
    connect: Callable[[str | None], Session]
    tell: Progress

    @property
    def name(self) -> str:
        """Of the scratch database and of the staging schema."""
        return self.mark.replace("-", "_")

    @property
    def folder(self) -> str:
        return f"{self.staging}/{self.mark}"

    @property
    def source(self) -> decide.Source:
        manifest = self.chosen.manifest
        return decide.Source(manifest.set_id, manifest.kind, iso(manifest.snapshot_at))


def refuse_small_disk(run: Run, session: Session, live_bytes: int) -> None:
    """Scratch database and staged tables need the tenant's size each, the changes as much WAL at the most."""
    stored = run.chosen.manifest.raw_bytes
    share = stored if not run.chosen.whole or run.chosen.manifest.pipeline != "directory" else min(stored, live_bytes)
    needs = {"data": 2 * live_bytes, "wal": live_bytes, "staging": share}
    short = [v for v in read_volumes(run.target, session, run.staging, needs) if v.free < v.needed]
    if short:
        raise disk_refusal(short)


def clean(run: Run, guard: Session, session: Session, own: Sequence[int]) -> list[str]:
    """Remove what an interrupted run left; the advisory lock that is held says that none is running."""
    said = end_leftovers(run.target, guard, run.mark, own)
    if beside.drop_scratch(guard, run.name):
        said.append(f"scratch database {run.name} of an interrupted run dropped")
    if beside.drop_staging(session, run.name):
        said.append(f"staging schema {run.name} of an interrupted run dropped")
    run.target.transport.remove_tree(run.folder)
    gone = remove_partial(run.store, run.system, run.database, run.facts.server, run.context.warn)
    return said + [f"partial set {name} removed" for name in gone]


def keep(run: Run, hashes: bool) -> str:
    """Back the tenant up as it is now, as a set of its own; the caller's locks keep writers out meanwhile."""
    exporter, reader = run.connect(run.database), run.connect(run.database)
    job = Job(
        system=run.system,
        database=run.database,
        target=run.target,
        store=run.store,
        staging="",
        jobs=run.jobs,
        hashes=hashes,
        codec=open_codec("zstd"),
        key=UNDO_KEY,
        context=run.context,
        facts=run.facts,
        reader=reader,
    )
    before = counters(reader)
    snapshot = take_snapshot(exporter, reader, [run.tenant])
    workers = [run.connect(run.database) for _number in range(run.jobs)]
    try:
        for worker in workers:
            join(worker, snapshot)
        part = Part(
            "tenant", (run.tenant,), run.tenant, len(snapshot.relations), sum(r.bytes for r in snapshot.relations)
        )
        return make_set(job, part, list(snapshot.relations), snapshot, workers, before).set_id
    finally:
        snapshot.release()
        for session in (*workers, exporter, reader):
            session.close()


def fence(run: Run, guard: Session) -> None:
    """Right before what cannot be taken back: lock and lease are still ours. Raises lock_lost, lease_lost."""
    confirm(guard, run.system, run.database)
    run.context.admission.confirm()


def forget(run: Run, guard: Session, session: Session) -> None:
    """Remove scratch database, staging schema and folder; what cannot be removed now is removed by the next run."""
    with contextlib.suppress(Exception):
        session.run("ROLLBACK")
    for act in (
        lambda: beside.drop_staging(session, run.name),
        lambda: beside.drop_scratch(guard, run.name),
        lambda: run.target.transport.remove_tree(run.folder),
    ):
        try:
            act()
        except Exception as error:  # noqa: BLE001  # the outcome of the run is what counts
            run.context.warn(f"Not removed now, the next run does it: {error}")
