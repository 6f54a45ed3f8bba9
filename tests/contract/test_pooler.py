# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A transaction-mode pooler in the way is found out before anything depends on a session."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import processes
from ansible_collections.saasops.runbook.tests.lab.acts import connection, take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def pgbouncer(server: Server, database: str, mode: str) -> Iterator[int]:
    """PgBouncer before a lab server; gives its port."""
    port = _free_port()
    folder = server.folder / f"pgbouncer-{mode}"
    folder.mkdir()
    (folder / "users.txt").write_text(f'"{server.user}" "{server.password}"\n', encoding="utf-8")
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.host} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = {mode}\n"
        "ignore_startup_parameters = extra_float_digits\n",
        encoding="utf-8",
    )
    argv = ["pgbouncer", "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:
        owner = processes.unprivileged()
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        argv = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", *argv]
    with subprocess.Popen(argv, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "PgBouncer did not come up"
                    time.sleep(0.05)
            yield port
        finally:
            process.kill()


def test_a_transaction_pooler_is_refused(server: Server, database: str, tmp_path: Path) -> None:
    with pgbouncer(server, database, "transaction") as port, pytest.raises(OpsError) as caught:
        take_backup(server, tmp_path, database, connection=connection(server, port=port))
    assert caught.value.code == "pooled_connection"
    assert list(tmp_path.rglob("*.json")) == []


def test_a_session_pooler_serves(server: Server, database: str, tmp_path: Path) -> None:
    with pgbouncer(server, database, "session") as port:
        assert take_backup(server, tmp_path, database, connection=connection(server, port=port)).changed
