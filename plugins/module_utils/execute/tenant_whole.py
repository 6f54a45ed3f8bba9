# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring back a schema that the live database lost: from complete local files, in one transaction, proven in it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain import tenant as decide
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import narrowed
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, Member
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Grant
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import mismatch
from ansible_collections.saasops.runbook.plugins.module_utils.execute.tenant_source import Chosen
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.dump import (
    failure,
    statistics_options,
    wait_for,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import grant_statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import INDEX_MEMORY_MB, LOADING
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import FIXED_TEXT
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import ident, literal, render
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_pack

SCHEMA_SQL = "schema.sql"
ATTEMPTS = 3


@dataclass
class _SchemaText:
    """A sink that keeps the member schema.sql."""

    texts: list[bytes] = field(default_factory=list)

    def __call__(self, member: Member, chunks: Iterator[bytes]) -> None:
        if member.name == SCHEMA_SQL:
            self.texts.extend(chunks)


def outside(store: Store, chosen: Chosen, tenant: str) -> list[decide.Outside] | None:
    """What other schemas had that spoke of the tenant, by the set's own schema.sql; None for a tenant's set."""
    if not chosen.whole:
        return None
    for stored in chosen.contents.objects:
        if any(member.name == SCHEMA_SQL for member in stored.members):
            collected = _SchemaText()
            folder = sets.folder(chosen.manifest.set_id)
            read_pack(store, folder, stored, open_codec(chosen.manifest.codec), collected)
            return decide.spoke_of(b"".join(collected.texts).decode("utf-8", "replace"), tenant)
    return None


def _prelude(chosen: Chosen, tenant: str) -> str:
    """SQL that creates the schema with owner, comment and grants, which pg_restore --schema leaves out."""
    known = cast(Mapping[str, Mapping[str, Json]], chosen.contents.properties.get("schemas") or {})
    facts = known.get(tenant, {})
    owner = str(facts.get("owner") or "")
    lines = [f"CREATE SCHEMA {ident(tenant)}" + (f" AUTHORIZATION {ident(owner)};" if owner else ";")]
    if facts.get("comment"):
        lines.append(f"COMMENT ON SCHEMA {ident(tenant)} IS {literal(str(facts['comment']))};")
    wanted = tuple(
        Grant(str(g["grantee"]), str(g["privilege"]), bool(g["grantable"]))
        for g in cast("list[dict[str, Json]]", facts.get("grants") or [])
    )
    own = tuple(Grant(owner, privilege, False) for privilege in ("USAGE", "CREATE"))
    lines += [f"{statement};" for statement in grant_statements("SCHEMA", tenant, own, wanted or own)]
    return "\n".join(lines) + "\n"


def _proof(chosen: Chosen, tenant: str, version: int) -> str:
    """SQL that raises an error unless every table is what the set's fingerprint says."""
    fingerprint = narrowed(chosen.contents.fingerprint, [tenant])
    hashes = fingerprint.get("server_major") == version // 10000
    lines = [f"{statement};" for statement in FIXED_TEXT] + ["SET LOCAL row_security = off;"]
    for key, entry in sorted(cast("dict[str, dict[str, Json]]", fingerprint["tables"]).items()):
        if entry.get("kind") == "m":
            continue
        schema, name = json.loads(key)
        checksum = "coalesce(sum(hashtextextended(t.*::text, 0)::numeric), 0)::text"
        wanted_hash = str(entry["hash"]) if hashes and entry.get("hash") else None
        body = render(
            "DECLARE found record; BEGIN"
            " SELECT count(*) AS rows, {checksum:raw} AS hash INTO found FROM ONLY {table:I} AS t;"
            " IF found.rows <> {rows} OR found.hash IS DISTINCT FROM {hash} THEN"
            " RAISE EXCEPTION USING MESSAGE = format('%s has %s rows instead of %s, or other values',"
            " {name}, found.rows, {rows}); END IF; END",
            checksum=checksum if wanted_hash is not None else "NULL::text",
            table=(schema, name),
            rows=int(str(entry["rows"])),
            hash=wanted_hash,
            name=f"{schema}.{name}",
        )
        # a tag that does not occur in the text, so that no name can end the quotation
        tag = "$p" + hashlib.sha256(body.encode()).hexdigest()[:16] + "$"
        lines.append(f"DO {tag}{body}{tag};")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Whole:
    """What the load works with. dump is the fetched archive, folder the staging folder it lies in."""

    target: Target
    database: str
    version: int
    chosen: Chosen
    tenant: str
    dump: str
    folder: str
    lock_wait: float
    publications: bool


def _script(job: Whole, name: str, sections: Sequence[str]) -> str:
    path = f"{job.folder}/{name}"
    argv = [job.target.tool("pg_restore", job.version), f"--schema={job.tenant}", f"--file={path}"]
    argv += [f"--section={section}" for section in sections]
    argv += statistics_options(job.version, "--no-statistics")
    if not job.publications:
        argv.append("--no-publications")
    done = job.target.transport.run([*argv, job.dump], env={"PGAPPNAME": job.target.connection.application_name})
    if done.code != 0:
        raise failure("pg_restore --file", done.code, done.stderr.decode("utf-8", "replace"))
    return path


def _bounded(job: Whole, path: str) -> None:
    """Let the last script give up on a lock: a foreign key locks the table of another schema that it refers to."""
    with job.target.transport.read_file(path) as chunks:
        text = b"".join(chunks)
    wait = f"SET lock_timeout = {int(job.lock_wait * 1000)};".encode()
    job.target.transport.write_file(path, [text.replace(b"SET lock_timeout = 0;", wait, 1)])


def load(job: Whole, tell: Callable[[str], None]) -> None:
    """Create the schema and everything in it. Raises schema_not_restored, tenant_mismatch, lock_timeout.

    Rows are proven before keys are made: from the first foreign key on, tables of other schemas are locked.
    """
    transport = job.target.transport
    tell(f"preparing {job.tenant}")
    files = [f"{job.folder}/prelude.sql", _script(job, "rows.sql", ("pre-data", "data")), f"{job.folder}/proof.sql"]
    transport.write_file(files[0], [_prelude(job.chosen, job.tenant).encode()])
    transport.write_file(files[2], [_proof(job.chosen, job.tenant, job.version).encode()])
    files.append(_script(job, "keys.sql", ("post-data",)))
    _bounded(job, files[3])
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _run(job, files, tell)
            return
        except OpsError as error:
            if error.code != "lock_timeout" or attempt == ATTEMPTS:
                raise
            tell(f"a shared table is busy, attempt {attempt} of {ATTEMPTS}")
            time.sleep(attempt)


def _run(job: Whole, files: Sequence[str], tell: Callable[[str], None]) -> None:
    argv = [job.target.program("psql"), "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "--single-transaction"]
    argv += [f"--file={path}" for path in files]
    began = time.monotonic()
    with job.target.environment(job.database) as env:
        options = LOADING.format(memory=INDEX_MEMORY_MB).replace("-c synchronous_commit=off ", "")
        variables = {**env, "PGOPTIONS": options, "PGCLIENTENCODING": "UTF8"}
        process = job.target.transport.start([*argv, "--output=/dev/null"], env=variables, stdout=False)
        try:
            wait_for(process, "psql", lambda: tell(f"loading {job.tenant}: {time.monotonic() - began:.0f} s"))
        except OpsError as error:
            said = process.stderr_text()
            if error.code != "tool_failed":
                raise
            first = next((line.partition("ERROR:")[2].strip() for line in said.split("\n") if "ERROR:" in line), "")
            if "rows instead of" in first and "proof.sql" in said:
                raise mismatch(job.tenant, [first]) from error
            raise OpsError(
                "schema_not_restored",
                f"Schema {job.tenant!r} could not be created: {first or error.cause}.",
                "Nothing was changed. Create what is missing (a role, a type, rows of other schemas that it refers "
                "to), then run the verb again.",
            ) from error
        finally:
            process.kill()
