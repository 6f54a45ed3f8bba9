# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever cuts an application's own migrator, its locks go; the error says what its ledger has and what is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import migrate_command_cut as cut
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import acts, migrations, npm_migrator, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.restores import outcome, process, until

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)

FIRST, SECOND, THIRD = "1700000000001_campaigns", "1700000000002_budget", "1700000000003_slow"
SLOW = "exports.up = (pgm) => { pgm.sql('ALTER TABLE campaigns ADD x int'); pgm.sql('SELECT pg_sleep(300)'); };\n"
QUICK = "exports.up = (pgm) => { pgm.sql('ALTER TABLE campaigns ADD x int'); };\n"
# each file commits by itself, so that there is something before the one that is cut
ONE_BY_ONE = ["npx", "--no", "node-pg-migrate", "up", "--no-single-transaction", "--migrations-dir", "migrations"]
# as the client of a container: ending it does not reach what it began
ELSEWHERE = ["setsid", "--fork", "--wait"]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "app").mkdir()
    (tmp_path / "store").mkdir()
    project = npm_migrator.project(tmp_path / "app")
    (project / "migrations" / f"{THIRD}.js").write_text(SLOW, encoding="utf-8")
    yield project
    processes.end([processes.identity(pid) for pid in processes.inside(project)])


def body(app: Path, argv: list[str], **changes: object) -> dict[str, object]:
    command = {
        "argv": argv,
        "chdir": str(app),
        "url_variable": "DATABASE_URL",
        "ledger": {"table": "public.pgmigrations", "version_column": "name", "order": "id"},
        "folder": "migrations",
        "suffixes": [".js"],
    }
    return {"engine": "command", "command": command, "backup": "off", "staging": "off", **changes}


def given(server: Server, app: Path, database: str, argv: list[str], **changes: object) -> dict[str, object]:
    return acts.parameters(server, app.parent / "store", database, body(app, argv, **changes))


def run(server: Server, app: Path, database: str, **changes: object) -> Result:
    return migrations.run(server, app.parent / "store", database, **body(app, ONE_BY_ONE, **changes))


def sessions(server: Server, state: str = "%") -> list[str]:
    """Pids of the migrator's sessions in a state."""
    sql = (
        "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE application_name"
        f" LIKE 'saasops-migrate-%' AND application_name NOT LIKE '%guard%' AND state LIKE '{state}'"
    )
    return server.psql(sql).split()


def asleep(server: Server) -> bool:
    return (
        server.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()"
        )
        == "1"
    )


def columns(server: Server, database: str) -> str:
    sql = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass('campaigns')"
    return server.psql(f"{sql} AND attnum > 0 AND NOT attisdropped", database)


def finished(server: Server, app: Path, database: str) -> None:
    """The next run goes on behind what is applied."""
    (app / "migrations" / f"{THIRD}.js").write_text(QUICK, encoding="utf-8")
    assert run(server, app, database).evidence["applied"] == [THIRD]
    assert columns(server, database) == "id tenant_id budget x"


def test_a_migrator_whose_module_was_killed_goes_with_it_and_so_do_its_locks(
    server: Server, database: str, app: Path
) -> None:
    with process("pg_migrate", given(server, app, database, ONE_BY_ONE)) as child:
        until(lambda: asleep(server), seconds=60)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    until(lambda: not processes.inside(app), seconds=60)
    until(lambda: not sessions(server), seconds=60)
    assert columns(server, database) == "id tenant_id budget"
    finished(server, app, database)


def hanging(server: Server, database: str, app: Path, then: str, **changes: object) -> dict[str, object]:
    """What pg_migrate takes for a migrator elsewhere that locks a table and then does this."""
    server.psql("CREATE TABLE held (i int)", database)
    (app / "hang.js").write_text(
        "const { Client } = require('pg'); const c = new Client(process.env.DATABASE_URL);"
        f" c.connect().then(() => c.query('BEGIN; LOCK TABLE held')).then(() => {then});\n",
        encoding="utf-8",
    )
    changes = body(app, [*ELSEWHERE, "node", "hang.js"], **changes)
    changes["command"] = {**changes["command"], "folder": ""}  # type: ignore[dict-item]
    return changes


def held(server: Server, database: str) -> bool:
    return server.psql("SELECT count(*) FROM pg_locks WHERE relation = 'held'::regclass", database) != "0"


def test_a_transaction_that_a_migrator_elsewhere_leaves_open_is_ended_by_the_server(
    server: Server, database: str, app: Path
) -> None:
    changes = hanging(server, database, app, "setTimeout(() => 0, 300000)", lock_limit="3s")
    with process("pg_migrate", acts.parameters(server, app.parent / "store", database, changes)) as child:
        until(lambda: held(server, database), seconds=60)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    until(lambda: not held(server, database), seconds=60)


def test_a_migrator_elsewhere_is_ended_on_the_server_and_the_error_says_what_it_did(
    server: Server, database: str, app: Path
) -> None:
    with process("pg_migrate", given(server, app, database, [*ELSEWHERE, *ONE_BY_ONE])) as child:
        until(lambda: asleep(server), seconds=60)
        child.send_signal(signal.SIGTERM)
        said = outcome(child)
    assert said["code"] == "interrupted"
    assert "of its sessions on the server were ended" in str(said["cause"])
    assert f"Applied by its ledger: {FIRST}, {SECOND}. Left is: {THIRD}." in str(said["cause"])
    assert not sessions(server)
    finished(server, app, database)


def test_a_migrator_that_outlasts_its_limit_has_no_lock_any_more(server: Server, database: str, app: Path) -> None:
    changes = hanging(server, database, app, "c.query('SELECT pg_sleep(300)')", limit="4s")
    with pytest.raises(OpsError) as caught:
        migrations.run(server, app.parent / "store", database, **changes)
    assert caught.value.code == "command_timeout"
    assert "Applied by its ledger: nothing" in caught.value.cause
    assert not held(server, database)


def test_a_connection_that_is_cut_is_told_with_what_is_applied(server: Server, database: str, app: Path) -> None:
    with process("pg_migrate", given(server, app, database, ONE_BY_ONE)) as child:
        until(lambda: asleep(server), seconds=60)
        for pid in sessions(server):
            server.psql(f"SELECT pg_terminate_backend({pid})")
        said = outcome(child)
    assert said["code"] == "command_failed"
    assert f"Applied by its ledger: {FIRST}, {SECOND}." in str(said["cause"])
    finished(server, app, database)


def test_a_server_that_dies_is_asked_again_what_was_applied_once_it_is_back(server: Server, app: Path) -> None:
    assert server.is_running
    with postgres.running(15) as other:
        other.createdb("d")
        with process("pg_migrate", given(other, app, "d", ONE_BY_ONE)) as child:
            until(lambda: asleep(other), seconds=60)
            other.kill()
            other.start()
            said = outcome(child)
        assert said["failed"]
        assert f"{FIRST}, {SECOND}" in str(said["cause"])
        assert columns(other, "d") == "id tenant_id budget"
        finished(other, app, "d")


def test_a_server_that_stays_away_leaves_what_was_applied_unknown_and_says_so(
    server: Server, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.is_running
    monkeypatch.setattr(cut, "PATIENCE", 0.5)
    with postgres.running(15) as other:
        other.createdb("d")
        (app / "kill.sh").write_text(f"kill -KILL {other.pid}; sleep 300\n", encoding="utf-8")
        changes = body(app, ["sh", "kill.sh"])
        with pytest.raises(OpsError) as caught:
            migrations.run(other, app.parent / "store", "d", **changes)
    assert "could not be read" in caught.value.cause
    assert "public.pgmigrations" in caught.value.remedy


def test_a_role_without_rights_changes_nothing_and_the_error_says_so(server: Server, database: str, app: Path) -> None:
    run_until = [*ONE_BY_ONE[:4], "1", *ONE_BY_ONE[4:]]
    migrations.run(server, app.parent / "store", database, **body(app, run_until))
    server.psql("CREATE ROLE migrating_plain LOGIN PASSWORD 'plain'")
    server.psql("GRANT SELECT, INSERT ON pgmigrations TO migrating_plain", database)
    server.psql("GRANT USAGE ON SEQUENCE pgmigrations_id_seq TO migrating_plain", database)
    try:
        connection = acts.connection(server, user="migrating_plain", password="plain")
        with pytest.raises(OpsError) as caught:
            run(server, app, database, connection=connection)
    finally:
        server.psql("DROP OWNED BY migrating_plain", database)
        server.psql("DROP ROLE migrating_plain")
    assert caught.value.code == "command_failed"
    assert "must be owner" in caught.value.cause
    assert "Applied by its ledger: nothing" in caught.value.cause
    assert columns(server, database) == "id tenant_id"
