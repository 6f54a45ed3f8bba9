# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EXAMPLES of every module are executed as they stand, but for the server, the store and the id of a set."""

from __future__ import annotations

import importlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import demo
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.alertmanager import Server as Alertmanager
from ansible_collections.saasops.runbook.tests.lab.leases import ask
from ansible_collections.saasops.runbook.tests.lab.pgbouncer import ADMIN, PgBouncer, pgbouncer
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start_file
from ansible_collections.saasops.runbook.tests.lab.postgres import Server, running

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
# one after the other on one server: a backup comes before a restore, a restore before a switch
ORDER = (
    "admission",
    "journal_info",
    "pg_backup",
    "pg_backup_copy",
    "pg_backup_info",
    "health_check",
    "pg_backup_pin",
    "pg_backup_prune",
    "pg_discover_info",
    "pg_triage_info",
    "pg_maintenance",
    "pg_restore",
    "pg_swap",
    "pg_verify",
    "pg_restore_tenant",
    "pg_migrate",
    "pg_hold",
    "pg_index",
    "pg_purge",
    "pg_repair",
    "pg_sessions",
    "pg_integrity",
    "guard_approve",
    "guard_run_info",
    "guard_reconcile",
    "guard_status",
    "guard_unlock",
    "guard_report",
    "alertmanager_silence",
)
# needs a host with systemd: tests/scenarios/test_hold.py
ELSEWHERE = ("expiry_timer",)
SAMPLE_SET = "20261122T201747Z-1a2b3c4d"
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


def examples(module: str) -> list[dict[str, object]]:
    """The tasks of a module's EXAMPLES."""
    loaded = importlib.import_module(f"ansible_collections.saasops.runbook.plugins.modules.{module}")
    tasks = yaml.safe_load(loaded.EXAMPLES)
    assert isinstance(tasks, list)
    return tasks


@pytest.fixture
def podcastflow(server: Server) -> Iterator[str]:
    """The database that the examples speak of."""
    name = "podcastflow"
    demo.create(server, name, parameters=demo.Parameters(megabytes=2))
    yield name
    for row in server.psql(
        "SELECT datname FROM pg_database WHERE datname LIKE 'podcastflow%'", "postgres"
    ).splitlines():
        server.psql(f'ALTER DATABASE "{row}" ALLOW_CONNECTIONS true', "postgres")
        server.psql(f'DROP DATABASE "{row}" WITH (FORCE)', "postgres")


def fitted(
    task: dict[str, object],
    server: Server,
    store: Path,
    set_id: str,
    pooler: PgBouncer,
    scratch: Server,
    alerts: str,
) -> dict[str, object]:
    """The task with these servers, this store, pooler and Alertmanager, and an id that is there."""
    for name, options in task.items():
        if name.startswith("saasops.runbook.") and isinstance(options, dict):
            if "connection" in options:
                options["connection"] = connection(scratch if "live_connection" in options else server)
            if "live_connection" in options:
                options["live_connection"] = connection(server)
            if options.get("path") == "/srv/podcastflow/migrations":
                options["path"] = str(migration(store.parent / "migrations"))
            if "store" in options:
                options["store"] = {"path": str(store)}
            if "poolers" in options:
                login = {"user": ADMIN, "password": pooler.password}
                options["poolers"] = [{"host": pooler.host, "port": pooler.port, **login}]
            if "alertmanager" in options:
                options["alertmanager"] = {"url": alerts}
            if "copies" in options:
                options["copies"] = [{"path": str(store.parent / "copy"), "create": True}]
            if options.get("set") == SAMPLE_SET:
                options["set"] = set_id
            if "plan" in options:
                (options["plan"],) = (path.stem for path in (store / "plans").iterdir())
    return task


def migration(folder: Path) -> Path:
    """The folder of migrations that the examples speak of."""
    folder.mkdir(exist_ok=True)
    (folder / "001_begin.sql").write_text("SELECT 1;\n", encoding="utf-8")
    (folder / "002_note.sql").write_text("CREATE TABLE public.note (text text);\n", encoding="utf-8")
    return folder


def test_every_module_has_examples_and_a_place_in_the_order(server: Server) -> None:
    assert sorted([*ORDER, *ELSEWHERE]) == sorted(path.stem for path in MODULES.glob("*.py") if path.stem != "__init__")
    assert all(examples(module) for module in [*ORDER, *ELSEWHERE])


@pytest.fixture
def pooler(server: Server, podcastflow: str) -> Iterator[PgBouncer]:
    """The PgBouncer that the examples speak of."""
    with pgbouncer(server, "transaction", f"{podcastflow} = {{server}}") as started:
        yield started


@pytest.fixture
def scratch() -> Iterator[Server]:
    """The scratch server that an example drills on."""
    with running(18, own=True) as started:
        yield started


def plan_that_waits(server: Server, store: Path, hosts: Path) -> None:
    """A backup that was refused for want of an approval, and kept its plan."""
    task: dict[str, object] = {
        "saasops.runbook.pg_backup": {
            "system": "demo",
            "database": "podcastflow",
            "key": "asked",
            "connection": connection(server),
            "store": {"path": str(store)},
        },
        "vars": {"saasops_approval": {"verbs": ["backup"]}},
    }
    book = hosts.parent / "asked.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    with start_file(book, hosts) as run:
        output, _nothing = run.communicate(timeout=60)
    assert "[approval_required]" in output


def restore_for(server: Server, store: Path) -> dict[str, object]:
    """The task that restores the database which pg_verify's examples look at."""
    return {
        "name": "Restore for the drill",
        "saasops.runbook.pg_restore": {
            "system": "demo",
            "database": "podcastflow",
            "target": "podcastflow_drill",
            "on_missing_roles": "create",
            "connection": connection(server),
            "store": {"path": str(store)},
        },
    }


def test_the_examples_run(
    server: Server,
    podcastflow: str,
    pooler: PgBouncer,
    scratch: Server,
    alerts: Alertmanager,
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    hosts = inventory(tmp_path, {})
    set_id = SAMPLE_SET
    for module in ORDER:
        if module == "guard_approve":
            plan_that_waits(server, store, hosts)
        tasks = [fitted(task, server, store, set_id, pooler, scratch, alerts.url) for task in examples(module)]
        if module == "pg_verify":
            assert "live_connection" in str(tasks[-1]), "the last example is the one on a scratch server"
            tasks = [restore_for(server, store), *tasks[:-1], restore_for(scratch, store), tasks[-1]]
        if module == "guard_unlock":
            Leases(PosixStore(str(store))).acquire(ask("r1"), time.time())
        book = tmp_path / f"{module}.yml"
        play = {"name": module, "hosts": "all", "gather_facts": False, "tasks": tasks}
        book.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
        with start_file(book, hosts) as run:
            try:
                output, _nothing = run.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                run.kill()
                raise
        assert run.returncode == 0, output
        if module == "pg_backup":
            found = [
                e for e in sets.entries(PosixStore(str(store)), "demo") if e.manifest and e.manifest.tenant is None
            ]
            assert len(found) == 1
            set_id = found[0].set_id
