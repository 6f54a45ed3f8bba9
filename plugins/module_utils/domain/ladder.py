# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways into a server, one after the other, for when the ordinary one is closed; and what it means when none is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GIVEN, RESCUE, SOCKET, CONTAINER = "given", "rescue", "socket", "container"
LOOPBACK = ("", "localhost", "127.0.0.1", "::1")
UP, FULL, STARTING, REFUSED, HANGS, DOWN, UNREACHABLE = (
    "up",
    "full",
    "starting",
    "refuses the login",
    "hangs",
    "down",
    "unreachable",
)


@dataclass(frozen=True)
class Socket:
    """A server's Unix socket on this machine: its folder, and whose it is (user name and uid)."""

    folder: str
    owner: str
    uid: int
    gid: int = -1


@dataclass(frozen=True)
class Ground:
    """What the way in is chosen by.

    transport: local or docker. host, port: of the given connection; rescue: whether a second one is set.
    uid: of this process. sockets: those of this port on this machine. switcher: the path of setpriv or runuser, or "".
    """

    transport: str
    host: str
    port: int
    rescue: bool
    uid: int
    sockets: tuple[Socket, ...] = ()
    switcher: str = ""


@dataclass(frozen=True)
class Rung:
    """One way. closed: why it cannot even be tried, "" when it can.

    folder, user: of a socket; prefix: argv that changes the user of this machine before psql.
    """

    kind: str
    title: str
    closed: str = ""
    folder: str = ""
    user: str = ""
    prefix: tuple[str, ...] = ()


def ladder(ground: Ground) -> list[Rung]:
    """All rungs in their order, those that are closed among them, so that the output says what was not tried."""
    rungs = [Rung(GIVEN, "saasops_connection")]
    rungs.append(Rung(RESCUE, "saasops_rescue_connection", "" if ground.rescue else "not set"))
    if ground.transport != "local":
        rungs.append(Rung(CONTAINER, "the socket inside the container, as its superuser"))
        return rungs
    title = "the Unix socket as the server's own user"
    here = ground.host in LOOPBACK or ground.host.startswith("/")
    if not here:
        return [*rungs, Rung(SOCKET, title, f"the server is on {ground.host}, not on this host")]
    if not ground.sockets:
        return [*rungs, Rung(SOCKET, title, f"there is no Unix socket of port {ground.port} on this host")]
    return [*rungs, *(_socket(ground, item) for item in ground.sockets)]


def _socket(ground: Ground, item: Socket) -> Rung:
    title = f"the Unix socket in {item.folder} as {item.owner}"
    if ground.uid == item.uid:
        return Rung(SOCKET, title, folder=item.folder, user=item.owner)
    if ground.uid != 0:
        return Rung(SOCKET, title, f"only root or {item.owner} itself can become {item.owner}: set ansible_become")
    if not ground.switcher:
        return Rung(SOCKET, title, "neither setpriv nor runuser is installed")
    if ground.switcher.endswith("setpriv"):
        # by number: a name would have to be a group's too
        prefix = (ground.switcher, f"--reuid={item.uid}", f"--regid={item.gid}", "--init-groups")
    else:
        prefix = (ground.switcher, "-u", item.owner, "--")
    return Rung(SOCKET, title, folder=item.folder, user=item.owner, prefix=prefix)


@dataclass(frozen=True)
class Attempt:
    """What became of a rung: code and cause of the error, "" when it led in; or why it was closed."""

    rung: Rung
    code: str = ""
    cause: str = ""

    @property
    def led_in(self) -> bool:
        return not (self.code or self.rung.closed)

    @property
    def line(self) -> str:
        """For a person."""
        if self.led_in:
            return f"{self.rung.title}: connected"
        return f"{self.rung.title}: {self.rung.closed or self.cause.rstrip('.')}"


# a container that is not there has no inside either
_CONTAINER_GONE = ("container_stopped", "container_missing", "docker_unreachable", "container_name")


def worth_trying(rung: Rung, attempts: Sequence[Attempt]) -> bool:
    """Whether a rung could lead in after what the ones before it met."""
    codes = {attempt.code for attempt in attempts}
    if rung.closed or "server_starting" in codes:
        # who starts or stops answers everybody the same
        return False
    return not (rung.kind == CONTAINER and codes & set(_CONTAINER_GONE))


OPEN, CLOSED, SILENT, UNASKED = "open", "closed", "silent", ""


def state(attempts: Sequence[Attempt], port: str, process: str) -> str:
    """What the server is, after no rung led in.

    port: OPEN, CLOSED, SILENT or UNASKED. process: the state letter of its postmaster in /proc, "" when none was seen.
    """
    codes = [attempt.code for attempt in attempts if attempt.code]
    if "server_starting" in codes:
        return STARTING
    if "no_free_connection" in codes:
        return FULL
    if process in ("T", "t"):
        return HANGS
    if any(code in ("wrong_password", "login_refused", "unknown_database", "not_permitted") for code in codes):
        return REFUSED
    if any(code in ("container_stopped", "container_missing") for code in codes) or (port == CLOSED and not process):
        return DOWN
    if port == OPEN or process:
        return HANGS
    return UNREACHABLE
