# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application's own migrator (node-pg-migrate by npm) is wrapped: limits, ledger, secrets, a copy first."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import migrations, npm_migrator, processes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

LAST = "1700000000002_budget"
SLOW = "exports.up = (pgm) => { pgm.sql('ALTER TABLE campaigns ADD x int'); pgm.sql('SELECT pg_sleep(30)'); };\n"
BROKEN = "exports.up = (pgm) => { pgm.sql('ALTER TABLE nowhere ADD x int'); };\n"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "store").mkdir()
    return npm_migrator.project(tmp_path / "app")


def run(server: Server, app: Path, database: str, *, check: bool = False, **changes: object) -> Result:
    command = {
        "argv": ["npm", "run", "--silent", "migrate"],
        "chdir": str(app),
        "url_variable": "DATABASE_URL",
        "ledger": {"table": "public.pgmigrations", "version_column": "name", "order": "id"},
        "folder": "migrations",
        "suffixes": [".js"],
        **changes.pop("command", {}),  # type: ignore[dict-item]
    }
    return migrations.run(
        server, app.parent / "store", database, check=check, engine="command", command=command, **changes
    )


def tables(server: Server, database: str) -> str:
    sql = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass('campaigns')"
    return server.psql(f"{sql} AND attnum > 0", database)


def test_what_the_migrators_ledger_has_is_not_run_again(server: Server, database: str, app: Path) -> None:
    checked = run(server, app, database, check=True)
    assert [one["version"] for one in checked.evidence["pending"]] == ["1700000000001_campaigns", LAST]  # type: ignore[attr-defined]
    assert tables(server, database) == ""
    done = run(server, app, database)
    assert done.changed
    assert done.evidence["applied"] == ["1700000000001_campaigns", LAST]
    assert tables(server, database) == "id tenant_id budget"
    again = run(server, app, database)
    assert not again.changed
    assert "output" not in again.evidence


def test_without_a_folder_the_ledger_tells_afterwards_that_nothing_was_pending(
    server: Server, database: str, app: Path
) -> None:
    assert run(server, app, database, command={"folder": ""}).changed
    again = run(server, app, database, command={"folder": ""})
    assert not again.changed
    assert "ledger did not change" in again.message


def test_a_failure_names_what_was_applied_before_it(server: Server, database: str, app: Path) -> None:
    (app / "migrations" / "1700000000003_broken.js").write_text(BROKEN, encoding="utf-8")
    argv = ["npx", "--no", "node-pg-migrate", "up", "--no-single-transaction", "--migrations-dir", "migrations"]
    with pytest.raises(OpsError) as caught:
        run(server, app, database, command={"argv": argv})
    assert caught.value.code == "command_failed"
    assert caught.value.details["applied"] == ["1700000000001_campaigns", LAST]
    assert "nowhere" in caught.value.cause


@pytest.mark.parametrize("by", ["DATABASE_URL", ""])
def test_a_lock_that_is_held_stops_the_migrator_at_its_lock_timeout(
    server: Server, database: str, app: Path, by: str
) -> None:
    run(server, app, database)
    (app / "migrations" / "1700000000003_x.js").write_text(
        "exports.up = (pgm) => { pgm.sql('ALTER TABLE campaigns ADD x int'); };\n", encoding="utf-8"
    )
    other = psycopg2.connect(server.dsn(database))
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM campaigns")
    try:
        address = "postgresql:///{database}?host={host}&port={port}&user={user}"
        command = {"url_variable": by, "environment": {} if by else {"DATABASE_URL": address}}
        question = "SELECT count(*) FROM campaigns"
        with Readers(server.dsn(database), question) as readers, pytest.raises(OpsError) as caught:
            run(server, app, database, command=command, lock_timeout="400ms", lock_wait="1s")
        assert "lock timeout" in caught.value.cause
        assert readers.longest < 8
    finally:
        other.close()


def test_readers_behind_a_slow_migrator_wait_no_longer_than_the_limit(server: Server, database: str, app: Path) -> None:
    run(server, app, database)
    (app / "migrations" / "1700000000003_slow.js").write_text(SLOW, encoding="utf-8")
    with Readers(server.dsn(database), "SELECT count(*) FROM campaigns") as readers, pytest.raises(OpsError) as caught:
        run(server, app, database, lock_limit="1s", lock_wait="1s")
    assert caught.value.code == "command_failed"
    assert "others waited" in caught.value.cause
    assert 0.3 < readers.longest < 10
    assert tables(server, database) == "id tenant_id budget"


def test_a_rehearsal_sees_whether_the_limits_take_and_the_live_run_heeds_it(
    server: Server, database: str, app: Path
) -> None:
    argv = ["npx", "--no", "node-pg-migrate", "up", "1", "--migrations-dir", "migrations"]
    run(server, app, database, command={"argv": argv})
    copy = f"{database}_copy"
    server.createdb(copy, template=database)
    try:
        obeys = run(server, app, copy, state="rehearsed", rehearses=database)
        assert obeys.evidence["limits_taken"] is True
        assert obeys.evidence["applied"] == [LAST]
        assert tables(server, database) == "id tenant_id"
    finally:
        server.dropdb(copy)
    assert run(server, app, database, staging="required").changed


def test_a_migrator_that_takes_no_limits_is_seen_on_the_copy_and_kept_from_the_live_database(
    server: Server, database: str, app: Path
) -> None:
    argv = ["npx", "--no", "node-pg-migrate", "up", "1", "--migrations-dir", "migrations"]
    run(server, app, database, command={"argv": argv})
    copy = f"{database}_copy"
    server.createdb(copy, template=database)
    address = "postgresql://{user}:{password}@{host}:{port}/{database}"
    deaf = {"url_variable": "", "environment": {"DATABASE_URL": address, "PGOPTIONS": "-c geqo=on"}}
    try:
        seen = run(server, app, copy, state="rehearsed", rehearses=database, command=deaf, lock_timeout="300ms")
        assert seen.evidence["limits_taken"] is False
    finally:
        server.dropdb(copy)
    with pytest.raises(OpsError) as caught:
        run(server, app, database, staging="required", command=deaf)
    assert caught.value.code == "limits_not_taken"
    assert tables(server, database) == "id tenant_id"


def test_a_migrator_with_an_address_of_its_own_is_found_out_on_the_copy(
    server: Server, database: str, app: Path
) -> None:
    argv = ["npx", "--no", "node-pg-migrate", "up", "1", "--migrations-dir", "migrations"]
    run(server, app, database, command={"argv": argv})
    copy = f"{database}_copy"
    server.createdb(copy, template=database)
    own = f"postgresql://{{user}}:{{password}}@{{host}}:{{port}}/{database}?options={{options}}"
    try:
        with pytest.raises(OpsError) as caught:
            run(
                server,
                app,
                copy,
                state="rehearsed",
                rehearses=database,
                command={"url_variable": "", "environment": {"DATABASE_URL": own}},
            )
        assert caught.value.code in ("command_failed", "rehearsal_hit_live")
        assert tables(server, database) == "id tenant_id"
    finally:
        server.dropdb(copy)


def test_no_secret_is_in_the_arguments_or_the_output(server: Server, database: str, app: Path) -> None:
    (app / "migrations" / "1700000000003_tell.js").write_text(
        "console.log(process.env.DATABASE_URL, process.env.TOKEN, process.argv.join(' '));\n"
        "exports.up = (pgm) => { pgm.sql('SELECT pg_sleep(1)'); };\n",
        encoding="utf-8",
    )
    lines: list[str] = []
    arguments: list[str] = []
    ending = threading.Event()

    def look() -> None:
        while not ending.wait(0.05):
            # only what this test started: servers of tests beside it may have the same password
            arguments.extend(" ".join(processes.command_line(pid)) for pid in processes.descendants(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        done = run(server, app, database, secrets={"TOKEN": "t0ken-of-the-app"}, lines=lines)
    finally:
        ending.set()
        thread.join()
    told = " ".join([*lines, str(done.evidence)])
    assert "***" in told
    assert any("node-pg-migrate" in one for one in arguments), "nobody looked while it ran"
    for secret in (server.password, "t0ken-of-the-app"):
        assert secret not in told
        assert not any(secret in one for one in arguments)
