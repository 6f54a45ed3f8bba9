# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of a fix: which rows, what becomes of them, and the act on exactly these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.archive import Part
from ansible_collections.saasops.runbook.plugins.module_utils.domain.repair import Fix
from ansible_collections.saasops.runbook.plugins.module_utils.domain.table_facts import TableFacts
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.bind import bind
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.rows import (
    key_columns,
    match_sql,
    table_sql,
    texts_sql,
    touched,
    wanted_sql,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal

Values = tuple["str | None", ...]
Bound = Mapping[str, "tuple[str, str | None]"]


@dataclass(frozen=True)
class Chosen:
    """A row that a fix speaks of: key, version and texts; what its columns (or the new row's) become; what fails."""

    key: Values
    version: str
    values: Values
    after: Values
    failing: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """A fix in one schema. facts: of the table whose rows are chosen; target: of the one that rows go into."""

    fix: Fix
    facts: TableFacts
    key: tuple[str, ...]
    target: TableFacts
    target_key: tuple[str, ...]
    bound: Bound
    rows: tuple[Chosen, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that get a value."""
        return tuple(self.fix.values)

    def names(self, row: Chosen) -> str:
        """The row as an operator names it."""
        return f"{self.facts.title} " + ", ".join(f"{name}={value}" for name, value in zip(self.key, row.key))

    def before(self, row: Chosen, column: str) -> str | None:
        places = [item.name for item in self.facts.columns]
        return row.values[places.index(column)]


def _value_sql(site: Site, column: str) -> str:
    """The text of what a column becomes. A newline ends a comment that an expression may end in."""
    expression = bind(site.fix.values[column], site.bound)
    kind = site.target.type_of(column)
    return (
        "(SELECT CASE WHEN saasops_v.v IS DISTINCT FROM NULL THEN pg_catalog.format('%s', saasops_v.v) END"
        f" FROM (SELECT ({expression}\n)::{kind} AS v) AS saasops_v)"
    )


def choose(session: Session, site: Site) -> list[Chosen]:
    """The rows, one more than the limit at most."""
    fix, facts = site.fix, site.facts
    after = ", ".join(_value_sql(site, column) for column in site.columns)
    requires = ", ".join(f"coalesce(({bind(item.condition, site.bound)}\n), false)" for item in fix.requires)
    found = session.rows(
        f"SELECT t.xmin::text AS x, {texts_sql(facts.columns, facts.not_null)} AS v,"
        f" ARRAY[{after}]::text[] AS a, ARRAY[{requires}]::boolean[] AS r"
        f" FROM {table_sql(facts.schema, facts.name)} AS t WHERE ({bind(fix.where, site.bound)}\n)"
        f" ORDER BY {key_columns(site.key)} LIMIT {fix.limit + 1}"
    )
    places = [[item.name for item in facts.columns].index(name) for name in site.key]
    rows = []
    for row in found:
        values = tuple(cast("list[str | None]", row["v"]))
        holds = cast("list[bool]", row["r"])
        rows.append(
            Chosen(
                key=tuple(values[place] for place in places),
                version=str(row["x"]),
                values=values,
                after=tuple(cast("list[str | None]", row["a"])),
                failing=tuple(item.says for item, good in zip(fix.requires, holds) if not good),
            )
        )
    return rows


def _these(facts: TableFacts, key: Sequence[str], keys: Sequence[Values]) -> str:
    columns = [[item[place] for item in keys] for place in range(len(key))]
    wanted = wanted_sql(columns, [f"c{place}" for place in range(len(key))])
    # in a subselect, so that its names do not meet those of the fix's expressions
    return f"EXISTS (SELECT FROM {wanted} WHERE {match_sql(facts, key)})"


def act(session: Session, site: Site) -> list[Values]:
    """Do it to exactly the site's rows; the keys of the rows that it left or made. Raises OpsError, ValueError."""
    fix, target = site.fix, site.target
    these = _these(site.facts, site.key, [row.key for row in site.rows])
    table = table_sql(target.schema, target.name)
    columns = [ident(column) for column in site.columns]
    values = [f"({bind(fix.values[column], site.bound)}\n)" for column in site.columns]
    if fix.act == "delete":
        text = f"DELETE FROM {table} AS t WHERE {these}"
    elif fix.act == "update":
        pairs = ", ".join(f"{column} = {value}" for column, value in zip(columns, values))
        text = f"UPDATE {table} AS t SET {pairs} WHERE {these}"
    else:
        source = table_sql(site.facts.schema, site.facts.name)
        chosen = f"SELECT {', '.join(values)} FROM {source} AS t WHERE {these}"
        text = f"INSERT INTO {table} AS made ({', '.join(columns)}) {chosen}"
    alias = "made" if fix.act == "insert" else "t"
    keys = [item for item in target.columns if item.name in site.target_key]
    keys.sort(key=lambda item: site.target_key.index(item.name))
    session.run(
        f"WITH done AS ({text} RETURNING {texts_sql(keys, target.not_null, alias)} AS k)"
        " SELECT pg_catalog.set_config('saasops.rows', pg_catalog.count(*)::text, true),"
        " pg_catalog.set_config('saasops.keys', coalesce(pg_catalog.json_agg(k), '[]')::text, true) FROM done"
    )
    if touched(session) != len(site.rows):
        raise ValueError(f"{touched(session)} rows instead of {len(site.rows)}")
    keys_made = session.value("SELECT pg_catalog.current_setting('saasops.keys')::json AS k")
    return [tuple(cast("list[str | None]", item)) for item in cast(list[Json], keys_made)]


def verify(session: Session, site: Site) -> bool:
    """Whether the fix's question after the act is answered with true."""
    if not site.fix.verify:
        return True
    return session.value(f"SELECT ({bind(site.fix.verify, site.bound)}\n)::boolean AS holds") is True


def update_sql(part: Part, place: int, columns: Sequence[str]) -> str:
    """Puts these columns of one row back to what the part says."""
    names = [column.name for column in part.columns]
    values = dict(zip(names, part.rows[place]))
    types = {column.name: column.type for column in part.columns}
    pairs = ", ".join(f"{ident(name)} = {literal(values[name])}" for name in columns)
    where = " AND ".join(f"{ident(name)} = {literal(values[name])}::{types[name]}" for name in part.key)
    return f"UPDATE {table_sql(part.schema, part.table)} SET {pairs} WHERE {where}"


def made_sql(part: Part, xid: str) -> str:
    """The rows that a transaction inserted, as texts of the part's columns; reads the whole table."""
    version = int(xid) % (1 << 32)
    return (
        f"SELECT t.xmin::text AS x, {texts_sql(part.columns, frozenset())} AS v"
        f" FROM {table_sql(part.schema, part.table)} AS t WHERE t.xmin::text = {literal(str(version))}"
    )
