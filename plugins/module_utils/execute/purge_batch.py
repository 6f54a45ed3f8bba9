# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One batch of a purge: read, archive, then delete exactly what was archived, or nothing.

Between reading and deleting nobody is kept out, so every row is locked by its key and version first. When one of them
was changed, is held by somebody else, or got rows that refer to it meanwhile, the whole batch is rolled back and made
again without that row. So a committed batch is always the whole content of its object.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import (
    FIRST,
    Rule,
    idle_limit,
    next_size,
)
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import Recorder
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import rows as sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.purge import Node
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session

Values = tuple["str | None", ...]
_ATTEMPTS = 8
_BUSY = ("55P03", "40P01")  # lock not available, deadlock
_LATE = "57014"


@dataclass
class Rows:
    """Rows of one table in a batch. origin: for each the place of the rule's row that it goes with."""

    node: Node
    values: list[Values] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    origin: list[int] = field(default_factory=list)

    def column(self, names: Sequence[str]) -> list[Values]:
        """The values of these columns, row by row."""
        places = [[item.name for item in self.node.facts.columns].index(name) for name in names]
        return [tuple(row[place] for place in places) for row in self.values]

    @property
    def keys(self) -> list[Values]:
        return self.column(self.node.key)

    def part(self) -> Part:
        facts = self.node.facts
        return Part(facts.schema, facts.name, facts.columns, self.node.key, tuple(self.values))


class ChangedError(Exception):
    """Rows that are not as they were read; their places in the batch."""

    def __init__(self, places: set[int]) -> None:
        super().__init__(f"{len(places)} rows")
        self.places = places


@dataclass
class Tally:
    """What a purge did so far. milliseconds are those between the first lock and the end of the commit.

    cut: the limit left no room for rows that were read.
    """

    rows: int = 0
    children: int = 0
    batches: int = 0
    kept: int = 0
    retries: int = 0
    longest: float = 0.0
    over: int = 0
    cut: bool = False
    dropped: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.rows + self.children


def _values(row: Row) -> Values:
    return tuple(cast("list[str | None]", row["v"]))


def _read_below(session: Session, above: Rows, found: list[Rows], seen: dict[int, set[Values]]) -> None:
    """Rows that refer to those above, table after table, parents before children."""
    for node in above.node.nodes:
        parents = [
            (place, values)
            for place, values in zip(above.origin, above.column(node.parent_columns))
            if None not in values
        ]
        rows = Rows(node)
        if parents:
            text = sql.children_sql(node.facts, node.key, node.columns, [item[1] for item in parents], lock=False)
            for row in session.rows(text):
                rows.values.append(_values(row))
                rows.versions.append(str(row["x"]))
                rows.origin.append(parents[int(str(row["n"])) - 1][0])
            _without(rows, seen.setdefault(node.facts.oid, set()))
        found.append(rows)
        if rows.values:
            _read_below(session, rows, found, seen)


def _without(rows: Rows, seen: set[Values]) -> None:
    """Leave out rows that another foreign key of the same table led to already."""
    kept = [place for place, key in enumerate(rows.keys) if key not in seen]
    seen.update(rows.keys)
    rows.values = [rows.values[place] for place in kept]
    rows.versions = [rows.versions[place] for place in kept]
    rows.origin = [rows.origin[place] for place in kept]


class Table:
    """The rows of one rule in one table."""

    def __init__(
        self,
        session: Session,
        rule: Rule,
        node: Node,
        condition: str,
        recorder: Recorder,
        confirm: Callable[[], None],
        tally: Tally,
        size: int = FIRST,
    ) -> None:
        self._session, self._rule, self._node, self._condition = session, rule, node, condition
        self._recorder, self._confirm, self._tally = recorder, confirm, tally
        self._last: Values | None = None
        self._skipped: list[Values] = []
        self._kept: set[Values] = set()
        self.size = min(size, rule.batch)

    def step(self) -> bool:
        """Archive and delete the next batch; False when there is none left. Raises OpsError."""
        attempts = 0
        while self._tally.total < self._rule.limit:
            batch = self._read(min(self.size, self._rule.limit - self._tally.total))
            if not batch[0].values:
                return False
            try:
                self._apply(batch)
            except ChangedError as changed:
                # the next read starts at the same place, without them
                keys = [batch[0].keys[place] for place in sorted(changed.places)]
                self._skipped += keys
                self._tally.kept += len(set(keys) - self._kept)
                self._kept.update(keys)
                self._tally.retries += 1
                continue
            except OpsError as error:
                attempts += 1
                self._tally.retries += 1
                self._after_refusal(error, attempts)
                continue
            self._last = batch[0].keys[-1]
            self._skipped = []
            return True
        return False

    def _read(self, most: int) -> list[Rows]:
        """The next rows and those that refer to them, not more than the rule's limit leaves."""
        rows = Rows(self._node)
        text = sql.read_sql(self._node.facts, self._node.key, self._condition, self._last, most, self._skipped)
        for row in self._session.rows(text):
            rows.origin.append(len(rows.values))
            rows.values.append(_values(row))
            rows.versions.append(str(row["x"]))
        found = [rows]
        _read_below(self._session, rows, found, {})
        return self._within(found, self._rule.limit - self._tally.total)

    def _within(self, found: list[Rows], left: int) -> list[Rows]:
        """As many of the rule's rows, from the first on, as the limit has room for with all that refers to them."""
        per = [0] * len(found[0].values)
        for rows in found:
            for place in rows.origin:
                per[place] += 1
        total = 0
        for place, count in enumerate(per):
            total += count
            if total > left:
                self._tally.cut = True
                if place == 0 and self._tally.total == 0:
                    raise OpsError(
                        "limit_too_small",
                        f"One row of {self._node.facts.title} has {count - 1} rows that refer to it; the limit of rule "
                        f"{self._rule.name} is {self._rule.limit}.",
                        "Raise limit.",
                    )
                return [self._cut(rows, place) for rows in found]
        return found

    @staticmethod
    def _cut(rows: Rows, end: int) -> Rows:
        kept = [place for place, origin in enumerate(rows.origin) if origin < end]
        return Rows(
            rows.node,
            [rows.values[place] for place in kept],
            [rows.versions[place] for place in kept],
            [rows.origin[place] for place in kept],
        )

    def _apply(self, batch: list[Rows]) -> None:
        """One transaction: the archive first, then the rows. Raises ChangedError, OpsError; then nothing is gone."""
        session = self._session
        session.run("BEGIN")
        try:
            xid = str(session.value(sql.xid_sql(session.version)))
            parts = [rows.part() for rows in batch if rows.values]
            self._recorder.put(xid, parts)
            # long texts are made before the first lock
            lock = sql.lock_sql(batch[0].node.facts, batch[0].node.key, batch[0].keys, batch[0].versions)
            deletes = [
                (rows, sql.delete_sql(rows.node.facts, rows.node.key, rows.keys, rows.versions))
                for rows in reversed(batch)
                if rows.values
            ]
            self._confirm()
            self._settings()
            began = time.monotonic()
            self._delete(batch, lock, deletes, began)
            self._bound(began)
            session.run("COMMIT")
        except (ChangedError, OpsError) as error:
            refused = isinstance(error, ChangedError) or error.details.get("sqlstate") in (*_BUSY, _LATE)
            with contextlib.suppress(OpsError):
                session.run("ROLLBACK")
                if refused:
                    self._recorder.rolled_back()
            raise
        took = (time.monotonic() - began) * 1000
        self._recorder.committed()
        tally = self._tally
        tally.rows += len(batch[0].values)
        tally.children += sum(len(rows.values) for rows in batch[1:])
        tally.batches += 1
        tally.longest = max(tally.longest, took)
        tally.over += took > self._rule.most
        raw = sum(len(value or "") for rows in batch for row in rows.values for value in row)
        self.size = next_size(max(len(batch[0].values), 1), took, self._rule, len(batch[0].values), raw)

    def _bound(self, began: float) -> None:
        """Let no statement outlive the time that a batch may hold locks."""
        left = self._rule.most - (time.monotonic() - began) * 1000
        if left < 1:
            raise OpsError("lock_too_long", "The batch held its locks too long.", "", {"sqlstate": _LATE})
        self._session.run(f"SET LOCAL statement_timeout = {int(left) + 1}")

    def _settings(self) -> None:
        # lists of keys are long enough to make the planner read the table instead; locks would be held meanwhile
        self._session.rows(
            "SELECT "
            + ", ".join(
                f"pg_catalog.set_config('{name}', '{value}', true) AS {name}"
                for name, value in (
                    ("enable_seqscan", "off"),
                    ("enable_hashjoin", "off"),
                    ("enable_mergejoin", "off"),
                    ("lock_timeout", str(max(1, self._rule.most // 2))),
                    ("idle_in_transaction_session_timeout", str(idle_limit(self._rule.most))),
                )
            )
        )
        self._session.run("SET CONSTRAINTS ALL IMMEDIATE")

    def _delete(self, batch: list[Rows], lock: str, deletes: list[tuple[Rows, str]], began: float) -> None:
        session = self._session
        self._bound(began)
        locked = session.rows(lock)
        missing = set(batch[0].origin) - {int(str(row["n"])) - 1 for row in locked}
        if missing:
            raise ChangedError(missing)
        self._compare(batch, began)
        for rows, text in deletes:
            self._bound(began)
            session.run(text)
            if sql.touched(session) != len(rows.values):
                raise OpsError(
                    "rows_not_deleted",
                    f"{rows.node.facts.title} kept rows that were to be deleted: a trigger forbids it.",
                    "Read the triggers of the table; nothing of this batch was deleted.",
                    {"table": rows.node.facts.title},
                )

    def _compare(self, batch: list[Rows], began: float) -> None:
        """Lock what refers to the rows; it must be what was archived. New ones are kept out by the parents' locks."""
        read = {
            (rows.node.facts.oid, key, version): origin
            for rows in batch[1:]
            for key, version, origin in zip(rows.keys, rows.versions, rows.origin)
        }
        now: dict[tuple[int, Values, str], int] = {}
        for above in batch:
            for node in above.node.nodes:
                parents = [
                    (place, values)
                    for place, values in zip(above.origin, above.column(node.parent_columns))
                    if None not in values
                ]
                if not parents:
                    continue
                self._bound(began)
                text = sql.children_sql(node.facts, node.key, node.columns, [item[1] for item in parents], lock=True)
                for row in self._session.rows(text):
                    origin = parents[int(str(row["n"])) - 1][0]
                    now.setdefault((node.facts.oid, _values(row), str(row["x"])), origin)
        differing = {origin for item, origin in read.items() if item not in now}
        differing |= {origin for item, origin in now.items() if item not in read}
        if differing:
            raise ChangedError(differing)

    def _after_refusal(self, error: OpsError, attempts: int) -> None:
        """Wait or take fewer rows after a lock that was not to be had or a batch that took too long, or pass it on."""
        state = error.details.get("sqlstate")
        if state == _LATE and self.size > 1 and attempts <= 2 * _ATTEMPTS:
            self.size = max(1, self.size // 4)
        elif state in _BUSY and attempts <= _ATTEMPTS:
            self.size = max(1, self.size // 2)
            time.sleep(min(1.0, 0.1 * 2**attempts) * random.uniform(0.5, 1.0))  # not in step with whoever retries too
        elif state == _LATE:
            raise OpsError(
                "batch_too_slow",
                f"Deleting {self.size} rows of {self._node.facts.title} takes longer than lock_limit "
                f"({self._rule.most} ms).",
                "See what the server is busy with (verb triage), or raise lock_limit of the rule.",
                {"sqlstate": _LATE},
            ) from error
        else:
            raise error
