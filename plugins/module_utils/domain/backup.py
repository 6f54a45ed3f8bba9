# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup is going to do, and when it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.rights import (
    NO_BACKUP_LACKS,
    BackupLacks,
    backup_refusals,
)


@dataclass(frozen=True)
class Part:
    """One set to be made: the whole database, some schemas, or one tenant. tables and bytes are measured."""

    kind: str
    schemas: tuple[str, ...]
    tenant: str | None
    tables: int
    bytes: int

    @property
    def title(self) -> str:
        return self.tenant or ", ".join(self.schemas) or "all schemas"


@dataclass(frozen=True)
class Previous:
    """A complete set that is there already: its id, age of its snapshot in seconds, its key."""

    set_id: str
    age: float
    key: str


@dataclass(frozen=True)
class Situation:
    """What was read before the decision. Sizes in bytes; None where it cannot be known."""

    database: str
    database_bytes: int
    user_mappings: int
    subscriptions: int
    staging: str
    staging_free: int | None
    staging_on_pgdata: bool | None
    store_url: str
    store_free: int | None
    globals_readable: bool
    lacks: BackupLacks = NO_BACKUP_LACKS


# A raw dump is about as large as its tables without indexes; text of wide rows can be larger than their pages.
RAW_FACTOR = 1.3
# zstd brings text and JSON to a quarter; half is asked for, so that the store does not fill up at 90 %.
STORED_FACTOR = 0.5


def already_done(previous: Sequence[Previous], key: str, max_age: float | None) -> str | None:
    """The id of a set that makes a new one needless: the same key, or younger than max_age seconds."""
    for item in reversed(previous):
        if key and item.key == key:
            return item.set_id
        if max_age is not None and 0 <= item.age <= max_age:
            return item.set_id
    return None


def _refusals(situation: Situation, need: int, accept_secrets: bool) -> list[OpsError]:
    found = backup_refusals(situation.lacks)
    if situation.staging and situation.staging_on_pgdata:
        found.append(
            OpsError(
                "staging_on_pgdata",
                f"The staging path {situation.staging} lies on the volume of the server's data directory.",
                "Name a path on another volume, or leave staging out: the dump is streamed then.",
            )
        )
    raw = int(need * RAW_FACTOR)
    if situation.staging and situation.staging_free is not None and situation.staging_free < raw:
        found.append(
            OpsError(
                "disk_too_small",
                f"Staging path {situation.staging} has {situation.staging_free} bytes free; about {raw} are needed.",
                "Free space there, name another path, or leave staging out: the dump is streamed then.",
                {"free": situation.staging_free, "needed": raw},
            )
        )
    stored = int(need * STORED_FACTOR)
    if situation.store_free is not None and situation.store_free < stored:
        found.append(
            OpsError(
                "disk_too_small",
                f"The store {situation.store_url} has {situation.store_free} bytes free; about {stored} are needed.",
                "Free space there (verb prune), or name another store.",
                {"free": situation.store_free, "needed": stored},
            )
        )
    if situation.user_mappings and not accept_secrets:
        found.append(
            OpsError(
                "dump_holds_secrets",
                f"Database {situation.database!r} has {situation.user_mappings} user mappings; "
                "a dump carries their passwords in clear.",
                "Drop them, or accept it with accept_secrets: true and keep the store as closed as the server.",
            )
        )
    return found


def decide_backup(situation: Situation, parts: Sequence[Part], fingerprint: str, accept_secrets: bool) -> Plan:
    """The plan of a backup. Raises OpsError; several refusals at once become one error that names them all."""
    found = _refusals(situation, sum(part.bytes for part in parts), accept_secrets)
    if len(found) == 1:
        raise found[0]
    if found:
        raise OpsError(
            found[0].code,
            " ".join(f"[{item.code}] {item.cause} {item.remedy}" for item in found),
            "Nothing was changed.",
            {"codes": [item.code for item in found]},
        )
    pipeline = "directory format, parallel" if situation.staging else "streamed"
    actions = [
        Action(
            "dump",
            f"{situation.database} ({part.title})",
            f"{pipeline}, fingerprint by {fingerprint}, to {situation.store_url}",
            {"tables": part.tables, "bytes": part.bytes},
        )
        for part in parts
    ]
    warnings = []
    if situation.subscriptions:
        warnings.append(
            f"{situation.subscriptions} subscriptions are left out: their definition holds a password. "
            "Create them again after a restore."
        )
    if not situation.globals_readable:
        warnings.append("The login role may not read roles and tablespaces: globals are not part of the set.")
    if situation.staging and situation.staging_on_pgdata is None:
        warnings.append(
            "The login role may not read data_directory (grant pg_read_all_settings): "
            "it was not checked that staging lies on another volume."
        )
    return Plan("backup", tuple(actions), {"sets": len(parts)}, tuple(warnings))
