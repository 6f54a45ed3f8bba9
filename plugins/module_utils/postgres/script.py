# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL scripts of an archive and of a database, as pg_restore and pg_dump print them."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.script import Entry, digest_script
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import failure
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident


def _digest(target: Target, argv: Sequence[str], env: dict[str, str], tool: str) -> dict[str, Entry]:
    process = target.transport.start(argv, env=env)
    stdout = process.stdout
    if stdout is None:
        raise OpsError("transport_failed", "The transport gave no output stream.", "Report this as a defect.")
    try:
        found = digest_script(iter(stdout.readline, b""))
        code = process.wait()
    finally:
        process.kill()
    if code != 0:
        raise failure(tool, code, process.stderr_text())
    return found


def archive_digest(target: Target, version: int, archive: str) -> dict[str, Entry]:
    """The digest of what pg_restore would run for an archive on the far side."""
    argv = [target.tool("pg_restore", version), "--file=-", "--no-subscriptions", archive]
    return _digest(target, argv, {}, "pg_restore")


def database_digest(target: Target, version: int, database: str, schemas: Sequence[str] = ()) -> dict[str, Entry]:
    """The digest of a database's own dump, in the same words as the archive (quoted names, no subscriptions)."""
    argv = [target.tool("pg_dump", version), "--no-password", "--no-subscriptions", "--quote-all-identifiers"]
    argv += [f"--schema={ident(name)}" for name in schemas]
    with target.environment(database) as env:
        return _digest(target, argv, env, "pg_dump")
