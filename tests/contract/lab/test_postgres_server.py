# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import binaries, disk, postgres, processes, scratch


def test_a_server_of_each_version_answers_with_its_own_version(server: postgres.Server) -> None:
    assert int(server.psql("SHOW server_version_num")) // 10000 == server.version


def test_the_tools_are_of_the_servers_version(server: postgres.Server) -> None:
    assert f"(PostgreSQL) {server.version}." in server.tool("pg_dump", "--version")


def test_the_server_does_not_run_as_root(server: postgres.Server) -> None:
    assert (Path("/proc") / str(server.pid)).stat().st_uid != 0


def test_a_wrong_password_is_refused_over_tcp_and_socket(server: postgres.Server) -> None:
    for socket in (False, True):
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.dsn(password="wrong", socket=socket))


def test_the_socket_and_tcp_reach_the_same_server(server: postgres.Server) -> None:
    answers = set()
    for socket in (False, True):
        with psycopg2.connect(server.dsn(socket=socket)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_postmaster_start_time()::text")
            row = cursor.fetchone()
            assert row is not None
            answers.add(row[0])
    assert len(answers) == 1


def test_committed_rows_survive_a_kill_of_the_whole_server() -> None:
    with postgres.running(18) as server:
        server.psql("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        assert not server.is_running
        server.start()
        assert server.psql("SELECT answer FROM kept") == "42"


def test_a_password_with_every_awkward_character_works_and_is_not_in_the_log() -> None:
    password = "a:b\\c'd\"e f%$é"
    with postgres.running(18, password=password) as server:
        assert server.psql("SELECT 1") == "1"
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert password not in server.log.read_text(encoding="utf-8")


def test_settings_go_over_the_labs_own() -> None:
    with postgres.running(18, settings={"max_connections": "7", "application_name": "it's"}) as server:
        assert server.psql("SHOW max_connections") == "7"


def test_a_durable_server_syncs_and_the_others_do_not() -> None:
    with postgres.running(18, durable=True) as server:
        assert server.psql("SHOW fsync") == "on"
    with postgres.running(18) as server:
        assert server.psql("SHOW fsync") == "off"


def test_a_failing_statement_is_an_error_with_the_servers_words(server: postgres.Server) -> None:
    with pytest.raises(OpsError, match="division by zero") as refused:
        server.psql("SELECT 1; SELECT 1/0; SELECT 2")
    assert refused.value.code == "tool_failed"


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(OpsError, match="no_such_setting") as refused,
        postgres.running(18, settings={"no_such_setting": "1"}),
    ):
        pass
    assert refused.value.code == "server_start_failed"


def test_nothing_is_left_after_a_server() -> None:
    with postgres.running(18) as server:
        folder, pid = server.folder, server.pid
        name = processes.identity(pid)
    assert not folder.exists()
    assert not processes.alive(name)


@pytest.fixture
def own_scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scratch folder that no other run on this machine sweeps."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="lab") as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("SAASOPS_LAB_TMP", folder)
        yield Path(folder)


def test_the_next_start_ends_what_a_killed_process_left(own_scratch: Path) -> None:
    program = (
        "import time\n"
        "from ansible_collections.saasops.runbook.tests.lab import postgres\n"
        "with postgres.running(18) as server:\n"
        "    print(server.pid, server.folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        left = processes.identity(int(pid))
        owner.kill()
    assert processes.alive(left)
    scratch.sweep()
    assert not processes.alive(left)
    assert not Path(folder).exists()


def test_ctrl_c_stops_the_server_and_removes_it() -> None:
    program = (
        "import time\n"
        "from ansible_collections.saasops.runbook.tests.lab import postgres\n"
        "with postgres.running(18) as server:\n"
        "    print(server.pid, server.folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        left = processes.identity(int(pid))
        owner.send_signal(2)
        owner.wait(10)
    assert not processes.alive(left)
    assert not Path(folder).exists()


def test_a_backend_that_outlives_its_killed_postmaster_is_ended_too() -> None:
    with postgres.running(18) as server:
        busy = server.connect()
        backend = busy.get_backend_pid()
        name = processes.identity(backend)
        # a loop in PL/pgSQL that waits for nothing does not notice that the postmaster is gone
        busy.set_session(autocommit=True)
        sender = threading.Thread(target=_loop, args=(busy,), daemon=True)
        sender.start()
        deadline = time.monotonic() + 20
        while server.psql(f"SELECT state FROM pg_stat_activity WHERE pid = {backend}") != "active":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(server.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert processes.alive(name)
    assert not processes.alive(name)
    sender.join(5)


def _loop(session: connection) -> None:
    with contextlib.suppress(psycopg2.Error), session.cursor() as cursor:
        cursor.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")


def test_programs_that_the_servers_user_cannot_reach_are_copied(own_scratch: Path, tmp_path: Path) -> None:
    installation = binaries.find(18).resolve().parent
    hidden = tmp_path / "closed"
    shutil.copytree(installation, hidden / "pginstall", symlinks=True)
    hidden.chmod(0o700)
    runnable = binaries.runnable(hidden / "pginstall" / "bin")
    if os.geteuid() == 0:
        assert hidden not in runnable.parents
    owner = processes.unprivileged()
    root = os.geteuid() == 0
    done = subprocess.run(
        [str(runnable / "postgres"), "--version"],
        user=owner.pw_uid if root else None,
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    assert "PostgreSQL" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_data_on_a_small_disk_fills_up_and_the_server_recovers() -> None:
    with (
        disk.small(64) as folder,
        postgres.running(18, data=folder / "data", settings={"max_wal_size": "32MB", "min_wal_size": "32MB"}) as server,
    ):
        with pytest.raises(OpsError, match=r"No space left on device|server closed the connection"):
            server.psql("CREATE TABLE much AS SELECT repeat(md5(g::text), 30) FROM generate_series(1, 100000) g")
        disk.grow(folder, 256)
        if not server.is_running:
            server.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert server.psql("SELECT 1") == "1"
                break
            except OpsError:
                time.sleep(0.1)
        assert server.psql("SELECT to_regclass('much') IS NULL") == "t"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_small_disk_has_its_size_and_is_full_when_filled(kind: str) -> None:
    with disk.small(32, kind) as folder:
        assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize <= 32 * 1024 * 1024
        disk.fill(folder, leave=1024 * 1024)
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(b"x" * 4 * 1024 * 1024)
    assert not folder.exists()
