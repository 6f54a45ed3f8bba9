# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read of a server for the built-in checks, and how what could not be read is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, Union, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.blocking import (
    Backend,
    Prepared,
    Tree,
    trees,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.horizon import Horizon
from ansible_collections.saasops.runbook.plugins.module_utils.domain.query_shape import shape
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint

Value = Union[None, bool, int, float, str, "list[Value]", "dict[str, Value]"]
Row = Mapping[str, Value]
Answer = Union[Sequence[Row], OpsError]
Read = TypeVar("Read")

MONITOR = "pg_monitor"
SHOWN = 20  # worst objects of one check and database


@dataclass(frozen=True)
class Facts:
    """Server and login role.

    version: server_version_num. standby: in recovery. member_of: which of the predefined roles the login role uses.
    now, started, counting_since: POSIX seconds by the server's clock; the last is when its counters began, None when
    that is not known. standbys: connected receivers of WAL. block: bytes of a page.
    statements_version, statements_schema: of pg_stat_statements in this database, "" without it.
    """

    version: int
    standby: bool
    role: str
    database: str
    superuser: bool
    member_of: frozenset[str]
    now: float
    started: float
    standbys: int
    block: int = 8192
    counting_since: float | None = None
    statements_version: str = ""
    statements_schema: str = ""

    def may(self, role: str) -> bool:
        """Whether the login role has the rights of a predefined role."""
        return self.superuser or role in self.member_of

    @property
    def sees_sessions(self) -> bool:
        """State, query and ages of other roles' sessions, and what replication and progress views tell."""
        return self.may("pg_read_all_stats")


@dataclass(frozen=True)
class Expected:
    """What the inventory says of the server, for checks that no default fits.

    rpo: seconds, None when none is given. replicas: standbys that ought to be connected.
    timeouts: what each is to be at most. values: setting -> the value that is asked for (synchronous_commit: on).
    """

    rpo: float | None = None
    replicas: int | None = None
    timeouts: tuple[Timeout, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timeout:
    """setting is to be set, and to at most so many seconds, for a role and a database ("" for any)."""

    setting: str
    at_most: float
    role: str = ""
    database: str = ""


@dataclass(frozen=True)
class Survey:
    """Everything that was read.

    answers: (database, query) -> rows, or why there are none; database "" for what belongs to the whole server.
    databases: those that were looked into, the system's own first. unreached: database -> why it could not be.
    own: pids of our own sessions. points: recovery points, None when no store was given.
    """

    facts: Facts
    answers: Mapping[tuple[str, str], Answer]
    databases: tuple[str, ...]
    unreached: Mapping[str, OpsError] = field(default_factory=dict)
    backends: Sequence[Backend] | OpsError = ()
    prepared: Sequence[Prepared] | OpsError = ()
    horizon: Horizon | OpsError | None = None
    own: frozenset[int] = frozenset()
    expected: Expected = field(default_factory=Expected)
    points: Sequence[RecoveryPoint] | OpsError | None = None

    def rows(self, query: str, database: str = "") -> Sequence[Row]:
        """Raises the OpsError that stands for them, or out_of_time when it was not read."""
        answer = self.answers.get((database, query))
        if answer is None:
            raise OpsError("out_of_time", f"{query} was not read", "Run the verb health, which takes its time.")
        return seen(answer)

    def row(self, query: str, database: str = "") -> Row:
        """The only row."""
        return self.rows(query, database)[0]

    def trees(self) -> list[Tree]:
        """Who waits for whom. Raises what reading it raised."""
        return trees(seen(self.backends), seen(self.prepared))

    def place(self, database: str, name: str) -> str:
        """The scope of something in a database: its name alone in the system's own."""
        return name if database == self.databases[0] else f"{database}/{name}"

    def elsewhere(self, database: str) -> dict[str, str | int | float | bool]:
        """What a remedy's variables need besides, for a database that is not the system's own."""
        return {} if database == self.databases[0] else {"saasops_database": database}


@dataclass(frozen=True)
class PgCheck:
    """A built-in check: its thresholds, the queries that it reads, and how rows become measurements.

    scope: cluster, database or relation. right: what it needs, "" for nothing but a login.
    """

    check: Check
    scope: str
    right: str
    queries: tuple[str, ...]
    read: Callable[[Survey], list[Measurement]]

    def measure(self, survey: Survey) -> list[Measurement]:
        """Never raises OpsError: what could not be read is missing, and named."""
        try:
            return self.read(survey)
        except OpsError as error:
            return [failure(error, survey.facts, self.right)]


def seen(answer: Read | OpsError) -> Read:
    """What was read. Raises OpsError what stands in its place."""
    if isinstance(answer, OpsError):
        raise answer
    return answer


def failure(error: OpsError, facts: Facts, right: str = "") -> Measurement:
    """Why something could not be measured; a missing right by the grant that gives it."""
    if error.code == "not_permitted":
        return needs(facts, right or MONITOR)
    return Measurement(missing=f"{error.cause.rstrip('.')} [{error.code}]")


def needs(facts: Facts, role: str, what: str = "") -> Measurement:
    """Nothing was seen for lack of a predefined role."""
    return Measurement(missing=f"{what}{': ' if what else ''}needs GRANT {role} TO {facts.role}")


def each_database(
    survey: Survey, query: str, read: Callable[[str, Sequence[Row]], list[Measurement]], right: str = ""
) -> list[Measurement]:
    """The measurements of every database; of one that could not be looked into, why."""
    found: list[Measurement] = []
    for database in survey.databases:
        try:
            found += read(database, survey.rows(query, database))
        except OpsError as error:
            its = failure(error, survey.facts, right)
            found.append(Measurement(missing=its.missing, scope=survey.place(database, "")[:-1]))
    for database, why in survey.unreached.items():
        found.append(Measurement(missing=f"{why.cause.rstrip('.')} [{why.code}]", scope=database))
    return found


def number(row: Row, name: str) -> float:
    """A number of a row; 0 for NULL."""
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def whole(row: Row, name: str) -> int:
    """A count of a row; 0 for NULL."""
    return int(number(row, name))


def text(row: Row, name: str) -> str:
    """A text of a row; "" for NULL."""
    value = row.get(name)
    return "" if value is None else str(value)


def relation(row: Row) -> str:
    """schema.name of a row."""
    return f"{text(row, 'schema')}.{text(row, 'name')}"


def statement(query: str, wide: int = 100) -> str:
    """A statement in one line, each value in it as ?: they are people's data, and sometimes passwords."""
    line = shape(query)
    return line if len(line) <= wide else line[: wide - 1] + "…"


def inner(row: Row, name: str) -> list[Row]:
    """A column of rows."""
    return cast("list[Row]", row.get(name) or [])
