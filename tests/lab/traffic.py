# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients beside an operation: a writer whose committed rows give the RPO, a prober whose largest gap is the outage."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psycopg2

INSERT = "INSERT INTO public.marker (writer) VALUES (%s) RETURNING id"


class _Client(threading.Thread):
    """A thread between `with` and its end; what it dies of is raised there."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ending = threading.Event()
        self._started_well = threading.Event()
        self._died_of: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the thread is joined
            self._died_of = error
            self._started_well.set()

    def _work(self) -> None:
        raise NotImplementedError

    def begin(self, timeout: float) -> None:
        self.start()
        if not self._started_well.wait(timeout):
            self._ending.set()
            raise TimeoutError(f"no success in the first {timeout} s")

    def finish(self) -> None:
        self._ending.set()
        self.join(30)
        if self._died_of is not None:
            raise self._died_of


class Writer(_Client):
    """Inserts rows into public.marker, each committed on its own, and connects again whenever it is cut off.

    committed: (id, time.monotonic() when the commit was known) of every row the server confirmed, in order
    refused:   how often a statement or a connection failed
    """

    def __init__(self, dsn: str, name: str = "writer", pause: float = 0.002) -> None:
        super().__init__()
        self._dsn, self._name, self._pause = dsn, name, pause
        self.committed: list[tuple[int, float]] = []
        self.refused = 0

    @property
    def last(self) -> int:
        """Id of the last row known to be committed; 0 before the first."""
        return self.committed[-1][0] if self.committed else 0

    def __enter__(self) -> Writer:
        self.begin(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self._write()
            except psycopg2.Error:
                self.refused += 1
                self._ending.wait(0.01)

    def _write(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                while not self._ending.is_set():
                    cursor.execute(INSERT, (self._name,))
                    row = cursor.fetchone()
                    assert row is not None
                    self.committed.append((int(row[0]), time.monotonic()))
                    self._started_well.set()
                    self._ending.wait(self._pause)
        finally:
            connection.close()


class Prober(_Client):
    """Connects anew every 10 ms and asks one question, as clients without a pool do.

    largest_gap: seconds between two successes, or from the last success until now when it fails
    """

    def __init__(self, dsn: str, every: float = 0.01, question: str = "SELECT 1") -> None:
        super().__init__()
        self._dsn, self._every, self._question = dsn, every, question
        self._gap = 0.0
        self._last = 0.0
        self.succeeded = 0
        self.failures: list[str] = []

    @property
    def largest_gap(self) -> float:
        return self._gap

    def __enter__(self) -> Prober:
        self.begin(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
        # an outage that lasts to the end counts too
        self._gap = max(self._gap, time.monotonic() - self._last)

    def _work(self) -> None:
        while not self._ending.is_set():
            begun = time.monotonic()
            try:
                self._ask()
            except psycopg2.Error as error:
                self.failures.append(str(error).strip().splitlines()[0])
            else:
                now = time.monotonic()
                if self.succeeded:
                    self._gap = max(self._gap, now - self._last)
                self._last = now
                self.succeeded += 1
                self._started_well.set()
            self._ending.wait(max(0.0, self._every - (time.monotonic() - begun)))

    def _ask(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=10)
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._question)
        finally:
            connection.close()


class Pooled(_Client):
    """A client that stays connected and never tries again: a transaction of two statements, again and again.

    committed:   (id, time.monotonic()) of every row that was confirmed; a reader has none
    errors:      what it met; the first one ends it
    largest_gap: seconds between the ends of two transactions
    last:        time.monotonic() of the end of the last one
    last_begun:  time.monotonic() before its first statement was sent
    """

    def __init__(self, dsn: str, name: str = "pooled", *, writes: bool = True, pause: float = 0.002) -> None:
        super().__init__()
        self._dsn, self._name, self._writes, self._pause = dsn, name, writes, pause
        self.committed: list[tuple[int, float]] = []
        self.errors: list[str] = []
        self.transactions = 0
        self.largest_gap = self.last = self.last_begun = 0.0

    def __enter__(self) -> Pooled:
        self.begin(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            # a test that failed does not wait for clients that a pooler holds for ever
            self._ending.set()
            self.join(1)

    def _work(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=10)
        self.last = time.monotonic()
        try:
            with connection.cursor() as cursor:
                while not self._ending.is_set():
                    begun = time.monotonic()
                    cursor.execute(INSERT if self._writes else "SELECT 0", (self._name,) if self._writes else None)
                    row = cursor.fetchone()
                    cursor.execute("SELECT count(*) FROM public.marker WHERE false")
                    connection.commit()
                    now = time.monotonic()
                    self.largest_gap, self.last = max(self.largest_gap, now - self.last), now
                    self.last_begun = begun
                    self.transactions += 1
                    if self._writes and row is not None:
                        self.committed.append((int(row[0]), now))
                    self._started_well.set()
                    self._ending.wait(self._pause)
        except psycopg2.Error as error:
            self.errors.append(str(error).strip())
        finally:
            connection.close()


class Readers(_Client):
    """A client that asks one question again and again, over connections that stay; who waits is measured.

    longest: seconds of the slowest answer; count: how many answers; times: (time.monotonic() at its end, seconds).
    """

    def __init__(self, dsn: str, question: str, pause: float = 0.005) -> None:
        super().__init__()
        self._dsn, self._question, self._pause = dsn, question, pause
        self.times: list[tuple[float, float]] = []

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def longest(self) -> float:
        return max((seconds for _end, seconds in self.times), default=0.0)

    def __enter__(self) -> Readers:
        self.begin(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _work(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=5)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                while not self._ending.is_set():
                    begun = time.monotonic()
                    cursor.execute(self._question)
                    cursor.fetchall()
                    end = time.monotonic()
                    self.times.append((end, end - begun))
                    self._started_well.set()
                    self._ending.wait(self._pause)
        finally:
            connection.close()
