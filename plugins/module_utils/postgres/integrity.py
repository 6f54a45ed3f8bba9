# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a server for damage: checksum failures that it counted, and amcheck's checks of heaps and indexes.

What pg_amcheck runs, run here one relation at a time, so that time is bounded and a locked relation holds up nobody.
Without --parent-check, which takes locks that a live server cannot spare.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.integrity import (
    CHECKSUM,
    HEAP,
    INDEX,
    READ,
    Finding,
    Survey,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.session_policies import like
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render

# data_corrupted, index_corrupted, an error of the disk, a file that is gone; and internal errors: what code says that
# meets what it never expected
_DAMAGE = ("XX001", "XX002", "58030", "58P01", "XX000")
_GONE = "it was dropped meanwhile"
_CANCELLED, _LOCKED, _DENIED = "57014", "55P03", "42501"
_BLOCK = re.compile(r"\bblocks? (\d+)\b")
LOCK_SECONDS = 2
ROWS = 20  # findings of one heap
# amcheck's version -> what it can do besides btree indexes
_HEAPS, _UNIQUE, _GIN = (1, 3), (1, 4), (1, 5)

_COUNTED = """
SELECT coalesce(datname::text, '(shared)') AS name, checksum_failures AS failures,
       extract(epoch FROM checksum_last_failure)::float8 AS last
  FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 1
"""
_AMCHECK = """
SELECT e.extversion AS version, n.nspname::text AS schema
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'
"""
# catalogs first: without them nothing else can be read; then the small ones, so that a budget covers many. By the size
# that the catalog knows: to measure it would wait for locks.
_RELATIONS = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       coalesce(am.amname::text, '') AS method,
       coalesce(pg_relation_filepath(c.oid), '') AS file,
       coalesce(i.indisvalid AND i.indisready, true) AS usable, coalesce(i.indisunique, false) AS is_unique
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relkind IN ('r', 'm', 't', 'i') AND c.relpersistence <> 't' AND c.relispopulated
 ORDER BY n.nspname = 'pg_catalog' DESC, c.relpages, c.oid
"""
_LOG = """
SELECT current_setting('log_destination') AS destination, current_setting('logging_collector') AS collector,
       current_setting('log_directory', true) AS directory
"""


@dataclass
class Gathering:
    """What a survey has gathered so far; see domain.integrity.Survey."""

    findings: list[Finding] = field(default_factory=list)
    unchecked: list[tuple[str, str]] = field(default_factory=list)
    checked: int = 0
    earliest: float | None = None
    facts: dict[str, Json] = field(default_factory=dict)

    def done(self) -> Survey:
        """As it is handed on."""
        return Survey(tuple(self.findings), self.checked, tuple(self.unchecked), self.earliest, self.facts)


@dataclass(frozen=True)
class Amcheck:
    """The extension in a database: its version, and the schema that its functions are in."""

    version: tuple[int, ...]
    schema: str


def read_server(session: Session, gathered: Gathering, released: float) -> None:
    """What the server itself counted since a moment (the last release), and what the evidence says of the server."""
    checksums = str(session.value("SELECT current_setting('data_checksums')"))
    gathered.facts.update(
        server_version=session.version,
        data_checksums=checksums,
        server_log=dict(session.rows(_LOG)[0]),
        counted=[dict(row) for row in session.rows(_COUNTED)],
    )
    if checksums != "on":
        gathered.unchecked.append(
            ("checksums", "data_checksums is off; pg_checksums --enable switches them on while the server is stopped")
        )
    for row in session.rows(_COUNTED):
        last = None if row["last"] is None else float(str(row["last"]))
        if last is not None and last <= released:
            continue
        text = f"the server counted {row['failures']} checksum failures; its log names the pages"
        gathered.findings.append(Finding(str(row["name"]), "", CHECKSUM, text))
        if last is not None:
            gathered.earliest = min(last, gathered.earliest or last)


def amcheck_of(session: Session) -> Amcheck | None:
    """The extension amcheck in this database; None when it is not there."""
    found = session.rows(_AMCHECK)
    if not found:
        return None
    version = tuple(int(part) for part in str(found[0]["version"]).split(".") if part.isdigit())
    return Amcheck(version, str(found[0]["schema"]))


def statement(row: Row, amcheck: Amcheck | None) -> tuple[str, str] | str:
    """(kind, SQL) that reads a relation for damage, or why there is none."""
    oid, kind = int(str(row["oid"])), str(row["kind"])
    if kind == "i":
        if not row["usable"]:
            return "the index is not valid"
        if amcheck is None:
            return "amcheck is missing"
        function = ident(amcheck.schema)
        if row["method"] == "btree":
            unique = ", true" if amcheck.version >= _UNIQUE else ""
            return INDEX, f"SELECT {function}.bt_index_check({oid}::regclass, true{unique})::text AS said"
        if row["method"] == "gin" and amcheck.version >= _GIN:
            return INDEX, f"SELECT {function}.gin_index_check({oid}::regclass)::text AS said"
        return f"amcheck has no check for {row['method']} indexes"
    if amcheck is not None and amcheck.version >= _HEAPS:
        sql = (
            f"SELECT blkno, msg FROM {ident(amcheck.schema)}.verify_heapam({oid}::regclass, "
            f"check_toast := true) LIMIT {ROWS}"
        )
        return HEAP, sql
    if kind == "t":
        return "amcheck is missing"
    return READ, f"SELECT count(*) AS said FROM ONLY {ident(str(row['schema']))}.{ident(str(row['name']))}"


def _judge(error: OpsError) -> str:
    """What an error says: damage, or why the relation could not be checked."""
    state = str(error.details.get("sqlstate") or "")
    if state in _DAMAGE:
        return "damage"
    if error.code == "session_ended":
        return "the server ended the session while it was read; if that repeats, it is damaged"
    return {
        _CANCELLED: "the time for the check was over",
        _LOCKED: f"somebody else had it locked for {LOCK_SECONDS} s",
        _DENIED: "the login may not run amcheck's functions: log in as a superuser, or GRANT EXECUTE on them",
        "42P01": _GONE,
        "42704": _GONE,
    }.get(state, error.cause)


def _one(session: Session, database: str, row: Row, kind: str, sql: str, gathered: Gathering) -> bool:
    """Read one relation; False when the session is lost."""
    name = f"{row['schema']}.{row['name']}"
    try:
        rows = session.rows(sql)
    except OpsError as error:
        said = _judge(error)
        alive = error.code != "session_ended"
        if said == "damage" and not session.rows(f"SELECT FROM pg_class WHERE oid = {row['oid']}"):
            said = _GONE
        if said != "damage":
            gathered.unchecked.append((f"{database}: {name}", said))
            return alive
        found = _BLOCK.search(error.cause)
        block = int(found.group(1)) if found else None
        gathered.checked += 1
        gathered.findings.append(Finding(database, name, kind, error.cause, block, str(row["file"])))
        return True
    gathered.checked += 1
    for item in rows if kind == HEAP else ():
        block = None if item["blkno"] is None else int(str(item["blkno"]))
        gathered.findings.append(Finding(database, name, HEAP, str(item["msg"]), block, str(row["file"])))
    return True


def read_database(
    session: Session,
    database: str,
    patterns: Sequence[str],
    deadline: float,
    gathered: Gathering,
    progress: Callable[[str], None],
) -> None:
    """Read the relations of a database, at most until deadline (monotonic seconds)."""
    amcheck = amcheck_of(session)
    if amcheck is None:
        gathered.unchecked.append(
            (
                f"indexes of {database}",
                "amcheck is missing; it comes with CREATE EXTENSION amcheck in that database (package "
                "postgresql-contrib). Tables were only read",
            )
        )
    # no plan may answer from an index or by several processes what is to be read from the table
    for name in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        session.run(f"SET {name} = off")
    session.run("SET max_parallel_workers_per_gather = 0")
    session.run(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    session.run("SET idle_in_transaction_session_timeout = 0")
    rows = [row for row in session.rows(_RELATIONS) if like(patterns, f"{row['schema']}.{row['name']}")]
    total, told, began = len(rows), time.monotonic(), gathered.checked
    for number, row in enumerate(rows):
        left = deadline - time.monotonic()
        if left <= 0:
            gathered.unchecked.append((f"{total - number} relations of {database}", "the time for the check was over"))
            return
        if time.monotonic() - told > 3:
            told = time.monotonic()
            progress(f"{database}: {gathered.checked - began} of {total} relations, {len(gathered.findings)} findings")
        what = statement(row, amcheck)
        if isinstance(what, str):
            if what != "amcheck is missing":
                gathered.unchecked.append((f"{database}: {row['schema']}.{row['name']}", what))
            continue
        session.run(render("SELECT set_config('statement_timeout', {most}, false)", most=f"{max(1, int(left * 1000))}"))
        if not _one(session, database, row, what[0], what[1], gathered):
            return
