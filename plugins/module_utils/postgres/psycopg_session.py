# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session over libpq, by psycopg2."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.failures import from_server
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import (
    NOTICES_KEPT,
    Json,
    Row,
    first_line,
    wrapped,
)

if TYPE_CHECKING:
    import psycopg2


def available() -> bool:
    """True when psycopg2 can be imported here."""
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return False
    return True


class PsycopgSession:
    """See postgres.session.Session."""

    def __init__(self, connection: Connection) -> None:
        """Connect. Raises OpsError (postgres.failures), or psycopg_missing."""
        try:
            import psycopg2
        except ImportError as error:
            raise OpsError(
                "psycopg_missing",
                "The Python library psycopg2 is not installed where the module runs.",
                "Install psycopg2-binary for that Python, or set connection.session to psql.",
            ) from error
        self._errors = psycopg2.Error
        self._doing = f"connecting to database {connection.database!r}"
        keywords: dict[str, Any] = dict(connection.libpq())  # psycopg2's stubs know no narrower type
        if connection.password is not None:
            keywords["password"] = connection.password
        try:
            self._connection: psycopg2.extensions.connection = psycopg2.connect(
                dbname=connection.database, client_encoding="UTF8", **keywords
            )
        except psycopg2.Error as error:
            raise from_server(error.pgcode, str(error), self._doing) from error
        self._connection.autocommit = True
        self._version = int(self._connection.server_version)
        self._doing = f"working in database {connection.database!r}"
        # libpq's own number is the pooler's invention where one stands between
        self._pid = int(str(self.value("SELECT pg_backend_pid()")))

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def version(self) -> int:
        return self._version

    def _execute(self, sql: str, fetch: bool) -> object:
        self._connection.notices.clear()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                row = cursor.fetchone() if fetch else None
        except self._errors as error:
            self._connection.notices.clear()
            raise from_server(error.pgcode, str(error), self._doing) from error
        return row[0] if row else None

    def rows(self, sql: str) -> list[Row]:
        return cast("list[Row]", json.loads(str(self._execute(wrapped(sql), True))))

    def value(self, sql: str) -> Json:
        for row in self.rows(sql):
            return next(iter(row.values()))
        return None

    def run(self, sql: str) -> None:
        self._execute(sql, False)

    def notices(self) -> list[str]:
        return [first_line(str(message)) for message in self._connection.notices[-NOTICES_KEPT:]]

    def close(self) -> None:
        self._connection.close()
