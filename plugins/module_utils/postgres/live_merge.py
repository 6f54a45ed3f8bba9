# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the one transaction in which a tenant's live rows become the staged ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Foreign, Shape, Trigger
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant import Change, Position
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import Referring
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import merge
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.merge import Pair
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.references import read_triggers
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import FIXED_TEXT
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

# a lock that is not to be had, or a circle of waiting: worth another attempt
BUSY = ("55P03", "40P01")
_CANCELLED = "57014"


class Deadline:
    """A bound on how long the transaction may hold the tenant's writers off, in seconds."""

    def __init__(self, session: Session, seconds: float) -> None:
        self._session, self._seconds, self._end = session, seconds, time.monotonic() + seconds

    def run(self, act: Callable[[], None]) -> None:
        """Do a step under what is left. Raises OpsError time_limit."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._over()
        self._session.run(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
        try:
            act()
        except OpsError as error:
            if error.details.get("sqlstate") == _CANCELLED:
                raise self._over() from error
            raise

    def _over(self) -> OpsError:
        return OpsError(
            "time_limit",
            f"The transaction did not end within {self._seconds:g} seconds and was rolled back.",
            "Nothing was changed. Run it at a quieter hour, or raise time_limit: for that long the tenant's own "
            "writers may have to wait.",
        )


def begin(session: Session) -> None:
    """Start the transaction with nothing that ends it early or hides rows from it."""
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    names = ["idle_in_transaction_session_timeout", "statement_timeout"]
    if session.version >= 170000:
        names.append("transaction_timeout")
    for name in names:
        session.run(f"SET LOCAL {name} = 0")
    session.run("SET LOCAL row_security = off")
    for statement in FIXED_TEXT:
        session.run(statement)


def lock(session: Session, pairs: Sequence[Pair], seconds: float) -> None:
    """All tables at once, so that nothing waits for a lock later on. Raises OpsError lock_timeout (server's)."""
    session.run(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")
    session.run(merge.lock_all(pairs))


def blockers(session: Session, schema: str) -> list[Row]:
    """Who holds locks on the schema's tables that keep ours out: pid, application, user, seconds, state, gid."""
    return session.rows(
        render(
            "SELECT DISTINCT coalesce(a.pid, 0) AS pid, coalesce(a.application_name, '') AS application,"
            " coalesce(a.usename::text, '') AS user, coalesce(a.state, '') AS state,"
            " coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint, 0)"
            " AS seconds,"
            " coalesce(p.gid, '') AS gid"
            " FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
            # a prepared transaction has no process; its lock on its own number leads to it
            " LEFT JOIN LATERAL (SELECT x.gid, x.prepared FROM pg_locks t"
            "   JOIN pg_prepared_xacts x ON x.transaction = t.transactionid WHERE t.locktype = 'transactionid'"
            "   AND t.granted AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction) p ON l.pid IS NULL"
            " WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted"
            " AND n.nspname::text = {schema} AND l.pid IS DISTINCT FROM pg_backend_pid()"
            " AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') ORDER BY 5 DESC",
            schema=schema,
        )
    )


def compare_rows(session: Session, pairs: Sequence[Pair], deadline: Deadline) -> dict[int, Change]:
    """Find every difference; by the pair's number. Tables without a key are compared as a whole."""
    found = {}
    for pair in pairs:
        if pair.table.key is not None:
            deadline.run(lambda pair=pair: session.run(merge.find_differences(pair)))  # type: ignore[misc]
            session.run(f"ANALYZE {pair.differences}")
            row = session.rows(merge.count_differences(pair))[0]
            inserted, updated, deleted = (int(str(row[name])) for name in ("inserted", "updated", "deleted"))
            staged = _rows(session, pair.staged)
            found[pair.number] = Change(pair.table.name, inserted, updated, deleted, staged - inserted - updated)
            continue
        here, there = (
            session.rows(merge.checksum(relation, pair.table.stored))[0] for relation in (pair.live, pair.staged)
        )
        rows = int(str(there["rows"]))
        if here == there:
            found[pair.number] = Change(pair.table.name, 0, 0, 0, rows)
        else:
            found[pair.number] = Change(pair.table.name, rows, 0, int(str(here["rows"])), 0, emptied=True)
    return found


def _rows(session: Session, relation: str) -> int:
    return int(str(session.value(f"SELECT count(*) AS rows FROM {relation}")))


def mark_early(session: Session, shape: Shape, pairs: Sequence[Pair]) -> set[int]:
    """Find the rows that must leave before others come, and those that refer to them, until there are no more.

    Returns the numbers of tables without a key in which such rows are: they must be emptied.
    """
    keyed = {pair.table.name: pair for pair in pairs if pair.table.key is not None}
    for pair in keyed.values():
        for statement in merge.leave_early(pair):
            session.run(statement)
    links = [
        (foreign, keyed[foreign.table], keyed[foreign.to_table])
        for foreign in shape.inner
        if foreign.table in keyed and foreign.to_table in keyed
    ]
    before, now = -1, _early(session, keyed)
    while now not in (before, 0):
        for foreign, child, parent in links:
            for statement in merge.follow(foreign, child, parent):
                session.run(statement)
        before, now = now, _early(session, keyed)
    return {
        pair.number
        for pair in pairs
        for foreign in shape.inner
        if now and pair.table.key is None and foreign.table == pair.table.name and foreign.to_table in keyed
        if session.value(merge.refers_to_early(foreign, pair, keyed[foreign.to_table]))
    }


def _early(session: Session, keyed: Mapping[str, Pair]) -> int:
    return int(str(session.value(merge.any_early(list(keyed.values()))))) if keyed else 0


def with_early(
    session: Session, pairs: Sequence[Pair], changes: Mapping[int, Change], emptied: Collection[int]
) -> dict[int, Change]:
    """The changes, with the rows that stay as they are but leave early nevertheless; emptied as mark_early found."""
    found = {}
    for pair in pairs:
        change = changes[pair.number]
        if pair.table.key is not None:
            listed = _rows(session, pair.differences)
            change = replace(change, rewritten=listed - change.inserted - change.updated - change.deleted)
        elif pair.number in emptied and not change.emptied:
            change = replace(change, emptied=True, rewritten=change.unchanged)
        found[pair.number] = change
    return found


def referring(session: Session, shape: Shape, pairs: Sequence[Pair]) -> list[Referring]:
    """Rows of other schemas that refer to rows which vanish; those are locked, so the answer stays true."""
    by_name = {pair.table.name: pair for pair in pairs if pair.table.key is not None}
    found = []
    for foreign in shape.inbound:
        pair = by_name.get(foreign.to_table)
        if pair is None:
            continue
        session.value(merge.lock_vanishing(foreign, pair))
        found += _look(session, foreign, merge.referring_rows(foreign, pair))
    return found


def parents_absent(session: Session, shape: Shape, pairs: Sequence[Pair]) -> list[Referring]:
    """Staged rows whose parents in other schemas are not there."""
    by_name = {pair.table.name: pair for pair in pairs}
    found = []
    for foreign in shape.outbound:
        pair = by_name.get(foreign.table)
        if pair is not None:
            found += _look(session, foreign, merge.absent_parents(foreign, pair))
    return found


def _look(session: Session, foreign: Foreign, sql: str) -> list[Referring]:
    row = session.rows(sql)[0]
    samples = row["samples"] if isinstance(row["samples"], list) else []
    rows = int(str(row["rows"]))
    return [Referring(foreign, rows, tuple(str(item) for item in samples))] if rows else []


def quiet_triggers(session: Session, shape: Shape, triggers: Sequence[Trigger]) -> None:
    """Switch the users' triggers off; foreign keys stay. Readers are not disturbed, other writers are locked out."""
    active = {trigger.table for trigger in triggers if trigger.state != "D"}
    for table in shape.tables:
        if active & {table.name, *table.parts}:
            session.run(render("ALTER TABLE {name:I} DISABLE TRIGGER USER", name=(shape.schema, table.name)))


def wake_triggers(session: Session, schema: str, triggers: Sequence[Trigger]) -> None:
    """Give every trigger the state it had. Deferred checks run now: a table with waiting ones cannot be altered."""
    session.run("SET CONSTRAINTS ALL IMMEDIATE")
    how = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS", "D": "DISABLE"}
    now = {(t.table, t.name): t.state for t in read_triggers(session, schema)}
    for trigger in triggers:
        if now.get((trigger.table, trigger.name)) != trigger.state:
            session.run(
                render(
                    "ALTER TABLE ONLY {table:I} " + how[trigger.state] + " TRIGGER {name:I}",
                    table=(schema, trigger.table),
                    name=trigger.name,
                )
            )


def change_rows(session: Session, pairs: Sequence[Pair], changes: Mapping[int, Change], deadline: Deadline) -> None:
    """Delete what must leave early, insert, update, delete the rest: four statements at the most."""
    touched = [pair for pair in pairs if changes[pair.number].any or changes[pair.number].emptied]
    keyed = [pair for pair in pairs if pair.table.key is not None]
    emptied = [pair for pair in touched if changes[pair.number].emptied]
    early = [p for p in keyed if session.value(f"SELECT EXISTS (SELECT FROM {p.differences} WHERE early) AS early")]
    coming = [p for p in touched if p in early or changes[p.number].inserted] + [p for p in early if p not in touched]
    statements = []
    if early or emptied:
        statements.append(merge.delete_early(early, emptied))
    coming = [p for p in coming if p not in emptied]
    if coming or emptied:
        statements.append(merge.insert_all(coming, emptied))
    updated = [p for p in touched if changes[p.number].updated]
    if updated:
        statements.append(merge.update_all(updated))
    leaving = [p for p in touched if changes[p.number].deleted and p not in emptied]
    if leaving:
        statements.append(merge.delete_rest(leaving))
    for statement in statements:
        if statement:
            deadline.run(lambda statement=statement: session.run(statement))  # type: ignore[misc]


def refresh(session: Session, schema: str, views: Sequence[tuple[str, bool]], deadline: Deadline) -> None:
    """Refresh materialized views inside the transaction, readers undisturbed where a unique index allows it.

    A view's lock is tried several times; the locks on the tables stay meanwhile.
    """
    session.run("SET LOCAL search_path TO DEFAULT")
    for name, concurrent in views:
        statement = render(
            "REFRESH MATERIALIZED VIEW " + ("CONCURRENTLY " if concurrent else "") + "{name:I}", name=(schema, name)
        )
        for attempt in range(3):
            session.run("SAVEPOINT saasops_refresh")
            try:
                deadline.run(lambda statement=statement: session.run(statement))  # type: ignore[misc]
                break
            except OpsError as error:
                if error.details.get("sqlstate") not in BUSY or attempt == 2:
                    raise
                session.run("ROLLBACK TO SAVEPOINT saasops_refresh")
                time.sleep(0.5)
    session.run("SET LOCAL search_path = pg_catalog")


def positions(session: Session, schema: str) -> dict[str, Position]:
    """Where each sequence of the schema stands."""
    names = session.rows(
        render(
            "SELECT c.relname::text AS name, s.seqincrement AS increment FROM pg_sequence s"
            " JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname::text = {schema}",
            schema=schema,
        )
    )
    increments = {str(row["name"]): int(str(row["increment"])) for row in names}
    if not increments:
        return {}
    union = " UNION ALL ".join(
        render("SELECT {name} AS name, last_value, is_called FROM {q:I}", name=name, q=(schema, name))
        for name in increments
    )
    return {
        str(row["name"]): Position(int(str(row["last_value"])), bool(row["is_called"]), increments[str(row["name"])])
        for row in session.rows(union)
    }


def raise_sequences(session: Session, schema: str, wanted: Mapping[str, Position]) -> list[str]:
    """Raise sequences that stand behind and say which; nobody can take a number between the look and the act.

    setval is not undone by a rollback, but forward it does no harm.
    """
    done = []
    for name, want in wanted.items():
        # the owner it has already: only the lock is wanted, which keeps nextval out
        owner = session.value(
            render(
                "SELECT pg_get_userbyid(c.relowner)::text AS owner FROM pg_class c JOIN pg_namespace n"
                " ON n.oid = c.relnamespace WHERE n.nspname::text = {schema} AND c.relname::text = {name}",
                schema=schema,
                name=name,
            )
        )
        session.run(f"ALTER SEQUENCE {ident(schema)}.{ident(name)} OWNER TO {ident(str(owner))}")
        now = positions(session, schema).get(name)
        if now is not None and now.behind(want):
            session.value(
                f"SELECT setval({literal(f'{ident(schema)}.{ident(name)}')}::regclass,"
                f" {want.last_value}, {literal(want.is_called)}) AS raised"
            )
            done.append(name)
    return done


def checksums(session: Session, shape: Shape, relation: Callable[[int], str]) -> dict[str, Row]:
    """rows and hash of every table over all its columns; relation gives the SQL of the n-th table."""
    return {
        table.name: session.rows(merge.checksum(relation(number), table.columns))[0]
        for number, table in enumerate(shape.tables)
    }
