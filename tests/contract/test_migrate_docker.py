# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations of a database in a container: psql through exec, the same ledger, the same limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import migrate
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import acts
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer

FILES = {
    "001_t.sql": "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 9);",
    "002_a.sql": "ALTER TABLE t ADD a text DEFAULT ':x;\\ü';",
    "002_a.undo.sql": "ALTER TABLE t DROP a;",
    "003_i.sql": "-- saasops: transactional=false\nCREATE INDEX CONCURRENTLY t_id ON t (id);\nVACUUM t;",
    "003_i.undo.sql": "-- saasops: transactional=false\nDROP INDEX CONCURRENTLY t_id;",
}


def test_files_are_applied_bounded_and_undone_through_exec(docker_postgres: PostgresContainer, tmp_path: Path) -> None:
    docker_postgres.psql("CREATE DATABASE moved")
    (tmp_path / "store").mkdir()

    def run(files: dict[str, str], **changes: object) -> Result:
        body: dict[str, object] = {
            "system": "test",
            "database": "moved",
            "connection": docker_postgres.params(),
            "store": {"type": "posix", "path": str(tmp_path / "store")},
            "state": "applied",
            "files": files,
            "backup": "off",
            "staging": "off",
            **changes,
        }
        return migrate.execute(body, acts.context())

    def ledger() -> str:
        sql = "SELECT string_agg(version || state, ' ' ORDER BY version) FROM saasops.migrations"
        return docker_postgres.psql(sql, "moved").strip()

    try:
        run({"001_t.sql": FILES["001_t.sql"]})
        applied = run(FILES)
        assert ledger() == "001applied 002applied 003applied"
        assert docker_postgres.psql("SELECT a FROM t LIMIT 1", "moved").strip() == ":x;\\ü"
        assert not run(FILES).changed
        with pytest.raises(OpsError) as caught:
            run({**FILES, "004_s.sql": "ALTER TABLE t ADD b int; SELECT pg_sleep(30);"}, lock_limit="1s")
        assert caught.value.code == "over_lock_limit"
        run({}, state="undone", run=applied.evidence["run"])
        assert ledger() == "001applied"
    finally:
        docker_postgres.psql("DROP DATABASE moved WITH (FORCE)")
