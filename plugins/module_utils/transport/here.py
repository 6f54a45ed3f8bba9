# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine tells of a PostgreSQL server without a connection: sockets, process, port, disks."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import stat
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ladder import (
    CLOSED,
    OPEN,
    SILENT,
    Socket,
)

# TCP connections are made within this many seconds, or not at all
PATIENCE = 1.0
_STATES = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "waiting for a disk", "Z": "a zombie"}


@dataclass(frozen=True)
class Postmaster:
    """The server's first process; state: its letter in /proc."""

    pid: int
    state: str
    folder: str

    @property
    def line(self) -> str:
        """For a person."""
        how = _STATES.get(self.state, "alive")
        return f"its process {self.pid} is {how}, data directory {self.folder}"


def sockets(port: int) -> tuple[Socket, ...]:
    """Unix sockets of a server with this port that exist on this machine, whoever made them."""
    found: dict[str, Socket] = {}
    with contextlib.suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            path = line.rstrip("\n").partition(" /")[2]
            if not path.endswith(f"/.s.PGSQL.{port}"):
                continue
            with contextlib.suppress(OSError, KeyError):
                facts = os.lstat(f"/{path}")
                if stat.S_ISSOCK(facts.st_mode) and facts.st_uid != 0:
                    folder = os.path.dirname(f"/{path}")
                    owner = pwd.getpwuid(facts.st_uid)
                    found[folder] = Socket(folder, owner.pw_name, facts.st_uid, owner.pw_gid)
    return tuple(found[folder] for folder in sorted(found))


def switcher() -> str:
    """The program that changes the user, "" without one."""
    return shutil.which("setpriv") or shutil.which("runuser") or ""


def port_answers(host: str, port: int) -> str:
    """OPEN, CLOSED (refused) or SILENT; a host that begins with / is a folder of sockets."""
    try:
        if host.startswith("/"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(PATIENCE)
                probe.connect(f"{host}/.s.PGSQL.{port}")
        else:
            with socket.create_connection((host or "127.0.0.1", port), PATIENCE):
                pass
    except (ConnectionRefusedError, FileNotFoundError):
        return CLOSED
    except OSError:
        return SILENT
    return OPEN


def postmaster(port: int) -> Postmaster | None:
    """The server's process on this machine, by the port in its postmaster.pid; None when it is not seen."""
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stream:
                before, _bracket, after = stream.read().rpartition(")")
            if not before.endswith(("(postgres", "(postmaster")):
                continue
            folder = os.readlink(f"/proc/{entry}/cwd")
            with open(f"{folder}/postmaster.pid", encoding="utf-8", errors="replace") as stream:
                lines = stream.read().splitlines()
            if lines[0].strip() == entry and int(lines[3]) == port:
                return Postmaster(int(entry), after.split()[0], folder)
    return None


def data_folders() -> list[str]:
    """Where packages put data directories, those that exist."""
    places = ("/var/lib/postgresql/*/*", "/var/lib/pgsql/*/data", "/var/lib/pgsql/data", "/var/lib/postgres/data")
    return sorted(path for place in places for path in glob.glob(place) if os.path.isdir(path))


def volume(path: str) -> tuple[int, int]:
    """(free, total) bytes of the volume of a path, as an unprivileged process may use it. Raises OSError."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize, (facts.f_blocks - facts.f_bfree + facts.f_bavail) * facts.f_frsize
