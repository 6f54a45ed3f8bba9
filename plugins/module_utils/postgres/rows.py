# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that reads rows exactly, names them by key and version, deletes them and puts them back.

A value travels as the text of its type's output function (format('%s') calls it; a cast to text would not for every
type) and comes back through the input function, as an untyped literal. xmin names the version of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Column, Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.purge import idle_limit
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import TableFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal

# what the output functions look at, and timeouts of the role or database that must not end us half-way
SETTINGS = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # none of these before the first lock: a batch is archived first, which takes as long as the store takes
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    # a commit that waits for a standby that is away holds its locks as long as it is away
    "synchronous_commit": "local",
}
_MAYBE = ("idle_session_timeout", "transaction_timeout")
Key = Sequence["str | None"]


def prepare(session: Session) -> None:
    """Settings of a session that reads or acts on rows."""
    session.rows(
        "SELECT "
        + ", ".join(
            f"pg_catalog.set_config({literal(name)}, {literal(value)}, false) AS s{number}"
            for number, (name, value) in enumerate(SETTINGS.items())
        )
    )
    session.rows(
        "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
        f" WHERE name = ANY ({literal(list(_MAYBE))})"
    )


def bound_idle(session: Session, most: int) -> None:
    """From here on this transaction holds locks, most milliseconds if all is well: see domain.purge.idle_limit."""
    session.run(f"SET LOCAL idle_in_transaction_session_timeout = {idle_limit(most)}")


def table_sql(schema: str, name: str) -> str:
    return f"{ident(schema)}.{ident(name)}"


def texts_sql(columns: Sequence[Column], not_null: frozenset[str], alias: str = "t") -> str:
    """An array of texts, one for each column, NULL for NULL."""
    parts = []
    for column in columns:
        value = f"{alias}.{ident(column.name)}"
        text = f"pg_catalog.format('%s', {value})"
        # IS DISTINCT FROM, because a composite value whose fields are all NULL IS NULL, and is none
        whole = text if column.name in not_null else f"CASE WHEN {value} IS DISTINCT FROM NULL THEN {text} END"
        parts.append(whole)
    return "ARRAY[" + ", ".join(parts) + "]::text[]"


def key_columns(columns: Sequence[str], alias: str = "t") -> str:
    return ", ".join(f"{alias}.{ident(name)}" for name in columns)


def after_sql(facts: TableFacts, key: Sequence[str], last: Key | None) -> str:
    """The condition that a row comes after the last one; true without one."""
    if last is None:
        return "true"
    values = ", ".join(f"{literal(value)}::{facts.type_of(name)}" for name, value in zip(key, last))
    return f"({key_columns(key)}) > ({values})"


def read_sql(
    facts: TableFacts, key: Sequence[str], condition: str, last: Key | None, most: int, skipped: Sequence[Key]
) -> str:
    """Rows v (texts of all columns) with their version x, in the order of the key."""
    without = ""
    if skipped:
        names = ", ".join(f"{literal(value)}::{facts.type_of(key[0])}" for value in [item[0] for item in skipped])
        if len(key) == 1:
            without = f" AND t.{ident(key[0])} <> ALL (ARRAY[{names}])"
        else:
            rows = ", ".join(
                "(" + ", ".join(f"{literal(v)}::{facts.type_of(n)}" for n, v in zip(key, item)) + ")"
                for item in skipped
            )
            without = f" AND ({key_columns(key)}) NOT IN ({rows})"
    return (
        f"SELECT t.xmin::text AS x, {texts_sql(facts.columns, facts.not_null)} AS v"
        f" FROM {table_sql(facts.schema, facts.name)} AS t"
        f" WHERE ({condition}) AND {after_sql(facts, key, last)}{without}"
        f" ORDER BY {key_columns(key)} LIMIT {most}"
    )


def wanted_sql(columns: Sequence[Sequence[str | None]], names: Sequence[str]) -> str:
    """unnest of parallel arrays with a running number n from 1 on, as w."""
    arrays = ", ".join(f"{literal(list(values))}::text[]" if values else "'{}'::text[]" for values in columns)
    return f"unnest({arrays}) WITH ORDINALITY AS w ({', '.join(names)}, n)"


def match_sql(facts: TableFacts, columns: Sequence[str], alias: str = "w") -> str:
    return " AND ".join(
        f"t.{ident(name)} = {alias}.c{number}::{facts.type_of(name)}" for number, name in enumerate(columns)
    )


def _named(
    facts: TableFacts, key: Sequence[str], keys: Sequence[Key], versions: Sequence[str] | None
) -> tuple[str, str]:
    """The list of wanted rows, and the condition that a row t is one of them (in exactly that version)."""
    columns: list[Sequence[str | None]] = [[item[place] for item in keys] for place in range(len(key))]
    names = [f"c{place}" for place in range(len(key))]
    condition = match_sql(facts, key)
    if versions is not None:
        columns.append(list(versions))
        names.append("x")
        condition += " AND t.xmin::text = w.x"
    return wanted_sql(columns, names), condition


def lock_sql(
    facts: TableFacts, key: Sequence[str], keys: Sequence[Key], versions: Sequence[str], wait: bool = False
) -> str:
    """Locks the rows that are still as they were read; gives their numbers n from 1 on.

    wait: for rows that somebody else holds, which are left out otherwise.
    """
    wanted, condition = _named(facts, key, keys, versions)
    return (
        f"SELECT w.n FROM {table_sql(facts.schema, facts.name)} AS t JOIN {wanted} ON {condition}"
        f" FOR UPDATE OF t{'' if wait else ' SKIP LOCKED'}"
    )


def delete_sql(facts: TableFacts, key: Sequence[str], keys: Sequence[Key], versions: Sequence[str]) -> str:
    """Deletes rows in exactly these versions; their number is then in the setting saasops.rows."""
    wanted, condition = _named(facts, key, keys, versions)
    return (
        f"WITH gone AS (DELETE FROM {table_sql(facts.schema, facts.name)} AS t USING {wanted} WHERE {condition}"
        " RETURNING 1) SELECT pg_catalog.set_config('saasops.rows', pg_catalog.count(*)::text, true) FROM gone"
    )


def touched(session: Session) -> int:
    """How many rows the last statement of this transaction touched."""
    return int(str(session.value("SELECT pg_catalog.current_setting('saasops.rows') AS n")))


def children_sql(
    facts: TableFacts, key: Sequence[str], columns: Sequence[str], parents: Sequence[Key], lock: bool
) -> str:
    """Rows that refer to parents (values of columns): n is the parent's number from 1 on.

    lock: they are locked, those that somebody else holds are left out, and v is the key alone.
    """
    wanted, condition = _named(facts, columns, parents, None)
    shown = [Column(name, facts.type_of(name)) for name in key] if lock else facts.columns
    text = (
        f"SELECT w.n, t.xmin::text AS x, {texts_sql(shown, facts.not_null)} AS v"
        f" FROM {table_sql(facts.schema, facts.name)} AS t JOIN {wanted} ON {condition}"
    )
    return text + (" FOR UPDATE OF t SKIP LOCKED" if lock else f" ORDER BY {key_columns(key)}")


def present_sql(part: Part, facts: TableFacts, columns: Sequence[Column] = ()) -> str:
    """The rows that now have the keys of a part, as texts of its columns (or others): n is the number in the part."""
    wanted, condition = _named(facts, part.key, part.keys(), None)
    return (
        f"SELECT w.n, t.xmin::text AS x, {texts_sql(columns or part.columns, facts.not_null)} AS v"
        f" FROM {table_sql(facts.schema, facts.name)} AS t JOIN {wanted} ON {condition}"
    )


def insert_sql(part: Part, rows: Sequence[Sequence[str | None]]) -> str:
    """Puts rows of a part back. Untyped literals go through the input functions, and nothing is cut to length."""
    columns = ", ".join(ident(column.name) for column in part.columns)
    values = ", ".join("(" + ", ".join(literal(value) for value in row) + ")" for row in rows)
    # sequences are left alone, and identity columns take the value of before
    return f"INSERT INTO {table_sql(part.schema, part.table)} ({columns}) OVERRIDING SYSTEM VALUE VALUES {values}"


def xid_sql(version: int) -> str:
    """The full id of this transaction, which is assigned by asking."""
    return "SELECT pg_catalog.pg_current_xact_id()::text" if version >= 130000 else "SELECT txid_current()::text"


def status_sql(version: int, xid: str) -> str:
    """What became of a transaction: committed, aborted, in progress, or NULL when the server has forgotten."""
    if version >= 130000:
        return f"SELECT pg_catalog.pg_xact_status({literal(xid)}::xid8) AS status"
    return f"SELECT txid_status({literal(xid)}::bigint) AS status"
