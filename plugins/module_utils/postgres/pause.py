# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the clients of a PgBouncer wait, and never for longer than we live.

For each pool two psql processes are logged in to the console before anything is paused. One says PAUSE, and RESUME
at the end. The other has RESUME in its stdin already, without the newline that would make psql act on it: the end
of its input does that too, so when this process dies of whatever, the kernel closes the pipe and psql resumes. They
are in sessions of their own, so what kills our process group leaves them alive.

A PAUSE that waits for running transactions cannot be taken back on its own connection, and PgBouncer answers it
only when some pool gets quiet: that is why it is not the connection that resumes in an emergency.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pooler import Pool
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.pooler import Console, Pooler, quoted

# no client waits longer than this for us, whatever we are doing
LONGEST_SECONDS = 30.0
# a pool of sessions gets quiet at once or not before its clients leave
SESSIONS_SECONDS = 0.5
# Questions (below 0.1 ms each) that the second psql asks before it resumes: a PAUSE that was on its way through the
# first one's pipe when we died is there before.
DELAY = "SHOW VERSION;" * 1500
# PgBouncer takes a server login that PAUSE cuts short for a failed one, and then makes everybody wait for
# server_login_retry, 15 s by default
SHORT_RETRY = "SET server_login_retry = '0.1';"
STUCK_SECONDS = 0.1
LATE_SECONDS = 0.2


def _is_paused(console: Console, name: str) -> bool:
    return any(row["name"] == name and row["paused"] == "1" for row in console.ask("SHOW DATABASES"))


def resume(console: Console, name: str) -> None:
    """RESUME if it is paused. Raises OpsError when it is still paused afterwards, or the console's."""
    with contextlib.suppress(OpsError):
        console.ask(f"RESUME {quoted(name)}")
    if _is_paused(console, name):
        # says why
        console.ask(f"RESUME {quoted(name)}")


def resume_left(target: Target, pooler: Pooler, name: str) -> bool:
    """Whether a pool that a dead run had paused was still so; then it is resumed. Raises OpsError."""
    with contextlib.closing(Console(target, pooler)) as console:
        if not _is_paused(console, name):
            return False
        resume(console, name)
        return True


def _stuck(console: Console, name: str) -> bool:
    """Whether clients wait and PgBouncer does not even try to get them a server."""
    servers = ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login")
    return any(
        row["database"] == name and int(row["cl_waiting"]) > 0 and not any(int(row[kind]) for kind in servers)
        for row in console.ask("SHOW POOLS")
    )


class _Pause:
    """One pool, from two logged-in consoles to its release."""

    def __init__(self, target: Target, pooler: Pooler, pool: Pool) -> None:
        self._target, self._pooler, self.pool = target, pooler, pool
        self._releasing = threading.Lock()
        self._word = ""
        self._begun = self._done = False
        self.drained = False
        self.confirmed = False
        self._consoles: list[Console] = []
        try:
            self._consoles += [Console(target, pooler)]
            self._consoles += [Console(target, pooler)]
            self._console, self._net = self._consoles
            # with our end of stdout gone a word of its own would kill psql before it resumes
            self._net.write("\\o /dev/null\n")
            again = f"SET server_login_retry = '{pool.login_retry}';"
            self._net.write(f"{DELAY} RESUME {quoted(pool.name)}; {SHORT_RETRY} {DELAY} {again}")
        except BaseException:
            self.release()
            raise

    def begin(self) -> None:
        # said before it is done: a signal may come in between
        self._begun = True
        self._word = self._console.send(f"PAUSE {quoted(self.pool.name)}")

    def wait(self, since: float, limit: float) -> None:
        """Wait until nobody uses a server through this pool, or as long as its clients may be kept waiting."""
        patience = (
            self._pooler.pause_timeout if self.pool.sharing else min(SESSIONS_SECONDS, self._pooler.pause_timeout)
        )
        left = since + min(patience, limit) - time.monotonic()
        self.drained = self._console.answer(self._word, max(left, 0.05)) is not None

    def release(self) -> None:
        """RESUME, by whichever way works; confirmed says whether the pooler was seen not to be paused any more."""
        with self._releasing:
            if self._done:
                return
            self._done = True
            if self._begun:
                self._resume()
            else:
                self.confirmed = True
            # a process that is ended does not do what it holds back
            for console in self._consoles:
                console.close()

    def _resume(self) -> None:
        with contextlib.suppress(OpsError):
            if self.drained or self._drained_late():
                resume(self._console, self.pool.name)
                self.confirmed = True
                self._hurry(self._console)
        if self.confirmed:
            return
        # first the PAUSE that still waits must not come later than the RESUME
        self._console.close()
        self._net.end_input()
        self._net.wait_for_end(10.0)
        with contextlib.suppress(OpsError), contextlib.closing(Console(self._target, self._pooler)) as console:
            resume(console, self.pool.name)
            self.confirmed = True

    def _drained_late(self) -> bool:
        """Whether the renames ended what the PAUSE had waited for, so that its own connection is free again."""
        return bool(self._word) and self._console.answer(self._word, LATE_SECONDS) is not None

    def _hurry(self, console: Console) -> None:
        """Do not let the clients wait for a login that PAUSE cut short; what does it needs us no more."""
        deadline = time.monotonic() + STUCK_SECONDS
        while _stuck(console, self.pool.name):
            if time.monotonic() > deadline:
                self._net.end_input()
                self._net.wait_for_end(10.0)
                return
            time.sleep(0.01)


class Hold:
    """All pools are paused between its begin and its end.

    left: labels of pools that could not be seen resumed. expired: they were resumed before the end, because it took
    too long. seconds: how long clients waited at most.
    """

    def __init__(self, target: Target, pools: Sequence[tuple[Pooler, Pool]]) -> None:
        self._target = target
        # what somebody else paused is his
        self._pools = [(pooler, pool) for pooler, pool in pools if not pool.paused]
        self._pauses: list[_Pause] = []
        self._limit = min([LONGEST_SECONDS, *(0.8 * pool.patience for _pooler, pool in self._pools if pool.patience)])
        self._timer = threading.Timer(self._limit, self._expire)
        self._timer.daemon = True
        self._since = 0.0
        self.expired = False
        self.seconds = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """The pools that it pauses."""
        return tuple(pool.label for _pooler, pool in self._pools)

    @property
    def left(self) -> tuple[str, ...]:
        return tuple(pause.pool.label for pause in self._pauses if not pause.confirmed)

    @property
    def undrained(self) -> tuple[str, ...]:
        """Pools whose running transactions did not end in the time they were given."""
        return tuple(pause.pool.label for pause in self._pauses if not pause.drained)

    def __enter__(self) -> Hold:
        """Raises OpsError pooler_*; then nothing is paused."""
        try:
            for pooler, pool in self._pools:
                self._pauses.append(_Pause(self._target, pooler, pool))
            if self._pauses:
                self._since = time.monotonic()
                self._timer.start()
                for pause in self._pauses:
                    pause.begin()
                for pause in self._pauses:
                    pause.wait(self._since, self._limit / 2)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        self._timer.cancel()
        threads = [threading.Thread(target=pause.release) for pause in self._pauses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._since and not self.expired:
            self.seconds = time.monotonic() - self._since

    def _expire(self) -> None:
        self.expired = True
        self.seconds = self._limit
        for pause in self._pauses:
            pause.release()
