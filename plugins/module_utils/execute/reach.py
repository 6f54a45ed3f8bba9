# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of a verb that must not be stopped by it: under break glass a folder of the host stands in."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.stand_in import StandIn, bring, waiting


def reach_store(params: dict[str, object], context: Context) -> Store:
    """The store, found to answer, with everything in it that waited on this host while it was away.

    Under break glass, or when something waits in check mode, a StandIn. Raises OpsError: the store's.
    """
    store, system = open_store(cast("dict[str, object]", params["store"])), str(params["system"])
    if context.break_glass:
        found = StandIn(store, system, context.go_past)
        found.check(write=not context.check_mode)
        return found
    store.check(write=not context.check_mode)
    left = waiting(system, store.url)
    if left is not None and not context.check_mode:
        context.progress(f"{len(bring(left, store))} objects that waited on this host are in the store now")
    return store


def is_down(store: Store) -> bool:
    """Whether the store does not answer and break glass went past it."""
    return isinstance(store, StandIn) and store.is_down
