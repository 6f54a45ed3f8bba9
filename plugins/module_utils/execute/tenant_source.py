# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a tenant's rows come from: the set that has them, its dump in staging, a scratch database made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.dump_proof import data_files
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import compare, narrowed
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Contents, Json, Manifest, Member
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import write_member
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tenant import entries
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.pack import read_packs

TOC = "dump/toc.dat"
STREAM = "dump.custom"


@dataclass(frozen=True)
class Chosen:
    """The set and what it says."""

    manifest: Manifest
    contents: Contents

    @property
    def whole(self) -> bool:
        """Whether it is a set of the whole database."""
        return self.manifest.kind == "database"


def _holds(manifest: Manifest, contents: Contents, tenant: str) -> bool:
    if manifest.kind != "database":
        return tenant in manifest.schemas
    return tenant in cast("dict[str, Json]", contents.properties.get("schemas") or {})


def choose(store: Store, system: str, database: str, tenant: str, wanted: str) -> Chosen:
    """The set that was named, or (latest) the newest complete one that has the tenant.

    A set that an earlier restore of a tenant made to go back to is taken only when it is named: it holds the rows
    that the operator wanted to be rid of. Raises unknown_schema, no_backup, set_of_another_database, and what
    sets.load raises.
    """
    if wanted != "latest":
        manifest, contents = sets.load(store, wanted, system)
        if manifest.database != database:
            raise OpsError(
                "set_of_another_database",
                f"Set {wanted} is one of database {manifest.database!r}, not of {database!r}.",
                "Choose another set (verb backups).",
                {"set": wanted, "database": manifest.database},
            )
        if not _holds(manifest, contents, tenant):
            raise _unknown(tenant, f"set {wanted} has none of that name")
        return Chosen(manifest, contents)
    complete = 0
    for entry in reversed(sets.entries(store, system)):
        found = entry.manifest
        if entry.state != "complete" or found is None or found.database != database or found.undo:
            continue
        complete += 1
        if found.kind != "database" and tenant not in found.schemas:
            continue
        manifest, contents = sets.load(store, entry.set_id, system)
        if _holds(manifest, contents, tenant):
            return Chosen(manifest, contents)
    if complete:
        raise _unknown(tenant, f"none of the {complete} complete sets has one of that name")
    raise OpsError(
        "no_backup",
        f"The store holds no complete set of database {database!r} of system {system!r}.",
        "Run the verb backup first, or check the store's address.",
        {"database": database},
    )


def _unknown(tenant: str, where: str) -> OpsError:
    return OpsError(
        "unknown_schema",
        f"There is no schema {tenant!r} to restore: {where}.",
        "Check the name (it is case-sensitive), or name an older set (verb backups).",
        {"schemas": [tenant]},
    )


def fetch(
    target: Target, version: int, store: Store, chosen: Chosen, tenant: str, folder: str, jobs: int,
    tell: Callable[[str], None],
) -> str:  # fmt: skip
    """Bring what belongs to the tenant into the folder, every byte proven; returns the path for pg_restore.

    A directory dump is fetched in part: its list of contents says which files are the tenant's.
    """
    transport = target.transport
    transport.remove_tree(folder)
    transport.make_folder(folder)
    if chosen.manifest.pipeline != "directory":
        _fetch_members(target, store, chosen, folder, {STREAM}, jobs, tell)
        return f"{folder}/{STREAM}"
    transport.make_folder(f"{folder}/dump")
    _fetch_members(target, store, chosen, folder, {TOC}, jobs, tell)
    listed = entries(target, version, f"{folder}/dump", tenant)
    wanted = {f"dump/{number}.dat" for number in data_files(listed)}
    _fetch_members(target, store, chosen, folder, wanted, jobs, tell)
    return f"{folder}/dump"


def _fetch_members(
    target: Target, store: Store, chosen: Chosen, folder: str, wanted: Collection[str], jobs: int,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    needed = [item for item in chosen.contents.objects if any(member.name in wanted for member in item.members)]
    total, done = sum(item.length for item in needed), 0

    def sink(member: Member, chunks: Iterator[bytes]) -> None:
        if member.name in wanted:
            write_member(target.transport, folder, member, chunks)

    def finished(stored: object) -> None:
        nonlocal done
        done += int(getattr(stored, "length", 0))
        tell(f"fetching {chosen.manifest.set_id}: {done:,} of {total:,} bytes")

    read_packs(
        store,
        sets.folder(chosen.manifest.set_id),
        needed,
        open_codec(chosen.manifest.codec),
        sink,
        workers=jobs,
        finished=finished,
    )


def prove(chosen: Chosen, tenant: str, sessions: list[Session]) -> dict[str, Json]:
    """Hold the scratch database's rows against the set and return their fingerprint. Raises restore_differs."""
    expected = narrowed(chosen.contents.fingerprint, [tenant])
    tables = cast("dict[str, dict[str, Json]]", expected["tables"])
    # materialized views are not brought over: they are computed from the rows
    expected["tables"] = {key: entry for key, entry in tables.items() if entry.get("kind") != "m"}
    hashes = any(entry.get("hash") for entry in tables.values())
    for session in sessions:
        plain_view(session)
    try:
        actual = take_fingerprint(sessions, relations(sessions[0], "r", [tenant]), [tenant], hashes=hashes)
    finally:
        for session in sessions:
            with contextlib.suppress(OpsError):
                session.run("COMMIT")
    found = compare(expected, actual)
    if found:
        raise OpsError(
            "restore_differs",
            f"What was restored of schema {tenant!r} is not what set {chosen.manifest.set_id} promises: "
            + "; ".join(item.text for item in found[:5])
            + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
            + ".",
            "The live database was not touched. Choose another set, and have this one looked at (verb backups).",
            {"differences": [item.as_dict() for item in found[:50]]},
        )
    return actual
