# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore to a verified database that has taken the live one's place, against gunzip | psql."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.benchmarks.baselines import written
from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Sample, Value
from ansible_collections.saasops.runbook.benchmarks.programs import helper, run_helper
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.benchmarks.row_backup import GZIP
from ansible_collections.saasops.runbook.benchmarks.row_backup import ours as back_up
from ansible_collections.saasops.runbook.benchmarks.scene import DATABASE, SYSTEM, FailedError, Scene, posix
from ansible_collections.saasops.runbook.tests.lab import acts

PSQL = "gunzip | psql"
PROVEN = "gunzip | psql, then the same proof"
READY = "gunzip | psql, then statistics and the same proof"
BYTES, ANALYZE = "sha256sum", "vacuumdb --analyze-only -j2"
OURS = "ours, verified and switched"
CLIENTS = 16


def _ours(scene: Scene) -> tuple[float, Mapping[str, Value]]:
    """pg_restore, then pg_swap with clients on the live database; the time ends when clients reach the restored one."""
    store = posix(scene.store("staged"))
    restored = scene.module("pg_restore", store, staging=str(scene.staging), acknowledge=["staging_on_pgdata"])
    record = restored.answer.get("restore")
    if not isinstance(record, dict) or record.get("state") != "verified":
        raise FailedError(f"not verified: {restored.answer}")
    dsn = scene.server.dsn(DATABASE)
    with (
        helper("clients", {"kind": "writers", "dsn": dsn, "count": CLIENTS}) as writers,
        helper("clients", {"kind": "prober", "dsn": dsn}) as prober,
    ):
        swapped = scene.module("pg_swap", store, state="switched")
    switched = float(str(prober.result["switched"]))
    if not switched:
        raise FailedError(f"no client reached the restored database: {prober.result}")
    until_switched = switched - swapped.started
    return restored.seconds + until_switched, {
        "restore": round(restored.seconds, 3),
        "switch": round(until_switched, 3),
        "swap_returned": round(swapped.seconds, 3),
        "gap": round(float(str(prober.result["largest_gap"])), 4),
        "committed": int(str(writers.result["committed"])),
        "peak": restored.peak,
    }


def _psql(scene: Scene) -> tuple[float, Mapping[str, Value]]:
    """gunzip | psql into a new database; then, each timed on its own, statistics and our comparison with the set."""
    store = scene.store(GZIP.replace("|", "").replace(" ", "_"))
    checked = scene.baseline(BYTES, store)
    loaded = scene.baseline(PSQL, store, copy=f"{DATABASE}_psql")
    analyzed = scene.baseline(ANALYZE, store, copy=f"{DATABASE}_psql")
    proof = run_helper(
        "prove",
        {
            "connection": acts.connection(scene.server),
            "store": posix(scene.store("staged")),
            "system": SYSTEM,
            "database": DATABASE,
            "copy": f"{DATABASE}_psql",
        },
    )
    return loaded, {"proof": round(checked + proof, 3), "statistics": round(analyzed, 3)}


def _clean(scene: Scene) -> None:
    scene.drop_others()
    shutil.rmtree(scene.store("staged") / "restores", ignore_errors=True)
    scene.settle()


def measure(scene: Scene, pairs: int) -> Row:
    if not any(scene.store("staged").glob("backups/*/manifest.json")):
        back_up(scene, "staged", str(scene.staging))
    gzipped = scene.store(GZIP.replace("|", "").replace(" ", "_"))
    if not (gzipped / "dump.sql.gz").is_file():
        gzipped.mkdir(exist_ok=True)
        scene.baseline(GZIP, gzipped)
        dump = gzipped / "dump.sql.gz"
        found = hashlib.sha256(dump.read_bytes()).hexdigest()
        (gzipped / "SHA256SUMS").write_text(f"{found}  {dump}\n", encoding="utf-8")
    sides = {PSQL: lambda: _psql(scene), OURS: lambda: _ours(scene)}
    samples = interleave(sides, pairs, scene.tell, lambda: _clean(scene))
    _clean(scene)
    # the same runs, looked at again: with the proof behind them, and with statistics too
    plain = [item for item in samples if item.side == PSQL]
    for side, parts in ((PROVEN, ("proof",)), (READY, ("proof", "statistics"))):
        samples += [Sample(side, item.pair, item.seconds + _sum(item, parts), {}, item.failed) for item in plain]
    goals = [
        Goal("faster than", PSQL, 1.2, OURS),
        Goal("faster than", READY, 1.6, OURS),
        Goal("at most", "gap", 0.5, OURS),
    ]
    notes = [
        f"Ours: from the start of pg_restore to the moment when a client that connects every 10 ms reaches the"
        f" restored database under the live name, while {CLIENTS} clients write to it (they start after pg_restore,"
        " outside the time). In it: every byte fetched and checked, frozen load, the planner's statistics"
        " (brought along by the set from PostgreSQL 18 on, else made, of large tables roughly), rows of every table,"
        " sequences, large objects and the catalog's properties compared, both renames. pg_swap returns when it has"
        " also vacuumed and analyzed what was left, with the clients running.",
        "gunzip | psql: no proof, no statistics, no switch, no grants and settings of the database itself.",
        "The same proof: the SHA-256 of the stored file; then rows of every table, sequences, large objects and the"
        " catalog's properties against the set, by our own code.",
        "Statistics: a restored database without them answers with plans of an empty one. Ours has them, and frozen"
        " pages, before its proof; the line with statistics is what ends in the same state, but for the frozen pages.",
        "Gap: the longest time between two successful connections.",
    ]
    commands = {name: written(name) for name in (BYTES, PSQL, ANALYZE)}
    return Row("restore", "Restore to a switched database", samples, goals, notes, commands)


def _sum(item: Sample, parts: Sequence[str]) -> float:
    return sum(float(str(item.facts.get(name, 0))) for name in parts)
