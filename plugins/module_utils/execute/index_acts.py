# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acts on one index. Each leaves the index whole, or as it was; what could not be removed is named.

A worker calls them; statements run under the crew's watch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index import DROP, REPLACE, Step
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import (
    NEW,
    OLD,
    Definition,
    beside,
    same,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Index, Table
from ansible_collections.saasops.runbook.plugins.module_utils.execute.index_crew import LAST_WORDS, Crew
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_facts import duplicates
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_sql import create_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_watch import in_the_way, terminate
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import builders, indexes_named
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render

UNIQUE_VIOLATION, NAME_TAKEN, LOCK_TIMEOUT, DEADLOCK = "23505", "42P07", "55P03", "40P01"
# a lock that readers or writers would queue behind is asked for this long only, and again later
_BRIEF = "500ms"


@dataclass(frozen=True)
class Limits:
    """Seconds. wait: for others, before and in a build; old: the age from which a transaction is one to wait for;
    build: one statement that builds; drop: one that drops."""

    wait: float = 120.0
    old: float = 30.0
    build: float = 7200.0
    drop: float = 60.0


@dataclass
class Made:
    """What the acts did, for the result and the way back. Workers append; a list's append is atomic."""

    indexes: list[tuple[Step, Index]] = field(default_factory=list)
    dropped: list[Step] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    # partitioned indexes that took indexes of before along, which an undo would drop with them
    kept: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)


class Acts:
    """The acts with what they share."""

    def __init__(self, crew: Crew, limits: Limits, made: Made) -> None:
        self._crew, self._limits, self.made = crew, limits, made

    def wait_clear(self, session: Session, table: Table, full: str, *, dropping: bool = False) -> None:
        """Wait until nobody would keep a build on the table (or a drop) waiting.

        Raises old_snapshot, build_under_way.
        """
        deadline = time.monotonic() + self._limits.wait
        while True:
            own = self._crew.pids()
            building = [one for one in builders(session, own) if one.table == table.oid]
            blockers = in_the_way(session, self._crew.database, table.oid, self._limits.old, own, dropping=dropping)
            if not building and not blockers:
                return
            if self._crew.stopping is not None:
                raise self._crew.stopping
            if time.monotonic() >= deadline:
                break
            time.sleep(0.3)
        if building:
            raise OpsError(
                "build_under_way",
                f"{building[0].who or 'Somebody'} (pid {building[0].pid}) builds an index on {table.full} still, after "
                f"{human_duration(self._limits.wait)}.",
                "Wait until that has ended, and run the verb again.",
                {"pid": building[0].pid},
            )
        raise OpsError(
            "old_snapshot",
            f"{full} was not {'dropped' if dropping else 'begun'}: it would wait for {'; '.join(blockers[:3])}"
            f"{f' and {len(blockers) - 3} more' if len(blockers) > 3 else ''}.",
            "End it (sessions -e pid=<pid>, or ROLLBACK PREPARED), or run the verb again when it is over.",
            {"blockers": blockers},
        )

    def look(self, session: Session, schema: str, name: str) -> Index | None:
        """The index of this name now."""
        found = indexes_named(session, [(schema, name)])
        return found[0] if found else None

    def build(
        self, session: Session, table: Table, schema: str, name: str, definition: Definition, attempts: int = 5
    ) -> Index:
        """Build an index concurrently and prove it; one that is there and invalid is removed first.

        Raises OpsError duplicate_keys, index_not_valid, old_snapshot, and what the crew raises.
        """
        full = f"{schema}.{name}"
        there = self.look(session, schema, name)
        if there is not None and there.sound and there.table == table.oid and same(there.definition, definition):
            return there
        self.wait_clear(session, table, full)
        if there is not None and there.sound and not name.endswith(NEW):
            raise OpsError(
                "index_differs",
                f"{full} was made by somebody else meanwhile, and is another index.",
                "Run the verb again.",
                {"index": full, "found": there.text},
            )
        if there is not None:
            self.drop_concurrently(session, schema, name, self._limits.drop)
        sql = create_sql(definition, name, schema, table.name)
        try:
            self._crew.run(session, sql, f"building {full}", self._limits.build, self._limits.wait)
        except OpsError as error:
            if error.details.get("sqlstate") == DEADLOCK and attempts > 1:
                # somebody with a snapshot asked for the table as a whole: the server chose us to give way
                self._remove_invalid(session, schema, name, self._limits.drop)
                return self.build(session, table, schema, name, definition, attempts - 1)
            rest = "" if error.details.get("sqlstate") == NAME_TAKEN else self._tidy(session, schema, name)
            if error.details.get("sqlstate") == UNIQUE_VIOLATION:
                raise self._duplicates(session, table, definition, full, rest) from error
            raise OpsError(
                error.code, f"{error.cause}{rest}", error.remedy, {**error.details, "index": full}
            ) from error
        made = self.look(session, schema, name)
        if made is None or not made.sound or not same(made.definition, definition):
            rest = self._tidy(session, schema, name)
            raise OpsError(
                "index_not_valid",
                f"{full} was built and is not what was asked for.{rest}",
                "Run the verb again; when it stays so, see the server's log.",
                {"index": full},
            )
        return made

    def _duplicates(self, session: Session, table: Table, definition: Definition, full: str, rest: str) -> OpsError:
        try:
            keys = duplicates(session, table, definition)
        except OpsError:
            keys = []
        named = "; ".join(keys) or "rows that are gone again, or too many to find in 20 s"
        return OpsError(
            "duplicate_keys",
            f"{full} cannot be unique: {named}.{rest}",
            "Mend the rows (verb repair), then run this again.",
            {"index": full, "duplicates": keys},
        )

    def _tidy(self, session: Session, schema: str, name: str) -> str:
        """Remove what a failed build left; a sentence on what could not be removed, "" when nothing is left."""
        limit = LAST_WORDS - 5 if self._crew.stopping is not None else self._limits.drop
        stays = f" {schema}.{name} may stay behind as an invalid index; the next run repairs it."
        try:
            self._remove_invalid(session, schema, name, limit)
        except OpsError as error:
            if error.code not in ("session_ended", "server_starting", "server_unreachable"):
                return stays
            try:
                with self._crew.session() as other:
                    deadline = time.monotonic() + 5
                    while not terminate(other, session.pid, self._crew.mark) and time.monotonic() < deadline:
                        time.sleep(0.1)
                    self._remove_invalid(other, schema, name, limit)
            except OpsError:
                return stays
        return ""

    def _remove_invalid(self, session: Session, schema: str, name: str, limit: float) -> None:
        left = self.look(session, schema, name)
        # what somebody is building now is no debris
        if left is not None and not left.valid and left.oid not in {one.index for one in builders(session)}:
            self.drop_concurrently(session, schema, name, limit)

    def drop_concurrently(self, session: Session, schema: str, name: str, limit: float) -> None:
        """Drop without holding readers or writers up.

        Raises what the crew raises; then it is invalid, or the drop was not begun.
        """
        sql = f"DROP INDEX CONCURRENTLY IF EXISTS {ident(schema)}.{ident(name)}"
        self._crew.run(session, sql, f"dropping {schema}.{name}", limit, limit)

    def briefly(self, session: Session, statements: Sequence[str], what: str) -> None:
        """A short transaction whose locks nobody has to queue behind for long; tried again until the wait is over.

        Raises OpsError lock_timeout.
        """
        deadline = time.monotonic() + self._limits.wait
        while True:
            session.run("BEGIN")
            try:
                session.run(render("SET LOCAL lock_timeout = {time}", time=_BRIEF))
                for statement in statements:
                    session.run(statement)
                session.run("COMMIT")
                return
            except OpsError as error:
                session.run("ROLLBACK")
                again = error.details.get("sqlstate") in (LOCK_TIMEOUT, DEADLOCK)
                if not again or time.monotonic() >= deadline or self._crew.stopping is not None:
                    raise OpsError(error.code, f"{what}: {error.cause}", error.remedy, error.details) from error
            # jitter, so that two who want the same do not meet again
            time.sleep(random.uniform(0.2, 1.0))

    def swap(self, session: Session, step: Step) -> None:
        """The index that was built beside takes the name, in one transaction; then the old one goes."""
        new, old = beside(step.name, NEW), beside(step.name, OLD)
        prefix = f"ALTER INDEX {ident(step.schema)}."
        self.briefly(
            session,
            [
                f"{prefix}{ident(step.name)} RENAME TO {ident(old)}",
                f"{prefix}{ident(new)} RENAME TO {ident(step.name)}",
            ],
            f"{step.full} was not replaced, the new index waits as {new}",
        )
        index = self.look(session, step.schema, step.name)
        if index is not None:
            self.made.indexes.append((step, index))
        self.wait_clear(session, step.table, f"{step.schema}.{old}", dropping=True)
        self.drop_concurrently(session, step.schema, old, self._limits.drop)

    def drop(self, session: Session, step: Step) -> None:
        """Drop what a step names; a partitioned index as the server allows it, with short locks.

        Raises index_differs when it is another one by now, index_not_dropped.
        """
        now = self.look(session, step.schema, step.name)
        if now is not None and step.found is not None and now.definition != step.found.definition:
            raise OpsError(
                "index_differs",
                f"{step.full} was made anew by somebody else meanwhile, and is another index.",
                "Run the verb again.",
                {"index": step.full, "found": now.text},
            )
        if step.found is not None and step.found.partitioned:
            self.briefly(
                session, [f"DROP INDEX {ident(step.schema)}.{ident(step.name)}"], f"{step.full} was not dropped"
            )
        else:
            self.wait_clear(session, step.table, step.full, dropping=True)
            self.drop_concurrently(session, step.schema, step.name, self._limits.drop)
        if self.look(session, step.schema, step.name) is not None:
            raise OpsError("index_not_dropped", f"{step.full} is still there.", "Run the verb again.")
        if step.kind == DROP:
            self.made.dropped.append(step)
        else:
            self.made.cleaned.append(f"{step.full}: {step.reason}")

    def place(self, step: Step) -> str:
        """The name under which a step's index is built."""
        return beside(step.name, NEW) if step.kind == REPLACE else step.name
