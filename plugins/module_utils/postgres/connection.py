# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a server is reached: the shared argument spec, the environment of client tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

# One dict option, so that a role hands the inventory's connection on whole.
CONNECTION_SPEC: dict[str, dict[str, object]] = {
    "connection": {
        "type": "dict",
        "default": {},
        "options": {
            "host": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 5432},
            "unix_socket": {"type": "str", "default": ""},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "no_log": True},
            "service": {"type": "str", "default": ""},
            "ssl_mode": {
                "type": "str",
                "default": "prefer",
                "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            },
            "ca_cert": {"type": "path"},
            "maintenance_database": {"type": "str", "default": "postgres"},
            "client_bin": {"type": "path"},
            "session": {"type": "str", "default": "auto", "choices": ["auto", "psycopg", "psql"]},
            "transport": {"type": "str", "default": "local", "choices": ["local", "docker"]},
            "container": {"type": "str", "default": ""},
            "container_user": {"type": "str", "default": ""},
            "connect_timeout": {"type": "int", "default": 10},
        },
    },
}

# A second way into the same server, for when its ordinary slots are full; none when it is left out.
RESCUE_CONNECTION_SPEC: dict[str, dict[str, object]] = {
    "rescue_connection": {"type": "dict", "options": CONNECTION_SPEC["connection"]["options"]},
}

# A second server, with the same suboptions; none when it is left out.
LIVE_CONNECTION_SPEC: dict[str, dict[str, object]] = {
    "live_connection": {"type": "dict", "options": CONNECTION_SPEC["connection"]["options"]},
}


@dataclass(frozen=True)
class Connection:
    """Where and as whom to log in. An empty field leaves the choice to libpq (environment, .pgpass, peer)."""

    host: str = ""
    port: int = 5432
    user: str = ""
    password: str | None = None
    database: str = "postgres"
    maintenance_database: str = "postgres"
    service: str = ""
    ssl_mode: str = "prefer"
    ca_cert: str = ""
    connect_timeout: int = 10
    application_name: str = "saasops"

    def to(self, database: str) -> Connection:
        """The same server, another database."""
        return replace(self, database=database)

    def named(self, application_name: str) -> Connection:
        """The same, under another application_name (at most 63 bytes): our mark on backends and processes."""
        return replace(self, application_name=application_name)

    def __repr__(self) -> str:  # a traceback must not show the password
        return f"Connection(host={self.host!r}, port={self.port}, user={self.user!r}, database={self.database!r})"

    def libpq(self) -> dict[str, str]:
        """Keywords for libpq, without the password and the database's name."""
        keywords = {"connect_timeout": str(self.connect_timeout), "application_name": self.application_name}
        if self.service:
            keywords["service"] = self.service
            return keywords
        keywords["port"] = str(self.port)
        keywords["sslmode"] = self.ssl_mode
        if self.host:
            keywords["host"] = self.host
        if self.user:
            keywords["user"] = self.user
        if self.ca_cert:
            keywords["sslrootcert"] = self.ca_cert
        return keywords

    def environment(self) -> dict[str, str]:
        """PG* variables for a client tool, without the password; the database's name included.

        The name travels as PGDATABASE, never in argv, where a tool would parse '=' or '://' in it.
        """
        names = {
            "host": "PGHOST",
            "port": "PGPORT",
            "user": "PGUSER",
            "sslmode": "PGSSLMODE",
            "sslrootcert": "PGSSLROOTCERT",
            "service": "PGSERVICE",
            "connect_timeout": "PGCONNECT_TIMEOUT",
            "application_name": "PGAPPNAME",
        }
        return {names[key]: value for key, value in self.libpq().items()} | {"PGDATABASE": self.database}


def from_params(params: Mapping[str, object], database: str | None = None) -> Connection:
    """A Connection from the suboptions of the option connection (CONNECTION_SPEC)."""
    maintenance = str(params.get("maintenance_database") or "postgres")
    password = params.get("password")
    return Connection(
        host=str(params.get("unix_socket") or params.get("host") or ""),
        port=int(str(params.get("port") or 5432)),
        user=str(params.get("user") or ""),
        password=None if password is None else str(password),
        database=database or maintenance,
        maintenance_database=maintenance,
        service=str(params.get("service") or ""),
        ssl_mode=str(params.get("ssl_mode") or "prefer"),
        ca_cert=str(params.get("ca_cert") or ""),
        connect_timeout=int(str(params.get("connect_timeout") or 10)),
    )


def passfile_line(password: str) -> str:
    """One .pgpass line that matches every server: the file lives only as long as the tool that reads it."""
    return "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"
