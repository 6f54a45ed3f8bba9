# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup into a folder, proof inside the timed span, against pg_dump | gzip and other bare commands."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from typing import cast

from ansible_collections.saasops.runbook.benchmarks.baselines import programs, written
from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.row import Row, Side, interleave
from ansible_collections.saasops.runbook.benchmarks.scene import FailedError, Scene, folder_bytes, posix

GZIP = "pg_dump | gzip"
BARE = (GZIP, "pg_dump | zstd", "pg_dump -Fd -j2, zstd, sha256sum")
DIRECTORY, STREAM = "ours, staged", "ours, streamed"


def ours(scene: Scene, name: str, staging: str) -> tuple[float, Mapping[str, Value]]:
    """pg_backup from the start of its process to its end: dump, count, store, read back, compare."""
    store = scene.fresh(name)
    ran = scene.module("pg_backup", posix(store), **({"staging": staging} if staging else {}))
    made = cast("list[dict[str, object]]", ran.answer["sets"])
    proof = cast("dict[str, object]", made[0]["proof"])
    if len(made) != 1 or proof.get("level") != "stored":
        raise FailedError(f"the set is not proven: {made}")
    raw = cast("dict[str, int]", made[0]["bytes"])["raw"]
    return ran.seconds, {"bytes": folder_bytes(store), "raw": raw, "peak": ran.peak, "rows": int(str(made[0]["rows"]))}


def bare(scene: Scene, name: str) -> tuple[float, Mapping[str, Value]]:
    store = scene.fresh(name.replace("|", "").replace(" ", "_"))
    seconds = scene.baseline(name, store)
    return seconds, {"bytes": folder_bytes(store)}


def measure(scene: Scene, pairs: int) -> Row:
    present = [name for name in BARE if all(shutil.which(program) for program in programs(name))]
    sides: dict[str, Side] = {
        GZIP: partial(bare, scene, GZIP),
        DIRECTORY: partial(ours, scene, "staged", str(scene.staging)),
        STREAM: partial(ours, scene, "streamed", ""),
        **{name: partial(bare, scene, name) for name in present if name != GZIP},
    }
    samples = interleave(sides, pairs, scene.tell, scene.settle)
    goals = [
        Goal("faster than", GZIP, 1.8, DIRECTORY),
        Goal("faster than", GZIP, 1.8, STREAM),
        Goal("no larger than", GZIP, 1.0, DIRECTORY),
        Goal("no larger than", GZIP, 1.0, STREAM),
    ]
    notes = [
        f"Staging: {scene.staging_kind}.",
        "Ours proves inside its time: rows in the dump against rows counted under the same snapshot, length and"
        " SHA-256 of every file, every object read back and decompressed. The bare commands prove nothing"
        " (exit codes; the third one writes SHA-256 of what it stored).",
        *(f"Not installed, so not measured: {name}." for name in BARE if name not in present),
    ]
    return Row("backup", "Backup into a folder", samples, goals, notes, {name: written(name) for name in present})
