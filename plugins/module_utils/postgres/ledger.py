# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger of migrations: a table in the database itself, so that a row and what it speaks of commit together.

It belongs to the role that migrates, and nobody else is granted anything on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.migrate import Row
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

TABLE = "migrations"
_COLUMNS = (
    ("version", "text NOT NULL"),
    ("schema", "text NOT NULL DEFAULT ''"),
    ("name", "text NOT NULL"),
    ("checksum", "text NOT NULL"),
    ("state", "text NOT NULL"),
    ("applied_at", "timestamptz NOT NULL DEFAULT clock_timestamp()"),
    ("applied_by", "text NOT NULL"),
    ("run", "text NOT NULL"),
    ("seconds", "double precision NOT NULL DEFAULT 0"),
    ("compatible", "boolean"),
    ("undo", "text"),
    ("total", "integer NOT NULL"),
    ("done", "integer NOT NULL"),
    ("begun", "integer NOT NULL"),
    ("done_checksum", "text NOT NULL DEFAULT ''"),
)


class Ledger:
    """The table <schema>.migrations of the session's database. Methods take the session that they write with."""

    def __init__(self, schema: str = "saasops") -> None:
        self._schema = schema
        self._table = (schema, TABLE)

    @property
    def name(self) -> str:
        return f"{self._schema}.{TABLE}"

    def exists(self, session: Session) -> bool:
        """Whether it is there. Raises OpsError ledger_foreign for a table of that name that is not ours."""
        columns = [
            str(row["name"])
            for row in session.rows(
                render(
                    "SELECT a.attname::text AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                    " JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE n.nspname = {schema} AND c.relname = {table} AND a.attnum > 0 AND NOT a.attisdropped",
                    schema=self._schema,
                    table=TABLE,
                )
            )
        ]
        if columns and not {name for name, _kind in _COLUMNS} <= set(columns):
            raise OpsError(
                "ledger_foreign",
                f"{self.name} is a table of somebody else.",
                "Name another schema for the ledger (ledger_schema), and keep it.",
            )
        return bool(columns)

    def create(self, session: Session) -> None:
        """Make it when it is not there, in one transaction."""
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS)
        session.run("BEGIN")
        try:
            session.run("SET LOCAL lock_timeout = '2s'")
            session.run(render("CREATE SCHEMA IF NOT EXISTS {schema:I}", schema=self._schema))
            session.run(
                render(
                    "CREATE TABLE IF NOT EXISTS {table:I} ({columns:raw}, PRIMARY KEY (version, schema))",
                    table=self._table,
                    columns=columns,
                )
            )
            session.run(render("REVOKE ALL ON {table:I} FROM PUBLIC", table=self._table))
            session.run("COMMIT")
        except OpsError:
            _rollback(session)
            raise

    def rows(self, session: Session) -> list[Row]:
        """All of it, by number and schema."""
        found = session.rows(
            render(
                "SELECT version, schema, name, checksum, state, run, undo, total, done, begun, done_checksum,"
                " compatible FROM {table:I} ORDER BY version::numeric, schema",
                table=self._table,
            )
        )
        return [
            Row(
                version=str(row["version"]),
                schema=str(row["schema"]),
                name=str(row["name"]),
                checksum=str(row["checksum"]),
                state=str(row["state"]),
                run=str(row["run"]),
                undo=None if row["undo"] is None else str(row["undo"]),
                done=int(str(row["done"])),
                begun=int(str(row["begun"])),
                total=int(str(row["total"])),
                done_checksum=str(row["done_checksum"]),
                compatible=None if row["compatible"] is None else bool(row["compatible"]),
            )
            for row in found
        ]

    def has(self, session: Session, version: str, schema: str) -> bool:
        """Whether there is a row."""
        query = "SELECT EXISTS (SELECT FROM {table:I} WHERE version = {version} AND schema = {schema}) AS found"
        return bool(session.value(render(query, table=self._table, version=version, schema=schema)))

    def progress(self, session: Session, version: str, schema: str) -> tuple[str, int]:
        """State of a row, and how many of its statements are through; ("", 0) without one."""
        query = "SELECT state, done FROM {table:I} WHERE version = {version} AND schema = {schema}"
        found = session.rows(render(query, table=self._table, version=version, schema=schema))
        return (str(found[0]["state"]), int(str(found[0]["done"]))) if found else ("", 0)

    def write(self, session: Session, row: Row, seconds: float) -> None:
        """Write a row, or write it anew."""
        values = {
            "version": row.version,
            "schema": row.schema,
            "name": row.name,
            "checksum": row.checksum,
            "state": row.state,
            "run": row.run,
            "seconds": round(seconds, 3),
            "compatible": row.compatible,
            "undo": row.undo,
            "total": row.total,
            "done": row.done,
            "begun": row.begun,
            "done_checksum": row.done_checksum,
        }
        sets = ", ".join(f"{name} = excluded.{name}" for name in values if name not in ("version", "schema"))
        session.run(
            render(
                "INSERT INTO {table:I} ({names:raw}, applied_by) VALUES ("
                + ", ".join("{" + name + "}" for name in values)
                + ", session_user) ON CONFLICT (version, schema) DO UPDATE SET {sets:raw},"
                " applied_at = clock_timestamp(),"
                " applied_by = excluded.applied_by",
                table=self._table,
                names=", ".join(values),
                sets=sets,
                **values,
            )
        )

    def remove(self, session: Session, version: str, schema: str) -> None:
        """Remove a row: what it spoke of was undone."""
        session.run(
            render(
                "DELETE FROM {table:I} WHERE version = {version} AND schema = {schema}",
                table=self._table,
                version=version,
                schema=schema,
            )
        )


def _rollback(session: Session) -> None:
    try:
        session.run("ROLLBACK")
    except OpsError:
        return  # the session is gone, and its transaction with it


def own_tables(session: Session, ledger_schema: str) -> int:
    """How many ordinary tables the database has beside the ledger and those of extensions."""
    sql = (
        "SELECT count(*) AS found FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', {ledger})"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
        " AND d.deptype = 'e')"
    )
    return int(str(session.value(render(sql, ledger=ledger_schema))))


def existing(session: Session, names: Sequence[str]) -> dict[str, str]:
    """The kind (relkind) of each of these relations that exists, names as SQL text, seen by the search path."""
    if not names:
        return {}
    found = session.rows(
        render(
            "SELECT given, (SELECT relkind::text FROM pg_class WHERE oid = to_regclass(given)) AS kind"
            " FROM unnest({names}) AS given WHERE to_regclass(given) IS NOT NULL",
            names=list(names),
        )
    )
    return {str(row["given"]): str(row["kind"]) for row in found}
