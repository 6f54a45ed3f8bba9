# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus (Debian's prometheus) that scrapes an exporter of ours: `with running() as server: ...`."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import scratch
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

CONFIG = """
global:
  scrape_interval: 250ms
scrape_configs:
  - job_name: lab
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Exporter:
    """What the Prometheus scrapes: the text in lines, while it is up."""

    def __init__(self) -> None:
        self.text = "lab_ready 1\n"
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(exporter.text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more samples."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Server:
    """One Prometheus."""

    def __init__(self) -> None:
        self.folder = scratch.claim("prometheus")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.exporter = Exporter()
        (self.folder / "prometheus.yml").write_text(CONFIG.format(port=self.exporter.port), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 30.0) -> None:
        """Start and wait for a sample; seconds. Raises OpsError prometheus_missing, prometheus_start_failed."""
        program = shutil.which("prometheus")
        if program is None:
            raise OpsError(
                "prometheus_missing", "Prometheus is not on this machine.", "Install it: apt-get install prometheus."
            )
        command = [program, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.has("lab_ready"):
                return
            time.sleep(0.05)
        tail = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise OpsError("prometheus_start_failed", "Prometheus did not start.", " | ".join(tail))

    def has(self, query: str) -> bool:
        """Whether an instant query gives anything."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own
            return b'"value"' in answer.read()
        return False

    def expose(self, text: str, until: str, timeout: float = 20.0) -> None:
        """Let the exporter say this, and wait until a query gives something."""
        self.exporter.text = f"lab_ready 1\n{text}\n"
        deadline = time.monotonic() + timeout
        while not self.has(until):
            assert time.monotonic() < deadline, f"{until} gives nothing"
            time.sleep(0.1)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
        self.exporter.stop()
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
