# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One batch of rows that come back: waits for a lock are short and repeated, so that nobody queues behind them.

A dropped partition is made anew in a short transaction of its own: an empty table, then ATTACH, which lets readers and
writers of the partitioned table go on (CREATE TABLE ... PARTITION OF would keep all of them out). Only where there is a
default partition is that one locked, while the server looks whether it holds rows of the new one.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Batch, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import TableFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.partitions import attach_sql, exists_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import bound_idle, insert_sql, present_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session

_AT_ONCE = 1000  # rows of one INSERT
_ATTEMPTS = 8
_BUSY = ("55P03", "40P01")  # lock not available, deadlock
_LATE = "57014"
_FOREIGN_KEY = "23503"
# another partition has the range by now, or the default one holds rows of it
_TAKEN = ("42P17", "23514")
# what is compared on our side, row by row, while the rows that were put in are not committed; milliseconds
_COMPARING = 30_000
Values = tuple["str | None", ...]


class Known(Protocol):
    """Gives the table of a part as it is now. Raises OpsError."""

    def of(self, part: Part) -> TableFacts:
        """Raises OpsError unknown_table, column_gone."""


def present_rows(session: Session, part: Part, facts: TableFacts) -> dict[int, Values]:
    """The rows that now have the keys of a part, by their place in it."""
    found = session.rows(present_sql(part, facts))
    return {int(str(row["n"])) - 1: tuple(cast("list[str | None]", row["v"])) for row in found}


def put_batch(session: Session, tables: Known, batch: Batch, most: int, confirm: Callable[[], None]) -> int:
    """Put a batch back; what is there already is left alone. Gives the rows put in.

    most: milliseconds that one wait for a lock, and the making of a partition, may last. confirm is called before each
    attempt. Raises OpsError; then nothing of the batch was put back, and a partition that was made is empty.
    """
    for part in batch.parts:
        if part.partition and not session.value(exists_sql(part.partition)):
            _make_partition(session, tables.of(part), part, most, confirm)
    return _again(lambda: _insert(session, tables, batch, most), confirm, f"Batch {batch.number} of {batch.archive}")


def _again(act: Callable[[], int], confirm: Callable[[], None], what: str) -> int:
    """Until the locks are to be had; with pauses in between in which everybody else goes on."""
    attempt = 0
    while True:
        confirm()
        try:
            return act()
        except OpsError as error:
            attempt += 1
            if error.details.get("sqlstate") not in _BUSY:
                raise
            if attempt == _ATTEMPTS:
                raise OpsError(
                    "lock_timeout",
                    f"{what} waits for a lock that others hold; it was tried {attempt} times. What was put back before "
                    "it stays.",
                    "See who holds it (verb triage), then run the undo again: it goes on from there.",
                    error.details,
                ) from error
        time.sleep(min(2.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))  # not in step with whoever retries too


def _make_partition(session: Session, facts: TableFacts, part: Part, most: int, confirm: Callable[[], None]) -> None:
    if len(present_rows(session, part, facts)) < len(part.rows):
        name = ".".join(part.partition[:2])
        _again(lambda: _attach(session, facts, part.partition, most), confirm, f"Partition {name}")


def _attach(session: Session, facts: TableFacts, partition: Sequence[str], most: int) -> int:
    """An empty partition, unless the range belongs to another one; then the rows go where the table puts them."""
    session.run("BEGIN")
    try:
        session.run(f"SET LOCAL lock_timeout = {max(1, most // 2)}")
        session.run(f"SET LOCAL statement_timeout = {most}")
        bound_idle(session, most)
        for statement in attach_sql(facts, partition, session.version):
            session.run(statement)
        session.run("COMMIT")
    except OpsError as error:
        with contextlib.suppress(OpsError):
            session.run("ROLLBACK")
        state = error.details.get("sqlstate")
        if state == _LATE:
            raise OpsError(
                "partition_too_slow",
                f"Partition {'.'.join(partition[:2])} cannot be made within {most} ms: the server looks through the "
                "default partition for rows of it, and keeps everybody out of that one meanwhile.",
                f"Make it at a quiet time: {'; '.join(attach_sql(facts, partition, session.version))}; then run the "
                "undo again.",
                {"sqlstate": _LATE},
            ) from error
        if state not in _TAKEN:
            raise
        return 0
    return 1


def _insert(session: Session, tables: Known, batch: Batch, most: int) -> int:
    """One transaction: what is missing is put in, then all is compared with the archive."""
    session.run("BEGIN")
    try:
        session.run(f"SET LOCAL lock_timeout = {most}")
        bound_idle(session, _COMPARING // 2)
        put = 0
        for part in batch.parts:
            facts = tables.of(part)
            now = present_rows(session, part, facts)
            rows = [values for place, values in enumerate(part.rows) if place not in now]
            for first in range(0, len(rows), _AT_ONCE):
                session.run(insert_sql(part, rows[first : first + _AT_ONCE]))
            put += len(rows)
        for part in batch.parts:
            now = present_rows(session, part, tables.of(part))
            wrong = [place for place, values in enumerate(part.rows) if now.get(place) != values]
            if wrong:
                raise OpsError(
                    "rows_differ",
                    f"{len(wrong)} rows of {part.title} are not as the archive says, for instance "
                    f"{dict(zip(part.key, part.keys()[wrong[0]]))}: a trigger changed them, or somebody was faster.",
                    "Nothing of this batch was put back; look at the rows and the triggers of the table.",
                    {"table": part.title, "rows": len(wrong)},
                )
        session.run("COMMIT")
        return put
    except OpsError as error:
        with contextlib.suppress(OpsError):
            session.run("ROLLBACK")
        if error.details.get("sqlstate") == _FOREIGN_KEY:
            raise OpsError(
                "reference_gone",
                f"Rows of the archive refer to rows that are gone: {error.cause}",
                "Put those back first, if another archive holds them.",
                error.details,
            ) from error
        raise
