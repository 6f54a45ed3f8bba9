# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a database out of a dump that lies whole in a folder of the far side."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Queue
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, Member
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Database, Grant
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tidying import RestoredTable
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import (
    STATISTICS_SINCE,
    failure,
    statistics_options,
    wait_for,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import (
    create_statement,
    grant_statements,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact, Transport

# nobody reads these pages yet and a crash throws the database away, so a commit need not wait for the disk
LOADING = (
    "-c synchronous_commit=off -c default_transaction_read_only=off -c maintenance_work_mem={memory}MB"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c jit=off"
)
INDEX_MEMORY_MB = 256
# with a job for each processor nothing is left for helpers of one job, which only cost
ALONE = " -c max_parallel_maintenance_workers=0"
# 4033; 6106 16811 PUBLICATION TABLE schema publication table owner
PUBLISHED = re.compile(rb"\d+; \d+ \d+ PUBLICATION TABLE")
# 6; 2615 16390 SCHEMA - name owner
SCHEMA = re.compile(rb"\d+; \d+ \d+ SCHEMA - ")


def create_database(session: Session, name: str, wanted: Database, *, default_tablespace: bool) -> None:
    """CREATE DATABASE from template0, closed to everybody but its owner and superusers while it is filled.

    Raises OpsError (server's).
    """
    if default_tablespace:
        wanted = replace(wanted, tablespace="pg_default")
    session.run(create_statement(name, wanted, session.version))
    session.run(f"REVOKE ALL ON DATABASE {ident(name)} FROM PUBLIC")


def loading_options(jobs: int) -> str:
    """PGOPTIONS of sessions that fill a database, of which `jobs` work at the same time."""
    return LOADING.format(memory=INDEX_MEMORY_MB) + (ALONE if jobs >= (os.cpu_count() or 1) else "")


def prepare_schemas(
    session: Session, properties: Mapping[str, Json], schemas: Sequence[str], *, keep_versions: bool
) -> None:
    """What a restore of named schemas (pg_restore -n) leaves out: the schemas themselves, and the extensions."""
    known = cast("Mapping[str, Mapping[str, Json]]", properties.get("schemas") or {})
    extensions = cast("Mapping[str, Mapping[str, Json]]", properties.get("extensions") or {})
    present = {str(row["name"]) for row in session.rows("SELECT nspname::text AS name FROM pg_namespace")}
    for name in sorted({str(facts["schema"]) for facts in extensions.values()} | set(schemas)):
        if name not in present:
            session.run(f"CREATE SCHEMA {ident(name)}")
        if name in schemas and name in known:
            _dress_schema(session, name, known[name])
    for name, facts in sorted(extensions.items()):
        version = f" VERSION {literal(str(facts['version']))}" if keep_versions else ""
        schema = ident(str(facts["schema"]))
        session.run(f"CREATE EXTENSION IF NOT EXISTS {ident(name)} SCHEMA {schema}{version} CASCADE")


def _dress_schema(session: Session, name: str, facts: Mapping[str, Json]) -> None:
    """Owner, comment and grants of a schema, as the set has them."""
    session.run(f"ALTER SCHEMA {ident(name)} OWNER TO {ident(str(facts['owner']))}")
    session.run(f"COMMENT ON SCHEMA {ident(name)} IS {literal(cast('str | None', facts['comment']))}")
    _set_grants(session, name, facts)


def _set_grants(session: Session, name: str, facts: Mapping[str, Json]) -> None:
    rows = session.rows(
        render(
            "SELECT e.privilege_type AS privilege, e.is_grantable AS grantable,"
            " CASE e.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(e.grantee)::text END AS grantee"
            " FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) e"
            " WHERE n.nspname::text = {name}",
            name=name,
        )
    )
    wanted = cast("list[dict[str, Json]]", facts.get("grants") or [])
    for statement in grant_statements("SCHEMA", name, _as_grants(rows), _as_grants(wanted)):
        session.run(statement)


def lend_create(session: Session, owners: Sequence[str]) -> None:
    """Let the owners of the objects to come create in every schema, for as long as an ordinary role restores.

    PostgreSQL asks the new owner for that right when a superuser does not give the object, and pg_restore makes the
    schemas' own grants last.
    """
    rows = session.rows(
        "SELECT nspname::text AS name FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    )
    for row in rows:
        for owner in owners:
            # where it cannot be lent it may be there already; if not, pg_restore names the schema
            with contextlib.suppress(OpsError):
                session.run(f"GRANT CREATE ON SCHEMA {ident(str(row['name']))} TO {ident(owner)}")


def settle_schemas(session: Session, properties: Mapping[str, Json]) -> None:
    """Give every schema exactly the grants that the set has."""
    known = cast("Mapping[str, Mapping[str, Json]]", properties.get("schemas") or {})
    for name, facts in sorted(known.items()):
        _set_grants(session, name, facts)


def _as_grants(rows: Sequence[Mapping[str, Json]]) -> tuple[Grant, ...]:
    return tuple(Grant(str(r["grantee"]), str(r["privilege"]), bool(r["grantable"])) for r in rows)


def write_member(transport: Transport, folder: str, member: Member, chunks: Iterator[bytes]) -> None:
    """Write one member below folder; chunks prove themselves at their end (store.pack). Raises staging_damaged."""
    transport.write_known(f"{folder}/{member.name}", chunks, FileFact(member.name, member.length, member.sha256))


def run_pg_restore(
    target: Target,
    database: str,
    version: int,
    dump: str,
    *,
    jobs: int,
    schemas: Collection[str],
    no_tablespaces: bool,
    tick: Callable[[], None],
    entries: str = "",
) -> list[str]:
    """pg_restore of a directory or a custom-format file into an empty database; returns its warnings.

    entries: the path of a list, when not all of it is to be restored.
    Raises OpsError with pg_restore's first error. Warnings are shown and no more: what matters of them is seen when
    the catalogs are compared.
    """
    tool = target.tool("pg_restore", version)
    argv = [tool, "--exit-on-error", "--no-password", f"--jobs={jobs}", "--no-subscriptions"]
    argv += statistics_options(version, "--no-statistics")
    argv += [f"--schema={name}" for name in schemas]
    if schemas and not entries:
        # pg_restore counts a table's membership in a publication to the table's schema, but not the publication itself
        entries = entries_list(target.transport, tool, dump, lambda line: not PUBLISHED.match(line))
    if entries:
        argv.append(f"--use-list={entries}")
    if no_tablespaces:
        argv.append("--no-tablespaces")
    # an empty name makes libpq take PGDATABASE: names are not parsed as connection strings there
    argv += ["--dbname=", dump]
    with target.environment(database) as env:
        options = loading_options(jobs)
        process = target.transport.start(argv, env={**env, "PGOPTIONS": options}, stdout=False)
        try:
            wait_for(process, "pg_restore", tick)
            said = process.stderr_text().strip()
        finally:
            process.kill()
    return [line for line in said.split("\n") if line]


def restore_statistics(
    target: Target, database: str, version: int, dump: str, schemas: Collection[str], tick: Callable[[], None]
) -> list[str]:
    """Give the tables of a restored database the planner's statistics that are in the dump; returns warnings.

    Nothing hangs on them: what has none afterwards is analyzed.
    """
    if version < STATISTICS_SINCE:
        return []
    argv = [target.tool("pg_restore", version), "--no-password", "--statistics-only"]
    argv += [*(f"--schema={name}" for name in schemas), "--dbname=", dump]
    with target.environment(database) as env:
        process = target.transport.start(argv, env={**env, "PGOPTIONS": loading_options(1)}, stdout=False)
        try:
            with contextlib.suppress(OpsError):
                wait_for(process, "pg_restore", tick)
            said = process.stderr_text().strip()
        finally:
            process.kill()
    return [line for line in said.split("\n") if "pg_restore: " in line]


def entries_list(transport: Transport, tool: str, dump: str, keep: Callable[[bytes], bool]) -> str:
    """The path of a list of those entries of the dump that are kept."""
    path = f"{dump}.list"
    transport.write_file(path, [b"\n".join(line for line in listing(transport, tool, dump).split(b"\n") if keep(line))])
    return path


def without_publications(listed: bytes) -> bytes:
    """The lines of pg_restore --list but those of membership in publications."""
    return b"\n".join(line for line in listed.split(b"\n") if not PUBLISHED.match(line))


def listing(transport: Transport, tool: str, dump: str, *options: str) -> bytes:
    """pg_restore --list of a dump, with pg_restore's own options."""
    done = transport.run([tool, "--list", *options, dump], timeout=600)
    if done.code != 0:
        raise failure("pg_restore --list", done.code, done.stderr.decode("utf-8", "replace"))
    return done.stdout


def vacuum(sessions: Sequence[Session], tables: Sequence[str], command: str, tick: Callable[[int, int], None]) -> None:
    """Run command ("VACUUM (FREEZE, ANALYZE)") on every table, over several sessions; tick gets (done, all)."""
    free: Queue[Session] = Queue()
    for session in sessions:
        free.put(session)
    done = 0

    def work(table: str) -> None:
        session = free.get()
        try:
            session.run(f"{command} {table}")
        finally:
            free.put(session)

    with ThreadPoolExecutor(max_workers=len(sessions)) as pool:
        for _result in pool.map(work, tables):
            done += 1
            tick(done, len(tables))


def restored_tables(session: Session) -> list[RestoredTable]:
    """Every table and populated materialized view of the session's database."""
    rows = session.rows(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, pg_table_size(c.oid) AS bytes,"
        " coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) > 0 AS toast,"
        " EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = c.oid) AS extended,"
        " (n.nspname, c.relname) IN (SELECT schemaname, tablename FROM pg_stats) AS analyzed"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'm') AND c.relispopulated"
        " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    )
    return [
        RestoredTable(
            schema=str(r["schema"]),
            name=str(r["name"]),
            sql=render("{t:I}", t=(str(r["schema"]), str(r["name"]))),
            bytes=int(str(r["bytes"])),
            toast=bool(r["toast"]),
            analyzed=bool(r["analyzed"]),
            extended=bool(r["extended"]),
        )
        for r in rows
    ]


def drop_database(session: Session, name: str) -> None:
    """Drop a half-made database and whoever is in it. Raises OpsError (server's)."""
    session.run(f"DROP DATABASE IF EXISTS {ident(name)} WITH (FORCE)")


def default_load_jobs() -> int:
    """One more than default_jobs: while one waits for the disk or its client, another works."""
    return default_jobs() + 1


def default_jobs() -> int:
    """One a processor, at most four: beyond that the server's disk decides."""
    return min(4, os.cpu_count() or 1)


def unbound(session: Session) -> None:
    """Take off what the role or the database may set for its clients: timeouts, and that they only read."""
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    if session.version >= 140000:
        names.append("idle_session_timeout")
    if session.version >= 170000:
        names.append("transaction_timeout")
    for name in names:
        session.run(f"SET {name} = 0")
    session.run("SET default_transaction_read_only = off")


@contextlib.contextmanager
def connected(target: Target, database: str, count: int) -> Iterator[list[Session]]:
    """Sessions of one database without bounds, closed at the end."""
    sessions: list[Session] = []
    try:
        for _number in range(count):
            sessions.append(target.session(database))
            unbound(sessions[-1])
        yield sessions
    finally:
        for session in sessions:
            session.close()
