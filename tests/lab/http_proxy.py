# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP proxy on 127.0.0.1 that spoils chosen requests as servers, caches and bad memory do.

with HttpProxy(server.port) as proxy:
    proxy.rules.append(Rule("status", method="PUT", status=503, times=2))
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>made by the lab</Message></Error>"
_OWN = {"connection", "transfer-encoding", "content-length", "expect"}


@dataclass
class Rule:
    """What happens to requests of a method whose path and query contain a text.

    kind:  status (answered here with that HTTP status and S3 error code, the server hears nothing),
           lose (the server hears it, its answer is dropped), flip_up / flip_down (one bit of the middle byte of
           the request's or the answer's body is turned), cut (the answer stops after half of its body),
           before (call() runs, then all goes on as usual)
    header: only requests that have this header
    times: how many requests it spoils before it is over; 0 for all
    """

    kind: str
    method: str = ""
    contains: str = ""
    header: str = ""
    status: int = 503
    code: str = "ServiceUnavailable"
    times: int = 0
    call: Callable[[], object] | None = None
    hits: int = 0

    def wants(self, method: str, path: str, headers: Mapping[str, str]) -> bool:
        """Whether this request is to be spoiled."""
        if self.times and self.hits >= self.times:
            return False
        return self.method in ("", method) and self.contains in path and (not self.header or self.header in headers)


class HttpProxy:
    """Forwards 127.0.0.1:port to a server's port; the Host header stays, so that signatures hold.

    certificate: a PEM file with key and certificate, for a proxy that speaks TLS.
    """

    def __init__(self, target_port: int, certificate: str = "") -> None:
        self.target_port = target_port
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._scheme = "https" if certificate else "http"
        self._server = _Server(self)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The address for a client."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpProxy:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._serving.join(5)

    def take(self, method: str, path: str, headers: Mapping[str, str]) -> Rule | None:
        """The rule for a request that arrived, counted as hit."""
        with self._lock:
            self.requests.append((method, path))
            for rule in self.rules:
                if rule.wants(method, path, headers):
                    rule.hits += 1
                    return rule
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: HttpProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _forward(self) -> None:
        rule = self.server.proxy.take(self.command, self.path, dict(self.headers.items()))
        kind = rule.kind if rule is not None else ""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if rule is not None and kind == "status":
            self._answer(rule.status, [("Content-Type", "application/xml")], _ERROR.format(code=rule.code).encode())
            return
        if rule is not None and rule.call is not None:
            rule.call()
        if kind == "flip_up":
            body = _flipped(body)
        status, headers, answer = self._ask(body)
        if kind == "lose":
            self.close_connection = True
            return
        if kind == "flip_down":
            answer = _flipped(answer)
        self._answer(status, headers, answer, cut=kind == "cut")

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _forward

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.server.proxy.target_port, timeout=60)
        ) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body
