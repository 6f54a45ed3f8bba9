# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count (and on request hash) every table, over several sessions that share one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json, key_of
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import Relation, relations

# one statement counts many small tables: a round trip costs more than they do
BATCH_TABLES = 50
BATCH_BYTES = 32 * 1024 * 1024


def batches(found: Sequence[Relation]) -> list[list[Relation]]:
    """Tables in batches of bounded number and size, the largest first, so that parallel sessions end together."""
    result: list[list[Relation]] = []
    size = 0
    for item in sorted(found, key=lambda r: -r.bytes):
        if not result or len(result[-1]) >= BATCH_TABLES or size + item.bytes > BATCH_BYTES:
            result.append([])
            size = 0
        result[-1].append(item)
        size += item.bytes
    return result


def _count(item: Relation, hashes: bool) -> str:
    # a sum does not depend on the order of rows; numeric does not overflow
    checksum = "coalesce(sum(hashtextextended(t.*::text, 0)::numeric), 0)::text" if hashes else "NULL::text"
    # extcondition is the extension author's own SQL, dumped the same way by pg_dump
    condition = f" {item.condition}" if item.condition else ""
    return render(
        "SELECT {schema} AS schema, {name} AS name, count(*) AS rows, "
        + checksum.replace("{", "{{").replace("}", "}}")
        + " AS hash FROM ONLY {table:I} AS t{condition:raw}",
        schema=item.schema,
        name=item.name,
        table=(item.schema, item.name),
        condition=condition,
    )


def _sequence(item: Relation) -> str:
    return render(
        "SELECT {schema} AS schema, {name} AS name, last_value, is_called FROM {sequence:I}",
        schema=item.schema,
        name=item.name,
        sequence=(item.schema, item.name),
    )


def counters(session: Session) -> dict[str, Json]:
    """Rows inserted, updated and deleted per table since the statistics were last reset, and when that was.

    Read before a snapshot is taken, so that later "written since" errs on the side of more.
    """
    rows = session.rows(
        "SELECT schemaname::text AS schema, relname::text AS name,"
        " n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del FROM pg_stat_user_tables"
    )
    # a crash sets all counters to zero; it leaves no trace in pg_stat_database, but one in pg_stat_bgwriter
    reset = session.value(
        "SELECT concat_ws(' ', (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),"
        " (SELECT stats_reset FROM pg_stat_bgwriter)) AS reset"
    )
    return {
        "counters": {
            key_of(str(r["schema"]), str(r["name"])): {"ins": r["ins"], "upd": r["upd"], "del": r["del"]} for r in rows
        },
        "stats_reset": reset,
    }


def _large_objects(session: Session, hashes: bool) -> dict[str, Json]:
    checksum = "coalesce(sum(hashtextextended(encode(lo_get(oid), 'hex'), oid::bigint)::numeric), 0)::text"
    row = session.rows(
        f"SELECT count(*) AS count, {checksum if hashes else 'NULL::text'} AS hash FROM pg_largeobject_metadata"
    )[0]
    return {"count": row["count"], "hash": row["hash"]}


def take_fingerprint(
    sessions: Sequence[Session],
    found: Sequence[Relation],
    schemas: Sequence[str] = (),
    *,
    hashes: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Json]:
    """The fingerprint (domain.fingerprint) of the relations found, seen by sessions that hold one view.

    Sessions are inside a transaction already (snapshot.join or snapshot.plain_view). progress is called with
    bytes counted and bytes in all. Without schemas large objects are counted too: they belong to none.
    """
    ordinary = [item for item in found if item.kind == "r"]
    total = sum(item.bytes for item in ordinary)
    done = 0
    tables: dict[str, Json] = {}
    free: Queue[Session] = Queue()
    for session in sessions:
        free.put(session)

    def work(batch: list[Relation]) -> tuple[list[dict[str, Json]], int]:
        session = free.get()
        try:
            rows = session.rows("\nUNION ALL ".join(_count(item, hashes) for item in batch))
        finally:
            free.put(session)
        return rows, sum(item.bytes for item in batch)

    with ThreadPoolExecutor(max_workers=len(sessions)) as pool:
        for rows, size in pool.map(work, batches(ordinary)):
            for row in rows:
                tables[key_of(str(row["schema"]), str(row["name"]))] = {
                    "rows": row["rows"],
                    "hash": row["hash"],
                    "kind": "r",
                    "populated": True,
                }
            done += size
            progress(done, total)
    for item in found:
        if item.kind == "m":
            tables[key_of(item.schema, item.name)] = {
                "rows": None,
                "hash": None,
                "kind": "m",
                "populated": item.populated,
            }
    first = sessions[0]
    named = relations(first, "S", schemas)
    sequences: dict[str, Json] = {}
    for start in range(0, len(named), BATCH_TABLES):
        for row in first.rows("\nUNION ALL ".join(_sequence(item) for item in named[start : start + BATCH_TABLES])):
            sequences[key_of(str(row["schema"]), str(row["name"]))] = {
                "last_value": row["last_value"],
                "is_called": row["is_called"],
            }
    return {
        "tables": tables,
        "sequences": sequences,
        "large_objects": None if schemas else _large_objects(first, hashes),
        "server_major": first.version // 10000,
    }
