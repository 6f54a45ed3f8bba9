# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Alertmanager (Debian's prometheus-alertmanager): `with running() as server: ...`."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import scratch
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

CONFIG = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n"


class Server:
    """One Alertmanager; its silences stay from start to start."""

    def __init__(self) -> None:
        self.folder = scratch.claim("alertmanager")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (self.folder / "alertmanager.yml").write_text(CONFIG, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 20.0) -> None:
        """Start and wait until it is ready; seconds. Raises OpsError alertmanager_start_failed."""
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        if program is None:
            raise OpsError(
                "alertmanager_missing",
                "Alertmanager is not on this machine.",
                "Install it: apt-get install prometheus-alertmanager.",
            )
        command = [program, f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/data"]
        # an empty address switches the cluster's own port off
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            ready = f"{self.url}/-/ready"
            with contextlib.suppress(OSError), urllib.request.urlopen(ready, timeout=2):  # noqa: S310 - our own
                return
            time.sleep(0.05)
        tail = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise OpsError("alertmanager_start_failed", "Alertmanager did not start.", " | ".join(tail))

    def stop(self) -> None:
        """SIGTERM: it writes its silences down."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def amtool(self, *arguments: str) -> str:
        """What amtool says, which shares no code with ours."""
        done = subprocess.run(
            [shutil.which("amtool") or "amtool", f"--alertmanager.url={self.url}", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
            cwd=self.folder,
        )
        return done.stdout

    def silences(self, *filters: str) -> list[dict[str, object]]:
        """The living silences as amtool lists them."""
        found = json.loads(self.amtool("silence", "query", "-o", "json", *filters))
        assert isinstance(found, list)
        return found

    def clear(self) -> None:
        """End all silences."""
        living = [str(item["id"]) for item in self.silences()]
        if living:
            self.amtool("silence", "expire", *living)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
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
