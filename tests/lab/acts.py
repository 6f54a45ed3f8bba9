# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call what a module executes in this process, with the parameters that its argument spec would give it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.execute import backup, index, verify
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


def connection(server: Server, **changes: object) -> dict[str, object]:
    """The option connection for a lab server."""
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "client_bin": str(server.bin),
        **changes,
    }


def context(check: bool = False, lines: list[str] | None = None) -> Context:
    """A context whose progress and warnings are kept in lines."""
    kept = [] if lines is None else lines
    return Context(check_mode=check, now=time.time(), progress=kept.append, warn=kept.append)


def parameters(server: Server, store: Path, database: str, changes: Mapping[str, object]) -> dict[str, object]:
    """What every act takes, with changes on top."""
    return {
        "system": "test",
        "database": database,
        "connection": connection(server),
        "store": {"type": "posix", "path": str(store)},
        **changes,
    }


def take_backup(server: Server, store: Path, database: str, *, check: bool = False, **changes: object) -> Result:
    """pg_backup of a database of a lab server into a folder."""
    return backup.execute(parameters(server, store, database, changes), context(check))


def verify_sets(server: Server, store: Path, database: str, **changes: object) -> Result:
    """pg_verify of sets in a folder."""
    return verify.execute(parameters(server, store, database, {"set": "latest", **changes}), context())


def make_indexes(
    server: Server, database: str, indexes: list[dict[str, object]], *, check: bool = False, **changes: object
) -> Result:
    """pg_index on a database of a lab server; nothing of the guard."""
    given = {
        "indexes": indexes,
        "state": "present",
        "jobs": 2,
        "wait": "5s",
        "old": "1s",
        "time_limit": "60s",
        **changes,
    }
    return index.execute(parameters(server, Path("/nowhere"), database, given), context(check))
