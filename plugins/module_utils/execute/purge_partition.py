# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A partition that holds nothing but old rows goes as a whole: archived, then detached and dropped in one transaction.

Not DETACH CONCURRENTLY, which cannot be part of a transaction: a kill between it and the DROP would leave rows that
are neither in the table nor gone. The table itself is locked for the two statements alone.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import LARGEST, next_size
from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge_batch import Tally
from ansible_collections.saasops.runbook.plugins.module_utils.execute.purge_scene import Place
from ansible_collections.saasops.runbook.plugins.module_utils.execute.row_archive import Recorder
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import rows as sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.partitions import (
    Partition,
    digest_sql,
    old_partitions,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session

_ATTEMPTS = 5
_BUSY = ("55P03", "40P01", "57014")


def droppable(session: Session, place: Place) -> list[Partition]:
    """The partitions that the rule speaks of whole; [] when it looks at more than the age of a row."""
    rule = place.rule
    if place.cutoff is None or rule.where or rule.children or place.node.facts.references:
        return []
    if place.node.facts.triggers:
        return []
    found = old_partitions(session, place.node.facts, rule.age_column, place.cutoff, rule.zone)
    return [item for item in found if item.ours and item.alone]


def _read(session: Session, place: Place, partition: Partition, put: Callable[[Part], None]) -> None:
    """Every row of the partition, part by part."""
    facts, key = place.node.facts, place.node.key
    source = replace(facts, schema=partition.schema, name=partition.name)
    places = [[item.name for item in facts.columns].index(name) for name in key]
    last: tuple[str | None, ...] | None = None
    size = 1000
    while True:
        found: list[Row] = session.rows(sql.read_sql(source, key, "true", last, size, ()))
        if not found:
            return
        rows = tuple(tuple(cast("list[str | None]", row["v"])) for row in found)
        put(
            Part(
                facts.schema,
                facts.name,
                facts.columns,
                key,
                rows,
                partition=(partition.schema, partition.name, partition.bounds),
            )
        )
        last = tuple(rows[-1][at] for at in places)
        raw = sum(len(value or "") for row in rows for value in row)
        size = next_size(size, 1.0, replace(place.rule, batch=LARGEST), len(rows), raw)


def drop_partition(
    session: Session, place: Place, partition: Partition, recorder: Recorder, confirm: Callable[[], None], tally: Tally
) -> bool:
    """Archive a partition and drop it; False when the limit has no room for it or it changes all the time.

    Raises OpsError.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        session.run("BEGIN")
        try:
            before = session.rows(digest_sql(partition, place.node.key))[0]
            count = int(str(before["rows"]))
            if tally.total + count > place.rule.limit:
                session.run("ROLLBACK")
                return False
            xid = str(session.value(sql.xid_sql(session.version)))
            archived = 0

            def put(part: Part, xid: str = xid) -> None:
                nonlocal archived
                recorder.put(xid, [part])
                archived += len(part.rows)

            _read(session, place, partition, put)
            confirm()
            took = _drop(session, place, partition, before if archived == count else None)
        except OpsError as error:
            refused = error.details.get("sqlstate") in _BUSY or error.code == "partition_changed"
            with contextlib.suppress(OpsError):
                session.run("ROLLBACK")
                if refused:
                    recorder.rolled_back()
            if not refused:
                raise
            tally.retries += 1
            time.sleep(min(2.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))
            continue
        recorder.committed()
        tally.rows += count
        tally.batches += 1
        tally.dropped.append(f"{partition.schema}.{partition.name}")
        tally.longest = max(tally.longest, took)
        tally.over += took > place.rule.most
        return True
    return False


def _drop(session: Session, place: Place, partition: Partition, before: Row | None) -> float:
    """Prove that what was archived is what is there, then detach and drop. Milliseconds that the table was locked."""
    most = place.rule.most
    session.run(f"SET LOCAL lock_timeout = {max(1, most // 2)}")
    sql.bound_idle(session, most)
    # writers into this old partition wait while it is read once more; nobody else does
    session.run(f"LOCK TABLE ONLY {partition.sql} IN SHARE MODE")
    after = session.rows(digest_sql(partition, place.node.key))[0]
    if before is None or after != before:
        raise OpsError("partition_changed", f"{partition.schema}.{partition.name} is still written to.", "")
    root = sql.table_sql(place.node.facts.schema, place.node.facts.name)
    session.run(f"SET LOCAL statement_timeout = {most}")
    began = time.monotonic()
    session.run(f"ALTER TABLE {root} DETACH PARTITION {partition.sql}")
    session.run(f"DROP TABLE {partition.sql}")
    session.run("COMMIT")
    return (time.monotonic() - began) * 1000
