# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a lab server that hold transactions open, wait for each other, and can be asked what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg2

from ansible_collections.saasops.runbook.tests.lab.postgres import Server


class Client:
    """One session of a role; autocommit until run("BEGIN")."""

    def __init__(self, server: Server, database: str, user: str, application: str = "web") -> None:
        # the password of a role of these tests is its name
        self._connection = psycopg2.connect(server.dsn(database, user, user), application_name=application)
        self._connection.autocommit = True
        self.pid = int(self._connection.info.backend_pid)
        self.error: psycopg2.Error | None = None
        self._thread: threading.Thread | None = None

    def run(self, *statements: str) -> Client:
        """Run statements one after the other; their errors are the caller's."""
        with self._connection.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)
        return self

    def start(self, sql: str) -> Client:
        """Run a statement in the background; done() waits for its end, and error tells how it was."""
        self._thread = threading.Thread(target=self._background, args=(sql,), daemon=True)
        self._thread.start()
        return self

    def _background(self, sql: str) -> None:
        try:
            self.run(sql)
        except psycopg2.Error as error:
            self.error = error

    def done(self, seconds: float = 10.0) -> bool:
        """Whether the statement of start() ended within seconds."""
        assert self._thread is not None
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def lives(self) -> bool:
        """Whether the session can still be used."""
        try:
            self.run("SELECT 1")
        except psycopg2.errors.InFailedSqlTransaction:
            return True
        except psycopg2.Error:
            return False
        return True

    def close(self) -> None:
        """End the session."""
        self._connection.close()


def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.02)


def waiting(server: Server, *clients: Client) -> Callable[[], bool]:
    """Whether each of these waits for a lock."""
    pids = ", ".join(str(client.pid) for client in clients)
    sql = f"SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN ({pids})"
    return lambda: server.psql(sql) == str(len(clients))
