# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run did on this host, and the way back from it."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import read
from ansible_collections.saasops.runbook.plugins.module_utils.domain.undo_run import way_back
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def execute(params: dict[str, object], context: Context) -> Result:
    """The module guard_run_info. Raises run_unknown, run_interrupted, undo_ambiguous, no_way_back; the store's."""
    run, host = str(params["run"]), str(params["host"])
    store = open_store(cast("dict[str, object]", params["store"]))
    store.check(write=False)
    bodies = [body for body in (read(entry.text) for entry in read_chain(store).entries) if body is not None]
    undo = way_back(bodies, run, host)
    words = " ".join(f"-e {name}={value}" for name, value in undo.items() if name != "verb")
    return Result(message=f"The way back from run {run}: {undo['verb']} {words}".rstrip(), evidence={"undo": undo})
