# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a server for the built-in checks: one session a database, what belongs together in one round trip."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import Backend, Prepared
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import Horizon
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import queries_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import (
    SHOWN,
    Answer,
    Expected,
    Facts,
    PgCheck,
    Survey,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import blocking
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.horizon import horizon
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures import server, statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.every import EVERY
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.query import (
    CLUSTER,
    DATABASE,
    LOST,
    OUT_OF_TIME,
    ask,
    back,
    bounds,
    savepoint,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

Found = TypeVar("Found")
STATEMENTS = "statements"
# what is smaller is not worth a command; what was called less often is no habit
LEAST_BYTES, LEAST_DEAD, LEAST_CALLS = 10 * 1024 * 1024, 10_000, 20
STATEMENT_SECONDS = 30.0


@dataclass(frozen=True)
class Limits:
    """What is left out of sight, and how long a statement may take (seconds).

    until: monotonic seconds at which nothing more is asked, None without an end.
    """

    least_bytes: int = LEAST_BYTES
    least_dead: int = LEAST_DEAD
    least_calls: int = LEAST_CALLS
    shown: int = SHOWN
    seconds: float = STATEMENT_SECONDS
    until: float | None = None

    def values(self) -> dict[str, object]:
        return {
            "least_bytes": self.least_bytes,
            "least_dead": self.least_dead,
            "least_calls": self.least_calls,
            "shown": self.shown,
        }

    def left(self) -> float:
        """Seconds until nothing more is asked."""
        return 3600.0 if self.until is None else self.until - time.monotonic()


@dataclass
class Reading:
    """What has been read so far: whoever waits no longer takes what there is, and the rest is out of time."""

    expected: Expected = field(default_factory=Expected)
    points: Sequence[RecoveryPoint] | OpsError | None = None
    facts: Facts | None = None
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    unreached: dict[str, OpsError] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    backends: Sequence[Backend] | OpsError = OUT_OF_TIME
    prepared: Sequence[Prepared] | OpsError = OUT_OF_TIME
    horizon: Horizon | OpsError = OUT_OF_TIME

    def survey(self) -> Survey:
        """Raises OpsError out_of_time when not even the server's facts were read."""
        if self.facts is None:
            raise OUT_OF_TIME
        return Survey(
            facts=self.facts,
            answers=dict(self.answers),
            databases=tuple(self.looked),
            unreached=dict(self.unreached),
            backends=self.backends,
            prepared=self.prepared,
            horizon=self.horizon,
            own=frozenset(self.own),
            expected=self.expected,
            points=self.points,
        )

    def read(
        self,
        session: Session,
        checks: Collection[PgCheck],
        limits: Limits,
        target: Target | None = None,
        others: Sequence[str] = (),
    ) -> Survey:
        """What the checks need, on the session's database and on others of the server (each in its own session).

        Raises OpsError when not even the server's facts can be read.
        """
        # compiling these statements takes longer than running them
        session.run("SELECT set_config('jit', 'off', false)")
        facts = server.read_facts(session)
        self.facts, self.looked, self.own = facts, [facts.database], {session.pid}
        wanted = queries_of(checks)
        known = [EVERY[name] for name in sorted(wanted) if name in EVERY]
        here = [query for query in known if query.scope == DATABASE]
        self.backends = _tried(session, lambda: blocking.backends(session), limits)
        self.prepared = _tried(session, lambda: blocking.prepared(session), limits)
        for name, answer in ask(session, known, limits.values(), limits.left).items():
            self.answers["" if EVERY[name].scope == CLUSTER else facts.database, name] = answer
        self.horizon = _tried(session, lambda: horizon(session), limits)
        if STATEMENTS in wanted:
            self.answers[facts.database, STATEMENTS] = _statements(session, facts, limits)
        for database in others:
            if target is None or database == facts.database:
                continue
            try:
                with contextlib.closing(target.session(database)) as other:
                    bounds(other, limits.seconds)
                    self.own.add(other.pid)
                    for name, answer in ask(other, here, limits.values(), limits.left).items():
                        self.answers[database, name] = answer
                    if STATEMENTS in wanted:
                        its = server.read_facts(other)
                        self.answers[database, STATEMENTS] = _statements(other, its, limits)
                self.looked.append(database)
            except OpsError as error:
                self.unreached[database] = error
        return self.survey()


def read_survey(
    session: Session,
    checks: Collection[PgCheck],
    limits: Limits,
    expected: Expected,
    *,
    target: Target | None = None,
    others: Sequence[str] = (),
    points: Sequence[RecoveryPoint] | OpsError | None = None,
) -> Survey:
    """Everything at once, see Reading.read."""
    return Reading(expected, points).read(session, checks, limits, target, others)


def _statements(session: Session, facts: Facts, limits: Limits) -> Answer:
    """The slowest statements, or why pg_stat_statements does not tell them, and how it would."""
    query = statements.query_for(facts)
    if query is None:
        return OpsError(
            "extension_missing",
            f"pg_stat_statements is not in database {facts.database}: add it to shared_preload_libraries, restart, and"
            " CREATE EXTENSION pg_stat_statements there",
            "Install it, or leave the check out.",
        )
    return ask(session, [query], limits.values(), limits.left)[query.name]


def _tried(session: Session, read: Callable[[], Found], limits: Limits) -> Found | OpsError:
    """What a reader gives, or the OpsError that it raised; a transaction stays usable."""
    if limits.left() <= 0:
        return OUT_OF_TIME
    kept = savepoint(session)
    try:
        return read()
    except OpsError as error:
        if kept and error.code not in LOST:
            back(session)
        return error
