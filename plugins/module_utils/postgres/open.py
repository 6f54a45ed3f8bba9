# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database server as the modules use it: sessions, client tools and their environment in one hand."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import psycopg_session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    Connection,
    from_params,
    passfile_line,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psycopg_session import PsycopgSession
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.open import open_transport


@dataclass(frozen=True)
class Target:
    """One server: how to log in, where its client tools run, which kind of session to use."""

    connection: Connection
    transport: Transport
    session_kind: str = "auto"
    client_bin: str = ""
    _tools: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_params(cls, params: Mapping[str, object], application_name: str = "saasops") -> Target:
        """From the option connection."""
        return cls(
            connection=from_params(params).named(application_name),
            transport=open_transport(params),
            session_kind=str(params.get("session") or "auto"),
            client_bin=str(params.get("client_bin") or ""),
        )

    def named(self, application_name: str) -> Target:
        """The same server under another mark."""
        return Target(self.connection.named(application_name), self.transport, self.session_kind, self.client_bin)

    def session(self, database: str | None = None) -> Session:
        """A new session; the maintenance database by default."""
        connection = self.connection.to(database or self.connection.maintenance_database)
        kind = self.session_kind
        if kind == "auto":
            # a container's server is often not reachable but through exec
            direct = self.transport.name == "local" and psycopg_session.available()
            kind = "psycopg" if direct else "psql"
        if kind == "psycopg":
            return PsycopgSession(connection)
        return self._psql_session(connection)

    def _psql_session(self, connection: Connection) -> Session:
        from ansible_collections.saasops.runbook.plugins.module_utils.postgres.psql_session import PsqlSession

        return PsqlSession(connection, self.transport, self.program("psql"))

    def program(self, name: str) -> str:
        """A client program's path, its version unchecked."""
        return f"{self.client_bin.rstrip('/')}/{name}" if self.client_bin else name

    def tool(self, name: str, server_version: int) -> str:
        """A client program that is able to talk to the server.

        server_version is server_version_num. Raises OpsError tool_missing, tool_too_old.
        """
        if name in self._tools:
            return self._tools[name]
        program = self.program(name)
        done = self.transport.run([program, "--version"], timeout=30)
        match = re.search(rb"(\d+)(?:\.\d+)?", done.stdout)
        if done.code != 0 or not match:
            raise OpsError(
                "tool_missing",
                f"{program} --version failed with exit code {done.code}.",
                "Install the PostgreSQL client package of the server's major version, or set connection.client_bin.",
                {"program": program},
            )
        major = int(match.group(1))
        if major < server_version // 10000:
            raise OpsError(
                "tool_too_old",
                f"{program} is of version {major}, the server of version {server_version // 10000}.",
                "Install the client package of the server's major version, or set connection.client_bin to it.",
                {"program": program, "client": major, "server": server_version // 10000},
            )
        self._tools[name] = program
        return program

    @contextlib.contextmanager
    def environment(self, database: str) -> Iterator[dict[str, str]]:
        """PG* variables for a client tool of this database; the password in a file of mode 0600 on the far side."""
        variables = self.connection.to(database).environment()
        if self.connection.password is None:
            yield variables
            return
        with self.transport.secret_file(passfile_line(self.connection.password)) as path:
            yield {**variables, "PGPASSFILE": path}
