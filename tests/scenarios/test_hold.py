# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients are kept out of a database and let in again; a hold with an end ends although nobody is there any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.modules.expiry_timer import EXAMPLES
from ansible_collections.saasops.runbook.tests.lab import docker, systemd_host
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play, start, start_file
from ansible_collections.saasops.runbook.tests.lab.systemd_host import SystemdHost

DATABASE, CLIENT = "shop app", "clerk"
LIMIT = "SELECT datconnlimit FROM pg_database WHERE datname = 'shop app'"


@pytest.fixture(scope="module")
def machine(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    with systemd_host.running(tmp_path_factory.mktemp("host")) as host:
        host.psql(f"CREATE ROLE {CLIENT} LOGIN")
        host.psql(f'CREATE DATABASE "{DATABASE}" CONNECTION LIMIT 17')
        yield host


@pytest.fixture
def held(machine: SystemdHost, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Run a verb on the host; afterwards nothing of ours is left there."""
    store = f"/var/backups/{os.urandom(4).hex()}"
    hosts = inventory(
        tmp_path,
        {
            **machine.variables(),
            "saasops_system": "shop",
            "saasops_database": DATABASE,
            "saasops_connection": {
                "unix_socket": "/run/postgresql",
                "user": "postgres",
                "client_bin": systemd_host.BIN,
            },
            "saasops_store": {"path": store, "create": True},
        },
        {"shop": {}},
    )

    def run(verb: str, *arguments: str) -> Run:
        return play(verb, hosts, *arguments, timeout=90)

    yield run
    run("hold", "-e", "state=released", "-e", "limit=17")
    machine.psql(f'ALTER DATABASE "{DATABASE}" CONNECTION LIMIT 17')


def units(machine: SystemdHost) -> list[str]:
    listed = machine.run(
        "sh", "-c", "ls /etc/systemd/system /run/systemd/system /var/lib/saasops/expiry 2>/dev/null; true"
    )
    return [name for name in listed.split() if "expiry-" in name or name.startswith("hold-")]


def until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.5)
    return False


def opened(machine: SystemdHost) -> list[dict[str, object]]:
    found = machine.run("sh", "-c", "cat /var/backups/*/open/*.json 2>/dev/null || true")
    return [json.loads(line) for line in found.splitlines() if line.strip()]


def test_a_hold_keeps_clients_out_until_it_is_released_and_the_limit_comes_back(
    machine: SystemdHost, held: Callable[..., Run]
) -> None:
    assert machine.connects(CLIENT, DATABASE)
    checked = held("hold", "--check", "-e", "reason=repair")
    assert checked.code == 0, checked.output
    assert machine.psql(LIMIT) == "17"
    run = held("hold", "-e", "reason=repair")
    assert run.code == 0, run.output
    assert not machine.connects(CLIENT, DATABASE)
    assert machine.connects("postgres", DATABASE)
    assert units(machine) == []
    again = held("hold", "-e", "reason=repair")
    assert (again.code, again.changed) == (0, 0), again.output
    released = held("hold", "-e", "state=released")
    assert released.code == 0, released.output
    assert machine.psql(LIMIT) == "17"
    assert opened(machine) == []
    assert held("hold", "-e", "state=released").changed == 0


def test_a_hold_ends_at_its_time_although_the_controller_was_killed_right_after_the_act(
    machine: SystemdHost, held: Callable[..., Run], tmp_path: Path
) -> None:
    with start("hold", tmp_path / "inventory.yml", "-e", "reason=repair", "-e", "for=75s") as controller:
        acted = until(lambda: machine.psql(LIMIT) == "0", 70)
        os.killpg(controller.pid, signal.SIGKILL)
        assert acted, controller.communicate()[0]
    assert not machine.connects(CLIENT, DATABASE)
    assert len(units(machine)) >= 2
    assert until(lambda: machine.psql(LIMIT) == "17", 90)
    assert machine.connects(CLIENT, DATABASE)
    assert until(lambda: units(machine) == [], 10)
    assert len(opened(machine)) == 1, "the timer knows no store"
    time.sleep(31)
    run = held("reconcile")
    assert run.code == 0, run.output
    assert "let into shop app already" in run.output
    assert opened(machine) == []
    assert held("reconcile").changed == 0


def test_a_hold_whose_time_passes_while_the_host_is_down_ends_when_it_is_up_again(
    machine: SystemdHost, held: Callable[..., Run]
) -> None:
    run = held("hold", "-e", "reason=repair", "-e", "for=75s")
    assert run.code == 0, run.output
    machine.restart(pause=70)
    assert until(lambda: machine.psql(LIMIT) == "17", 60)
    assert until(lambda: units(machine) == [], 10)


def test_reconcile_ends_a_hold_whose_timer_was_removed(machine: SystemdHost, held: Callable[..., Run]) -> None:
    run = held("hold", "-e", "reason=repair", "-e", "for=75s")
    assert run.code == 0, run.output
    for unit in {name.rpartition(".")[0] for name in units(machine) if name.endswith(".timer")}:
        machine.run("systemctl", "stop", f"{unit}.timer")
    early = held("reconcile")
    assert early.changed == 0, early.output
    assert machine.psql(LIMIT) == "0"
    time.sleep(110)
    assert machine.psql(LIMIT) == "0"
    checked = held("reconcile", "--check")
    assert "would be put back" in checked.output
    assert machine.psql(LIMIT) == "0"
    late = held("reconcile")
    assert late.code == 0, late.output
    assert machine.psql(LIMIT) == "17"
    assert held("reconcile").changed == 0


def test_the_examples_of_expiry_timer_run(machine: SystemdHost, tmp_path: Path) -> None:
    tasks = yaml.safe_load(EXAMPLES)
    for task in tasks:
        task["saasops.runbook.expiry_timer"]["store"] = {"path": "/var/backups/examples", "create": True}
    book = tmp_path / "examples.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks[:1]}]), encoding="utf-8")
    hosts = inventory(tmp_path, machine.variables(), {"shop": {}})

    def run() -> Run:
        with start_file(book, hosts) as process:
            output, _none = process.communicate(timeout=90)
        return Run(process.returncode, output)

    assert run().changed == 1
    assert "saasops-expiry-maintenance-page.timer" in machine.run("systemctl", "--no-pager", "list-timers")
    again = run()
    assert (again.code, again.changed) == (0, 0), again.output
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks[1:]}]), encoding="utf-8")
    assert run().changed == 1
    assert "maintenance-page" not in machine.run("systemctl", "--no-pager", "list-timers")
    assert units(machine) == []


def test_a_client_that_is_in_is_ended(machine: SystemdHost, held: Callable[..., Run]) -> None:
    argv = [
        "docker",
        "exec",
        "--user=postgres",
        machine.name,
        f"{systemd_host.BIN}/psql",
        "-XAtqc",
        "SELECT pg_sleep(60)",
    ]
    with subprocess.Popen([*argv, "-U", CLIENT, DATABASE], stderr=subprocess.PIPE) as client:
        assert until(lambda: machine.psql(f"SELECT count(*) FROM pg_stat_activity WHERE usename='{CLIENT}'") == "1", 10)
        run = held("hold", "-e", "reason=repair")
        assert "1 connections were ended" in run.output
        assert client.wait(20) != 0
    assert docker.answers()
