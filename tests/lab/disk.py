# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small disks that fill up for real: a tmpfs, or an ext4 in a loop-mounted file (both need root)."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import scratch


@contextlib.contextmanager
def small(megabytes: int, kind: str = "tmpfs") -> Iterator[Path]:
    """A mounted file system of this size, open to every user; `tmpfs` is instant, `ext4` is a real block device.

    Raises OpsError disk_not_mounted, for instance without root.
    """
    folder = scratch.claim("disk")
    point = folder / "mounted"
    point.mkdir()
    try:
        if kind == "tmpfs":
            _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(point))
        else:
            image = folder / "image"
            with image.open("wb") as out:
                out.truncate(megabytes * 1024 * 1024)
            _run("mkfs.ext4", "-q", "-m", "0", str(image))
            _run("mount", "-o", "loop", str(image), str(point))
            point.chmod(0o1777)
        yield point
    finally:
        scratch.release(folder)


STEP = 64 * 1024


def grow(point: Path, megabytes: int) -> None:
    """Make a mounted tmpfs larger, as an operator who adds space does."""
    _run("mount", "-o", f"remount,size={megabytes}m", str(point))


def fill(point: Path, leave: int = 0) -> Path:
    """Take all space but `leave` bytes with one file, and return it so that it can be removed."""
    file = point / "filler"
    room = os.statvfs(point)
    size = max(1, room.f_bavail * room.f_frsize - leave)
    with file.open("wb") as out:
        while True:
            try:
                os.posix_fallocate(out.fileno(), 0, size)
                return file
            except OSError as error:
                # somebody else took a piece meanwhile: a little less, until it fits
                if error.errno != errno.ENOSPC or size <= STEP:
                    raise
                room = os.statvfs(point)
                size = max(1, min(size - STEP, room.f_bavail * room.f_frsize - leave))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise OpsError("disk_not_mounted", f"{command[0]} failed: {done.stderr.strip()}", "Run as root.")
