# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exec streams that break in every way: what is incomplete is never taken for whole, and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_session import PsqlSession
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Process, Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.docker import open_docker
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_process import ExecProcess
from ansible_collections.saasops.runbook.tests.lab import docker, processes
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer

MARK = "saasops-fault-backup"
DUMP = ["pg_dump", "--format=custom", "--compress=0"]
ENV = {"PGAPPNAME": MARK, "PGDATABASE": "big"}
SECRETS = "ls -d /dev/shm/saasops-pass* /tmp/saasops-pass* 2>/dev/null || true"


@pytest.fixture(scope="module")
def container(docker_postgres: PostgresContainer) -> Iterator[PostgresContainer]:
    """With a database `big` of 50 MB: more than all buffers on the way."""
    docker_postgres.psql("CREATE DATABASE big")
    docker_postgres.psql(
        "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 25) AS x FROM generate_series(1, 60000) AS n", "big"
    )
    yield docker_postgres
    docker_postgres.psql("DROP DATABASE big WITH (FORCE)")


@pytest.fixture
def transport(container: PostgresContainer) -> Transport:
    return container.transport()


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _programs(container: PostgresContainer, name: str) -> list[str]:
    """Pids inside, found without our transport."""
    look = 'for f in /proc/[0-9]*; do [ "$(cat "$f/comm" 2>/dev/null)" = "$0" ] && echo "${f#/proc/}"; done; true'
    return container.run("sh", "-c", look, name, user="postgres").split()


def _crashes(container: PostgresContainer) -> int:
    """How often the server restarted because a process that it was given had been ended by a signal."""
    said = subprocess.run(["docker", "logs", container.name], capture_output=True, check=True, timeout=60)
    return (said.stdout + said.stderr).count(b"was terminated by signal")


def _backends(container: PostgresContainer, name: str = MARK) -> str:
    return container.psql(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'")


def _drain(process: Process) -> int:
    assert process.stdout is not None
    while process.stdout.read(1 << 20):
        pass
    return process.wait(30)


def test_a_whole_stream_is_no_fault(transport: Transport) -> None:
    process = transport.start(DUMP, env=ENV)
    assert _drain(process) == 0


def test_a_killed_client_in_the_middle_of_a_dump_is_a_cut_stream_and_the_dump_is_ended(
    container: PostgresContainer, transport: Transport
) -> None:
    before = _crashes(container)
    process = transport.start(DUMP, env=ENV)
    assert isinstance(process, ExecProcess)
    assert process.stdout is not None
    process.stdout.read(1 << 20)
    # the engine would drain the stream of a client that is gone: a stopped pg_dump is still there to be found
    for pid in _programs(container, "pg_dump"):
        container.run("kill", "-STOP", pid)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(OpsError) as caught:
        _drain(process)
    assert caught.value.code == "stream_cut"
    assert _programs(container, "pg_dump") != []
    process.kill()
    assert _programs(container, "pg_dump") == []
    assert _wait_until(lambda: _backends(container) == "0")
    assert _crashes(container) == before, "the server, which is process 1, took it for a crash"


def test_a_dump_that_a_killed_run_left_is_found_by_its_mark_and_ended(
    container: PostgresContainer, transport: Transport
) -> None:
    before = _crashes(container)
    container.psql("CREATE TABLE held (n int)", "big")
    holder = container.place().open("big")
    holder.run("BEGIN")
    holder.run("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
    run = _other_run(
        container,
        f"""
        process = transport.start(["pg_dump", "--format=directory", "--file=/tmp/left"], env={ENV!r}, stdout=False)
        print("ready", flush=True)
        process.wait()
        """,
    )
    assert _wait_until(lambda: _backends(container) == "1")
    run.kill()
    run.wait()
    time.sleep(1)
    assert _programs(container, "pg_dump") != []
    found = transport.find_marked(MARK)
    assert set(_programs(container, "pg_dump")) <= {str(pid) for pid in found}
    transport.end(found)
    assert _programs(container, "pg_dump") == []
    holder.run("ROLLBACK")
    holder.close()
    assert _wait_until(lambda: _backends(container) == "0")
    assert transport.find_marked(MARK) == []
    assert _crashes(container) == before


def _other_run(container: PostgresContainer, body: str) -> subprocess.Popen[str]:
    """A run of its own, in a Python of its own, that has said `ready`."""
    program = textwrap.dedent(
        f"""
        import time
        from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection
        from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_session import PsqlSession
        from ansible_collections.saasops.runbook.plugins.module_utils.transport.docker import open_docker
        transport = open_docker({{"container": {container.name!r}, "container_user": "postgres"}})
        """
    ) + textwrap.dedent(body)
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, encoding="utf-8", env=_environment()
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    run.stdout.close()
    return run


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_a_killed_run_leaves_no_secret_behind(container: PostgresContainer) -> None:
    run = _other_run(
        container,
        """
        with transport.secret_file("a secret\\n") as path:
            print("ready", flush=True)
            time.sleep(60)
        """,
    )
    assert "saasops-pass" in container.run("sh", "-c", SECRETS)
    run.kill()
    run.wait()
    assert _wait_until(lambda: container.run("sh", "-c", SECRETS) == "")


def test_a_secret_whose_keeper_was_killed_is_removed_by_the_next_run(
    container: PostgresContainer, transport: Transport
) -> None:
    keep = 'for f in /dev/shm/saasops-pass-*; do kill -KILL "${f##*.}"; done'
    with transport.secret_file("left behind\n") as left:
        container.run("sh", "-c", keep)
        assert container.run("ls", left) == left
        with transport.secret_file("new\n") as path, transport.secret_file("second\n") as second:
            assert set(container.run("sh", "-c", SECRETS).split()) == {path, second}
    assert container.run("sh", "-c", SECRETS) == ""


def test_a_session_of_a_killed_run_ends_on_the_server(container: PostgresContainer) -> None:
    run = _other_run(
        container,
        """
        session = PsqlSession(Connection(user="postgres", application_name="saasops-orphan"), transport)
        session.run("BEGIN")
        print("ready", flush=True)
        session.run("SELECT pg_sleep(120)")
        """,
    )
    assert _backends(container, "saasops-orphan") == "1"
    run.kill()
    run.wait()
    # psql itself waits for the server; what marks it lets the next run end it at once
    transport = container.transport()
    transport.end(transport.find_marked("saasops-orphan"))
    assert _wait_until(lambda: _backends(container, "saasops-orphan") == "0", 12)


WRAPPERS = {
    # what arrives is short, and docker says that all is well
    "cut": 'PROGRAM "$@" | head -c 200000; exit 0',
    "cut with its last words": 'PROGRAM "$@" 2>/dev/null | head -c 200000; exit 0',
    "silent": 'PROGRAM "$@" >/dev/null 2>&1; exit 0',
    "cut within the last words": '{ PROGRAM "$@" 2>&3 3>&-; } 3>&1 >&4 4>&- | head -c 20 >&2; exit 0',
    "longer": 'PROGRAM "$@"; echo and more; exit 0',
    "with one byte changed": 'PROGRAM "$@" | sed "s/0a/0b/"; exit 0',
}


@pytest.fixture(params=WRAPPERS)
def damaged(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A docker program in front of PATH that damages what comes out of `docker exec` and exits 0."""
    return _wrap(str(WRAPPERS[request.param]), tmp_path, monkeypatch)


def _wrap(damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = shutil.which("docker")
    assert program is not None
    wrapper = folder / "docker"
    body = damage.replace("PROGRAM", program)
    wrapper.write_text(f'#!/bin/bash\nif [ "$1" != exec ]; then exec {program} "$@"; fi\nexec 4>&1\n{body}\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


def test_a_damaged_stream_that_exits_0_is_a_cut_stream(
    container: PostgresContainer, transport: Transport, damaged: str
) -> None:
    process = transport.start(["psql", "-XAtc", "SELECT * FROM t LIMIT 1000"], env={"PGDATABASE": "big"})
    with pytest.raises(OpsError) as caught:
        _drain(process)
    assert caught.value.code == "stream_cut"
    with pytest.raises(OpsError) as caught:
        transport.run(["psql", "-XAtc", "SELECT * FROM t LIMIT 1000"], env={"PGDATABASE": "big"})
    assert caught.value.code == "stream_cut"


def test_a_damaged_file_is_not_taken_for_whole(
    container: PostgresContainer, transport: Transport, damaged: str
) -> None:
    container.run(
        "sh",
        "-c",
        "seq 1 100000 | md5sum >/dev/null; i=0; while [ $i -lt 40000 ]; do echo 0a$i; i=$((i+1)); done >/tmp/file",
    )
    with pytest.raises(OpsError) as caught, transport.read_file("/tmp/file") as chunks:
        for _chunk in chunks:
            pass
    assert caught.value.code == "stream_cut"


def test_a_cut_on_the_way_in_keeps_no_file(
    container: PostgresContainer, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container.run("mkdir", "-p", "/tmp/into")
    with monkeypatch.context() as patched:
        _wrap('head -c 100000 | PROGRAM "$@"; exit 0', tmp_path, patched)
        with pytest.raises(OpsError) as caught:
            transport.write_file("/tmp/into/file", [os.urandom(1 << 20)])
        assert caught.value.code == "stream_cut"
    assert container.run("ls", "-A", "/tmp/into") == ""


def test_a_cut_session_ends_and_does_not_hang(
    container: PostgresContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = container.place()
    with monkeypatch.context() as patched:
        _wrap('PROGRAM "$@" | dd bs=16k count=12 2>/dev/null; exit 0', tmp_path, patched)
        session = place.open("big")
        with pytest.raises(OpsError) as caught:
            session.rows("SELECT x FROM t LIMIT 1000")
        assert caught.value.code == "session_ended"
    place.close()


def test_a_client_that_hangs_is_bounded_by_the_sessions_timeout(
    container: PostgresContainer, transport: Transport
) -> None:
    connection = container.place().connection.named("saasops-frozen")
    session = PsqlSession(connection, transport, timeout=2.0)
    process = session._process
    assert isinstance(process, ExecProcess)
    processes.freeze(process.pid)
    started = time.monotonic()
    with pytest.raises(OpsError) as caught:
        session.run("SELECT 1")
    assert caught.value.code == "session_timeout"
    assert time.monotonic() - started < 15
    assert _wait_until(lambda: _backends(container, "saasops-frozen") == "0", 12)


def test_a_container_that_is_killed_in_the_middle_says_so(docker_engine: None) -> None:
    with docker.postgres_container("saasops-lab-killed") as doomed:
        transport = doomed.transport()
        session = doomed.place().open()
        process = transport.start(["cat", "/dev/zero"])
        assert process.stdout is not None
        process.stdout.read(1 << 20)
        docker.docker("kill", doomed.name)
        with pytest.raises(OpsError) as caught:
            _drain(process)
        assert caught.value.code == "container_stopped"
        process.kill()
        with pytest.raises(OpsError) as caught:
            session.value("SELECT 1")
        assert caught.value.code == "container_stopped"
        session.close()
        with pytest.raises(OpsError) as caught:
            transport.run(["true"])
        assert caught.value.code == "container_stopped"
        with pytest.raises(OpsError) as caught, transport.secret_file("x\n"):
            pass
        assert caught.value.code == "container_stopped"
        doomed.start()
        assert transport.run(["true"]).code == 0
        docker.docker("pause", doomed.name)
        with pytest.raises(OpsError) as caught:
            transport.run(["true"])
        assert "is paused" in caught.value.cause
        docker.docker("unpause", doomed.name)


def test_a_server_that_dies_ends_the_session(docker_engine: None) -> None:
    with docker.postgres_container("saasops-lab-dies") as doomed:
        session = doomed.place().open()
        doomed.run("sh", "-c", "kill -QUIT 1")
        with pytest.raises(OpsError) as caught:
            session.value("SELECT pg_sleep(20)")
        assert caught.value.code in ("session_ended", "container_stopped")


@pytest.mark.parametrize(
    ("params", "host", "code"),
    [
        ({"container": "no-such-container"}, None, "container_missing"),
        ({"container": "any"}, "unix:///nowhere/docker.sock", "docker_unreachable"),
        ({"container": "any"}, "tcp://127.0.0.1:1", "docker_unreachable"),
        ({"container": "--privileged"}, None, "container_name"),
        ({"container": ""}, None, "container_name"),
    ],
    ids=["missing", "no socket", "no port", "an option", "empty"],
)
def test_a_far_side_that_is_not_there_is_named(
    docker_engine: None, monkeypatch: pytest.MonkeyPatch, params: dict[str, object], host: str | None, code: str
) -> None:
    if host is not None:
        monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(OpsError) as caught:
        open_docker(params).run(["true"])
    assert caught.value.code == code


def test_a_user_that_is_not_in_the_container_is_named(container: PostgresContainer) -> None:
    with pytest.raises(OpsError) as caught:
        container.transport("nobody-at-all").run(["true"])
    assert caught.value.code == "transport_failed"
    assert "nobody-at-all" in caught.value.cause


def test_without_a_docker_program_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpsError) as caught:
        open_docker({"container": "any"}).run(["true"])
    assert caught.value.code == "tool_missing"
    assert "docker" in caught.value.cause
