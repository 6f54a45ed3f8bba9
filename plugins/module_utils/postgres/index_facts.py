# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that decide about indexes: widths of columns, rows of a condition, duplicates, the planner's choice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Table
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

_WIDTHS = """
SELECT c.oid::bigint AS oid, a.attname::text AS name,
       coalesce(s.avg_width, CASE WHEN a.attlen > 0 THEN a.attlen END)::int AS width
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
       AND s.inherited = (c.relkind = 'p')
 WHERE c.oid = ANY ({tables}::oid[])
"""

# EXPLAIN is no part of a query, so a function of this transaction hands its words out
_EXPLAIN = (
    "CREATE FUNCTION pg_temp.saasops_explain(q text) RETURNS json LANGUAGE plpgsql AS"
    " $body$ DECLARE found json; BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) ' || q INTO found; RETURN found; END $body$"
)


def widths(session: Session, tables: Sequence[int]) -> dict[int, dict[str, int]]:
    """Average bytes of columns, by table (oid) and name; those that nobody has measured are left out."""
    found: dict[int, dict[str, int]] = {}
    if tables:
        for row in session.rows(render(_WIDTHS, tables=list(tables))):
            if row["width"] is not None:
                found.setdefault(int(str(row["oid"])), {})[str(row["name"])] = int(str(row["width"]))
    return found


def explain(session: Session, schema: str, query: str, settings: Sequence[tuple[str, str]] = ()) -> dict[str, object]:
    """The planner's plan (its node Plan) of a query as an application of this schema would ask it; nothing is run.

    Raises OpsError as the server refuses it.
    """
    session.run("BEGIN")
    try:
        session.run("SET LOCAL lock_timeout = '2s'")
        session.run("SET LOCAL statement_timeout = '20s'")
        session.run(_EXPLAIN)
        session.run(render("SET LOCAL search_path = {schema:I}, public", schema=schema))
        for name, value in settings:
            session.run(render("SET LOCAL {name:raw} = {value}", name=name, value=value))
        session.run("SET TRANSACTION READ ONLY")
        found = session.value(render("SELECT pg_temp.saasops_explain({query}) AS plan", query=query))
    finally:
        session.run("ROLLBACK")
    body = json.loads(found) if isinstance(found, str) else found
    return cast("dict[str, object]", cast("list[dict[str, object]]", body)[0]["Plan"])


def _nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    for child in cast("list[dict[str, object]]", plan.get("Plans") or []):
        yield from _nodes(child)


def indexes_used(plan: dict[str, object]) -> set[str]:
    """The names of the indexes in a plan."""
    return {str(node["Index Name"]) for node in _nodes(plan) if "Index Name" in node}


def rows_where(session: Session, table: Table, predicate: str) -> float:
    """How many rows the planner expects a condition to leave; -1 when it cannot tell."""
    try:
        query = f"SELECT FROM {ident(table.schema)}.{ident(table.name)} WHERE {predicate}"
        return float(str(explain(session, table.schema, query)["Plan Rows"]))
    except OpsError:
        return -1.0


def duplicates(session: Session, table: Table, definition: Definition, most: int = 5, seconds: int = 20) -> list[str]:
    """Keys that stand in the way of a unique index, with their counts; [] when there are none.

    Raises OpsError, with sqlstate 57014 when the search took longer than this.
    """
    columns = [key.text for key in definition.keys]
    places = [f"k{number}" for number in range(len(columns))]
    named = ", ".join(f"({text}) AS {place}" for text, place in zip(columns, places))
    shown = ", ".join(f"coalesce(left({place}::text, 80), 'NULL')" for place in places)
    filled = [] if definition.nulls_not_distinct else [f"({text}) IS NOT NULL" for text in columns]
    conditions = [f"({part})" for part in (definition.predicate, *filled) if part]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    source = f"SELECT {named} FROM {ident(table.schema)}.{ident(table.name)}{where}"
    sql = (
        f"SELECT concat_ws(', ', {shown}) AS key, count(*) AS n FROM ({source}) AS saasops_keys"
        f" GROUP BY {', '.join(places)} HAVING count(*) > 1 ORDER BY count(*) DESC, 1 LIMIT {most}"
    )
    session.run("BEGIN READ ONLY")
    try:
        session.run("SET LOCAL lock_timeout = '2s'")
        session.run(f"SET LOCAL statement_timeout = '{seconds}s'")
        return [f"({', '.join(columns)}) = ({row['key']}) {row['n']} times" for row in session.rows(sql)]
    finally:
        session.run("ROLLBACK")


def conflicts(session: Session, tables: Sequence[Table]) -> dict[int, int]:
    """How many statements with ON CONFLICT pg_stat_statements knows of each table (oid); {} where it is not there."""
    place = session.value(
        "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'pg_stat_statements'"
    )
    if place is None:
        return {}
    found = {}
    for table in tables:
        try:
            known = session.value(
                f"SELECT count(DISTINCT queryid) AS n FROM {ident(str(place))}.pg_stat_statements"
                r" WHERE query ~* '\mON\s+CONFLICT\M' AND dbid = (SELECT oid FROM pg_database WHERE datname ="
                f" current_database()) AND strpos(lower(query), {literal(table.name.lower())}) > 0"
            )
        except OpsError:
            return {}
        found[table.oid] = int(str(known))
    return found


def analyze(session: Session, table: Table) -> None:
    """New statistics: the planner knows nothing of an expression before. Raises OpsError, lock_timeout after 5 s."""
    before = str(session.value("SELECT current_setting('lock_timeout')"))
    session.run("SET lock_timeout = '5s'")
    try:
        session.run(f"ANALYZE {ident(table.schema)}.{ident(table.name)}")
    finally:
        session.run(render("SET lock_timeout = {before}", before=before))


def work_memory(session: Session) -> int:
    """maintenance_work_mem in bytes."""
    return int(str(session.value("SELECT setting::bigint * 1024 FROM pg_settings WHERE name = 'maintenance_work_mem'")))


def place_of(session: Session, tablespace: str) -> str:
    """The folder of a tablespace; "" when it is not there."""
    return str(
        session.value(
            render("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = {name}", name=tablespace)
        )
        or ""
    )
