# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure backup and restore against what they replace; results in benchmarks/results.json and results.md.

Nothing else should run on the machine meanwhile. Every figure is kept, also the bad ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# in a checkout the collection is laid out below it; the laid-out tree is that place itself
LAID_OUT = ROOT.parts[-3:] == ("ansible_collections", "saasops", "runbook")
COLLECTIONS = ROOT.parents[2] if LAID_OUT else ROOT
if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))

NAMES = ("backup", "restore", "upstream", "guard", "memory", "health", "triage", "maintenance", "cleanup", "migrate")
RESULTS, TABLE = HERE / "results.json", HERE / "results.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=2000, help="tables and indexes of the database")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs of each side")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the table that is cleaned up")
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this row only; may be repeated")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of results.json and results.md")
    options = parser.parse_args(arguments)
    if not LAID_OUT:
        subprocess.run([sys.executable, str(ROOT / "tools" / "tree.py")], check=True, stdout=subprocess.DEVNULL)
    wanted = [name for name in NAMES if name in (options.only or NAMES)]
    return _measure(wanted, options.megabytes, options.pairs, options.output, options.rows)


def _measure(wanted: Sequence[str], megabytes: float, pairs: int, output: Path, rows: int) -> int:
    from ansible_collections.saasops.runbook.benchmarks import (
        machine,
        row_backup,
        row_cleanup,
        row_guard,
        row_health,
        row_maintenance,
        row_memory,
        row_migrate,
        row_restore,
        row_triage,
        row_upstream,
    )
    from ansible_collections.saasops.runbook.benchmarks.report import as_json, table
    from ansible_collections.saasops.runbook.benchmarks.row import Row
    from ansible_collections.saasops.runbook.benchmarks.scene import Scene, scene

    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    facts = machine.facts()
    path = output / RESULTS.name
    results: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def run(measure: Callable[[], Row | list[Row]], size: float = megabytes) -> None:
        started, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), machine.load()
        found = measure()
        for row in found if isinstance(found, list) else [found]:
            results[row.name] = as_json(replace(row, started=started, load=load), facts, size)
        # after every row: an interrupted run keeps what it has
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (output / TABLE.name).write_text(table(results), encoding="utf-8")

    beside: dict[str, Callable[[Scene, int], Row | list[Row]]] = {
        "backup": row_backup.measure,
        "restore": row_restore.measure,
        "upstream": row_upstream.measure,
    }
    tenants = megabytes * row_maintenance.SHARE
    alone: dict[str, tuple[Callable[[], Row | list[Row]], float]] = {
        "guard": (lambda: row_guard.measure(pairs, tell), row_guard.MEGABYTES),
        "memory": (lambda: row_memory.measure(megabytes, tell), megabytes),
        "health": (lambda: row_health.measure(pairs, tell), megabytes),
        "triage": (lambda: row_triage.measure(pairs, tell), megabytes),
        "maintenance": (lambda: row_maintenance.measure(tenants, pairs, tell), tenants),
        "cleanup": (lambda: row_cleanup.measure(pairs, tell, rows), 0.0),
        "migrate": (lambda: row_migrate.measure(pairs, tell), 0.0),
    }
    if set(wanted) & set(beside):
        with scene(megabytes, tell) as place:
            for name in wanted:
                if name in beside:
                    measure = beside[name]
                    tell(f"row {name}")
                    run(lambda: measure(place, pairs))  # noqa: B023 - called before the next one
    for name in wanted:
        if name in alone:
            tell(f"row {name}")
            run(*alone[name])
    print(table(results))
    missed = [name for name, row in results.items() for goal in row["goals"] if not goal["met"]]  # type: ignore[attr-defined]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
