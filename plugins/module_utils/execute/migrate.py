# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_migrate: which engine, and what both have in common: connect, hold the lock, prove that it is safe."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.execute import migrate_command, migrate_sql, migrate_undo
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import standing
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_migrate."""
    with standing(params, context) as place:
        if params.get("engine") == "command":
            return migrate_command.migrate(place)
        if params.get("state") == "undone":
            return migrate_undo.undo(place, str(params.get("run") or ""))
        if params.get("baseline") is not None:
            return migrate_sql.baseline(place, int(str(params["baseline"])))
        return migrate_sql.migrate(place)
