# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was written to a database after it got its name, read from the server alone."""

from __future__ import annotations

from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import key_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import Loss, Losses
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import counters
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations


def written_after(inside: Session, anywhere: Session, live_oid: int, aside_oid: int) -> Losses:
    """Rows written to the live database (inside is a session of it) since a switch moved the other one aside.

    Both renames were one transaction, and PostgreSQL keeps with every row, those of pg_database too, the transaction
    that wrote it. A row that is younger than the renames was inserted or updated since; what was updated or deleted
    is counted by the statistics, because a restore does neither. A later ALTER DATABASE of one of the two hides the
    renames, so the older of both counts. A lower bound all the same: exact is False.
    """
    renames = anywhere.value(
        render(
            "SELECT xmin::text AS xid FROM pg_database WHERE oid IN ({live}::oid, {aside}::oid)"
            " ORDER BY age(xmin) DESC LIMIT 1",
            live=live_oid,
            aside=aside_oid,
        )
    )
    younger = render("age(xmin) < age({renames}::xid)", renames=str(renames))
    written = cast("dict[str, dict[str, int]]", counters(inside)["counters"])
    found = []
    plain_view(inside)
    try:
        for table in relations(inside, "r"):
            young = inside.value(f"SELECT count(*) AS young FROM ONLY {table.sql} WHERE {younger}")
            counted = written.get(key_of(table.schema, table.name)) or {}
            updated, deleted = int(str(counted.get("upd") or 0)), int(str(counted.get("del") or 0))
            inserted = max(int(str(young)) - updated, 0)
            loss = Loss(f"{table.schema}.{table.name}", inserted, updated, deleted)
            if loss.rows:
                found.append(loss)
    finally:
        inside.run("COMMIT")
    return Losses(tuple(found), False)
