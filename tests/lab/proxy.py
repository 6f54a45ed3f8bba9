# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy on 127.0.0.1 that fails as networks do: cut, reset, silent, slow or refusing.

with Proxy(server.port) as proxy:
    proxy.fault = Fault("cut", after=1_000_000)
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

CHUNK = 16 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a connection made while it is set, or already open.

    kind:      cut (both ends see an orderly end), reset (both get RST), silent (nothing moves any more),
               slow (bytes_per_second from then on), refuse (new connections are reset at once)
    after:     bytes that pass first, counted per connection in the direction given
    direction: down (from the server) or up (to it)
    times:     how many connections it hits before it is over; 0 for all
    """

    kind: str
    after: int = 0
    direction: str = "down"
    bytes_per_second: int = 10_000
    times: int = 0


class Proxy:
    """Forwards 127.0.0.1:port to a server's port; `fault` may be set and taken away at any moment."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._fault: Fault | None = None
        self._hits = 0
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # bytes that have passed, all connections together
        self.passed = {"down": 0, "up": 0}
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, name="proxy", daemon=True)

    @property
    def fault(self) -> Fault | None:
        """What goes wrong now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self._lock:
            self._fault, self._hits = fault, 0

    @property
    def hits(self) -> int:
        """Connections that the present fault has broken."""
        return self._hits

    def __enter__(self) -> Proxy:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._sockets)
        for end in left:
            _close(end)
        self._accepting.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = self._fault
            if fault is not None and fault.kind == "refuse" and self._take(fault):
                _close(client, reset=True)
                continue
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                _close(client, reset=True)
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        passed = {"down": 0, "up": 0}
        open_ends = {client: ("up", server), server: ("down", client)}
        reset = False
        hit: Fault | None = None
        try:
            while open_ends and not self._closing.is_set():
                ready, _writable, _failed = select.select(list(open_ends), [], [], 0.05)
                for end in ready:
                    direction, other = open_ends[end]
                    fault = self._fault
                    room = CHUNK
                    if fault is not None and fault.kind != "refuse" and direction == fault.direction:
                        room = fault.after - passed[direction]
                        if room <= 0:
                            if hit is not fault and not self._take(fault):
                                room = CHUNK
                            else:
                                hit = fault
                                if fault.kind in ("cut", "reset"):
                                    reset = fault.kind == "reset"
                                    return
                                if fault.kind == "silent":
                                    time.sleep(0.02)
                                    continue
                                room = max(1, fault.bytes_per_second // 20)
                                time.sleep(room / fault.bytes_per_second)
                    data = end.recv(min(CHUNK, room))
                    if not data:
                        del open_ends[end]
                        with contextlib.suppress(OSError):
                            other.shutdown(socket.SHUT_WR)
                        continue
                    other.sendall(data)
                    passed[direction] += len(data)
                    with self._lock:
                        self.passed[direction] += len(data)
        except OSError:
            # one end went away by itself: so does the other
            return
        finally:
            for end in (client, server):
                _close(end, reset)
            with self._lock:
                self._sockets -= {client, server}

    def _take(self, fault: Fault) -> bool:
        """Whether the fault hits one connection more."""
        with self._lock:
            if fault is not self._fault or (fault.times and self._hits >= fault.times):
                return False
            self._hits += 1
            return True


def _close(end: socket.socket, reset: bool = False) -> None:
    with contextlib.suppress(OSError):
        if reset:
            # linger for zero seconds: close() sends RST
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            end.shutdown(socket.SHUT_RDWR)
    end.close()
