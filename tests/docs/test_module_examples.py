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
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start_file
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
# one after the other on one server: a backup comes before a restore, a restore before a switch
ORDER = (
    "journal_info",
    "pg_backup",
    "pg_backup_copy",
    "pg_backup_info",
    "pg_backup_pin",
    "pg_backup_prune",
    "pg_discover_info",
    "pg_restore",
    "pg_swap",
    "pg_verify",
    "pg_restore_tenant",
    "guard_status",
    "guard_unlock",
    "alertmanager_silence",
)
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


def fitted(task: dict[str, object], server: Server, store: Path, set_id: str, alerts: str = "") -> dict[str, object]:
    """The task with this server, this store and an id that is there."""
    for name, options in task.items():
        if name.startswith("saasops.runbook.") and isinstance(options, dict):
            if "connection" in options:
                options["connection"] = connection(server)
            if "store" in options:
                options["store"] = {"path": str(store)}
            if "alertmanager" in options:
                options["alertmanager"] = {"url": alerts}
            if "copies" in options:
                options["copies"] = [{"path": str(store.parent / "copy"), "create": True}]
            if options.get("set") == SAMPLE_SET:
                options["set"] = set_id
    return task


def test_every_module_has_examples_and_a_place_in_the_order(server: Server) -> None:
    assert sorted(ORDER) == sorted(path.stem for path in MODULES.glob("*.py") if path.stem != "__init__")
    assert all(examples(module) for module in ORDER)


def test_the_examples_run(server: Server, podcastflow: str, alerts: Alertmanager, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    hosts = inventory(tmp_path, {})
    set_id = SAMPLE_SET
    for module in ORDER:
        tasks = [fitted(task, server, store, set_id, alerts.url) for task in examples(module)]
        if module == "pg_verify":
            restore = {"system": "demo", "database": podcastflow, "target": "podcastflow_drill"}
            drill: dict[str, object] = {"name": "Restore for the drill", "saasops.runbook.pg_restore": restore}
            restore.update({"connection": {}, "store": {}})  # type: ignore[dict-item]
            tasks.insert(0, fitted(drill, server, store, set_id))
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
