# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of running lab servers, with short paths, that the next start cleans when their owner died.

A folder's name holds the identity of the process that made it, and its file `processes` the identities of
what was started in it. So a killed test run leaves nothing that the next one does not find and end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
import subprocess
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import processes

_numbers = itertools.count(1)


# a file system in memory makes databases ten times faster than a disk, where it has room for three servers
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2 * 1024**3


def base(in_memory: bool = False) -> Path:
    """The lab's own folder of this user: on disk, or in memory if asked for and possible.

    SAASOPS_LAB_TMP names another place for both; short, as a socket's path may have 107 bytes only.
    Raises OpsError scratch_unsafe when somebody else made the folder.
    """
    place = os.environ.get("SAASOPS_LAB_TMP", "")
    parent = Path(place) if place else (_memory() if in_memory else None) or Path("/tmp")
    folder = parent / f"saasops-lab-{os.geteuid()}"
    # root's servers run as another user, who must pass through but needs not list
    mode = 0o711 if os.geteuid() == 0 else 0o700
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OpsError(
            "scratch_unsafe", f"{folder} belongs to another user.", "Set SAASOPS_LAB_TMP to a short path of your own."
        )
    folder.chmod(mode)
    return folder


def _memory() -> Path | None:
    if not os.access(MEMORY, os.W_OK):
        return None
    room = os.statvfs(MEMORY)
    return MEMORY if room.f_bavail * room.f_frsize >= MEMORY_NEEDED else None


def claim(kind: str, in_memory: bool = False) -> Path:
    """A new empty folder that belongs to this process, after cleaning what dead processes left."""
    sweep()
    folder = base(in_memory) / f"{kind}.{processes.identity(os.getpid())}.{next(_numbers)}"
    folder.mkdir()
    folder.chmod(0o711)
    return folder


def record(folder: Path, pid: int) -> None:
    """Remember a process started in a claimed folder, before anything can go wrong with it."""
    with (folder / "processes").open("a", encoding="ascii") as out:
        out.write(processes.identity(pid) + "\n")


def recorded(folder: Path) -> list[str]:
    """Identities of all processes ever recorded there."""
    try:
        return (folder / "processes").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def release(folder: Path) -> None:
    """End what runs in the folder, unmount what is mounted there, and remove it."""
    processes.end(recorded(folder))
    # a killed postmaster's children may go on with a statement; their working folder is the data folder
    processes.end(processes.identity(pid) for pid in processes.inside(folder) if pid != os.getpid())
    with contextlib.suppress(FileNotFoundError):
        # another run may be sweeping the same folder
        for point in folder.iterdir():
            if os.path.ismount(point):
                # lazily: a killed server's files may stay open for a moment
                subprocess.run(["umount", "-l", str(point)], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[str]:
    """Release every folder whose owner does not run any more; returns their names."""
    gone = []
    for folder in sorted({entry for in_memory in (False, True) for entry in base(in_memory).iterdir()}):
        parts = folder.name.split(".")
        if len(parts) == 3 and folder.is_dir() and not processes.alive(parts[1]):
            release(folder)
            gone.append(folder.name)
    return gone
