# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for known values where a secret must not be: argument lists and environments of processes, files, texts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

# seconds between two looks at all processes
EVERY = 0.03


class Spy:
    """with Spy({name: value}) as spy: ... spy.hits is where a value was seen, as sentences.

    Samples the argument list and the environment of every process, but for the process of the tests itself, and the
    names and contents of files below folders.
    """

    def __init__(self, planted: Mapping[str, str], folders: Sequence[Path] = ()) -> None:
        self.planted = {name: value.encode() for name, value in planted.items()}
        self.folders = folders
        self.hits: set[str] = set()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Spy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.look()

    def look(self) -> None:
        """One sample."""
        self.looks += 1
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                for part in ("cmdline", "environ"):
                    # a process that ended, or that nobody may look into
                    with contextlib.suppress(OSError):
                        self.read(Path("/proc", name, part).read_bytes(), f"{part} of a process")
        for folder in self.folders:
            self.hits |= set(in_files(self.planted, folder))

    def read(self, text: bytes, where: str) -> None:
        """Look into a text; where is what a hit is called."""
        self.hits |= {f"{name} in {where}" for name, value in self.planted.items() if value in text}


def in_files(planted: Mapping[str, bytes], folder: Path, without: Iterable[Path] = ()) -> list[str]:
    """Where values lie in files below a folder (or in a file), as sentences."""
    skipped = set(without)
    found = []
    for path in [folder] if folder.is_file() else folder.rglob("*"):
        if path in skipped:
            continue
        text = os.fsencode(path)
        with contextlib.suppress(OSError):
            if path.is_file():
                text += path.read_bytes()
        found += [f"{name} in {path}" for name, value in planted.items() if value in text]
    return found


def wait_for(condition: object, seconds: float = 30.0) -> None:
    """Until condition() is true. Raises AssertionError when it does not come true in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
