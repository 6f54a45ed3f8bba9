# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file through which a module says how far it is: one whole line after the other, gone when the module ends.

Its writer holds a lock on it, so that a file without a lock is known to be of a module that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re

_RANDOM = re.compile(r"[0-9a-f]{16}\Z")


class ProgressFile:
    """Made anew with mode 0600; progress is a courtesy, so what goes wrong with it never ends a module."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> ProgressFile:
        with contextlib.suppress(OSError):
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, line: str) -> None:
        """Add a line."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, (line.replace("\n", " ") + "\n").encode("utf-8", "surrogateescape"))


def sweep(path: str) -> list[str]:
    """Remove files of killed modules of this user beside path, which ends in 16 hex digits; returns their names.

    A file that was made this moment and is not locked yet is its writer's loss: he shows no progress.
    """
    stem = path[:-16]
    gone = []
    for found in glob.glob(glob.escape(stem) + "*"):
        if _RANDOM.match(found[len(stem) :]) and _abandoned(found):
            with contextlib.suppress(OSError):
                os.unlink(found)
                gone.append(found)
    return gone


def _abandoned(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
