# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several workers, each with a session of its own, and one who watches over their statements from outside.

A statement such as CREATE INDEX CONCURRENTLY cannot be bounded by the server without leaving debris, and a thread that
waits for it hears no signal. So workers wait for the server, and the main thread looks: it shows how far each build
is, cancels what takes too long from a session of its own, and when the run is to end it cancels everything and waits
until the workers have cleaned up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_progress import Progress, line
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_watch import cancel, progress, unbounded
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import fix_names
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

CANCELED = "57014"
_LOOK, _CANCEL_AGAIN = 0.5, 1.0
# how long workers may take to clean up when the run is to end
LAST_WORDS = 15.0
# a catalog function waits for a table that somebody locks against everybody
LOOKING = "30s"


@dataclass
class _Running:
    """A statement under watch; times are monotonic seconds, limit and patience lengths."""

    pid: int
    what: str
    began: float
    limit: float
    patience: float
    phase: str = ""
    phase_began: float = 0.0
    waits_since: float = 0.0
    seen: Progress | None = None
    reason: OpsError | None = None
    canceled: float = 0.0


class Crew:
    """context: of the module. target: the server under the verb's mark. patience, limit: see the module's options."""

    def __init__(self, context: Context, target: Target, database: str, jobs: int) -> None:
        self._context, self._target, self._database, self._jobs = context, target, database, max(1, jobs)
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._pids: set[int] = set()
        self._ticker = Ticker(context)
        self._control: Session | None = None
        self._own = threading.local()
        self.stopping: OpsError | None = None

    @property
    def mark(self) -> str:
        """The application_name of all our sessions here."""
        return self._target.connection.application_name

    @property
    def database(self) -> str:
        return self._database

    def pids(self) -> list[int]:
        """Of our own sessions."""
        with self._lock:
            return sorted(self._pids)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session: nothing but the watch bounds it, and every name is written whole.

        A worker keeps it for its next job; one that an error passed through is closed.
        """
        session, self._own.session = getattr(self._own, "session", None), None
        try:
            if session is None:
                session = self._target.session(self._database)
                with self._lock:
                    self._pids.add(session.pid)
                unbounded(session)
                fix_names(session)
                session.run(f"SET lock_timeout = '{LOOKING}'")
            yield session
        except BaseException:
            self._close(session)
            raise
        self._close(getattr(self._own, "session", None))
        self._own.session = session
        if threading.current_thread() is threading.main_thread():
            self._leave()

    def _close(self, session: Session | None) -> None:
        if session is not None:
            with self._lock:
                self._pids.discard(session.pid)
            session.close()

    def _leave(self) -> None:
        """The end of a thread's work."""
        session, self._own.session = getattr(self._own, "session", None), None
        self._close(session)

    def run(self, session: Session, sql: str, what: str, limit: float, patience: float) -> None:
        """Run one statement under watch.

        limit: seconds it may take; patience: seconds it may do nothing but wait for transactions of others.
        Raises OpsError build_too_slow, build_blocked, what stopped the run, or what the server said.
        """
        if self.stopping is not None and limit > LAST_WORDS:
            raise self.stopping
        now = time.monotonic()
        running = _Running(session.pid, what, now, limit, patience)
        with self._lock:
            self._running[session.pid] = running
        try:
            session.run("SET lock_timeout = 0")
            session.run(sql)
        except OpsError as error:
            if running.reason is not None and error.details.get("sqlstate") == CANCELED:
                raise running.reason from error
            raise
        finally:
            with self._lock:
                self._running.pop(session.pid, None)
            with contextlib.suppress(OpsError):
                session.run(f"SET lock_timeout = '{LOOKING}'")

    def work(self, jobs: Sequence[Callable[[], None]], what: str) -> None:
        """Do all jobs, some at a time. A job keeps its own errors; the run's end stops all of them.

        Raises what ended the run (a signal, the end of the window), after every worker has cleaned up.
        """
        waiting = list(jobs)[::-1]
        total = len(waiting)

        def labour() -> None:
            try:
                while self.stopping is None:
                    with self._lock:
                        if not waiting:
                            return
                        job = waiting.pop()
                    job()
            finally:
                self._leave()

        threads = [threading.Thread(target=labour, daemon=True) for _n in range(min(self._jobs, total))]
        for thread in threads:
            thread.start()
        try:
            self._attend(threads, lambda: f"{what}: {total - len(waiting)} of {total}")
        except BaseException as error:
            self.stopping = (
                error if isinstance(error, OpsError) else OpsError("interrupted", "The run was ended.", "Run it again.")
            )
            with contextlib.suppress(OpsError):
                self._last_words(threads)
            raise
        finally:
            if self._control is not None:
                self._control.close()
                self._control = None

    def _attend(self, threads: Sequence[threading.Thread], summary: Callable[[], str]) -> None:
        looked = 0.0
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.02)
            if time.monotonic() - looked >= _LOOK:
                looked = time.monotonic()
                self._look(summary)

    def _last_words(self, threads: Sequence[threading.Thread]) -> None:
        deadline = time.monotonic() + LAST_WORDS
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            with self._lock:
                running = list(self._running.values())
            for one in running:
                # what is begun from now on is cleaning up, which has a short limit of its own
                if one.limit > LAST_WORDS:
                    one.reason = one.reason or self.stopping
                    self._cancel(one)
            self._look(None)
            threads[0].join(0.1)

    def _look(self, summary: Callable[[], str] | None) -> None:
        """Once: what takes too long is canceled; how far each statement is, is shown."""
        with self._lock:
            running = [one for one in self._running.values() if time.monotonic() - one.began >= _LOOK]
        if not running:
            if summary is not None:
                self._ticker(summary)
            return
        try:
            seen = progress(self._watcher(), [one.pid for one in running])
        except OpsError as error:
            if error.ends:
                raise
            # the server is gone, and the workers hear of it, too; or it has no slot for us now
            self._control = None
            return
        now = time.monotonic()
        for one in running:
            self._judge(one, seen.get(one.pid), now)
        longest = min(running, key=lambda one: one.began)
        if summary is not None:
            more = f"; {summary()}"
            self._ticker(lambda: self._tell(longest, now) + more)

    def _judge(self, one: _Running, seen: Progress | None, now: float) -> None:
        one.seen = seen
        if seen is None or seen.phase != one.phase:
            one.phase, one.phase_began = ("", now) if seen is None else (seen.phase, now)
        waits = seen is not None and seen.waits
        one.waits_since = (one.waits_since or now) if waits else 0.0
        if one.reason is None and now - one.began > one.limit:
            one.reason = OpsError(
                "build_too_slow",
                f"{one.what} was not done within {human_duration(one.limit)}"
                f"{f' (it was {seen.phase})' if seen else ''} and was canceled.",
                "Raise the time limit (saasops_index_time_limit), or run it in a quieter hour.",
            )
        if one.reason is None and seen is not None and waits and now - one.waits_since > one.patience:
            one.reason = OpsError(
                "build_blocked",
                f"{one.what} waited for {human_duration(one.patience)} ({seen.phase}) for the transaction of pid "
                f"{seen.locker or '?'} and was canceled.",
                f"See who that is and end it: sessions -e pid={seen.locker}; or raise saasops_index_wait.",
                {"pid": seen.locker},
            )
        if one.reason is not None:
            self._cancel(one)

    def _cancel(self, one: _Running) -> None:
        if time.monotonic() - one.canceled >= _CANCEL_AGAIN:
            one.canceled = time.monotonic()
            try:
                cancel(self._watcher(), one.pid, self.mark)
            except OpsError as error:
                if error.ends:
                    raise

    def _watcher(self) -> Session:
        if self._control is None:
            self._control = self._target.session(self._database)
            unbounded(self._control)
        return self._control

    @staticmethod
    def _tell(one: _Running, now: float) -> str:
        if one.seen is None:
            return f"{one.what}: {human_duration(now - one.began)}"
        return line(one.what, one.seen, now - one.phase_began, now - one.waits_since if one.waits_since else 0.0)
