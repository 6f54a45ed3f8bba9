# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of sessions that is killed in the middle: what was told stands, the next run ends the rest, nothing is held."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import acts, processes
from ansible_collections.saasops.runbook.tests.lab.clients import Client
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.stuck import Stuck

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
ROLE = "sessions_fault"


@pytest.fixture
def hosts(server: Server, database: str, tmp_path: Path) -> Iterator[Path]:
    server.psql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
    yield inventory(
        tmp_path,
        {
            "saasops_system": "killed",
            "saasops_database": database,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_session_policies": [
                {"name": "forgotten", "state": "idle in transaction", "idle_over": "0s", "user": [ROLE, "postgres"]}
            ],
        },
    )
    server.psql(f"DROP ROLE {ROLE}")


def until(done: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.02)
    return False


def killed(controller: subprocess.Popen[str], who: str) -> None:
    """The module alone, the controller alone (its module goes on to its end), or everything that was started."""
    modules = [processes.identity(pid) for pid in processes.modules(controller.pid)]
    assert modules, "no module ran"
    if who == "controller":
        controller.kill()
        controller.wait(60)
        assert until(lambda: not any(processes.alive(module) for module in modules))
        return
    everybody = [controller.pid, *processes.descendants(controller.pid)]
    processes.end(modules if who == "module" else [processes.identity(pid) for pid in everybody])
    controller.communicate(timeout=60)


def intents(store: Path) -> list[dict[str, object]]:
    bodies = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("journal/0*.json"))]
    return [body for body in bodies if body.get("kind") == "intent" and body.get("verb") == "sessions"]


@pytest.mark.parametrize("who", ["module", "controller", "everybody"])
def test_a_killed_run_leaves_its_evidence_and_the_next_one_ends_what_is_left(
    server: Server, database: str, hosts: Path, tmp_path: Path, who: str
) -> None:
    client = Client(server, database, ROLE, "forgotten").run("BEGIN", "SELECT 1")
    with Stuck(server, database) as stuck:
        stuck.begin()
        # the first is gone when the module waits for the one that nothing reaches
        with start("sessions", hosts, "-e", "policy=forgotten") as controller:
            assert until(lambda: not server.psql(f"SELECT pid FROM pg_stat_activity WHERE pid = {client.pid}"))
            killed(controller, who)
        (intent,) = intents(tmp_path / "store")
        assert f"pid {client.pid}" in json.dumps(intent["plan"])
        stuck.let_go()
        again = play("sessions", hosts, "-e", "policy=forgotten")
    assert again.code == 0, again.output
    assert not server.psql(f"SELECT pid FROM pg_stat_activity WHERE pid = {stuck.pid}")
    assert play("status", hosts).code == 0
    client.close()


def test_a_store_that_is_gone_is_gone_past_with_a_reason_only(
    server: Server, database: str, hosts: Path, tmp_path: Path
) -> None:
    client = Client(server, database, ROLE, "forgotten").run("BEGIN", "SELECT 1")
    (tmp_path / "store").write_text("no folder", encoding="utf-8")
    refused = play("sessions", hosts, "-e", "policy=forgotten")
    assert refused.code != 0, refused.output
    assert client.lives()
    run = play("sessions", hosts, "-e", "policy=forgotten", "-e", "break_glass='the store died'")
    assert run.code == 0, run.output
    assert not client.lives()
    client.close()
