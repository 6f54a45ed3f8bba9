# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One schema of a dump in a scratch database beside the live one: first its structure, then its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant import data_relevant
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import failure, wait_for
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_database
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    INDEX_MEMORY_MB,
    LOADING,
    create_database,
    drop_database,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, render
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.transfer import copy_definitions

# only what carries this comment is taken for ours and dropped
SCRATCH_COMMENT = "saasops: scratch of a tenant's restore, dropped by the next run"


def drop_scratch(maintenance: Session, name: str) -> bool:
    """Drop the scratch database of an earlier run; False when there is none. Raises name_taken for one of others."""
    rows = maintenance.rows(
        render(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') AS comment FROM pg_database"
            " WHERE datname::text = {name}",
            name=name,
        )
    )
    if not rows:
        return False
    # a run that was killed between CREATE and COMMENT leaves an empty one
    if rows[0]["comment"] not in ("", SCRATCH_COMMENT):
        raise _taken("database", name)
    drop_database(maintenance, name)
    return True


def drop_staging(session: Session, name: str) -> bool:
    """Drop the staging schema of an earlier run, table by table: what is not ours in it is never dropped along."""
    rows = session.rows(
        render(
            "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') AS comment FROM pg_namespace"
            " WHERE nspname::text = {name}",
            name=name,
        )
    )
    if not rows:
        return False
    if rows[0]["comment"] not in ("", SCRATCH_COMMENT):
        raise _taken("schema", name)
    tables = session.rows(
        render(
            "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname::text = {name} AND c.relkind = 'r'",
            name=name,
        )
    )
    for row in tables:
        session.run(render("DROP TABLE IF EXISTS {table:I}", table=(name, str(row["name"]))))
    session.run(f"DROP SCHEMA {ident(name)}")
    return True


def _taken(kind: str, name: str) -> OpsError:
    return OpsError(
        "name_taken",
        f"There is a {kind} {name!r} that this collection did not make.",
        f"Rename that {kind}; the name is needed for a tenant's restore.",
    )


def create_staging(session: Session, name: str) -> None:
    """The schema of the staged tables, for nobody but us."""
    session.run(f"CREATE SCHEMA {ident(name)}")
    session.run(render("COMMENT ON SCHEMA {name:I} IS {text}", name=name, text=SCRATCH_COMMENT))


def create_scratch(maintenance: Session, name: str, live: str) -> None:
    """An empty database with the encoding and the locale of the live one."""
    wanted = read_database(maintenance, live)
    if wanted is None:
        raise OpsError("unknown_database", f"There is no database {live!r}.", "Check the name; it is case-sensitive.")
    create_database(maintenance, name, wanted, default_tablespace=False)
    maintenance.run(render("COMMENT ON DATABASE {name:I} IS {text}", name=name, text=SCRATCH_COMMENT))


def _restore(
    target: Target, database: str, version: int, dump: str, options: Sequence[str], tick: Callable[[], None]
) -> None:
    argv = [
        target.tool("pg_restore", version), "--no-owner", "--no-privileges", "--no-comments",
        "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces", "--no-password",
        *options, "--dbname=", dump,
    ]  # fmt: skip
    with target.environment(database) as env:
        process = target.transport.start(
            argv, env={**env, "PGOPTIONS": LOADING.format(memory=INDEX_MEMORY_MB)}, stdout=False
        )
        try:
            wait_for(process, "pg_restore", tick)
        finally:
            process.kill()


def entries(target: Target, version: int, dump: str, schema: str) -> str:
    """pg_restore --list of what one schema has in the dump."""
    argv = [target.tool("pg_restore", version), "--list", f"--schema={schema}", dump]
    # no session is opened, but the process is to be found if this one dies
    done = target.transport.run(argv, env={"PGAPPNAME": target.connection.application_name})
    if done.code != 0:
        raise failure("pg_restore --list", done.code, done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode("utf-8", "surrogateescape")


def build_structure(
    target: Target,
    scratch: Session,
    names: tuple[str, str, str],
    surroundings: Sequence[str],
    dump: str,
    tick: Callable[[], None],
) -> None:
    """Create the schema's types, functions, tables and keys, without rows.

    names: live database, scratch database, schema. What the tables need of other schemas comes from the live
    database: a tenant's own set does not hold it, and rows must fit what is there now.
    Raises OpsError structure_not_restorable.
    """
    live, database, schema = names
    version = scratch.version
    # first, because an extension may live in it
    scratch.run(f"CREATE SCHEMA IF NOT EXISTS {ident(schema)}")
    said = copy_definitions(target, version, live, database, surroundings)
    listing = data_relevant(entries(target, version, dump, schema))
    path = f"{dump}.entries"
    target.transport.write_file(path, [listing.encode("utf-8", "surrogateescape")])
    options = [f"--schema={schema}", f"--use-list={path}"]
    try:
        _restore(target, database, version, dump, [*options, "--exit-on-error", "--section=pre-data"], tick)
    except OpsError as error:
        if error.code != "tool_failed":
            raise
        hints = "; ".join(line for line in said.split("\n") if "ERROR" in line)[:500]
        raise OpsError(
            "structure_not_restorable",
            f"The tables of schema {schema!r} cannot be created from the set beside the live database: {error.cause}"
            + (f" (what came from the live database said: {hints})" if hints else ""),
            "What the tables need in other schemas (types, functions) is not as it was. Restore the whole database "
            "beside (verb restore) and copy the rows by hand.",
        ) from error
    # indexes of materialized views, which are not here, fail; a key that failed shows as a difference
    with contextlib.suppress(OpsError):
        _restore(target, database, version, dump, [*options, "--section=post-data"], tick)


# what a load without keys does not need, in the order in which it can go: foreign keys before the keys they refer to
_KEYS = """
SELECT format('ALTER TABLE %I.%I DROP CONSTRAINT %I', n.nspname, c.relname, k.conname) AS statement
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND k.contype IN ('f', 'p', 'u', 'x') AND k.conparentid = 0
 ORDER BY k.contype <> 'f'
"""
_INDEXES = """
SELECT format('DROP INDEX IF EXISTS %I.%I', n.nspname, c.relname) AS statement
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND NOT c.relispartition
"""


def load_rows(
    target: Target, scratch: Session, names: tuple[str, str, str], dump: str, jobs: int, tick: Callable[[], None]
) -> None:
    """Load the schema's rows into the structure, whose keys go first: rows come without parents in other schemas."""
    _live, database, schema = names
    for sql in (_KEYS, _INDEXES):
        for row in scratch.rows(render(sql, schema=schema)):
            scratch.run(str(row["statement"]))
    options = [
        f"--schema={schema}",
        "--exit-on-error",
        "--section=data",
        f"--jobs={jobs}",
        f"--use-list={dump}.entries",
    ]
    _restore(target, database, scratch.version, dump, options, tick)
    scratch.run("ANALYZE")
