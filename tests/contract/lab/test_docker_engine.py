# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private Docker engine of the lab leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import docker, processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")


@pytest.fixture(autouse=True)
def own_scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A scratch folder that no other run on this machine sweeps; a short name, for the sockets in it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="d", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("SAASOPS_LAB_TMP", folder)
        yield


PROGRAM = """
import time
from ansible_collections.saasops.runbook.tests.lab import docker
with docker.engine(), docker.postgres_container() as container:
    print(docker.os.environ["DOCKER_HOST"].removeprefix("unix://").removesuffix("/sock"), flush=True)
    time.sleep(300)
"""


def _started() -> tuple[subprocess.Popen[str], Path]:
    """A run with an engine of its own and a container in it, and that engine's folder."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    run = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    assert run.stdout is not None
    folder = Path(run.stdout.readline().strip())
    run.stdout.close()
    assert _ours(folder) != []
    return run, folder


def _ours(folder: Path) -> list[int]:
    """Processes that name the folder: daemon, supervisor of containers, container's supervisor."""
    pids = [int(entry.name) for entry in processes.PROC.iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if any(str(folder) in word for word in processes.command_line(pid))]


def _nothing_left(folder: Path, server: list[int]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (_ours(folder) or any(map(processes.identity, server)) or folder.exists()):
        time.sleep(0.1)
    assert _ours(folder) == []
    assert [pid for pid in server if processes.identity(pid)] == []
    assert str(folder) not in (processes.PROC / "self/mounts").read_text(encoding="utf-8")
    assert not folder.exists()


def _server_of(folder: Path) -> list[int]:
    """PostgreSQL in the container, by its supervisor."""
    found = [pid for supervisor in _ours(folder) for pid in processes.descendants(supervisor)]
    return [pid for pid in found if processes.command_line(pid)[:1] == ["postgres"]]


def test_ctrl_c_ends_the_engine_and_its_containers() -> None:
    run, folder = _started()
    server = _server_of(folder)
    assert server != []
    run.send_signal(signal.SIGINT)
    run.wait(60)
    _nothing_left(folder, server)


def test_what_a_killed_run_left_is_ended_by_the_next() -> None:
    run, folder = _started()
    server = _server_of(folder)
    run.kill()
    run.wait()
    assert _ours(folder) != []
    docker.sweep()
    _nothing_left(folder, server)


def test_what_is_left_after_the_daemon_was_killed_too_is_ended_by_the_next() -> None:
    run, folder = _started()
    server = _server_of(folder)
    run.kill()
    run.wait()
    processes.end((folder / "processes").read_text(encoding="ascii").split())
    docker.sweep()
    _nothing_left(folder, server)
