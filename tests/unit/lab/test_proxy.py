# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.tests.lab.proxy import Fault, Proxy

SENT = b"x" * 1_000_000


@pytest.fixture
def source() -> Iterator[int]:
    """The port of a server that reads one byte and answers with a megabyte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(1)
                        connection.sendall(SENT)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(source: int) -> Iterator[Proxy]:
    with Proxy(source) as opened:
        yield opened


def receive(proxy: Proxy, timeout: float = 5.0) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout) as connection:
        connection.sendall(b"?")
        received = bytearray()
        while data := connection.recv(65536):
            received += data
    return bytes(received)


def test_without_a_fault_everything_passes(proxy: Proxy) -> None:
    assert receive(proxy) == SENT
    assert proxy.passed == {"down": len(SENT), "up": 1}


@pytest.mark.parametrize("after", [0, 1, 12_345])
def test_a_cut_ends_the_stream_in_order_after_exactly_so_many_bytes(proxy: Proxy, after: int) -> None:
    proxy.fault = Fault("cut", after=after)
    assert receive(proxy) == SENT[:after]
    assert proxy.hits == 1


def test_a_reset_is_an_error_to_the_client(proxy: Proxy) -> None:
    proxy.fault = Fault("reset", after=1000)
    with pytest.raises(ConnectionResetError):
        receive(proxy)


def test_a_refused_connection_is_reset_at_once(proxy: Proxy) -> None:
    proxy.fault = Fault("refuse")
    with pytest.raises(ConnectionResetError):
        receive(proxy)
    proxy.fault = None
    assert receive(proxy) == SENT


def test_silence_delivers_nothing_more_and_closes_nothing(proxy: Proxy) -> None:
    proxy.fault = Fault("silent", after=1000)
    with pytest.raises(TimeoutError):
        receive(proxy, timeout=0.5)


def test_slow_keeps_to_its_rate(proxy: Proxy) -> None:
    proxy.fault = Fault("slow", after=len(SENT) - 20_000, bytes_per_second=40_000)
    begun = time.monotonic()
    assert receive(proxy) == SENT
    assert 0.4 < time.monotonic() - begun < 3


def test_a_fault_of_one_time_hits_the_first_connection_only(proxy: Proxy) -> None:
    proxy.fault = Fault("cut", after=10, times=1)
    assert receive(proxy) == SENT[:10]
    assert receive(proxy) == SENT


def test_a_cut_on_the_way_up_stops_what_the_client_sends(proxy: Proxy) -> None:
    proxy.fault = Fault("cut", direction="up")
    assert receive(proxy) == b""
    assert proxy.passed["up"] == 0
