# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_migrate called in this process, with the parameters that its argument spec would give it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.migration_files import checksum
from ansible_collections.saasops.runbook.plugins.module_utils.execute import migrate
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


def run(
    server: Server,
    store: Path,
    database: str,
    files: Mapping[str, str] | None = None,
    *,
    check: bool = False,
    lines: list[str] | None = None,
    **changes: object,
) -> Result:
    """pg_migrate of files, without backup and staging unless they are asked for."""
    given = {"engine": "sql", "state": "applied", "backup": "off", "staging": "off", "rehearse_undo": True, **changes}
    if files is not None:
        given["files"] = dict(files)
    return migrate.execute(acts.parameters(server, store, database, given), acts.context(check, lines))


# what the ledger keeps of a file of which no statement is through
EMPTY = checksum("")
