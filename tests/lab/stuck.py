# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a rename up for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import signal

from ansible_collections.saasops.runbook.tests.lab import processes
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


class Stuck:
    """A backend in the database that no signal reaches, as one in a hung system call."""

    def __init__(self, server: Server, database: str) -> None:
        self._held = server.connect(database)
        self.pid = self._held.info.backend_pid

    def __enter__(self) -> Stuck:
        processes.freeze(self.pid)
        return self

    def begin(self) -> None:
        """Stuck in an open transaction, idle."""
        self.let_go()
        with self._held.cursor() as cursor:
            cursor.execute("BEGIN")
        processes.freeze(self.pid)

    def let_go(self) -> None:
        """What was sent to it meanwhile reaches it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def __exit__(self, *_exception: object) -> None:
        self.let_go()
        self._held.close()


def renaming(server: Server) -> bool:
    """Whether a rename of a database is under way."""
    active = server.psql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query LIKE 'ALTER DATABASE % RENAME %' AND state = 'active' AND pid <> pg_backend_pid()"
    )
    return active != "0"
