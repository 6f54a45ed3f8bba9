# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process this is, and the proof that another one of the same machine is gone.

Used on the controller, for the holder of a lease. A pid alone proves nothing: it may have been given to another
process since, or belong to another machine, another boot, or a container that numbers its processes by itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

# field of /proc/<pid>/stat after the command's name: start in clock ticks since the boot
_STARTED = 19


@dataclass(frozen=True)
class Process:
    """One process: names of machine, boot and pid namespace, its pid, its start in clock ticks since the boot."""

    controller: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: int


def identify(pid: int = 0) -> Process:
    """A running process, this one by default. What the machine does not tell stays "" or 0, and then proves nothing."""
    pid = pid or os.getpid()
    return Process(socket.gethostname(), _boot_id(), _namespace(), pid, _started(pid) or 0)


def is_dead(holder: Mapping[str, object]) -> bool:
    """Whether a process (the fields of Process) ran on this machine since its boot and is provably gone."""
    here = identify()
    same = ("controller", "boot_id", "pid_namespace")
    if not all(getattr(here, name) and holder.get(name) == getattr(here, name) for name in same):
        return False
    try:
        pid, started = int(str(holder["pid"])), int(str(holder["process_started"]))
    except (KeyError, ValueError):
        return False
    if pid <= 0 or started <= 0:
        return False
    now = _started(pid)
    if now is not None:
        return now != started
    try:  # /proc may hide what belongs to somebody else; the kernel does not
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start of a process in clock ticks; None when it is not seen. A zombie is gone: it does nothing more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # the command's name may hold spaces and brackets
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[_STARTED])
