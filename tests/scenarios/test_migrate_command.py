# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb migrate around an application's own migrator: node-pg-migrate by npm, as another user, with a secret."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import acts, npm_migrator, processes, scratch
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

SECRET = "t0ken-of-the-application"
TELL = (
    "const { SEEN, TOKEN, PGPASSFILE } = process.env;\n"
    "require('fs').writeFileSync(SEEN, [TOKEN, PGPASSFILE, process.getuid()].join(' '));\n"
    "console.log('the token is ' + TOKEN);\nexports.up = (pgm) => { pgm.sql('SELECT 1'); };\n"
)


@pytest.mark.parametrize("server", [15], indirect=True)
def test_the_applications_migrator_is_backed_up_tried_on_a_copy_and_run_once(
    server: Server, database: str, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    owner = processes.unprivileged() if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # pytest's folders let nobody else pass
    folder = scratch.claim("app")
    try:
        app = npm_migrator.project(folder)
        (app / "migrations" / "1700000000003_tell.js").write_text(TELL, encoding="utf-8")
        seen = folder / "seen"
        seen.touch(0o600)
        os.chown(seen, owner.pw_uid, owner.pw_gid)
        hosts = inventory(
            tmp_path,
            {
                "saasops_system": "newsletter",
                "saasops_database": database,
                "saasops_connection": acts.connection(server),
                "saasops_store": {"path": str(tmp_path / "store")},
                "saasops_migrations": {
                    "engine": "command",
                    "command": {
                        "argv": ["npm", "run", "--silent", "migrate"],
                        "chdir": str(app),
                        "user": owner.pw_name,
                        "url_variable": "DATABASE_URL",
                        "environment": {"SEEN": str(seen)},
                        "folder": "migrations",
                        "suffixes": [".js"],
                        "ledger": {"table": "public.pgmigrations", "version_column": "name", "order": "id"},
                    },
                },
                "saasops_migration_secrets": {"TOKEN": SECRET},
            },
        )

        def run(*arguments: str) -> Run:
            done = play("migrate", hosts, *arguments, timeout=150)
            assert done.code == 0, done.output
            assert SECRET not in done.output
            assert server.password not in done.output
            return done

        applied = run("-vvv")
        assert "the token is ***" in applied.output
        assert server.psql("SELECT count(*) FROM pgmigrations", database) == "3"
        token, passfile, uid = seen.read_text(encoding="utf-8").split()
        assert (token, int(uid)) == (SECRET, owner.pw_uid)
        assert not Path(passfile).exists()
        assert run().changed == 0
    finally:
        scratch.release(folder)
