# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore and a switch must know of the server: roles, extensions, blockers, sessions, room."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import (
    TIED_EXTENSIONS,
    Blocker,
    Volume,
    tied_extensions,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sequences import SequenceState
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import Sessions
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

LOOPBACK = ("", "localhost", "127.0.0.1", "::1")


def names(session: Session, sql: str) -> list[str]:
    """The single column of a query."""
    return [str(next(iter(row.values()))) for row in session.rows(sql)]


def system_identifier(session: Session) -> str:
    """The cluster's own number, as text: the same for a primary and its physical copies."""
    return str(session.value("SELECT system_identifier::text FROM pg_control_system()"))


def database_oid(session: Session, database: str) -> int | None:
    """The database's oid; None when there is none of that name."""
    found = session.value(render("SELECT oid::bigint FROM pg_database WHERE datname::text = {name}", name=database))
    return None if found is None else int(str(found))


def database_of_oid(session: Session, oid: int) -> str | None:
    """The name that the database of this oid has now."""
    found = session.value(render("SELECT datname::text FROM pg_database WHERE oid = {oid}::oid", oid=oid))
    return None if found is None else str(found)


def available_extensions(session: Session) -> dict[str, list[str]]:
    """Name -> versions that CREATE EXTENSION can install."""
    found: dict[str, list[str]] = {}
    for row in session.rows("SELECT name::text AS name, version FROM pg_available_extension_versions"):
        found.setdefault(str(row["name"]), []).append(str(row["version"]))
    return found


def rights(session: Session) -> tuple[bool, bool]:
    """(superuser, may create databases) of the login role."""
    row = session.rows("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")[0]
    return bool(row["rolsuper"]), bool(row["rolsuper"]) or bool(row["rolcreatedb"])


def may_rename(session: Session, oids: Collection[int]) -> bool:
    """Whether the login role owns (or is a member of the owner of) all these databases and has CREATEDB."""
    superuser, creates = rights(session)
    if superuser:
        return True
    owned = session.value(
        render(
            "SELECT count(*) FROM pg_database WHERE oid::bigint = ANY ({oids}) AND pg_has_role(datdba, 'usage')",
            oids=list(oids) or [0],
        )
    )
    return creates and owned == len(oids)


_BLOCKERS = """
SELECT 'prepared_transaction' AS kind, p.gid AS name,
       'prepared ' || extract(epoch FROM now() - p.prepared)::bigint || ' s ago by ' || p.owner AS detail
  FROM pg_prepared_xacts p WHERE p.database::text = {name}
UNION ALL
SELECT 'logical_slot', s.slot_name::text, CASE WHEN s.active THEN 'active' ELSE 'inactive' END
  FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND s.database::text = {name} AND NOT s.temporary
UNION ALL
SELECT 'subscription', s.subname::text, CASE WHEN s.subenabled THEN 'enabled' ELSE 'disabled' END
  FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname::text = {name}
"""


def read_blockers(session: Session, database: str, installed: Collection[str]) -> list[Blocker]:
    """What in a database forbids a rename; installed are its extensions."""
    found = [
        Blocker(str(row["kind"]), str(row["name"]), str(row["detail"]))
        for row in session.rows(render(_BLOCKERS, name=database))
    ]
    wanted = [setting for setting in TIED_EXTENSIONS.values() if setting]
    rows = session.rows(
        render(
            "SELECT name, coalesce(current_setting(name, true), '') AS setting FROM unnest({names}) AS name",
            names=wanted,
        )
    )
    settings = {str(row["name"]): str(row["setting"]) for row in rows if row["setting"]}
    return found + tied_extensions(database, installed, settings)


def logical_slots(session: Session, oid: int) -> list[str]:
    """Names of the logical slots of the database with this oid."""
    return names(
        session,
        render(
            "SELECT s.slot_name::text FROM pg_replication_slots s JOIN pg_database d ON d.datname = s.database"
            " WHERE s.slot_type = 'logical' AND d.oid = {oid}::oid ORDER BY 1",
            oid=oid,
        ),
    )


def read_sessions(session: Session, oids: Collection[int]) -> Sessions:
    """Client sessions in these databases, and those that the login role may not end."""
    rows = session.rows(
        render(
            "SELECT a.pid, a.usename::text AS user, a.application_name AS application,"
            " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
            " OR (NOT coalesce(r.rolsuper, true)"
            "     AND (pg_has_role(a.usesysid, 'usage') OR pg_has_role('pg_signal_backend', 'usage'))) AS mine"
            " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
            " WHERE a.datid::bigint = ANY ({oids}) AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL",
            oids=list(oids) or [0],
        )
    )
    protected = [f"pid {r['pid']} of {r['user']} ({r['application'] or 'no name'})" for r in rows if not r["mine"]]
    return Sessions(len(rows), tuple(protected))


def read_sequences(session: Session) -> dict[str, SequenceState]:
    """Every sequence of the session's database by its qualified, quoted name; those never read are left out."""
    listed = session.rows(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, q.seqincrement AS step,"
        " CASE WHEN q.seqincrement > 0 THEN q.seqmax ELSE q.seqmin END AS bound FROM pg_sequence q"
        " JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relpersistence <> 't' ORDER BY 1, 2"
    )
    found = {}
    for start in range(0, len(listed), 200):
        parts = [
            render(
                "SELECT {name} AS name, last_value, is_called, {step} AS step, {bound} AS bound FROM {sequence:I}",
                name=render("{parts:I}", parts=(str(r["schema"]), str(r["name"]))),
                step=r["step"],
                bound=r["bound"],
                sequence=(str(r["schema"]), str(r["name"])),
            )
            for r in listed[start : start + 200]
        ]
        for row in session.rows("\nUNION ALL ".join(parts)):
            found[str(row["name"])] = SequenceState(
                str(row["name"]),
                int(str(row["last_value"])),
                int(str(row["step"])),
                bool(row["is_called"]),
                int(str(row["bound"])),
            )
    return found


def server_is_here(target: Target) -> bool:
    """Whether the transport runs commands on the server's own machine, so that its disks can be looked at."""
    host = target.connection.host
    return target.transport.name != "local" or host in LOOPBACK or host.startswith("/")


def data_directory(session: Session) -> str:
    """The server's data directory; '' when the login role may not know it."""
    with contextlib.suppress(OpsError):
        return str(session.value("SELECT current_setting('data_directory')"))
    return ""


def wal_facts(session: Session) -> tuple[int, bool]:
    """(max_wal_size in bytes, whether replication slots or a stalled archive keep WAL beyond it)."""
    limit = int(str(session.value("SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_wal_size'")))
    kept = session.value(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE NOT temporary)"
        " OR (current_setting('archive_mode') <> 'off' AND EXISTS"
        " (SELECT FROM pg_stat_archiver"
        " WHERE coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL)))"
    )
    return limit, bool(kept)


def standbys(session: Session) -> int:
    """Standbys and other receivers of WAL that are connected now."""
    return int(str(session.value("SELECT count(*) FROM pg_stat_replication")))


def read_volumes(target: Target, session: Session, staging: str, needs: Mapping[str, int]) -> list[Volume]:
    """The file systems that a restore writes to, with what it needs there (bytes: data, wal, staging).

    Only those that can be seen from where the client tools run.
    """
    transport = target.transport
    places: list[tuple[str, str]] = []
    if server_is_here(target):
        folder = data_directory(session)
        if folder:
            places = [("data", folder), ("wal", f"{folder}/pg_wal")]
    if staging:
        places.append(("staging", staging))
    grouped: list[tuple[str, dict[str, int]]] = []
    for purpose, path in places:
        for known, wanted in grouped:
            if _same(target, known, path):
                wanted[purpose] = needs[purpose]
                break
        else:
            grouped.append((path, {purpose: needs[purpose]}))
    return [Volume(path, transport.free_bytes(path), cast("Mapping[str, int]", wanted)) for path, wanted in grouped]


def _same(target: Target, one: str, other: str) -> bool:
    """same_volume that takes a path it may not look at as lying with its parent."""
    try:
        return target.transport.same_volume(one, other)
    except (OSError, OpsError):
        return other.startswith(one.rstrip("/") + "/")


def staging_on_pgdata(target: Target, session: Session, staging: str) -> bool | None:
    """Whether staging lies on the data directory's volume; None when that cannot be seen."""
    folder = data_directory(session) if server_is_here(target) else ""
    if not folder:
        return None
    try:
        return target.transport.same_volume(staging, folder)
    except (OSError, OpsError):
        return None
