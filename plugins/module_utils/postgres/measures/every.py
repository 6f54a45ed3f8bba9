# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queries of the built-in checks by name."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures import (
    counters,
    freeze,
    indexes,
    replication,
    sequences,
    sessions,
    settings,
    tables,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import Query

EVERY: Mapping[str, Query] = {
    query.name: query
    for room in (sessions, replication, freeze, tables, indexes, sequences, counters, settings)
    for query in room.QUERIES
}
