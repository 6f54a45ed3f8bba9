# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in checks, all of them, in the order in which equals are shown."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.saasops.runbook.plugins.module_utils.domain import (
    pg_checks_indexes,
    pg_checks_replication,
    pg_checks_server,
    pg_checks_sessions,
    pg_checks_storage,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import PgCheck

PG_CHECKS: tuple[PgCheck, ...] = (
    *pg_checks_sessions.CHECKS,
    *pg_checks_replication.CHECKS,
    *pg_checks_storage.CHECKS,
    *pg_checks_indexes.CHECKS,
    *pg_checks_server.CHECKS,
)


def queries_of(checks: Iterable[PgCheck]) -> frozenset[str]:
    """Names of what has to be read for these checks."""
    return frozenset(query for item in checks for query in item.queries)
