# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source sql: a query once, or in the schema of every tenant; all of them in one session that cannot write.

Of tenants many are asked in one statement (a union of the query for each schema). When one of them fails, the union is
halved until those that fail stand alone: they are inconclusive and named, the others are measured.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Measured, broken
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Json, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import matching_schemas

AT_ONCE = 100  # schemas in one statement
MOST_ROWS = 1000  # of a query whose rows are measurements
SHOWN_ROWS = 20  # of a query whose rows are counted
LOCK_TIMEOUT = 2000  # milliseconds
_SCHEMA = "{schema}"
_NAMED = ("value", "scope", "samples")
# after these nothing more can be asked over the session
_LOST = ("session_ended", "server_starting", "server_unreachable", "no_free_connection")


@dataclass(frozen=True)
class Query:
    """One query. schemas: patterns of the schemas it is asked in, () once. count: the number of rows is the value.

    skip_empty: a schema without a row is left out, as long as another one has some.
    """

    check: Check
    text: str
    schemas: tuple[str, ...]
    count: bool
    timeout: float
    skip_empty: bool = False


def read_query(check: Check, options: Options, tenants: Sequence[str]) -> Query:
    """From a source's options; tenants are the patterns for each_tenant. Raises OpsError bad_check."""
    text = options.text("query").strip().rstrip(";").rstrip()
    if not text:
        raise options.refuse("query is empty.", "Write a SELECT.")
    patterns = options.texts("schemas")
    if options.flag("each_tenant"):
        patterns = patterns or list(tenants)
        if not patterns:
            raise options.refuse(
                "it is asked of each tenant, and nobody says which schemas those are.",
                "Set saasops_tenant_schemas in the inventory, for instance [org_*].",
            )
    if patterns and _SCHEMA not in text:
        remedy = f"Name the tables as {_SCHEMA}.table in the query."
        raise options.refuse("its query would be the same for every schema.", remedy)
    if not patterns and _SCHEMA in text:
        raise options.refuse(f"its query names {_SCHEMA}, but no schemas.", "Set each_tenant, or schemas.")
    return Query(check, text, tuple(patterns), options.flag("count"), options.timeout, options.flag("skip_empty"))


def ask_all(session: Session, queries: Sequence[Query]) -> Iterator[Measured]:
    """The measurements of each query; what one breaks does not break the next.

    Raises OpsError when the session goes.
    """
    for query in queries:
        try:
            with read_only(session, query.timeout):
                measurements = ask(session, query)
        except OpsError as error:
            yield query.check.name, [broken(error)]
            if error.code in _LOST:
                raise
        else:
            yield query.check.name, measurements


@contextlib.contextmanager
def read_only(session: Session, timeout: float) -> Iterator[None]:
    """A transaction that can write nothing, with limits on statements (seconds) and locks; rolled back at the end."""
    session.run("BEGIN TRANSACTION READ ONLY")
    try:
        for name, value in (("statement_timeout", int(timeout * 1000)), ("lock_timeout", LOCK_TIMEOUT)):
            session.run(f"SET LOCAL {name} = {value}")
        yield
    finally:
        # the session may be gone; then there is nothing to roll back
        with contextlib.suppress(OpsError):
            session.run("ROLLBACK")


def ask(session: Session, query: Query) -> list[Measurement]:
    """Inside read_only. Raises OpsError."""
    if not query.schemas:
        rows = session.rows(f"SELECT {_whole(query, query.text)} AS data")
        return _read(query, "", rows[0]["data"])
    schemas = matching_schemas(session, query.schemas)
    if not schemas:
        patterns = ", ".join(query.schemas)
        return [Measurement(missing=f"no schema matches {patterns}")]
    until = time.monotonic() + query.timeout
    found: dict[str, list[Measurement]] = {}
    for start in range(0, len(schemas), AT_ONCE):
        _ask_some(session, query, schemas[start : start + AT_ONCE], until, found)
    measured = [measurement for schema in schemas for measurement in found[schema]]
    return measured or [Measurement(missing=f"the query gives no row in any of {len(schemas)} schemas")]


def _ask_some(
    session: Session, query: Query, schemas: Sequence[str], until: float, found: dict[str, list[Measurement]]
) -> None:
    left = until - time.monotonic()
    if left <= 0.01:
        late = f"not asked within {query.timeout:g} s"
        found.update({schema: [Measurement(missing=late, scope=schema)] for schema in schemas})
        return
    branches = [
        f"SELECT {literal(schema)} AS scope, {_whole(query, query.text.replace(_SCHEMA, ident(schema)))} AS data"
        for schema in schemas
    ]
    session.run("SAVEPOINT saasops_schemas")
    session.run(f"SET LOCAL statement_timeout = {max(10, int(left * 1000))}")
    try:
        rows = session.rows("\nUNION ALL\n".join(branches))
    except OpsError as error:
        if error.code in _LOST:
            raise
        session.run("ROLLBACK TO SAVEPOINT saasops_schemas")
        if len(schemas) == 1:
            found[schemas[0]] = [Measurement(missing=broken(error).missing, scope=schemas[0])]
            return
        half = len(schemas) // 2
        _ask_some(session, query, schemas[:half], until, found)
        _ask_some(session, query, schemas[half:], until, found)
        return
    session.run("RELEASE SAVEPOINT saasops_schemas")
    for row in rows:
        found[str(row["scope"])] = _read(query, str(row["scope"]), row["data"])


def _whole(query: Query, text: str) -> str:
    """A scalar subquery: {"n": rows, "rows": [...]}."""
    limit = SHOWN_ROWS if query.count else MOST_ROWS + 1
    number = "(SELECT count(*) FROM saasops_query)" if query.count else "NULL"
    kind = "AS MATERIALIZED" if query.count else "AS"
    return render(
        "(WITH saasops_query {kind:raw} ({text:raw}\n) SELECT json_build_object('n', {number:raw}, 'rows', (SELECT"
        " json_agg(row_to_json(saasops_row)) FROM (SELECT * FROM saasops_query LIMIT {limit}) AS saasops_row)))",
        kind=kind,
        text=text,
        number=number,
        limit=limit,
    )


def _read(query: Query, schema: str, data: Json) -> list[Measurement]:
    answer = cast("Mapping[str, Json]", data)
    rows = cast("list[dict[str, Json]]", answer.get("rows") or [])
    if query.count:
        facts = _facts(rows[0], schema) if rows else {}
        lines = tuple(_line(row) for row in rows)
        return [Measurement(cast("int", answer["n"]), scope=schema, detail=lines, facts=facts)]
    if len(rows) > MOST_ROWS:
        return [Measurement(missing=f"the query gives more than {MOST_ROWS} rows", scope=schema)]
    if not rows:
        return [] if query.skip_empty and schema else [Measurement(missing="the query gives no row", scope=schema)]
    return [_row(row, schema) for row in rows]


def _row(row: Mapping[str, Json], schema: str) -> Measurement:
    value = row.get("value") if "value" in row or len(row) > 1 else next(iter(row.values()))
    if "value" not in row and len(row) > 1:
        return Measurement(missing="the query has several columns, and none is named value", scope=schema)
    inner = str(row["scope"]) if row.get("scope") is not None else ""
    samples = row.get("samples", 1)
    scope = ".".join(part for part in (schema, inner) if part)
    if isinstance(value, (dict, list)):
        return Measurement(missing="the query's value is not a single one", scope=scope)
    if isinstance(samples, bool) or not isinstance(samples, (int, float)):
        return Measurement(missing="the query's samples is no number", scope=scope)
    rest = {name: item for name, item in row.items() if name not in _NAMED}
    return Measurement(value, int(samples), (_line(rest),) if rest else (), scope, facts=_facts(row, schema))


def _facts(row: Mapping[str, Json], schema: str) -> dict[str, str]:
    """For the remedy: the schema of the tenant, and the columns."""
    return {**{name: "" if value is None else str(value) for name, value in row.items()}, "schema": schema}


def _line(row: Mapping[str, Json]) -> str:
    """ "id=7 name=Spring"; long values are cut."""
    parts = []
    for name, value in row.items():
        text = "NULL" if value is None else str(value)
        parts.append(f"{name}={text if len(text) <= 80 else text[:77] + '...'}")
    return " ".join(parts)
