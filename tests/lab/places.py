# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server seen through one kind of session, for suites that run the same sentences over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_session import PsqlSession
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psycopg_session import PsycopgSession
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport
from ansible_collections.saasops.runbook.tests.lab.postgres import Server


@dataclass
class Place:
    """How to open sessions on one server; close() ends all that were opened.

    transport: None for libpq, else where psql runs
    """

    connection: Connection
    version: int
    transport: Transport | None = None
    program: str = "psql"
    opened: list[Session] = field(default_factory=list)

    def open(self, database: str = "postgres", **changes: object) -> Session:
        """A session of this kind; changes are fields of Connection."""
        connection = replace(self.connection.to(database), **changes)  # type: ignore[arg-type]
        session: Session
        if self.transport is None:
            session = PsycopgSession(connection)
        else:
            session = PsqlSession(connection, self.transport, self.program)
        self.opened.append(session)
        return session

    def close(self) -> None:
        """End every session."""
        while self.opened:
            self.opened.pop().close()


def of_server(server: Server, kind: str) -> Place:
    """The place of a lab server: kind is psycopg or psql."""
    connection = Connection(
        host=server.host, port=server.port, user=server.user, password=server.password, application_name="saasops-test"
    )
    transport = LocalTransport() if kind == "psql" else None
    return Place(connection, server.version, transport, str(server.bin / "psql"))
