# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis (Debian's redis-server) with a password: `with running() as server: ...`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import scratch
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

PASSWORD = "lab redis secret"


class Server:
    """One Redis that keeps nothing on disk."""

    def __init__(self) -> None:
        self.folder = scratch.claim("redis")
        self.port = free_port()
        self.password = PASSWORD
        # the password in a file, as others read arguments
        settings = ["bind 127.0.0.1", f"port {self.port}", f'requirepass "{PASSWORD}"', 'save ""', "appendonly no"]
        settings += [f"dir {self.folder}", f"unixsocket {self.folder}/s"]
        (self.folder / "redis.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 20.0) -> None:
        """Start and wait until it answers; seconds. Raises OpsError redis_missing, redis_start_failed."""
        program = shutil.which("redis-server")
        if program is None:
            raise OpsError(
                "redis_missing", "Redis is not on this machine.", "Install it: apt-get install redis-server."
            )
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(self.folder / "redis.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        tail = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise OpsError("redis_start_failed", "Redis did not start.", " | ".join(tail))

    def cli(self, *arguments: str) -> str:
        """What redis-cli says, which shares no code with ours."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *arguments],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD},
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.strip()

    def remove(self) -> None:
        """Stop it and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
        scratch.release(self.folder)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A started server that is gone afterwards."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()
