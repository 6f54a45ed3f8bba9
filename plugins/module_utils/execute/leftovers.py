# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what dead or failed runs left in a store, with credentials that may lack the right to delete.

A writer needs no right to delete: what it cannot remove stays, harmless (nothing takes a set without a manifest for
good), is named in a warning, and goes with the next prune, which runs under other credentials.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import BEGUN

Warn = Callable[[str], None]
ABANDONED_SECONDS = 86400.0
# what a store says to credentials that may not delete, or not look for what is to be deleted
_REFUSALS = ("store_not_writable", "store_denied", "store_refused")


def _left(what: str, error: OpsError) -> str:
    return f"{what} in the store: {error.cause} The verb prune removes it, with credentials that may delete."


def remove_partial(store: Store, system: str, database: str, server: str, warn: Warn) -> list[str]:
    """Delete what an interrupted run of this database left; the lock held on its server says that none is running.

    Returns the ids of the sets that are gone. Raises the store's OpsErrors but for a refusal to delete.
    """
    gone = []
    for entry in sets.entries(store, system):
        begun = sets.folder(entry.set_id) + BEGUN
        if entry.state != "partial" or begun not in entry.keys:
            continue
        try:
            record = sets.read_json(store, begun)
        except OpsError as error:
            if error.code not in ("object_missing", "object_damaged"):
                raise
            continue
        # another server's run of the same names, into the same store, is not held off by our lock
        if (record.get("system"), record.get("database"), record.get("server")) != (system, database, server):
            continue
        try:
            # begun.json last, so that an interruption here is found again
            store.delete([key for key in entry.keys if key != begun])
            store.delete([begun])
        except OpsError as error:
            if error.code not in _REFUSALS:
                raise
            warn(_left(f"The partial set {entry.set_id} of an interrupted run stays", error))
            continue
        gone.append(entry.set_id)
    return gone


def sweep(store: Store, now: float, warn: Warn) -> list[str]:
    """Remove temporary files, unfinished uploads and probes that are older than a day; returns their names."""
    try:
        return list(store.sweep("", now - ABANDONED_SECONDS))
    except OpsError as error:
        if error.code not in _REFUSALS:
            raise
        warn(_left("What interrupted writers left stays", error))
        return []


def discard_set(store: Store, prefix: str, warn: Warn) -> None:
    """Delete a set whose making failed; never raises, so that the error that ended it is the one that is seen."""
    try:
        keys = [info.key for info in store.list(prefix)]
        store.delete([key for key in keys if not key.endswith(BEGUN)])
        store.delete([prefix + BEGUN])
    except OpsError as error:
        warn(_left(f"What was written of the set {prefix.rstrip('/').rpartition('/')[2]} stays", error))
