# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one restore works with, from its decision to the verified database."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Contents, Manifest
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store


@dataclass(frozen=True)
class RestoreJob:
    """All that one restore works with. session is one of the maintenance database and holds the advisory lock.

    jobs: threads that fetch, and sessions that count. load_jobs: processes that fill the database.
    """

    system: str
    database: str
    target: Target
    store: Store
    session: Session
    context: Context
    manifest: Manifest
    contents: Contents
    schemas: tuple[str, ...]
    jobs: int
    load_jobs: int
    staging: str
    acknowledged: tuple[str, ...]
    in_place: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """The schemas that are restored; () for a whole database."""
        return self.schemas or self.manifest.schemas
