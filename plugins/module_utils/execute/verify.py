# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_verify: read every byte of a set, or hold a restored database against its set (execute/drill.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.execute import drill
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import verify_packs

# what says that the set itself is bad; a store that cannot be reached says nothing about it
DISPROVED = ("object_damaged", "object_missing", "set_incomplete", "manifest_damaged")


def _disprove(store: Store, set_id: str, error: OpsError, now: float) -> None:
    """Take earlier proofs back, so that no other set is deleted on the strength of this one."""
    body: dict[str, Json] = {"level": "failed", "at": iso(now), "code": error.code, "cause": error.cause}
    # a store that cannot be written to must not hide the finding itself
    with contextlib.suppress(OpsError):
        sets.write_json(store, f"{sets.folder(set_id)}proof-{os.urandom(4).hex()}.json", body)


def _verify_objects(store: Store, system: str, names: Sequence[str], context: Context) -> dict[str, object]:
    """Read whole sets; every failure is kept, so that one damaged set does not hide another."""
    damaged: dict[str, Json] = {}
    whole: list[Json] = []
    total = 0
    for name in names:
        try:
            manifest, contents = sets.load(store, name, system)
            verify_packs(
                store, sets.folder(name), contents.objects, open_codec(manifest.codec), workers=os.cpu_count() or 1
            )
        except OpsError as error:
            damaged[name] = {"code": error.code, "cause": error.cause}
            if error.code in DISPROVED and not context.check_mode:
                _disprove(store, name, error, context.now)
            continue
        total += manifest.stored_bytes
        whole.append(name)
        context.progress(f"{name} is whole, {len(whole)} of {len(names)}")
    if damaged:
        first = next(iter(damaged.items()))
        raise OpsError(
            "set_damaged",
            f"{len(damaged)} of {len(names)} sets cannot be restored from: "
            f"{first[0]}: {cast('dict[str, Json]', first[1])['cause']}",
            "Take another backup now, and look at the store's device; the damaged sets stay where they are.",
            {"damaged": damaged, "whole": whole},
        )
    return {"verified": whole, "bytes": total}


def execute(params: dict[str, object], context: Context) -> Result:
    """Verify sets (no restored database named), or a restored database against its set."""
    system, database, wanted = str(params["system"]), str(params["database"]), str(params["set"])
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    if params.get("discard"):
        return drill.discard(params, context, store)
    if wanted == "all":
        names = [
            entry.set_id
            for entry in sets.entries(store, system)
            # a damaged set may be of this database: its manifest can no longer tell
            if entry.state == "damaged" or (entry.manifest is not None and entry.manifest.database == database)
        ]
    else:
        names = [sets.newest(store, system, database) if wanted == "latest" else wanted]
    if params.get("restored"):
        return drill.drill(params, context, store, names[0])
    evidence = _verify_objects(store, system, names, context)
    return Result(message=f"{len(names)} sets are whole: every byte was read and compared.", evidence=evidence)
