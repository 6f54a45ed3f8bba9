# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into tables and indexes with pgstattuple, where it is installed and the reading is cheap."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import BLOCK, Index, Table
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

_SCHEMA = """
SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'pgstattuple'
   AND (SELECT rolsuper OR pg_has_role('pg_stat_scan_tables', 'USAGE') FROM pg_roles WHERE rolname = current_user)
"""
_FREE = """
SELECT NOT EXISTS (SELECT FROM pg_locks WHERE relation = {oid} AND mode = 'AccessExclusiveLock') AS free
"""


@dataclass(frozen=True)
class TableSeen:
    """dead: rows; air: share of the table that a rewrite would give back; bytes as it lies on disk."""

    dead: int
    air: float
    bytes: int


class Probe:
    """pgstattuple in the session's database. each, all: bytes that may be read for one object, and for all."""

    def __init__(self, session: Session, each: int, all_of_them: int) -> None:
        self._session, self._each, self._left = session, each, all_of_them
        self._schema = session.value(_SCHEMA) if each > 0 else None

    @property
    def usable(self) -> bool:
        return self._schema is not None

    def _may(self, oid: int, size: int) -> bool:
        if self._schema is None or size > self._each or size > self._left:
            return False
        if not self._session.value(render(_FREE, oid=oid)):
            return False
        self._left -= size
        return True

    def table(self, table: Table) -> TableSeen | None:
        """Dead rows and air, by reading the pages that are not all-visible; None when that costs too much."""
        pages = table.pages or table.bytes // BLOCK
        if table.kind not in "rm" or not self._may(table.oid, max(1, pages - table.visible) * BLOCK):
            return None
        sql = "SELECT table_len, dead_tuple_count, dead_tuple_percent + approx_free_percent AS air FROM {f:I}({oid})"
        with contextlib.suppress(OpsError):
            for row in self._session.rows(render(sql, f=(str(self._schema), "pgstattuple_approx"), oid=table.oid)):
                return TableSeen(
                    int(float(str(row["dead_tuple_count"]))),
                    min(1.0, float(str(row["air"])) / 100),
                    int(str(row["table_len"])),
                )
        return None

    def index(self, index: Index) -> tuple[float, int] | None:
        """(share of air, bytes) of a btree, by reading it whole; None when that costs too much or it is none."""
        if not self._may(index.oid, index.bytes):
            return None
        sql = "SELECT index_size, leaf_pages, empty_pages, deleted_pages, avg_leaf_density FROM {f:I}({oid}::regclass)"
        with contextlib.suppress(OpsError):
            for row in self._session.rows(render(sql, f=(str(self._schema), "pgstatindex"), oid=index.oid)):
                return _air(row["leaf_pages"], row["avg_leaf_density"], int(str(row["index_size"])))
        return None


def _air(leaves: object, density: object, size: int, fillfactor: float = 90.0) -> tuple[float, int]:
    full = int(str(leaves)) * (0.0 if str(density) == "NaN" else float(str(density))) / fillfactor
    # a root, a page that describes the index, and what stands above the leaves
    needed = (full * 1.01 + 2) * BLOCK
    return max(0.0, 1 - needed / size) if size else 0.0, size
