# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a database session; two implementations keep it (psycopg_session, psql_session).

Rows come back as JSON made by the server, so that both give the same Python values: an int is an int,
NULL is None, bytea is the text '\\\\x..', timestamps are ISO 8601 text, numeric is a number.
"""

from __future__ import annotations

from typing import Protocol, Union

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Row = dict[str, Json]


class Session(Protocol):
    """One connection to one database; autocommit until run("BEGIN").

    SQL is complete text (postgres.sql.render). Errors are OpsError with details["sqlstate"].
    """

    @property
    def pid(self) -> int:
        """The backend's process id."""

    @property
    def version(self) -> int:
        """server_version_num, for example 150018."""

    def rows(self, sql: str) -> list[Row]:
        """The rows of one SELECT-like statement (it is wrapped, so no trailing semicolon)."""

    def value(self, sql: str) -> Json:
        """The single column of the single row of a SELECT-like statement; None when there is no row."""

    def run(self, sql: str) -> None:
        """Run one statement whose result does not matter (DDL, SET, BEGIN, LOCK ...)."""

    def notices(self) -> list[str]:
        """What the server said beside the result of the last statement, for instance ["WARNING: ... skipping it"].

        The first line of each message, in order, the newest 50; severity and text in the server's language
        (lc_messages). [] after a statement that failed. Raises OpsError tool_too_old: psql before 13 does not tell.
        """

    def close(self) -> None:
        """End the session; safe to call twice."""


NOTICES_KEPT = 50


def first_line(message: str) -> str:
    """A message as notices() gives it."""
    return " ".join(message.strip().split("\n")[0].split())


def wrapped(sql: str) -> str:
    """The statement whose only value is all rows of sql as one JSON array."""
    return f"SELECT coalesce(json_agg(row_to_json(saasops_row)), '[]'::json)::text FROM ({sql}\n) AS saasops_row"
