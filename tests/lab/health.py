# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure checks in this process, as the module health_check does with the defaults of its argument spec."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.execute import health_check
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab.acts import connection, context
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

Facts = Mapping[str, object]


def measure(
    *checks: Facts, server: Server | None = None, lines: list[str] | None = None, check: bool = False, **params: object
) -> Result:
    """The module's result; warnings come into lines. Only these checks, unless builtin=True."""
    given: dict[str, object] = {"system": "lab", "checks": list(checks), "builtin": False, "deadline": 30, **params}
    if server is not None:
        given["connection"] = connection(server)
    return health_check.execute(given, context(check, lines))


def checks_of(result: Result) -> dict[str, dict[str, object]]:
    """The outcomes by their names."""
    found = cast("list[dict[str, object]]", result.evidence["checks"])
    return {str(item["name"]): item for item in found}


def one(given: Facts, **params: object) -> dict[str, object]:
    """The outcome of one check, which is named x."""
    return checks_of(measure({"name": "x", **given}, **params))["x"]  # type: ignore[arg-type]


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def says(status: int, body: str | bytes, **headers: str) -> Answer:
    """An answer with a body and its length."""
    raw = body.encode() if isinstance(body, str) else body

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(raw)), **named}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(raw)

    return answer


class Site:
    """A web server on 127.0.0.1 whose paths answer as told; requests are kept."""

    def __init__(self, paths: Mapping[str, Answer]) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((f"{self.command} {self.path}", dict(self.headers)))
                with contextlib.suppress(OSError):
                    paths.get(self.path.split("?")[0], says(404, "no such path"))(self)

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextlib.contextmanager
def site(**paths: Answer) -> Iterator[Site]:
    """A started web server; the path /name answers as the argument name says."""
    server = Site({f"/{name}": answer for name, answer in paths.items()})
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port on 127.0.0.1 that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def sleeps(seconds: float) -> Answer:
    """An answer that comes late."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        says(200, "late")(request)

    return answer


def drips(request: http.server.BaseHTTPRequestHandler) -> None:
    """An answer that goes on for ever, a byte at a time, so that no single wait is long."""
    request.send_response(200)
    request.end_headers()
    for _count in range(200):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.05)
