# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalog queries of the verb discover: of the server, of its databases, of one database from inside. Only reads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover import DatabaseSight, ServerSight
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_database
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.server_state import read_blockers
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

# programs that make backups, by the application_name of their sessions
_BACKUP_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_basebackup", "pg_receivewal", "barman%", "pgbackrest%", "wal-g%")


@dataclass(frozen=True)
class Listed:
    """A database as the server lists it. bytes: None when the role may not know it. open: the role may log in."""

    name: str
    owner: str
    encoding: str
    bytes: int | None
    open: bool


def read_server(session: Session) -> ServerSight:
    """What the login role can see of the server."""
    row = session.rows(
        "SELECT current_setting('server_version') AS version, current_user::text AS role, rolsuper AS superuser,"
        " pg_has_role(current_user, 'pg_read_all_settings', 'usage') AS settings, pg_is_in_recovery() AS recovery,"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS free"
        " FROM pg_roles WHERE rolname = current_user"
    )[0]
    return ServerSight(
        version=session.version,
        version_text=str(row["version"]).split(" ", maxsplit=1)[0],
        role=str(row["role"]),
        superuser=bool(row["superuser"]),
        reads_settings=bool(row["settings"]),
        in_recovery=bool(row["recovery"]),
        connections_free=max(0, int(str(row["free"]))),
    )


def list_databases(session: Session) -> list[Listed]:
    """Every database that is no template, the largest first."""
    rows = session.rows(
        "SELECT datname::text AS name, pg_get_userbyid(datdba)::text AS owner,"
        " pg_encoding_to_char(encoding)::text AS encoding, datallowconn AND may AS open,"
        " CASE WHEN may OR pg_has_role(current_user, 'pg_read_all_stats', 'usage')"
        "      THEN pg_database_size(d.oid) END AS bytes"
        " FROM pg_database d, has_database_privilege(d.oid, 'CONNECT') AS may WHERE NOT datistemplate"
        " ORDER BY bytes DESC NULLS LAST, datname"
    )
    return [
        Listed(
            str(row["name"]),
            str(row["owner"]),
            str(row["encoding"]),
            None if row["bytes"] is None else int(str(row["bytes"])),
            bool(row["open"]),
        )
        for row in rows
    ]


def list_roles(session: Session) -> list[dict[str, Json]]:
    """The roles that somebody made, with what they may; no password is read."""
    return session.rows(
        "SELECT rolname::text AS name, rolcanlogin AS login, rolsuper AS superuser, rolcreatedb AS createdb,"
        " rolreplication AS replication, rolbypassrls AS bypassrls, rolconnlimit AS connection_limit"
        " FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname"
    )


_TABLES = """
SELECT n.nspname::text AS schema,
       coalesce(json_agg(c.relname ORDER BY c.relname) FILTER (WHERE c.oid IS NOT NULL), '[]') AS tables
  FROM pg_namespace n
  LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_depend x
           WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 GROUP BY n.nspname
"""
# pg_dump reads every table and sequence that is not an extension's, and refuses when row security would hide rows
_HIDDEN = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind <> 'S' AND row_security_active(c.oid) AS filtered,
       NOT has_schema_privilege(n.oid, 'USAGE') OR NOT CASE c.relkind WHEN 'S'
           THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END AS unreadable
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend x
       WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
"""


def read_sight(session: Session, listed: Listed) -> DatabaseSight:
    """One database, seen from inside: the session is in it."""
    row = session.rows(
        "SELECT pg_database_size(oid) AS bytes, (SELECT count(*) FROM pg_user_mappings) AS user_mappings,"
        " (SELECT count(oid) FROM pg_subscription WHERE subdbid = d.oid) AS subscriptions"
        " FROM pg_database d WHERE datname = current_database()"
    )[0]
    hidden = session.rows(f"SELECT * FROM ({_HIDDEN}) AS seen WHERE filtered OR unreadable ORDER BY name")
    extensions = session.rows(
        "SELECT extname::text AS name, extversion AS version FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    )
    names = {str(item["name"]): str(item["version"]) for item in extensions}
    return DatabaseSight(
        name=listed.name,
        owner=listed.owner,
        bytes=int(str(row["bytes"])),
        encoding=listed.encoding,
        tables={str(item["schema"]): cast("list[str]", item["tables"]) for item in session.rows(_TABLES)},
        extensions=names,
        user_mappings=int(str(row["user_mappings"])),
        subscriptions=int(str(row["subscriptions"])),
        blockers=tuple(read_blockers(session, listed.name, names)),
        unreadable=tuple(str(item["name"]) for item in hidden if item["unreadable"]),
        row_security=tuple(str(item["name"]) for item in hidden if item["filtered"] and not item["unreadable"]),
        collation=_collation(session, listed.name),
    )


def _collation(session: Session, name: str) -> tuple[str, str] | None:
    """The collation library's versions, when the database was made and now, where both are known and differ."""
    found = read_database(session, name)
    if found is None or session.version < 150000:
        return None
    now = session.value(
        render(
            "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname::text = {name}", name=name
        )
    )
    if not found.collation_version or not now or now == found.collation_version:
        return None
    return found.collation_version, str(now)


def read_hints(session: Session) -> list[str]:
    """Signs of backups that are made already, a sentence each; no command line is shown, it may hold a secret."""
    found = []
    with contextlib.suppress(OpsError):
        row = session.rows(
            "SELECT current_setting('archive_mode') AS mode, current_setting('archive_library', true) AS library,"
            " split_part(btrim(current_setting('archive_command')), ' ', 1) AS program"
        )[0]
        program = str(row["library"] or row["program"] or "").rpartition("/")[2]
        if row["mode"] != "off" and program not in ("", "(disabled)"):
            found.append(f"WAL is archived by {program}: physical backups may be made already.")
    count = int(str(session.value("SELECT count(*) FROM pg_stat_replication")))
    if count:
        found.append(f"{count} standby{'s receive' if count > 1 else ' receives'} WAL from this server.")
    programs = session.rows(
        render(
            "SELECT DISTINCT application_name AS name FROM pg_stat_activity"
            " WHERE application_name LIKE ANY ({programs}) ORDER BY 1",
            programs=list(_BACKUP_PROGRAMS),
        )
    )
    found += [f"{row['name']} is connected now." for row in programs]
    if session.value("SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'cron.database_name')"):
        found.append("pg_cron runs jobs here; they stay with the database that holds its tables.")
    return found
