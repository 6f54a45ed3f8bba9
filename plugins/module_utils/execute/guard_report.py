# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what the report of a system shows, on the host whose store it is; reads only."""

from __future__ import annotations

import time
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.expiry import expiries
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import digest
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import read, verify
from ansible_collections.saasops.runbook.plugins.module_utils.domain.listing import Line
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.policy import read_policy
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_drills import (
    MOST_DRILLS,
    Drill,
    drills_view,
    parse_drill,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_health import health_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_runs import runs_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_store import Kept, store_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report_view import Proof, report_view
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import Policy, decide_retention
from ansible_collections.saasops.runbook.plugins.module_utils.execute.backup_info import sound
from ansible_collections.saasops.runbook.plugins.module_utils.execute.journal_info import kept_elsewhere, sentence_of
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import Crew
from ansible_collections.saasops.runbook.plugins.module_utils.store.health_log import newest_runs
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import take_stock
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import READERS, read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_json

LEDGER = "drills/"


def _seconds(params: dict[str, object], name: str) -> float | None:
    value = params.get(name)
    return None if value in (None, "") else float(parse_duration(str(value), name))


def _journal(params: dict[str, object], store: Store, system: str) -> tuple[Proof, list[dict[str, Json]]]:
    """The verdict of journal_verify, and the records that can be read."""
    first = int(str(params.get("first") or 1))
    anchors = kept_elsewhere(params, store, system)  # before the records, as in journal_info
    chain = read_chain(store, first)
    held = [*(anchors or []), *([chain.hint] if chain.hint else [])]
    findings = [*chain.strangers, *verify(chain.entries, held, first)]
    end = chain.entries[-1] if chain.entries else None
    proof = Proof(
        findings=[(item.number, item.code, item.sentence) for item in findings],
        sentence=printable(sentence_of(len(chain.entries), first, findings, anchors)),
        count=len(chain.entries),
        head=end.number if end else 0,
        head_sha256=digest(end.text) if end else "",
        anchored=max((anchor.number for anchor in anchors or []), default=None),
        has_anchor=anchors is not None,
    )
    return proof, [body for body in (read(entry.text) for entry in chain.entries) if body is not None]


def _backups(params: dict[str, object], store: Store, system: str, now: float) -> dict[str, Json]:
    retention = params.get("retention")
    policy = read_policy(cast("dict[str, object]", retention)) if retention else None
    rpo = _seconds(params, "rpo")
    database = str(params["database"]) if params.get("database") else None
    stock, points = sound(
        store,
        system,
        take_stock(store, system),
        policy or Policy(),
        now,
        None if rpo is None else int(rpo),
        database,
    )
    facts = [item.facts for item in stock]
    interval = _seconds(params, "schedule")
    ends = expiries(facts, policy, now, None if interval is None else interval) if policy else {}
    decisions = {item.set_id: item for item in decide_retention(facts, policy, now)} if policy else {}
    kept = [
        Kept(
            Line(
                item.facts,
                item.entry.stored_bytes,
                item.manifest.tables if item.manifest else None,
                item.manifest.rows if item.manifest else None,
            ),
            decisions.get(item.set_id),
            ends.get(item.set_id),
        )
        for item in stock
    ]
    return store_view(kept, points, policy, rpo, now)


def _drills(params: dict[str, object], store: Store, now: float) -> dict[str, Json]:
    """The newest entries of the ledger; their names begin with their time."""
    keys = sorted(info.key for info in store.list(LEDGER) if info.key.endswith(".json"))
    newest = keys[-MOST_DRILLS:]

    def one(index: int) -> Drill | None:
        try:
            return parse_drill(read_json(store, newest[index]))
        except OpsError as error:
            if error.code not in ("object_missing", "object_damaged"):
                raise
            return None

    found = [drill for drill in Crew(READERS).run(one, len(newest)) if drill is not None]
    return drills_view(
        found, len(keys) - len(newest) + len(found), _seconds(params, "rto"), _seconds(params, "rpo"), now
    )


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_report; the page is made on the controller. Raises OpsError bad_number, and the store's."""
    system, began = str(params["system"]), time.monotonic()
    last = int(str(params["last"]))
    if last < 1 or int(str(params.get("first") or 1)) < 1:
        raise OpsError("bad_number", "last and first count from 1.", "Name how many runs, and a record.")
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    proof, bodies = _journal(params, store, system)
    runs = runs_view(bodies, last)
    backups = _backups(params, store, system, context.now)
    drills = _drills(params, store, context.now)
    health = health_view(newest_runs(store), context.now)
    took = time.monotonic() - began
    view = report_view(system, store.url, proof, runs, backups, drills, context.now, took, health)
    return Result(message=proof.sentence, evidence={"whole": not proof.findings, "view": view})
