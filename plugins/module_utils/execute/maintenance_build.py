# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build indexes and tables anew, one at a time, and never in anybody's way for longer than said."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import LEFTOVER, REINDEX, Act
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_bloat import REPACK
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_crew import (
    AUTOVACUUM,
    FAILED,
    Outcome,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.maintenance_repack import Repack
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_acts import (
    DONE,
    GONE,
    LATE,
    LOCKED,
    Manner,
    Seen,
    run,
    see,
    settle,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

IN_USE = "in use"
# a table that anybody reads or writes within this is in use, in seconds; counters arrive up to a second late
STILL = 2.5
# how long somebody may wait for a table that is rewritten, before it is given up
WAITED = 1.0
# an old snapshot keeps a concurrent build waiting, and the build keeps dead rows of everybody; seconds
SNAPSHOT = 60.0
# the drop of what an ended build left waits for the same transactions as the build did
SWEEP = 3.0

_SIZE = "SELECT pg_relation_size(c.oid) AS bytes, c.relfilenode::bigint AS node FROM pg_class c WHERE c.oid = {oid}"
_OLD = """
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
   AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
   AND xact_start < clock_timestamp() - make_interval(secs => {seconds})
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = pg_stat_activity.pid)
UNION ALL
SELECT 0, extract(epoch FROM clock_timestamp() - prepared)::bigint FROM pg_prepared_xacts
 WHERE database = current_database()
LIMIT 1
"""
_DEBRIS = """
SELECT n.nspname::text AS schema, c.relname::text AS name
  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE x.indrelid = {table} AND NOT x.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
   AND ({oid} = 0 OR x.indexrelid = {oid})
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid)
"""
# a build that waits for the transactions of others
_STUCK = "SELECT count(*) FROM pg_stat_progress_create_index WHERE pid = {pid} AND phase LIKE 'waiting%'"
_WAITING = """
SELECT count(*) FROM pg_locks w JOIN pg_locks h ON h.relation = w.relation AND h.pid = {pid} AND h.granted
 WHERE NOT w.granted AND w.pid <> {pid} AND w.relation = {table}
   AND w.database = (SELECT oid FROM pg_database WHERE datname = {database})
"""


@dataclass(frozen=True)
class Builder:
    """rewrite_seconds: the longest that the rewrite of one table may take."""

    target: Target
    context: Context
    manner: Manner
    rewrite_seconds: float

    def __call__(self, session: Session, act: Act, left: float | None, halted: Callable[[], bool]) -> Outcome:
        """Do one act. left: seconds of the budget, None without. halted: whether the work is to end now."""
        began = time.monotonic()
        before = see(session, act)
        if before is None:
            return Outcome(act, GONE)
        if before.autovacuum:
            return Outcome(act, AUTOVACUUM, before)
        try:
            if act.kind == LEFTOVER:
                outcome = self._drop(session, act, before)
            elif act.kind == REINDEX:
                outcome = self._reindex(session, act, before, left)
            else:
                outcome = self._rewrite(session, act, before, left, halted)
        except OpsError as error:
            if error.code in ("session_ended", "server_unreachable", "interrupted", "lock_lost", "lease_lost"):
                raise
            outcome = Outcome(act, FAILED, before, said=[error.cause])
        outcome.seconds = time.monotonic() - began
        return outcome

    def _drop(self, session: Session, act: Act, before: Seen) -> Outcome:
        """DROP INDEX CONCURRENTLY of one leftover, if nobody builds there by now; or what a pg_repack left."""
        if REPACK in act.options:
            return self._repack.clean(session, act, before)
        found = session.rows(render(_DEBRIS, table=act.table, oid=act.oid))
        if not found:
            return Outcome(act, GONE, before)
        self.context.admission.confirm()
        outcome, said = self._unhurried(session, _drop_sql(str(found[0]["schema"]), str(found[0]["name"])), SNAPSHOT)
        return Outcome(act, outcome, before, see(session, act), said)

    def _unhurried(self, session: Session, sql: str, seconds: float | None) -> tuple[str, list[str]]:
        """A concurrent build or drop: a lock_timeout in it would leave an invalid index."""
        session.run("SET lock_timeout = 0")
        try:
            return run(session, sql, seconds)
        finally:
            with contextlib.suppress(OpsError):
                session.run(f"SET lock_timeout = {int(self.manner.lock_timeout * 1000)}")

    def _reindex(self, session: Session, act: Act, before: Seen, left: float | None) -> Outcome:
        old = session.rows(render(_OLD, seconds=SNAPSHOT))
        if old:
            who = f"session {old[0]['pid']}" if old[0]["pid"] else "a prepared transaction"
            return Outcome(act, LOCKED, before, said=[f"it would wait for {who}, at work for {old[0]['seconds']} s"])
        sizes = session.rows(render(_SIZE, oid=act.oid))
        if not sizes:
            return Outcome(act, GONE, before)
        if session.value(
            render("SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = {oid}", oid=act.table)
        ):
            return Outcome(act, LOCKED, before, said=["somebody builds an index of this table"])
        sql = render("REINDEX INDEX CONCURRENTLY {name:I}", name=(act.schema, act.name))
        try:
            with self._watched(session, render(_STUCK, pid=session.pid), SNAPSHOT) as given_up:
                outcome, said = self._unhurried(session, sql, left)
        finally:
            self._sweep(session, act.table)
        if outcome == LATE and given_up.is_set():
            outcome, said = LOCKED, [f"it waited for others for {SNAPSHOT:.0f} s, and was given up"]
        after = session.rows(
            render(
                "SELECT pg_relation_size(c.oid) AS bytes, c.relfilenode::bigint AS node, c.oid::bigint AS oid"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = {schema} AND c.relname = {name}",
                schema=act.schema,
                name=act.name,
            )
        )
        if outcome == DONE and (not after or after[0]["node"] == sizes[0]["node"]):
            outcome = FAILED
        settle(session)
        facts: dict[str, object] = {"index_bytes_before": sizes[0]["bytes"]}
        if after:
            facts.update(index_bytes_after=after[0]["bytes"], index_oid=after[0]["oid"])
        return Outcome(act, outcome, before, see(session, act), said, facts=facts)

    def _sweep(self, session: Session, table: int) -> None:
        """What a rebuild that was ended left behind; while somebody is in its way it stays for the next run."""
        with contextlib.suppress(OpsError):
            for row in session.rows(render(_DEBRIS, table=table, oid=0)):
                # begins with another word than the acts do, so that the end of the work does not end it
                self._unhurried(session, "/* left */ " + _drop_sql(str(row["schema"]), str(row["name"])), SWEEP)

    @property
    def _repack(self) -> Repack:
        return Repack(self.target, self.context, self.manner)

    def _rewrite(
        self, session: Session, act: Act, before: Seen, left: float | None, halted: Callable[[], bool]
    ) -> Outcome:
        seconds = self.rewrite_seconds if left is None else min(left, self.rewrite_seconds)
        if REPACK in act.options:
            return self._repack(session, act, before, seconds, halted)
        time.sleep(STILL)
        now = see(session, act)
        if now is None:
            return Outcome(act, GONE, before)
        if now.others or now.activity != before.activity:
            return Outcome(act, IN_USE, before, said=["somebody reads or writes the table"])
        self.context.admission.confirm()
        sql = render("VACUUM (FULL, ANALYZE, SKIP_LOCKED) {name:I}", name=(act.schema, act.name))
        waiting = render(_WAITING, pid=session.pid, table=act.table, database=act.database)
        with self._watched(session, waiting, WAITED) as given_up:
            outcome, said = run(session, sql, seconds)
        if outcome == LATE and given_up.is_set():
            outcome, said = IN_USE, ["somebody came to wait for the table, so its rewrite was given up"]
        settle(session)
        after = see(session, act)
        # VACUUM FULL counts in no statistics of vacuums, its ANALYZE does
        if outcome == DONE and (after is None or after.analyzes <= before.analyzes):
            outcome = LOCKED
        return Outcome(act, outcome, before, after, said)

    @contextlib.contextmanager
    def _watched(self, session: Session, sql: str, patience: float) -> Iterator[threading.Event]:
        """Cancel what the session does when a count has been above 0 for so long; the event tells that it was so."""
        given_up, over = threading.Event(), threading.Event()

        def watch() -> None:
            with contextlib.suppress(OpsError), contextlib.closing(self.target.session()) as control:
                first: float | None = None
                while not over.wait(0.2):
                    if not int(str(control.value(sql) or 0)):
                        first = None
                        continue
                    first = first or time.monotonic()
                    if time.monotonic() - first >= patience:
                        given_up.set()
                        control.value(render("SELECT pg_cancel_backend({pid})", pid=session.pid))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield given_up
        finally:
            over.set()
            thread.join(5)


def _drop_sql(schema: str, name: str) -> str:
    return render("DROP INDEX CONCURRENTLY IF EXISTS {name:I}", name=(schema, name))
