# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL that brings staged rows into live tables by difference: text only, nothing is executed here.

For each table there are three relations: the live one, the staged one (same columns, no keys) and a temporary
list of differences (key columns k1.., op, early). op is 'i' (insert), 'd' (delete), 'u' (update) or
'r' (delete, then insert anew); early rows leave before anything is inserted.

All inserts are one statement, and so are all updates and all deletes: the checks of foreign keys run at the end
of a statement, when every row is in place, so neither the order of tables nor circles among them matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Column, Foreign, Table, Unique
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident


@dataclass(frozen=True)
class Pair:
    """One table to merge: its shape, the schema it lives in, the schema of the staged copies and its number there."""

    table: Table
    schema: str
    staging: str
    number: int

    @property
    def live(self) -> str:
        """The live table. ONLY keeps out tables that inherit from it; a partitioned one is meant with its parts."""
        name = f"{ident(self.schema)}.{ident(self.table.name)}"
        return name if self.table.partitioned else f"ONLY {name}"

    @property
    def target(self) -> str:
        """The live table as INSERT wants it."""
        return f"{ident(self.schema)}.{ident(self.table.name)}"

    @property
    def staged(self) -> str:
        return f"{ident(self.staging)}.{ident(str(self.number))}"

    @property
    def differences(self) -> str:
        return f"pg_temp.{ident(f'saasops_differences_{self.number}')}"


def column_list(columns: Sequence[Column], alias: str = "") -> str:
    """Quoted names, each behind an alias when one is given."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + ident(column.name) for column in columns)


def body(columns: Sequence[Column], alias: str) -> str:
    """A row's values as one hash. The text is hashed, because equality takes 1.0 for 1.00 and json has none at all."""
    return f"hashtextextended(ROW({column_list(columns, alias)})::text, 0)"


def checksum(relation: str, columns: Sequence[Column]) -> str:
    """SELECT of rows and hash, independent of order; columns include generated ones."""
    if not columns:
        return f"SELECT count(*) AS rows, '0' AS hash FROM {relation} AS t"
    return (
        f"SELECT count(*) AS rows, coalesce(sum({body(columns, 't')}::numeric), 0)::text AS hash FROM {relation} AS t"
    )


def create_staged(pair: Pair) -> str:
    """An unlogged table for the copy: it holds only stored columns."""
    columns = column_list(pair.table.stored)
    return f"CREATE UNLOGGED TABLE {pair.staged} AS SELECT {columns} FROM {pair.target} WITH NO DATA"


def copy_out(schema: str, table: Table) -> str:
    """COPY of a table's stored columns to standard output."""
    only = "" if table.partitioned else "ONLY "
    return f"COPY (SELECT {column_list(table.stored)} FROM {only}{ident(schema)}.{ident(table.name)}) TO STDOUT"


def copy_in(pair: Pair) -> str:
    """COPY from standard input into the staged table."""
    return f"COPY {pair.staged} ({column_list(pair.table.stored)}) FROM STDIN"


def _key_columns(key: Unique) -> list[str]:
    return [f"k{place}" for place in range(1, len(key.columns) + 1)]


def _matches(key: Unique, left: str, right: str) -> str:
    """left holds the table's own columns, right the columns k1.. of a list of differences."""
    return " AND ".join(
        f"{left}.{ident(column)} {operator} {right}.{name}"
        for column, operator, name in zip(key.columns, key.operators, _key_columns(key))
    )


def find_differences(pair: Pair) -> str:
    """The list of differences of a table with a key."""
    key = _key_of(pair)
    names = _key_columns(key)

    def side(relation: str) -> str:
        keys = ", ".join(f"t.{ident(column)} AS {name}" for column, name in zip(key.columns, names))
        return f"SELECT {keys}, {body(pair.table.stored, 't')} AS body, true AS present FROM {relation} AS t"

    joined = " AND ".join(f"l.{name} {operator} s.{name}" for name, operator in zip(names, key.operators))
    keys = ", ".join(f"coalesce(l.{name}, s.{name}) AS {name}" for name in names)
    return (
        f"CREATE TEMP TABLE {ident(f'saasops_differences_{pair.number}')} ON COMMIT DROP AS"
        f" SELECT {keys}, CASE WHEN s.present IS NULL THEN 'd' WHEN l.present IS NULL THEN 'i' ELSE 'u' END AS op,"
        f" false AS early FROM ({side(pair.live)}) l FULL JOIN ({side(pair.staged)}) s ON {joined}"
        " WHERE l.present IS NULL OR s.present IS NULL OR l.body <> s.body"
    )


def _key_of(pair: Pair) -> Unique:
    if pair.table.key is None:
        raise ValueError(f"{pair.table.name} has no key")
    return pair.table.key


def count_differences(pair: Pair) -> str:
    """How many rows of each op."""
    return (
        "SELECT count(*) FILTER (WHERE op = 'i') AS inserted, count(*) FILTER (WHERE op IN ('u', 'r')) AS updated,"
        f" count(*) FILTER (WHERE op = 'd') AS deleted FROM {pair.differences}"
    )


def leave_early(pair: Pair) -> list[str]:
    """Statements that mark rows which must go before anything comes, because another row takes over what they hold.

    That is a value of another unique index, a range of an exclusion, or an identity that an UPDATE may not set.
    """
    key = _key_of(pair)
    statements = []
    names = ", ".join(f"t.{ident(column)} AS {name}" for column, name in zip(key.columns, _key_columns(key)))
    for unique in pair.table.uniques:
        if unique.exclusion or not all(unique.operators):
            statements.append(
                f"UPDATE {pair.differences} SET early = true, op = CASE op WHEN 'u' THEN 'r' ELSE op END"
                " WHERE op IN ('u', 'd')"
            )
            continue
        values = ", ".join(f"{expression} AS u{place}" for place, expression in enumerate(unique.expressions, 1))
        where = f" WHERE {unique.predicate}" if unique.predicate else ""
        same = " AND ".join(
            f"(l.u{place} {operator} s.u{place}"
            + (f" OR (l.u{place} IS NULL AND s.u{place} IS NULL))" if unique.nulls_equal else ")")
            for place, operator in enumerate(unique.operators, 1)
        )
        other = " AND ".join(
            f"l.{name} {operator} s.{name}" for name, operator in zip(_key_columns(key), key.operators)
        )
        held = " AND ".join(f"d.{name} {operator} l.{name}" for name, operator in zip(_key_columns(key), key.operators))
        statements.append(
            f"UPDATE {pair.differences} AS d SET early = true, op = CASE d.op WHEN 'u' THEN 'r' ELSE d.op END"
            f" FROM (SELECT {names}, {values} FROM {pair.live} AS t{where}) l,"
            f" (SELECT {names}, {values} FROM {pair.staged} AS t{where}) s"
            f" WHERE {held} AND {same} AND NOT ({other}) AND d.op IN ('u', 'd')"
        )
    always = [c for c in pair.table.stored if not c.settable]
    if always:
        changed = " OR ".join(f"l.{ident(c.name)}::text IS DISTINCT FROM s.{ident(c.name)}::text" for c in always)
        statements.append(
            f"UPDATE {pair.differences} AS d SET early = true, op = 'r' FROM {pair.live} AS l, {pair.staged} AS s"
            f" WHERE {_matches(key, 'l', 'd')} AND {_matches(key, 's', 'd')} AND d.op = 'u' AND ({changed})"
        )
    return statements


def any_early(pairs: Sequence[Pair]) -> str:
    """SELECT of the number of early rows in all lists."""
    return "SELECT " + " + ".join(f"(SELECT count(*) FROM {p.differences} WHERE early)" for p in pairs) + " AS early"


def follow(foreign: Foreign, child: Pair, parent: Pair) -> tuple[str, str]:
    """Two statements that let rows leave early which refer to one that does; run until the number stays the same.

    The first marks rows that are in the child's list already, the second adds rows that would not have changed.
    """
    child_key, parent_key = _key_of(child), _key_of(parent)
    refers = " AND ".join(
        f"p.{ident(there)} {operator} c.{ident(here)}"
        for here, there, operator in zip(foreign.columns, foreign.to_columns, foreign.operators)
    )
    leaving = (
        f"{child.live} AS c, {parent.live} AS p, {parent.differences} AS e"
        f" WHERE {refers} AND {_matches(parent_key, 'p', 'e')} AND e.early"
    )
    known = (
        f"UPDATE {child.differences} AS d SET early = true, op = CASE d.op WHEN 'u' THEN 'r' ELSE d.op END"
        f" FROM {leaving} AND {_matches(child_key, 'c', 'd')} AND NOT d.early"
    )
    names = ", ".join(f"c.{ident(column)}" for column in child_key.columns)
    columns = ", ".join(_key_columns(child_key))
    added = (
        f"INSERT INTO {child.differences} ({columns}, op, early) SELECT DISTINCT ON ({names}) {names}, 'r', true"
        f" FROM {leaving} AND NOT EXISTS (SELECT FROM {child.differences} AS d WHERE {_matches(child_key, 'c', 'd')})"
    )
    return known, added


def refers_to_early(foreign: Foreign, child: Pair, parent: Pair) -> str:
    """SELECT whether any row of a child without a key refers to a row that leaves early."""
    refers = " AND ".join(
        f"p.{ident(there)} {operator} c.{ident(here)}"
        for here, there, operator in zip(foreign.columns, foreign.to_columns, foreign.operators)
    )
    return (
        f"SELECT EXISTS (SELECT FROM {child.live} AS c, {parent.live} AS p, {parent.differences} AS e"
        f" WHERE {refers} AND {_matches(_key_of(parent), 'p', 'e')} AND e.early) AS refers"
    )


def delete_early(pairs: Sequence[Pair], emptied: Sequence[Pair]) -> str:
    """One statement that deletes the early rows, and everything in the tables to be emptied."""
    parts = [
        f"DELETE FROM {p.live} AS t USING {p.differences} AS d WHERE {_matches(_key_of(p), 't', 'd')} AND d.early"
        for p in pairs
    ]
    return _together(parts + [f"DELETE FROM {p.live}" for p in emptied])


def insert_all(pairs: Sequence[Pair], emptied: Sequence[Pair]) -> str:
    """One statement that inserts every row that is missing."""
    parts = []
    for p in pairs:
        parts.append(
            f"INSERT INTO {p.target} ({column_list(p.table.stored)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {column_list(p.table.stored, 's')} FROM {p.staged} AS s JOIN {p.differences} AS d"
            f" ON {_matches(_key_of(p), 's', 'd')} WHERE d.op IN ('i', 'r')"
        )
    for p in emptied:
        names = column_list(p.table.stored)
        parts.append(f"INSERT INTO {p.target} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {p.staged}")
    return _together(parts)


def update_all(pairs: Sequence[Pair]) -> str:
    """One statement that updates every row that differs; '' when there is nothing that could be set."""
    parts = []
    for p in pairs:
        columns = [c for c in p.table.columns if c.settable]
        if columns:
            values = ", ".join(f"{ident(c.name)} = s.{ident(c.name)}" for c in columns)
            parts.append(
                f"UPDATE {p.live} AS t SET {values} FROM {p.staged} AS s, {p.differences} AS d"
                f" WHERE {_matches(_key_of(p), 't', 'd')} AND {_matches(_key_of(p), 's', 'd')} AND d.op = 'u'"
            )
    return _together(parts) if parts else ""


def delete_rest(pairs: Sequence[Pair]) -> str:
    """One statement that deletes the surplus rows that did not leave early."""
    return _together(
        [
            f"DELETE FROM {p.live} AS t USING {p.differences} AS d"
            f" WHERE {_matches(_key_of(p), 't', 'd')} AND d.op = 'd' AND NOT d.early"
            for p in pairs
        ]
    )


def _together(parts: Sequence[str]) -> str:
    clauses = ", ".join(f"w{number} AS ({part})" for number, part in enumerate(parts))
    return f"WITH {clauses} SELECT 1 AS done"


def _vanishing(foreign: Foreign, pair: Pair) -> str:
    """FROM and WHERE over live rows t that are deleted, or whose columns that others refer to change."""
    key = _key_of(pair)
    changed = " OR ".join(
        f"t.{ident(column)}::text IS DISTINCT FROM s.{ident(column)}::text" for column in foreign.to_columns
    )
    return (
        f"{pair.live} AS t JOIN {pair.differences} AS d ON {_matches(key, 't', 'd')}"
        f" LEFT JOIN {pair.staged} AS s ON {_matches(key, 's', 'd')}"
        f" WHERE (d.op IN ('d', 'r') OR (d.op = 'u' AND ({changed})))"
    )


def lock_vanishing(foreign: Foreign, pair: Pair) -> str:
    """Lock the rows that vanish, so that nobody can refer to them anew between the look and the act."""
    return f"SELECT count(*) AS locked FROM (SELECT 1 FROM {_vanishing(foreign, pair)} FOR UPDATE OF t) AS held"


def referring_rows(foreign: Foreign, pair: Pair) -> str:
    """SELECT of the number of rows of another schema that refer to rows that vanish, and a few of the values."""
    refers = " AND ".join(
        f"t.{ident(there)} {operator} c.{ident(here)}"
        for here, there, operator in zip(foreign.columns, foreign.to_columns, foreign.operators)
    )
    values = ", ".join(f"c.{ident(column)}" for column in foreign.columns)
    other = f"{ident(foreign.schema)}.{ident(foreign.table)}"
    return (
        f"SELECT count(*) AS rows, (array_agg(ROW({values})::text))[1:5] AS samples"
        f" FROM {other} AS c WHERE EXISTS (SELECT FROM {_vanishing(foreign, pair)} AND {refers})"
    )


def absent_parents(foreign: Foreign, pair: Pair) -> str:
    """SELECT of the number of staged rows whose parents in another schema are not there, and a few of the values."""
    refers = " AND ".join(
        f"p.{ident(there)} {operator} s.{ident(here)}"
        for here, there, operator in zip(foreign.columns, foreign.to_columns, foreign.operators)
    )
    given = " AND ".join(f"s.{ident(column)} IS NOT NULL" for column in foreign.columns)
    values = column_list([Column(name) for name in foreign.columns], "s")
    parent = f"{ident(foreign.to_schema)}.{ident(foreign.to_table)}"
    return (
        f"SELECT count(*) AS rows, (array_agg(ROW({values})::text))[1:5] AS samples FROM {pair.staged} AS s"
        f" WHERE {given} AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {refers})"
    )


def lock_all(pairs: Sequence[Pair]) -> str:
    """One statement that keeps writers off every table, and readers not."""
    return "LOCK TABLE " + ", ".join(p.live for p in pairs) + " IN SHARE ROW EXCLUSIVE MODE"
