# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a statement that no transaction takes leaves behind when it does not come to its end, and who clears it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import Verdict, shown
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Row, Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render

CREATE, DROP, REINDEX = "CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY", "REINDEX CONCURRENTLY"
VALID, INVALID, BUILDING = "valid", "invalid", "building"

# who may not see whose build it is (no pg_read_all_stats) sees no table either, and takes it for this one
_FOUND = """
SELECT n.nspname::text AS schema, c.relname::text AS name, i.indisvalid AND i.indisready AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
                WHERE p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND (p.relid IS NULL OR p.relid = i.indrelid)) AS building
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {which}
 ORDER BY 1, 2
"""
# an index lies in the schema of its table, whatever else the search path has
_OF_TABLE = (
    "c.relname = {name} AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass({table}))"
)
_REBUILT = "NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AND {where}"
_TREE = "SELECT to_regclass({name})::oid UNION SELECT relid::oid FROM pg_partition_tree(to_regclass({name}))"
_TABLES = "i.indrelid IN (SELECT unnest(ARRAY[t.oid, t.reltoastrelid]) FROM pg_class t WHERE {tables})"
_SCOPES = {
    "TABLE": _TABLES.format(tables=f"t.oid IN ({_TREE})"),
    "INDEX": _TABLES.format(tables=f"t.oid IN (SELECT indrelid FROM pg_index WHERE indexrelid IN ({_TREE}))"),
    "SCHEMA": _TABLES.format(tables="t.relnamespace = to_regnamespace({name})"),
}


@dataclass(frozen=True)
class Index:
    """parts: schema and name. state: valid, invalid (debris) or building (somebody is at it)."""

    parts: tuple[str, str]
    state: str

    @property
    def name(self) -> str:
        """For a person."""
        return shown(self.parts)

    @property
    def sql(self) -> str:
        return sql_name(self.parts)


def sql_name(parts: Sequence[str]) -> str:
    return ".".join(ident(part) for part in parts)


def look(session: Session, verdict: Verdict) -> list[Index]:
    """The index of a concurrent build or drop, or the invalid ones that REINDEX CONCURRENTLY made; [] without any."""
    if verdict.kind == CREATE:
        table = sql_name(verdict.touches[0].table)
        which = render(_OF_TABLE, name=verdict.index[-1], table=table)
    elif verdict.kind == DROP:
        which = render("c.oid = to_regclass({name})", name=sql_name(verdict.index))
    elif verdict.kind == REINDEX:
        where = render(_SCOPES.get(verdict.scope[0], "true"), name=sql_name(verdict.scope[1:]))
        which = _REBUILT.replace("{where}", where)
    else:
        return []
    rows = session.rows(_FOUND.replace("{which}", which))
    return [Index((str(row["schema"]), str(row["name"])), _state(row)) for row in rows]


def _state(row: Row) -> str:
    return VALID if row["valid"] else BUILDING if row["building"] else INVALID


def building(found: Sequence[Index]) -> OpsError | None:
    """The refusal to go on while somebody else is at it."""
    names = [one.name for one in found if one.state == BUILDING]
    if not names:
        return None
    return OpsError(
        "index_building",
        f"Another session builds {', '.join(names)}, or another index of its table, at this moment.",
        "Wait until that has ended (index, health and pg_stat_progress_create_index show it).",
        {"indexes": names},
    )


def told(verdict: Verdict, found: Sequence[Index], foreign: bool) -> list[str]:
    """What remains, each with what becomes of it. foreign: it was there before the statement."""
    lines = []
    for one in found:
        if verdict.kind == CREATE and foreign:
            lines.append(
                f"the {one.state} index {one.name} was there before and is not of this file: give this one another "
                "name, or take that one away (index -e name=<schema.index> -e state=absent)"
            )
        elif one.state == BUILDING:
            lines.append(f"the index {one.name} is being built")
        elif verdict.kind == CREATE and one.state == INVALID:
            lines.append(f"the invalid index {one.name}, which the next run drops and builds again")
        elif verdict.kind == DROP and one.state == INVALID:
            lines.append(f"the index {one.name}, invalid by now, which the next run drops")
        elif verdict.kind == REINDEX:
            lines.append(f"the invalid index {one.name}, which the next run drops")
    return lines
