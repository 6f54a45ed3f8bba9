# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer before a lab server: `with pgbouncer(server, "transaction") as pooler: ...`."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from ansible_collections.saasops.runbook.tests.lab import processes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server, free_port

# may say PAUSE, may only look, may do neither
ADMIN, LOOKER, NOBODY = "pool_admin", "pool_looker", "pool_nobody"


class PgBouncer:
    """One PgBouncer; it keeps its port and configuration from start to start."""

    def __init__(self, server: Server, mode: str, databases: str, settings: str) -> None:
        """databases: lines of the section [databases]; {server} stands for the server's address.

        settings: further lines of the section [pgbouncer]; the last one of a name counts.
        """
        self.host, self.port = "127.0.0.1", free_port()
        self.password = secrets.token_urlsafe(12)
        self._server = server
        self.folder = server.folder / f"pgbouncer-{self.port}"
        self.folder.mkdir()
        users = {server.user: server.password, "demo_app": "demo"}
        users |= dict.fromkeys((ADMIN, LOOKER, NOBODY), self.password)
        (self.folder / "users.txt").write_text("".join(f'"{u}" "{p}"\n' for u, p in users.items()), encoding="utf-8")
        (self.folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            + databases.format(server=f"host={server.host} port={server.port}")
            + f"\n[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self.folder}/users.txt\npool_mode = {mode}\n"
            f"admin_users = {ADMIN}\nstats_users = {LOOKER}\n"
            f"ignore_startup_parameters = extra_float_digits\n{settings}\n",
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it listens."""
        argv = ["pgbouncer", str(self.folder / "pgbouncer.ini")]
        if os.geteuid() == 0:
            owner = processes.unprivileged()
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            argv = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", *argv]
        self._process = subprocess.Popen(
            argv,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "PgBouncer did not come up"
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; the configuration stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def dsn(self, database: str) -> str:
        """For clients that come through it, as the superuser."""
        return (
            f"host={self.host} port={self.port} dbname={database} user={self._server.user}"
            f" password={self._server.password}"
        )

    def option(self, **changes: object) -> dict[str, object]:
        """An entry of the option poolers for it."""
        return {"host": self.host, "port": self.port, "user": ADMIN, "password": self.password, **changes}

    def console(self, command: str) -> list[dict[str, object]]:
        """Say something in its console by psycopg2, which shares no code with what is tested."""
        connection = psycopg2.connect(
            host=self.host, port=self.port, dbname="pgbouncer", user=ADMIN, password=self.password
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []
        finally:
            connection.close()

    @property
    def log(self) -> list[str]:
        """What it wrote so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()

    def paused(self, database: str) -> bool:
        return any(row["name"] == database and row["paused"] == 1 for row in self.console("SHOW DATABASES"))

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def pgbouncer(
    server: Server, mode: str, databases: str = "* = {server}", settings: str = ""
) -> Iterator[PgBouncer]:
    """A started PgBouncer, removed at the end."""
    pooler = PgBouncer(server, mode, databases, settings)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.remove()
