# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An outside watcher on 127.0.0.1, as healthchecks.io or Uptime Kuma: notes who asks for its secret address."""

from __future__ import annotations

import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Watcher:
    """with Watcher() as watcher: ... watcher.heard is what was asked for, as (method, path).

    statuses: what the next answers are; 200 when none is left.
    """

    def __init__(self) -> None:
        self.secret = secrets.token_hex(12)
        self.heard: list[tuple[str, str]] = []
        self.statuses: list[int] = []
        self._server = _Server(self)
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The secret address."""
        return f"{self.address}/ping/{self.secret}"

    def __enter__(self) -> Watcher:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._serving.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _note(self) -> None:
        watcher = self.server.watcher
        watcher.heard.append((self.command, self.path))
        self.send_response(watcher.statuses.pop(0) if watcher.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = _note
