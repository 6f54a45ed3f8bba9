# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this Linux machine, named so that a reused pid is never mistaken for the one meant.

An identity is `<pid>-<start time in clock ticks since boot>-<first 8 hex of the boot id>`.
"""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat after the command name: state, parent, ...; empty when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # the command name may hold spaces and brackets, so everything up to the last bracket is skipped
    return text.rpartition(")")[2].split()


def identity(pid: int) -> str:
    """Name of a running process, or "" when there is none (a zombie counts as gone)."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return ""
    boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    return f"{pid}-{fields[19]}-{boot}"


def alive(name: str) -> bool:
    """Whether the process with this identity still runs."""
    return bool(name) and identity(int(name.split("-", 1)[0])) == name


def children(pid: int) -> list[int]:
    """Direct children, lowest pid first."""
    return [child for child in everyone() if (fields := _stat(child)) and int(fields[1]) == pid]


def descendants(pid: int) -> list[int]:
    """All processes below pid, parents before their children."""
    found = children(pid)
    for child in found:
        found.extend(children(child))
    return found


def command_line(pid: int) -> list[str]:
    """The argv of a process, [] when it is gone or a kernel thread."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]


def everyone() -> list[int]:
    """All pids, lowest first."""
    return sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def running(program: str, *, below: int = 0) -> list[int]:
    """Pids whose program is called so (`pg_dump` finds /usr/lib/.../pg_dump), only below a process if given."""
    pids = descendants(below) if below else everyone()
    return [pid for pid in pids if (argv := command_line(pid)) and Path(argv[0]).name == program]


def mentioning(path: Path) -> list[int]:
    """Pids with this path in their argv: a program by its whole path, also a script that an interpreter runs."""
    return [pid for pid in everyone() if str(path) in command_line(pid)]


def modules(controller: int) -> list[int]:
    """Pids of the Ansible modules that run below ansible-playbook.

    Their program comes by standard input (pipelining), which leaves the interpreter alone in argv, or is a file.
    """
    found = []
    for pid in descendants(controller):
        argv = command_line(pid)
        python = bool(argv) and Path(argv[0]).name.startswith("python")
        if python and (len(argv) == 1 or any("AnsiballZ" in part for part in argv)):
            found.append(pid)
    return found


def inside(folder: Path) -> list[int]:
    """Pids whose working folder is this one or below it, as far as we may see."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                place = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if place == folder or folder in place.parents:
                found.append(int(entry.name))
    return sorted(found)


def freeze(pid: int, seconds: float = 10.0) -> None:
    """SIGSTOP a process and wait until each of its threads has stopped: the signal alone only asks for it.

    A program of many threads (docker's) may carry a request out between the signal and the stop.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = [_stat(int(thread.name)) for thread in (PROC / str(pid) / "task").iterdir()]
        if all(fields and fields[0] in "Tt" for fields in states):
            return
        time.sleep(0.002)
    raise TimeoutError(f"process {pid} did not stop within {seconds:g} s")


def end(names: Iterable[str], *, grace: float = 0.0) -> list[str]:
    """SIGTERM (only with a grace in seconds), then SIGKILL exactly these processes; returns those that did run."""
    wanted = [name for name in names if alive(name)]
    if grace:
        _signal(wanted, signal.SIGTERM)
        _wait(wanted, grace)
    _signal(wanted, signal.SIGKILL)
    _wait(wanted, 10.0)
    return wanted


def _signal(names: Iterable[str], number: signal.Signals) -> None:
    for name in names:
        if alive(name):
            try:
                os.kill(int(name.split("-", 1)[0]), number)
            except ProcessLookupError:
                continue


def _wait(names: Iterable[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(alive(name) for name in names):
        time.sleep(0.005)


def unprivileged() -> pwd.struct_passwd:
    """Whom servers that refuse root run as: us, or `postgres` or `nobody` when we are root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("Neither a user postgres nor a user nobody exists.")
