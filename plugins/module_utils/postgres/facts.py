# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb must know of a server and a database before it decides."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.drill import ServerSeen
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render


@dataclass(frozen=True)
class DatabaseFacts:
    """Facts of one database. Sizes in bytes; data_directory '' when the role may not read it; server: read_server."""

    name: str
    oid: int
    version: int
    system_identifier: str
    server: str
    bytes: int
    encoding: str
    data_directory: str
    in_recovery: bool
    user_mappings: int
    subscriptions: int
    superuser: bool

    def as_dict(self) -> dict[str, Json]:
        """What a manifest keeps of it."""
        return {
            "version": self.version,
            "system_identifier": self.system_identifier,
            "database_oid": self.oid,
            "encoding": self.encoding,
            "bytes": self.bytes,
        }


def read_server(session: Session) -> str:
    """What tells the session's server from every other on one host, to any role: its system identifier and its port.

    A physical copy has the identifier of its origin, but two servers of one host never listen on one port.
    """
    return str(
        session.value("SELECT system_identifier::text || ' ' || current_setting('port') FROM pg_control_system()")
    )


def see_server(session: Session) -> ServerSeen:
    """The running server behind a session; every role may ask for all of it."""
    row = session.rows(
        "SELECT system_identifier::text AS identifier, current_setting('port') AS port,"
        " to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS started,"
        " pg_is_in_recovery() AS in_recovery FROM pg_control_system()"
    )[0]
    return ServerSeen(
        str(row["identifier"]), int(str(row["port"])), str(row["started"]), session.version, bool(row["in_recovery"])
    )


def read_facts(session: Session) -> DatabaseFacts:
    """Facts of the database that the session is in."""
    row = session.rows(
        "SELECT d.datname::text AS name, d.oid::bigint AS oid, pg_encoding_to_char(d.encoding)::text AS encoding,"
        " pg_database_size(d.oid) AS bytes, pg_is_in_recovery() AS in_recovery,"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,"
        " (SELECT count(*) FROM pg_user_mappings) AS user_mappings,"
        " CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'usage')"
        "      THEN (SELECT setting FROM pg_settings WHERE name = 'data_directory') ELSE '' END AS data_directory"
        " FROM pg_database d WHERE d.datname = current_database()"
    )[0]
    identifier = session.value("SELECT system_identifier::text FROM pg_control_system()")
    # the columns with connection strings are hidden from ordinary roles, their number is not
    subscriptions = session.value(
        render("SELECT count(oid) FROM pg_subscription WHERE subdbid = {oid}::oid", oid=int(str(row["oid"])))
    )
    return DatabaseFacts(
        name=str(row["name"]),
        oid=int(str(row["oid"])),
        version=session.version,
        system_identifier=str(identifier),
        server=read_server(session),
        bytes=int(str(row["bytes"])),
        encoding=str(row["encoding"]),
        data_directory=str(row["data_directory"] or ""),
        in_recovery=bool(row["in_recovery"]),
        user_mappings=int(str(row["user_mappings"])),
        subscriptions=int(str(subscriptions)),
        superuser=bool(row["superuser"]),
    )


def refuse_pooler(one: Session, other: Session) -> None:
    """Raise pooled_connection when a transaction-mode pooler stands between us and the server.

    Such a pooler gives the backend of an idle client to the next one that begins a transaction. Snapshots, SET
    and advisory locks need a session of their own, so a second client must never meet the first one's backend.
    """
    first = one.value("SELECT pg_backend_pid()")
    other.run("BEGIN")
    try:
        second = other.value("SELECT pg_backend_pid()")
    finally:
        other.run("ROLLBACK")
    if first == second:
        raise OpsError(
            "pooled_connection",
            "A transaction-mode connection pooler answers here: two sessions met the same backend.",
            "Connect to PostgreSQL itself (for PgBouncer and Supabase: the direct port, not 6432 or 6543).",
        )
