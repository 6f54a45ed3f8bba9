# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests over HTTP that several threads make at the same time.

Not ansible.module_utils.urls.open_url: it installs its opener, and with it the TLS settings of one check, for the whole
process.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options

LARGEST = 1024 * 1024  # bytes of an answer
_CHUNK = 65536


@dataclass(frozen=True)
class Request:
    """One request; timeout in seconds for the whole of it. Its secrets are never shown."""

    url: str
    method: str
    timeout: float
    validate_certs: bool = True
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    use_proxy: bool = True
    follow_redirects: bool = False
    body: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Answer:
    """status, body (bytes), and how many seconds it took from the first byte sent to the last one read."""

    status: int
    body: bytes
    seconds: float


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: where it leads to is another thing's health, and gets no secret."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


# what is sent to prove who asks has options of its own, which no result shows
SECRET_HEADERS = re.compile(r"authori[sz]ation|cookie|token|secret|password|api[-_]?key", re.IGNORECASE)


def read_request(options: Options, url: str) -> Request:
    """From a source's options; nothing is contacted. Raises OpsError bad_check."""
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        _port = parts.port
    except ValueError:
        sound = False
    if not sound or any(sign <= " " for sign in url):
        raise options.refuse(
            f"{url.split('@')[-1]!r} is no address without a login.",
            "Write http://host:port/path, and a login as url_username and url_password.",
        )
    told = [name for name in options.mapping("headers") if SECRET_HEADERS.search(name)]
    if told:
        raise options.refuse(
            f"header {told[0]} carries a secret, and headers are shown.",
            "Give it as bearer_token, url_password or api_key (with api_key_header).",
        )
    headers = {"User-Agent": "saasops.runbook", "Accept": "application/json, */*;q=0.5", **options.mapping("headers")}
    if options.text("bearer_token"):
        headers["Authorization"] = f"Bearer {options.text('bearer_token')}"
    elif options.text("url_username"):
        login = f"{options.text('url_username')}:{options.text('url_password')}"
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    if options.text("api_key"):
        headers[options.text("api_key_header") or "X-API-Key"] = options.text("api_key")
    if any("\n" in text or "\r" in text for pair in headers.items() for text in pair):
        raise options.refuse("a header holds a line break.", "Write each header on one line.")
    return Request(
        url=url,
        method=options.text("method") or "GET",
        timeout=options.timeout,
        validate_certs=options.flag("validate_certs", True),
        ca_path=options.text("ca_path"),
        client_cert=options.text("client_cert"),
        client_key=options.text("client_key"),
        use_proxy=options.flag("use_proxy", True),
        follow_redirects=options.flag("follow_redirects"),
        body=options.text("body"),
        headers=headers,
    )


def send(request: Request) -> Answer:
    """Raises OpsError http_unreachable, http_timeout, http_certificate, http_garbled, http_too_long."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=_context(request))]
    handlers += [] if request.follow_redirects else [_Stay()]
    handlers += [] if request.use_proxy else [urllib.request.ProxyHandler({})]
    wire = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        request.url, data=request.body.encode() or None, method=request.method, headers=dict(request.headers)
    )
    began = time.monotonic()
    try:
        try:
            answer = urllib.request.build_opener(*handlers).open(wire, timeout=request.timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = _read(answer, began + request.timeout, request)
            return Answer(int(answer.status or 0), body, time.monotonic() - began)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _told(error, request) from error


def _read(answer: http.client.HTTPResponse | urllib.error.HTTPError, until: float, request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        # read1: one answer of the socket, so that a server that drips cannot keep us past our time
        chunk = answer.read1(_CHUNK)
        if time.monotonic() > until:
            raise socket.timeout
        if not chunk:
            break
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST:
            raise OpsError(
                "http_too_long", f"{_where(request)} answers more than {LARGEST} bytes.", "Name a smaller answer."
            )
    left = getattr(answer, "length", None)
    if left:
        raise http.client.IncompleteRead(b"", left)
    return b"".join(parts)


def _context(request: Request) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=request.ca_path or None)
        if not request.validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if request.client_cert:
            context.load_cert_chain(request.client_cert, request.client_key or None)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise OpsError("http_certificate", f"A file of certificates cannot be used: {reason}.", "Check it.") from error
    return context


def _where(request: Request) -> str:
    # what is behind the question mark may be a key
    return request.url.split("?")[0]


def _told(error: Exception, request: Request) -> OpsError:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return OpsError(
            "http_certificate",
            f"The certificate of {_where(request)} is not trusted: {reason.verify_message}.",
            "Give the authority in ca_path.",
        )
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return OpsError(
            "http_timeout", f"{_where(request)} does not answer within {request.timeout:g} s.", "See its log."
        )
    if isinstance(reason, (http.client.HTTPException, ValueError)):
        return OpsError(
            "http_garbled",
            f"What {_where(request)} answers is no HTTP, or was cut: {type(reason).__name__}.",
            "See it.",
        )
    words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return OpsError("http_unreachable", f"{_where(request)} cannot be reached: {str(words)[:200]}.", "Start it.")
