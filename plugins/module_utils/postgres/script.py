# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL scripts of an archive and of a database, as pg_restore and pg_dump print them."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.script import Entry, digest_script
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import failure, statistics_options
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
    argv = [target.tool("pg_restore", version), "--file=-", "--no-subscriptions"]
    # those of the restored database are its own
    argv += [*statistics_options(version, "--no-statistics"), archive]
    return _digest(target, argv, {}, "pg_restore")


def database_digest(
    target: Target, version: int, database: str, folder: str, schemas: Sequence[str] = ()
) -> dict[str, Entry]:
    """The digest of a database's own dump, made by way of an archive in folder, which is removed again.

    pg_restore quotes names in its own way where pg_dump has a switch for it; so both scripts are pg_restore's.
    """
    archive = f"{folder}/restored.dump"
    argv = [target.tool("pg_dump", version), "--format=custom", "--compress=0", f"--file={archive}"]
    argv += ["--no-password", "--no-subscriptions", "--quote-all-identifiers"]
    argv += [f"--schema={ident(name)}" for name in schemas]
    with target.environment(database) as env:
        done = target.transport.run(argv, env=env)
    if done.code != 0:
        raise failure("pg_dump", done.code, done.stderr.decode("utf-8", "replace"))
    return archive_digest(target, version, archive)
