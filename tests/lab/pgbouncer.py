# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer before a lab server: `with pgbouncer(server, "transaction") as pooler: ...`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from ansible_collections.saasops.runbook.tests.lab import processes, scratch
from ansible_collections.saasops.runbook.tests.lab.postgres import Server, free_port

# Debian's package puts it where only root's search path leads
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or "pgbouncer"
# may say PAUSE, may only look, may do neither
ADMIN, LOOKER, NOBODY = "pool_admin", "pool_looker", "pool_nobody"


@dataclass(frozen=True)
class Setup:
    """How a PgBouncer is made.

    databases: lines of the section [databases]; {server} stands for the server's address.
    settings:  further lines of the section [pgbouncer]; the last one of a name counts.
    prefix:    a command that runs it, such as nsenter with its arguments.
    """

    mode: str
    databases: str = "* = {server}"
    settings: str = ""
    prefix: Sequence[str] = ()


class PgBouncer:
    """One PgBouncer; it keeps its port, socket and configuration from start to start."""

    def __init__(self, address: str, user: str, password: str, setup: Setup) -> None:
        """address: of the server, as a connection string. user and password: of its superuser."""
        self.host, self.port = "127.0.0.1", free_port()
        self.password = secrets.token_urlsafe(12)
        self._prefix, self._login = setup.prefix, f"user={user} password={password}"
        self.folder = scratch.claim("pgbouncer")
        users = {user: password, "demo_app": "demo"}
        users |= dict.fromkeys((ADMIN, LOOKER, NOBODY), self.password)
        (self.folder / "users.txt").write_text("".join(f'"{u}" "{p}"\n' for u, p in users.items()), encoding="utf-8")
        (self.folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            + setup.databases.format(server=address)
            + f"\n[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir = {self.folder}\n"
            f"auth_type = scram-sha-256\nauth_file = {self.folder}/users.txt\npool_mode = {setup.mode}\n"
            f"admin_users = {ADMIN}\nstats_users = {LOOKER}\n"
            f"ignore_startup_parameters = extra_float_digits\n{setup.settings}\n",
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it listens."""
        argv = [PROGRAM, str(self.folder / "pgbouncer.ini")]
        if os.geteuid() == 0:
            owner = processes.unprivileged()
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            argv = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", *argv]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._prefix, *argv], stdout=log, stderr=log, start_new_session=True)
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(f"{self.folder}/.s.PGSQL.{self.port}")
                return
            assert time.monotonic() < deadline, "PgBouncer did not come up: " + " ".join(self.log[-3:])
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; the configuration stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def dsn(self, database: str) -> str:
        """For clients that come through it, as the superuser."""
        return f"host={self.host} port={self.port} dbname={database} {self._login}"

    def option(self, **changes: object) -> dict[str, object]:
        """An entry of the option poolers for it."""
        return {"host": self.host, "port": self.port, "user": ADMIN, "password": self.password, **changes}

    def console(self, command: str) -> list[dict[str, object]]:
        """Say something in its console by psycopg2, which shares no code with what is tested."""
        connection = psycopg2.connect(
            host=str(self.folder), port=self.port, dbname="pgbouncer", user=ADMIN, password=self.password
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
        scratch.release(self.folder)


@contextmanager
def pgbouncer(server: Server, mode: str, databases: str = "* = {server}", settings: str = "") -> Iterator[PgBouncer]:
    """A started PgBouncer, removed at the end."""
    address = f"host={server.host} port={server.port}"
    pooler = PgBouncer(address, server.user, server.password, Setup(mode, databases, settings))
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.remove()
