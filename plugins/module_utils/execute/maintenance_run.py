# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry acts out over several connections: light ones beside each other, rebuilds one after another.

Threads do the work. The main thread watches the lock, load, lag and time, and is where a signal arrives; then it
cancels what runs through a session of its own and waits for the threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import ANALYZE, FREEZE, VACUUM, Act
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_crew import (
    AUTOVACUUM,
    FAILED,
    LOOK,
    NOT_NEEDED,
    STOPPED,
    TIME_IS_UP,
    Crew,
    Outcome,
    Sessions,
    Watch,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.progress import Pace, Ticker
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import (
    CANCELLED,
    DONE,
    GONE,
    LATE,
    LOCKED,
    prepare,
    proven,
    run,
    see,
    statement,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# the end of a thread's statement after it was cancelled
ENDING = 15.0
# only the acts themselves: what cleans up after one that was ended begins with another word, and so do looks
_CANCEL = """
SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
 WHERE pid = ANY ({pids}) AND application_name = {mark} AND state = 'active'
   AND query ~* '^(VACUUM|ANALYZE|REINDEX|DROP INDEX)'
"""


class Runner:
    """run() gives what became of each act, in the order of their ends."""

    def __init__(self, crew: Crew, acts: Sequence[Act]) -> None:
        self._crew = crew
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._hold = threading.Event()
        self._error: BaseException | None = None
        self._running: dict[int, Act] = {}
        groups: dict[tuple[str, int], list[Act]] = {}
        for act in acts:
            if act.light:
                groups.setdefault((act.database, act.table), []).append(act)
        self._queue: deque[list[Act]] = deque(groups.values())
        self._waiting: deque[tuple[float, list[Act]]] = deque()
        self._heavy = [act for act in acts if not act.light]
        self._count = len(acts)
        self._seconds = sum(act.seconds for act in acts)
        self._stopped_for = ""
        self._dropped: list[Act] = []
        self._late = threading.Event()
        # when a table that somebody holds was tried first, in monotonic seconds
        self._tried: dict[tuple[str, int], float] = {}

    @property
    def stopped_for(self) -> str:
        """Why it ended before the end; "" when it did not."""
        return self._stopped_for

    def run(self) -> list[Outcome]:
        """Raises what ends a module from outside (a signal, the window's end), and errors that end all work."""
        with contextlib.closing(self._crew.target.session()) as control:
            prepare(control, self._crew.manner)
            if self._queue:
                jobs = max(1, min(self._crew.jobs, len(self._queue)))
                self._together(control, [threading.Thread(target=self._work, daemon=True) for _n in range(jobs)])
            if self._heavy and not self._stop.is_set() and not self._late.is_set():
                self._together(control, [threading.Thread(target=self._work_heavy, daemon=True)])
        if self._error is not None:
            raise self._error
        if self._stopped_for:
            done = {id(outcome.act) for outcome in self._outcomes}
            rest = [act for group in self._queue for act in group] + [a for _t, g in self._waiting for a in g]
            for act in [*self._dropped, *rest, *self._heavy]:
                if id(act) not in done:
                    self._outcomes.append(Outcome(act, STOPPED))
        return self._outcomes

    @property
    def outcomes(self) -> list[Outcome]:
        """So far; for whoever tells of a run that ended early."""
        return list(self._outcomes)

    def _together(self, control: Session, threads: Sequence[threading.Thread]) -> None:
        ticker, pace = Ticker(self._crew.context), Pace(self._count, "acts")
        watch = Watch(self._crew.limits, self._crew.context.warn)
        self._look(control, watch)
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self._look(control, watch)
                ticker(lambda: self._line(control, pace))
                for thread in threads:
                    thread.join(LOOK / len(threads))
        except BaseException:
            self._end(control, threads)
            raise
        if self._error is not None:
            self._end(control, threads)

    def _look(self, control: Session, watch: Watch) -> None:
        crew = self._crew
        crew.fence()
        if not self._stopped_for:
            if crew.ends is not None and time.monotonic() >= crew.ends:
                self._stopped_for = TIME_IS_UP
            else:
                why, patient = watch.look(control)
                if why:
                    self._hold.set()
                else:
                    self._hold.clear()
                self._stopped_for = "" if patient else why
        if self._stopped_for:
            self._hold.clear()
            self._drop_what_is_not_urgent()
            if self._stopped_for != TIME_IS_UP:
                self._cancel(control, [pid for pid, act in list(self._running.items()) if not act.urgent])

    def _cancel(self, control: Session, pids: Sequence[int]) -> None:
        mark = self._crew.target.connection.application_name
        control.value(render(_CANCEL, pids=list(pids) or [0], mark=mark))

    def _drop_what_is_not_urgent(self) -> None:
        """It is over: an emergency is worked on to its end, nothing else is begun."""
        with self._lock:
            groups = [*self._queue, *(group for _ready, group in self._waiting)]
            self._queue = deque(group for group in groups if any(act.urgent for act in group))
            self._waiting.clear()
            self._dropped += [act for group in groups if not any(act.urgent for act in group) for act in group]
            self._late.set()

    def _line(self, control: Session, pace: Pace) -> str:
        """How far everything is, and what VACUUM says of the largest table in work."""
        now = [f"{act.kind} {act.title}" for act in list(self._running.values())][:2]
        text = f"maintenance: {pace(len(self._outcomes))}"
        try:
            for row in control.rows(
                render(
                    "SELECT phase, round(100.0 * heap_blks_scanned / greatest(1, heap_blks_total)) AS share"
                    " FROM pg_stat_progress_vacuum WHERE pid = ANY ({pids}) ORDER BY heap_blks_total DESC LIMIT 1",
                    pids=list(self._running) or [0],
                )
            ):
                now.append(f"{row['phase']} {row['share']} %")
        except OpsError as error:
            if error.ends:
                raise
        hold = "; waits: the server is busy or a standby lags" if self._hold.is_set() else ""
        return f"{text}; {', '.join(now)}{hold}" if now else f"{text}{hold}"

    def _end(self, control: Session, threads: Sequence[threading.Thread]) -> None:
        """Cancel what runs and wait for the threads; nothing of theirs is left running on the server."""
        self._stop.set()
        self._hold.clear()
        deadline = time.monotonic() + ENDING
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            with contextlib.suppress(OpsError):
                self._cancel(control, list(self._running))
            for thread in threads:
                thread.join(0.3)

    def _next(self) -> list[Act] | None:
        """The next table's acts; None when there are no more. A table that is held comes again after a while.

        While a standby lags or the server is busy only emergencies are begun, which stand first in the queue.
        """
        while not self._stop.is_set():
            with self._lock:
                if not self._queue and not self._waiting:
                    return None
                ready, acts = (0.0, self._queue[0]) if self._queue else self._waiting[0]
                if ready <= time.monotonic() and (not self._hold.is_set() or any(act.urgent for act in acts)):
                    (self._queue or self._waiting).popleft()
                    return acts
            time.sleep(0.1)
        return None

    def _work(self) -> None:
        with Sessions(self._crew) as sessions:
            try:
                while True:
                    acts = self._next()
                    if acts is None:
                        return
                    self._group(sessions(acts[0].database), acts)
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._stopped_by_us(error):
            return
        with self._lock:
            if self._error is None:
                self._error = error
        self._stop.set()

    def _over(self) -> bool:
        """Whether what is no emergency is to end."""
        return self._stop.is_set() or self._late.is_set()

    def _stopped_by_us(self, error: BaseException) -> bool:
        return self._over() and isinstance(error, OpsError) and error.details.get("sqlstate") == CANCELLED

    def _group(self, session: Session, acts: list[Act]) -> None:
        for place, act in enumerate(acts):
            if self._stop.is_set() or (self._late.is_set() and not act.urgent):
                with self._lock:
                    self._dropped += acts[place:]
                return
            try:
                outcome = self._act(session, act)
            except OpsError as error:
                if not self._stopped_by_us(error):
                    raise
                with self._lock:
                    self._dropped += acts[place:]
                return
            if outcome.outcome == LOCKED and self._again(act, acts[place:]):
                return
            self._record(outcome)

    def _again(self, act: Act, rest: list[Act]) -> bool:
        """Whether a table that somebody holds is tried once more later."""
        first = self._tried.setdefault((act.database, act.table), time.monotonic())
        if time.monotonic() - first >= self._crew.lock_wait:
            return False
        with self._lock:
            self._waiting.append((time.monotonic() + min(1.0, self._crew.lock_wait / 4), rest))
        return True

    def _record(self, outcome: Outcome) -> None:
        if outcome.outcome == LATE and self._stopped_for not in ("", TIME_IS_UP):
            outcome.outcome = STOPPED
        with self._lock:
            self._outcomes.append(outcome)
            self._crew.done(outcome)

    def _act(self, session: Session, act: Act) -> Outcome:
        crew, began = self._crew, time.monotonic()
        before = see(session, act)
        if before is None:
            return Outcome(act, GONE)
        if before.autovacuum:
            return Outcome(act, AUTOVACUUM, before)
        if act.conditional and not crew.due(session, act):
            return Outcome(act, NOT_NEEDED, before)
        busy = before.activity != act.activity or before.others > 0
        sql = statement(session.version, act, busy=busy, truncate=crew.truncate)
        # an emergency is brought to its end
        seconds = None if crew.ends is None or act.urgent else max(1.0, crew.ends - time.monotonic())
        self._running[session.pid] = act
        try:
            outcome, said = run(session, sql, seconds)
            after = None
            if outcome == DONE:
                outcome, after = proven(session, act, before, said)
        except OpsError as error:
            if error.code in ("session_ended", "server_unreachable", "session_timeout", "server_starting"):
                raise
            if self._stop.is_set() or self._stopped_by_us(error):
                raise
            return Outcome(act, FAILED, before, said=[error.cause], seconds=time.monotonic() - began)
        finally:
            self._running.pop(session.pid, None)
        return Outcome(act, outcome, before, after, said, time.monotonic() - began, {"statement": sql})

    def _work_heavy(self) -> None:
        with Sessions(self._crew) as sessions:
            try:
                for act in self._heavy:
                    while self._hold.is_set() and not self._stop.is_set():
                        time.sleep(0.1)
                    if self._over():
                        return
                    self._crew.fence()
                    session = sessions(act.database)
                    self._running[session.pid] = act
                    try:
                        if act.kind in (VACUUM, FREEZE, ANALYZE):
                            self._record(self._act(session, act))
                            continue
                        left = None if self._crew.ends is None else max(1.0, self._crew.ends - time.monotonic())
                        self._record(self._crew.heavy(session, act, left, self._over))
                    finally:
                        self._running.pop(session.pid, None)
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self._fail(error)
