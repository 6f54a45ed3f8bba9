# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore is going to do, and every reason for which it will not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, Manifest
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import database_from_json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.refusals import Refusal, settle
from ansible_collections.saasops.runbook.plugins.module_utils.domain.rights import (
    NO_RESTORE_LACKS,
    RestoreLacks,
    restore_refusals,
)

# indexes are not in the dump; text of wide rows is larger in a dump than in its compressed pages
SIZE_PER_RAW_BYTE = 1.7
# what is kept free beyond the estimate, so that the live database does not meet the full disk first
SPARE = 1.1


@dataclass(frozen=True)
class Blocker:
    """Something in the live database that a rename would break or leave behind: its kind, its name, more about it."""

    kind: str
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Volume:
    """A file system that the restore writes to: a path on it, bytes free, and bytes needed by purpose."""

    path: str
    free: int
    needs: Mapping[str, int]

    @property
    def needed(self) -> int:
        return int(sum(self.needs.values()) * SPARE)


@dataclass(frozen=True)
class ServerState:
    """The server as it was found. volumes is empty when its disks cannot be seen from where the module runs."""

    version: int
    system_identifier: str
    superuser: bool
    may_create: bool
    in_recovery: bool
    databases: Collection[str]
    roles: Collection[str]
    tablespaces: Collection[str]
    extensions: Mapping[str, Sequence[str]]
    collation_version: str | None
    volumes: Sequence[Volume]
    standbys: int
    wal_kept_for_slots: bool
    lacks: RestoreLacks = NO_RESTORE_LACKS


@dataclass(frozen=True)
class Wish:
    """What was asked for, and what it meets. live_bytes: size of the live database, None when there is none.

    last_backup_problem: for a restore in place, why the live database may not be dropped.
    """

    database: str
    target: str
    schemas: tuple[str, ...]
    create_roles: bool
    staging: str
    staging_on_pgdata: bool | None
    in_place: bool
    live_bytes: int | None
    blockers: tuple[Blocker, ...]
    acknowledged: tuple[str, ...]
    hint: str = ""
    last_backup_problem: OpsError | None = None


def estimated_bytes(manifest: Manifest, properties: Mapping[str, Json]) -> int:
    """The size in bytes that the restored database will have, at least as the source was when it was dumped."""
    measured = int(str(properties.get("bytes") or 0)) if manifest.kind == "database" else 0
    return max(measured, int(manifest.raw_bytes * (1.0 if measured else SIZE_PER_RAW_BYTE)))


def missing_roles(properties: Mapping[str, Json], roles: Collection[str]) -> list[str]:
    """Roles that the set's objects and grants speak of and that the server does not have."""
    return sorted(str(name) for name in cast("list[str]", properties.get("roles") or []) if name not in roles)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _server_refusals(
    manifest: Manifest, properties: Mapping[str, Json], server: ServerState, wish: Wish
) -> list[Refusal]:
    found = []
    if server.in_recovery:
        found.append(Refusal(OpsError("server_is_standby", "The server is a standby.", "Connect to the primary.")))
    if not server.may_create:
        found.append(
            Refusal(
                OpsError(
                    "not_permitted",
                    "The login role may not create databases.",
                    "Log in as a superuser, or as a role with CREATEDB that is a member of all owners.",
                )
            )
        )
    if manifest.version and server.version // 10000 < manifest.version // 10000:
        found.append(
            Refusal(
                OpsError(
                    "server_too_old",
                    f"The set comes from PostgreSQL {manifest.version // 10000}, "
                    f"the server is {server.version // 10000}.",
                    "Restore on a server of the source's major version or a later one.",
                )
            )
        )
    if wish.target in server.databases and not wish.in_place:
        found.append(
            Refusal(
                OpsError(
                    "target_exists",
                    f"A database named {wish.target!r} exists already.",
                    "Name another one with target (-e target=...), or drop it if nobody needs it.",
                    {"target": wish.target},
                )
            )
        )
    roles = missing_roles(properties, server.roles)
    if roles and not wish.create_roles:
        found.append(
            Refusal(
                OpsError(
                    "missing_roles",
                    f"The server lacks {len(roles)} roles that own objects or hold grants: {_names(roles)}.",
                    "Create them (globals.sql of the set has their definitions), or set on_missing_roles to create: "
                    "they are made without login and password.",
                    {"roles": roles},
                )
            )
        )
    return found


def _environment_refusals(properties: Mapping[str, Json], server: ServerState) -> list[Refusal]:
    found = []
    wanted = cast("Mapping[str, Mapping[str, Json]]", properties.get("extensions") or {})
    absent = sorted(name for name in wanted if name not in server.extensions)
    if absent:
        found.append(
            Refusal(
                OpsError(
                    "missing_extensions",
                    f"The server has no files of the extensions {_names(absent)}.",
                    "Install their packages on the server.",
                    {"extensions": absent},
                )
            )
        )
    other = sorted(
        f"{name} {facts['version']}"
        for name, facts in wanted.items()
        if name in server.extensions and str(facts["version"]) not in server.extensions[name]
    )
    if other:
        found.append(
            Refusal(
                OpsError(
                    "extension_version",
                    f"The server cannot install these versions of extensions: {_names(other)}.",
                    "Install the packages of those versions, or accept the server's default versions.",
                    {"extensions": other},
                ),
                acknowledgeable=True,
            )
        )
    spaces = sorted(
        str(n) for n in cast("list[str]", properties.get("tablespaces") or []) if n not in server.tablespaces
    )
    if spaces:
        found.append(
            Refusal(
                OpsError(
                    "missing_tablespaces",
                    f"The server lacks the tablespaces {_names(spaces)}.",
                    "Create them, or accept that everything goes into the default one.",
                    {"tablespaces": spaces},
                ),
                acknowledgeable=True,
            )
        )
    own = database_from_json(cast("Mapping[str, Json]", properties["database"]))
    if own.collation_version and server.collation_version and own.collation_version != server.collation_version:
        found.append(
            Refusal(
                OpsError(
                    "collation_version",
                    f"The source sorted {own.locale or own.collate} by version {own.collation_version} of its library, "
                    f"this server has {server.collation_version}.",
                    "Restore on a server with the same library, or accept another order: indexes are built anew, "
                    "but the order of results and the bounds of partitions by text may change.",
                ),
                acknowledgeable=True,
            )
        )
    return found


BLOCKER_TEXTS = {
    "prepared_transaction": (
        "prepared_transactions",
        "prepared transactions, which block a rename",
        "Commit or roll them back by name (COMMIT PREPARED, ROLLBACK PREPARED).",
    ),
    "logical_slot": (
        "logical_slots",
        "logical replication slots, which would stay with the old database",
        "Stop their consumers and drop the slots (pg_drop_replication_slot); set them up anew after the switch.",
    ),
    "subscription": (
        "subscriptions",
        "subscriptions, which would stay with the old database and go on there",
        "Drop them (ALTER SUBSCRIPTION ... DISABLE, SET (slot_name = NONE), DROP); create them again after the switch.",
    ),
    "tied_extension": (
        "tied_extensions",
        "extensions whose background workers are tied to this database by name",
        "Stop their workers (unset the setting shown, reload or restart the server), and switch them on again later.",
    ),
}


def blocker_refusals(blockers: Sequence[Blocker], acknowledgeable: bool) -> list[Refusal]:
    """One refusal for each kind of blocker, with the list."""
    found = []
    for kind, (code, what, remedy) in BLOCKER_TEXTS.items():
        names = [f"{b.name} ({b.detail})" if b.detail else b.name for b in blockers if b.kind == kind]
        if names:
            error = OpsError(
                code, f"The live database has {len(names)} {what}: {'; '.join(names[:10])}.", remedy, {"names": names}
            )
            found.append(Refusal(error, acknowledgeable))
    return found


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def space_refusals(server: ServerState, wish: Wish) -> list[Refusal]:
    """A refusal for each volume that is too small, with the exact ways on."""
    found = []
    for volume in server.volumes:
        # in place the live database's room is given back before the data come
        freed = (wish.live_bytes or 0) if wish.in_place and "data" in volume.needs else 0
        if volume.free + freed >= volume.needed:
            continue
        parts = ", ".join(f"{name} {_megabytes(count)}" for name, count in volume.needs.items())
        ways = "Free space there; or restore on another host: " + (
            f"{wish.hint} with saasops_connection (-e @other-host.yml) of a server with room"
        )
        if set(volume.needs) == {"staging"}:
            ways = "Free space there, or name another staging path (-e staging=...)"
        elif wish.live_bytes is not None and not wish.in_place:
            ways += (
                "; or in place of the live database: first a last backup (ansible-playbook saasops.runbook.backup), "
                f"then {wish.hint} -e in_place=true -e acknowledge=in_place, which drops the live database "
                "once the set is fetched and proven"
            )
        found.append(
            Refusal(
                OpsError(
                    "disk_too_small",
                    f"The volume of {volume.path} has {_megabytes(volume.free)} free, but the restore needs about "
                    f"{_megabytes(volume.needed)} there ({parts}, and a tenth to spare).",
                    ways + ".",
                    {"path": volume.path, "free": volume.free, "needed": volume.needed, "needs": dict(volume.needs)},
                )
            )
        )
    return found


def refusals(manifest: Manifest, properties: Mapping[str, Json], server: ServerState, wish: Wish) -> list[Refusal]:
    """Every reason against this restore."""
    found = _server_refusals(manifest, properties, server, wish)
    found += restore_refusals(server.lacks, missing_roles(properties, server.roles) if wish.create_roles else ())
    unknown = sorted(
        name for name in wish.schemas if name not in cast("Mapping[str, Json]", properties.get("schemas") or {})
    )
    if unknown:
        found.append(
            Refusal(
                OpsError(
                    "unknown_schema",
                    f"Set {manifest.set_id} has no schema {_names(unknown)}.",
                    "Check the name; names are case-sensitive.",
                    {"schemas": unknown},
                )
            )
        )
    found += _environment_refusals(properties, server)
    if not wish.schemas and manifest.kind == "database":
        found += blocker_refusals(wish.blockers, acknowledgeable=True)
    if wish.in_place:
        found.append(
            Refusal(
                OpsError(
                    "in_place",
                    f"A restore in place drops {wish.database!r} before its replacement is complete: "
                    "there is no undo but another restore.",
                    "Restore beside the live database where there is room.",
                ),
                acknowledgeable=True,
            )
        )
    if wish.last_backup_problem is not None:
        found.append(Refusal(wish.last_backup_problem))
    return found + space_refusals(server, wish)


def decide_restore(manifest: Manifest, properties: Mapping[str, Json], server: ServerState, wish: Wish) -> Plan:
    """The plan of a restore. Raises OpsError, all refusals at once."""
    found = refusals(manifest, properties, server, wish)
    warnings = list(settle(found, wish.acknowledged))
    size = estimated_bytes(manifest, properties)
    actions = []
    for role in missing_roles(properties, server.roles):
        actions.append(Action("create role", role, "the set's objects need it; no login, no password"))
    if wish.in_place and wish.live_bytes is not None:
        actions.append(
            Action("drop database", wish.database, "in place: its room is needed", {"bytes": wish.live_bytes})
        )
    actions += [
        Action(
            "fetch", manifest.set_id, "whole, every byte compared with the manifest", {"bytes": manifest.stored_bytes}
        ),
        Action(
            "create database",
            wish.target,
            f"from set {manifest.set_id} of {manifest.database}"
            + (f", schemas {', '.join(wish.schemas)}" if wish.schemas else ""),
            {"tables": manifest.tables, "rows": manifest.rows, "bytes": size},
        ),
        Action("verify", wish.target, "rows, sequences, large objects and catalog against the set"),
    ]
    if not server.volumes:
        warnings.append("The server's disks cannot be seen from here: free space was not checked.")
    if wish.staging_on_pgdata:
        # most small servers have one volume; the room for both was counted together (space_refusals)
        warnings.append(
            f"The staging path {wish.staging} lies on the volume of the server's data directory; "
            "the dump's room there was counted beside the database's."
        )
    if wish.staging_on_pgdata is None:
        warnings.append("It was not checked that staging lies on another volume than the server's data.")
    if server.standbys:
        warnings.append(
            f"{server.standbys} standbys will receive about {_megabytes(size)} of WAL; their lag grows meanwhile."
        )
    if manifest.kind != "database" or wish.schemas:
        warnings.append("This restores schemas only: it cannot be switched with the live database.")
    if manifest.secrets:
        warnings.append(f"The set left out: {', '.join(manifest.secrets)}.")
    return Plan("restore", tuple(actions), {"databases": 1}, tuple(warnings))


# extension -> the setting that names its database; "" when it is always tied to the one it is installed in
TIED_EXTENSIONS = {
    "pg_cron": "cron.database_name",
    "pg_partman": "pg_partman_bgw.dbname",
    "pg_squeeze": "squeeze.worker_autostart",
    "timescaledb": "",
    "pglogical": "",
    "citus": "",
    "pgagent": "",
}


def tied_extensions(database: str, installed: Collection[str], settings: Mapping[str, str]) -> list[Blocker]:
    """Extensions whose workers go on in the old database after a switch.

    settings holds the server's settings named in TIED_EXTENSIONS, as far as they exist.
    """
    found = []
    for name, setting in sorted(TIED_EXTENSIONS.items()):
        named = [item.strip() for item in settings.get(setting, "").replace(",", " ").split()]
        if setting and database in named:
            found.append(Blocker("tied_extension", name, f"{setting} = {settings[setting]}"))
        elif not setting and name in installed:
            found.append(Blocker("tied_extension", name, "it needs its own procedure"))
    return found
