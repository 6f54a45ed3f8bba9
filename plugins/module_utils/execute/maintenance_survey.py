# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read every database that maintenance is asked for, and look into what the counters do not tell."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import (
    REINDEX,
    REWRITE,
    Index,
    Table,
    Wish,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_bloat import Room, suspect
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_decide import (
    Marks,
    Scope,
    Survey,
    Wishes,
    mark_of,
    unknown,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance_needs import BELIEVED
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.databases import databases
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.horizon import horizon
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance import (
    airs_of,
    indexes_of,
    settings_of,
    tables_of,
    temporary_age,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.maintenance_measure import Probe
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.repack import leftovers
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

ALL = "all"
LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Reading:
    """What is read: scope and wishes; each, total: bytes that pgstattuple may read for an object, and for all.

    repack: auto, always or never. windows: open now. space: path on the volume of the data, "" to find out.
    """

    scope: Scope
    wishes: Wishes
    each: int
    total: int
    repack: str = "auto"
    windows: tuple[str, ...] = ()
    space: str = ""


def chosen(session: Session, main: str, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """(names of the databases, those that the role may not enter). wanted: names, patterns or all; [] for main.

    Raises OpsError unknown_database.
    """
    there = databases(session)
    if not wanted:
        return [main], []
    matching = [
        entry
        for entry in there
        if (ALL in wanted and not entry.template) or any(fnmatchcase(entry.name, pattern) for pattern in wanted)
    ]
    if not matching:
        raise OpsError(
            "unknown_database", f"No database matches {', '.join(wanted)}.", "Check the names with psql -l, or say all."
        )
    # the system's own comes first
    matching.sort(key=lambda entry: (entry.name != main, entry.name))
    return [e.name for e in matching if e.may_connect], [e.name for e in matching if not e.may_connect]


def survey(session: Session, target: Target, database: str, reading: Reading, marks: Marks) -> Survey:
    """One database, through a session in it."""
    wishes, scope = reading.wishes, reading.scope
    settings = settings_of(session)
    held = horizon(session)
    holders = held.of(database, catalogs=True)
    tables = tables_of(session, database, target.connection.application_name)
    found = Survey(
        database,
        session.version,
        settings,
        tables,
        holders=holders,
        temporary_age=temporary_age(session),
        all_seen=held.complete,
    )
    probe = Probe(session, reading.each, reading.total)
    found = _counted(found, probe, scope, wishes, marks)
    general = [wishes.general, *(replace(wishes.general, **rule.changes) for rule in wishes.rules)]  # type: ignore[arg-type]
    measures = {measure for wish in general for measure in wish.measures}
    if {REINDEX, REWRITE} & measures:
        found = replace(found, unfinished=tuple(leftovers(session)), superuser=_superuser(session))
    if REINDEX in measures:
        smallest = max(1, min(wish.index_waste for wish in general))
        indexes = indexes_of(session, database, smallest)
        by_oid = {table.oid: table for table in tables}

        def look(index: Index) -> Index:
            table = by_oid.get(index.table)
            if table is None or not suspect(index, wishes.of(table), mark_of(marks, database, index.oid)):
                return index
            seen = probe.index(index)
            index = index if seen is None else replace(index, bloat=seen[0], bytes=seen[1], measured=True)
            return replace(index, free=_free(session, target, index.oid, reading.space))

        found = replace(found, indexes=[look(index) for index in indexes])
    if REWRITE in measures:
        found = _rewrites(found, session, target, probe, reading, min(wish.table_waste for wish in general))
    return found


def _counted(found: Survey, probe: Probe, scope: Scope, wishes: Wishes, marks: Marks) -> Survey:
    """Where the counters began at nothing, dead rows are counted in the table."""
    if not probe.usable:
        return found
    measured = {}
    for table in unknown(found, scope, wishes, marks, BELIEVED):
        seen = probe.table(table)
        if seen is not None:
            measured[table.oid] = seen.dead
    tables = [replace(t, measured=measured[t.oid]) if t.oid in measured else t for t in found.tables]
    return replace(found, tables=tables)


def _worth(air: float, table: Table, wish: Wish) -> bool:
    return air >= wish.table_bloat and air * table.bytes >= wish.table_waste


def _rewrites(found: Survey, session: Session, target: Target, probe: Probe, reading: Reading, smallest: int) -> Survey:
    """Air of the tables that are large enough, and what a rewrite of a suspect would find."""
    large = [t for t in found.tables if t.kind in "rm" and not t.system and t.bytes >= smallest]
    airs: dict[int, tuple[float, bool]] = {}
    rooms: dict[int, Room] = {}
    common: Room | None = None
    estimated = airs_of(session, large)
    for table in large:
        wish = reading.wishes.of(table)
        air = estimated.get(table.oid)
        if air is None or not _worth(air, table, wish) or wish.skip or REWRITE not in wish.measures:
            continue
        seen = probe.table(table)
        airs[table.oid] = (air, False) if seen is None else (seen.air, True)
        common = common or _common_room(session, target, reading)
        rooms[table.oid] = replace(
            common, free=_free(session, target, table.oid, reading.space), unique=_unique(session, table.oid)
        )
    return replace(found, airs=airs, rooms=rooms)


def _common_room(session: Session, target: Target, reading: Reading) -> Room:
    extension = str(session.value("SELECT extversion FROM pg_extension WHERE extname = 'pg_repack'") or "")
    client = ""
    if extension and reading.repack != "never":
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            done = target.transport.run([target.program("pg_repack"), "--version"], timeout=30)
            match = re.search(rb"(\d+(?:\.\d+)+)", done.stdout)
            client = match.group(1).decode() if done.code == 0 and match else ""
    return Room(
        None,
        repack=extension,
        repack_client=client,
        repack_wanted=reading.repack,
        superuser=_superuser(session),
        windows=reading.windows,
    )


def _superuser(session: Session) -> bool:
    return bool(session.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))


def _unique(session: Session, oid: int) -> bool:
    """Whether the table has an index that pg_repack can follow rows by: unique, of columns that are never NULL."""
    return bool(
        session.value(
            render(
                "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid"
                " AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a"
                " WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND NOT a.attnotnull))",
                oid=oid,
            )
        )
    )


def _free(session: Session, target: Target, oid: int, space: str) -> int | None:
    """Bytes free on the volume of a table; None when the server is elsewhere, or does not say where its data lies."""
    path = space
    if not path:
        if target.transport.name == "local" and not _here(target):
            return None
        path = str(
            session.value(
                render(
                    "SELECT coalesce(nullif(pg_tablespace_location(coalesce(nullif(c.reltablespace, 0),"
                    " d.dattablespace)), ''), CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')"
                    " THEN current_setting('data_directory') ELSE '' END)"
                    " FROM pg_class c, pg_database d WHERE c.oid = {oid} AND d.datname = current_database()",
                    oid=oid,
                )
            )
            or ""
        )
    if not path:
        return None
    try:
        return target.transport.free_bytes(path)
    except (OSError, OpsError):
        return None


def _here(target: Target) -> bool:
    host = target.connection.host
    return not target.connection.service and (host in LOCAL or host.startswith("/"))
