# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a module says while it runs: a file on the far side, read over a second connection."""

from __future__ import annotations

import contextlib
import copy
import os
import shlex
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible.plugins.loader import connection_loader

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

# what ends sooner needs no progress, and costs nothing
FIRST_SECONDS, EVERY_SECONDS = 2.0, 2.5


def _second(action: ActionBase) -> object:
    """A connection of the same kind to the same place: one connection object runs one command at a time."""
    first = action._connection
    try:
        opened = connection_loader.get(first.ansible_name, action._play_context, os.devnull)
    except TypeError:
        opened = connection_loader.get(first.ansible_name, action._play_context)
    opened.set_options(direct=first.get_options())
    if first.become is not None:
        opened.set_become_plugin(copy.copy(first.become))
    opened._shell = copy.copy(first._shell)
    return opened


class Watch:
    """Reads the file every few seconds while the block runs, and gives each new whole line to show."""

    def __init__(self, action: ActionBase, path: str, show: Callable[[str], None]) -> None:
        self._action = copy.copy(action)
        self._path = path
        self._show = show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="saasops-progress")
        self._seen = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        # a command under way on the second connection is not waited for longer than this
        self._thread.join(5)

    def _run(self) -> None:
        if self._stop.wait(FIRST_SECONDS):
            return
        # progress is a courtesy: whatever goes wrong with it must not touch the run
        with contextlib.suppress(Exception):
            self._action._connection = _second(self._action)
            try:
                while True:
                    self._look()
                    if self._stop.wait(EVERY_SECONDS):
                        return
            finally:
                with contextlib.suppress(Exception):
                    self._action._connection.close()

    def _look(self) -> None:
        # a connection takes a command line; the only value in it is a path of our own making
        said = self._action._low_level_execute_command(f"tail -c +{self._seen + 1} {shlex.quote(self._path)}")
        text = str(said.get("stdout") or "") if said.get("rc") == 0 else ""
        whole, newline, _rest = text.rpartition("\n")
        if not newline:
            return
        self._seen += len((whole + newline).encode("utf-8", "surrogateescape"))
        for line in whole.split("\n")[-3:]:
            self._show(line.strip())
