# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the server spell out what a wish means: build it on an empty copy of the table, read it back, roll back.

Why a copy that is made of the catalog's columns, and neither CREATE TABLE ... (LIKE ...) nor the table itself:
- The table itself would be locked against writers (CREATE INDEX), or the index be built for real (CONCURRENTLY).
- LIKE holds ACCESS SHARE on the table until the end of the transaction, waits behind any ALTER that waits, and needs
  SELECT. The catalog is read under MVCC, whoever holds whatever lock.
- Comparing texts as a person wrote them would rebuild lower(email) for lower((email)::text), and parsing SQL here
  would need the server's resolution of functions, operators and types.
The copy is a temporary table of the same name, so that an expression may say table.column. It has no rows, takes some
milliseconds, and never existed for anybody else. One copy serves all tables that have the same columns.

The wish's text is run by EXECUTE inside a DO block: it can hold no COMMIT, so nothing that somebody may have hidden
in an expression outlives the rollback.
"""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_definition import Definition
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_entry import Wish
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import Table
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.index_sql import wish_sql
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.indexes import indexes_named
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render

_NAME = "saasops_wish"
# what the server says when the wish itself is wrong, and not the situation
_WRONG = ("42", "22", "0A", "2B", "54")
Shape = tuple[object, ...]


def shape_of(table: Table, wish: Wish) -> Shape:
    """What a definition depends on: equal shapes are spelled equally, and so need one copy only.

    A schema with functions, operators or types of its own may give an expression a meaning of its own.
    """
    plain = not wish.where and not any(column.expression for column in wish.columns)
    named = any(column.opclass[1] or column.collation[1] for column in wish.columns)
    local = table.schema if table.own_words and (named or not plain) else ""
    return table.columns, table.name if not plain else "", local, wish.shape


def spell_out(session: Session, table: Table, wish: Wish) -> Definition:
    """The definition that the wish means for this table. Nothing stays of it.

    Raises OpsError bad_index when the server refuses the wish, not_permitted without the right to temporary tables.
    """
    columns = ", ".join(
        f"{ident(column.name)} {column.type}"
        + (f" COLLATE {ident(column.collation[0])}.{ident(column.collation[1])}" if column.collation[1] else "")
        + (" GENERATED ALWAYS AS (NULL) VIRTUAL" if column.generated == "v" else "")
        for column in table.columns
    )
    session.run("BEGIN")
    try:
        session.run("SET LOCAL lock_timeout = '2s'")
        # the copy needs none of what would look at other tables
        session.run(f"CREATE TEMPORARY TABLE {ident(table.name)} ({columns})")
        # as an application of this schema would say it; pg_catalog comes first by itself
        session.run(render("SET LOCAL search_path = {schema:I}, public", schema=table.schema))
        text = wish_sql(wish, _NAME, f"pg_temp.{ident(table.name)}")
        try:
            session.run(f"DO LANGUAGE plpgsql {literal(f'BEGIN EXECUTE {literal(text)}; END')}")
        except OpsError as error:
            if str(error.details.get("sqlstate"))[:2] in _WRONG and error.code != "not_permitted":
                raise OpsError(
                    "bad_index",
                    f"Index {wish.name} cannot be made on {table.full}: {error.cause}",
                    "Mend the entry of saasops_indexes; nothing was changed.",
                    dict(error.details),
                ) from error
            raise
        session.run("SET LOCAL search_path = pg_catalog")
        schema = str(session.value("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()"))
        (found,) = indexes_named(session, [(schema, _NAME)])
        return found.definition
    finally:
        session.run("ROLLBACK")
