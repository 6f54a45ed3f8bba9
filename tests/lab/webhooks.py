# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server of our own in the place of Slack's and PagerDuty's: it keeps what it is told."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Sink:
    """url: its root. told: (path, JSON body) of each request. status: what it answers; None never answers."""

    url: str = ""
    status: int | None = 200
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def texts(self) -> list[str]:
        """What Slack was told."""
        return [str(body["text"]) for path, body in self.told if path.startswith("/services/")]

    def events(self) -> list[tuple[str, dict[str, object]]]:
        """What PagerDuty was told: (action, body); a change event has the action change."""
        return [(str(body.get("event_action") or "change"), body) for path, body in self.told if "enqueue" in path]


@contextlib.contextmanager
def running(certificate: Path) -> Iterator[Sink]:
    """A server over TLS that is gone afterwards; PagerDuty's client takes no other. certificate: PEM, with its key."""
    sink, gone = Sink(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            sink.told.append((self.path, body))
            if sink.status is None:
                gone.wait(30)
                return
            good = {"status": "success", "message": "Event processed", "dedup_key": body.get("dedup_key")}
            slack = self.path.startswith("/services/")
            answer = b"ok" if slack else json.dumps(good).encode()
            self.send_response(sink.status if slack or sink.status != 200 else 202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sink.url = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            yield sink
        finally:
            gone.set()
            server.shutdown()
