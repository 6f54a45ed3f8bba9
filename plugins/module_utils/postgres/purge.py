# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows a purge rule speaks of: its condition as SQL, and an exact count in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import Pause, Rule
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import Reference, TableFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import table_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal


@dataclass(frozen=True)
class Node:
    """A table of a rule: its own (columns is ()), or one whose columns refer to parent_columns of the one above."""

    facts: TableFacts
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()
    parent_columns: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()

    def all(self) -> list[Node]:
        """This table and those below it, parents before children."""
        return [self, *(below for node in self.nodes for below in node.all())]


@dataclass(frozen=True)
class Count:
    """Rows that match, of which so many stay because other rows refer to them; exact: False for the planner's guess."""

    rows: int
    referenced: int
    exact: bool

    @property
    def free(self) -> int:
        """Rows that would go."""
        return self.rows - self.referenced

    @property
    def something(self) -> bool:
        """Whether there is, or may be, a row to delete."""
        return self.free > 0 or not self.exact


def search_path(schema: str, more: Sequence[str]) -> str:
    """Names in a condition mean the tables of that schema, and never one of the same name elsewhere."""
    return ", ".join(ident(name) for name in (schema, *more))


def age_sql(rule: Rule, facts: TableFacts, cutoff: float | None) -> str:
    """The condition that a row is old. Raises OpsError age_column."""
    if cutoff is None:
        return "true"
    kind = facts.type_of(rule.age_column) if facts.has(rule.age_column) else ""
    moment = f"{literal(iso(cutoff))}::timestamptz"
    local = f"({moment} AT TIME ZONE {literal(rule.zone)})"
    column = f"t.{ident(rule.age_column)}"
    if kind.startswith("timestamp") and kind.endswith("with time zone"):
        return f"{column} < {moment}"
    if kind.startswith("timestamp"):
        return f"{column} < {local}"
    if kind == "date":
        return f"{column} < {local}::date"
    raise OpsError(
        "age_column",
        f"{facts.title} has no column {rule.age_column} of type timestamp or date{f' ({kind})' if kind else ''}.",
        f"Correct age_column of rule {rule.name}.",
        {"table": facts.title, "rule": rule.name},
    )


def unreferenced_sql(references: Sequence[Reference]) -> str:
    """The condition that no row outside the rule refers to a row."""
    parts = [
        f"NOT EXISTS (SELECT FROM {table_sql(item.schema, item.table)} AS r WHERE "
        + " AND ".join(f"r.{ident(own)} = t.{ident(other)}" for own, other in zip(item.columns, item.parent_columns))
        + ")"
        for item in references
    ]
    return " AND ".join(parts) or "true"


def condition_sql(rule: Rule, facts: TableFacts, cutoff: float | None) -> str:
    """The rows that the rule speaks of; the table is t. The newline ends a comment that a condition may end in."""
    where = f"({rule.where}\n)" if rule.where else "true"
    return f"{where} AND {age_sql(rule, facts, cutoff)}"


def count(session: Session, facts: TableFacts, condition: str, free: str) -> Count:
    """Exact numbers; when the statement's time is over, what the planner expects. Raises OpsError."""
    table = table_sql(facts.schema, facts.name)
    session.run("SAVEPOINT saasops_count")
    try:
        row = session.rows(
            f"SELECT count(*) AS rows, count(*) FILTER (WHERE NOT ({free})) AS referenced"
            f" FROM {table} AS t WHERE {condition}"
        )[0]
    except OpsError as error:
        if error.details.get("sqlstate") != "57014":
            raise
        session.run("ROLLBACK TO SAVEPOINT saasops_count")
        guess = session.value(f"SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = {facts.oid}")
        return Count(max(0, int(str(guess))), 0, False)
    return Count(int(str(row["rows"])), int(str(row["referenced"])), True)


_LAG = """
SELECT count(*) AS replicas, count(*) FILTER (WHERE state IS NULL) AS hidden,
       coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 AS seconds,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint AS bytes
  FROM pg_stat_replication WHERE state IS NULL OR state <> 'backup'
"""
_BUSY = (
    "SELECT count(*) AS busy FROM pg_stat_activity"
    " WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def reason_to_wait(session: Session, pause: Pause) -> str:
    """Why the next batch should wait, "" when nothing speaks against it."""
    if pause.replica_lag is not None or pause.replica_bytes is not None:
        row = session.rows(_LAG)[0]
        seconds, size = float(str(row["seconds"])), int(str(row["bytes"]))
        if pause.replica_bytes is not None and size > pause.replica_bytes:
            return f"a replica is {size / 1e6:.0f} MB behind"
        # a replica that has replayed all shows its last delay for a while
        if pause.replica_lag is not None and seconds > pause.replica_lag and size > 0:
            return f"a replica is {seconds:.0f} s behind"
    if pause.active_sessions is not None:
        busy = int(str(session.value(_BUSY)))
        if busy > pause.active_sessions:
            return f"{busy} sessions are busy"
    if pause.condition and session.value(f"SELECT ({pause.condition}\n)::boolean AS wait"):
        return "the rule's pause condition holds"
    return ""


def lag_hidden(session: Session) -> bool:
    """Whether there are replicas whose lag this role may not see."""
    return bool(session.rows(_LAG)[0]["hidden"])
