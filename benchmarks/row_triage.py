# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the first look at a server takes whose every ordinary slot is taken, from Enter to the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.saasops.runbook.benchmarks.pairs import Goal, Value
from ansible_collections.saasops.runbook.benchmarks.playbooks import Playbooks
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError
from ansible_collections.saasops.runbook.benchmarks.row import Row, interleave
from ansible_collections.saasops.runbook.tests.lab import acts, docker, postgres, scratch

SLOTS, RESERVED, LIMIT = 100, 3, 15.0
DIRECT, DOCKER = "triage, rescue connection", "triage, through docker"
APP = {"user": "app", "password": "app's own secret"}
ROLE = "CREATE ROLE app LOGIN PASSWORD 'app''s own secret'; CREATE TABLE job AS SELECT 1 AS id; GRANT ALL ON job TO app"
# one holds a lock, the next ten wait for it, the others sleep
FILL = """
export PGPASSWORD="app's own secret"
psql -X -q -h 127.0.0.1 -p {port} -U app postgres >/dev/null 2>&1 <<'SQL' &
BEGIN; UPDATE job SET id = id; SELECT pg_sleep(3600);
SQL
sleep 1
for n in $(seq 10); do
  psql -X -q -h 127.0.0.1 -p {port} -U app -c 'UPDATE job SET id = id' postgres >/dev/null 2>&1 </dev/null &
done
for n in $(seq {rest}); do
  psql -X -q -h 127.0.0.1 -p {port} -U app -c 'SELECT pg_sleep(3600)' postgres >/dev/null 2>&1 </dev/null &
done
wait
"""
TAKEN = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"


def _fill(port: int) -> str:
    return FILL.format(port=port, rest=SLOTS - RESERVED - 11)


def _wait(asked: Callable[[str], str]) -> None:
    # who asks takes a slot, and one that is refused could not come again
    time.sleep(5)
    deadline = time.monotonic() + 60
    while asked(TAKEN) != str(SLOTS - RESERVED):
        if time.monotonic() > deadline:
            raise FailedError(f"only {asked(TAKEN)} slots are taken")
        time.sleep(0.2)


def _look(playbooks: Playbooks, way: str) -> tuple[float, Mapping[str, Value]]:
    """Raises FailedError unless it got in this way and names the root first."""
    log = playbooks.folder / "log"
    log.unlink(missing_ok=True)
    seconds = playbooks.play("saasops.runbook.triage", ANSIBLE_LOG_PATH=str(log))
    said = log.read_text(encoding="utf-8")
    if f"looked through {way}" not in said or "1. ansible-playbook saasops.runbook.sessions" not in said:
        raise FailedError(f"it did not get in through {way}, or names no command: {said[-1500:]}")
    return seconds, {"look": round(seconds, 3)}


@contextlib.contextmanager
def _crowd(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Clients below a shell that stays with them: PostgreSQL as process 1 takes an orphan's end for a crash."""
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as shell:
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)


@contextlib.contextmanager
def _direct(folder: Path) -> Iterator[Playbooks]:
    with postgres.running(15, settings={"max_connections": str(SLOTS)}) as server:
        server.psql(ROLE)
        environment = {**server.environment(), "PATH": f"{server.bin}:/usr/bin:/bin"}
        own = acts.connection(server)
        with _crowd(["sh", "-c", _fill(server.port)], environment):
            _wait(server.psql)
            yield Playbooks(folder, {"saasops_connection": {**own, **APP}, "saasops_rescue_connection": own})


@contextlib.contextmanager
def _docker(folder: Path) -> Iterator[Playbooks]:
    with docker.engine(), docker.postgres_container("saasops-bench") as container:
        container.psql(f"ALTER SYSTEM SET max_connections = {SLOTS}")
        container.psql(ROLE)
        docker.docker("restart", container.name)
        container.wait()
        with _crowd(["docker", "exec", container.name, "sh", "-c", _fill(5432)], dict(os.environ)):
            _wait(container.psql)
            yield Playbooks(folder, {"saasops_connection": {**container.params(), **APP}})


def measure(pairs: int, tell: Callable[[str], None]) -> Row:
    folder = scratch.claim("triage")
    try:
        (folder / "direct").mkdir()
        (folder / "docker").mkdir()
        with _direct(folder / "direct") as direct, _docker(folder / "docker") as through:
            sides = {
                DIRECT: lambda: _look(direct, "saasops_rescue_connection"),
                DOCKER: lambda: _look(through, "the socket inside the container"),
            }
            samples = interleave(sides, pairs, tell, lambda: None)
    finally:
        scratch.release(folder)
    return Row(
        "triage",
        "The first look at a server without a free slot",
        samples,
        [Goal("at most", "look", LIMIT, side) for side in sides],
        [
            f"ansible-playbook from its start to its end; {SLOTS - RESERVED} sessions of an ordinary role hold every"
            " slot that is not reserved, one of them a lock that ten others wait for. A run counts when it got in and"
            " its first command is about the root of those that wait.",
        ],
    )
