# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a newcomer must know of a server before the first backup: its databases, its tenants, what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Blocker

# fewer schemas of one kind are a coincidence
TENANTS_AT_LEAST = 3
NAMES_SHOWN = 5
# the sessions of a backup with four jobs: exporter, reader, guard, workers, and pg_dump's own
SESSIONS_NEEDED = 8


@dataclass(frozen=True)
class Tenancy:
    """Schemas that look like tenants: a pattern for them, those with the same tables, and others that match it."""

    pattern: str
    schemas: tuple[str, ...]
    tables: int
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerSight:
    """What was read of the server. connections_free: None when there is no limit that could be read."""

    version: int
    version_text: str
    role: str
    superuser: bool
    reads_settings: bool
    in_recovery: bool
    connections_free: int | None = None


@dataclass(frozen=True)
class DatabaseSight:
    """What was read of one database. Sizes in bytes; names of relations are qualified and quoted.

    unreadable: relations that the role may not read. row_security: tables whose policies hide rows from the role.
    collation: the library's versions (when the database was made, now) where they differ.
    """

    name: str
    owner: str
    bytes: int
    encoding: str
    tables: Mapping[str, Collection[str]]
    extensions: Mapping[str, str]
    user_mappings: int = 0
    subscriptions: int = 0
    blockers: tuple[Blocker, ...] = ()
    unreadable: tuple[str, ...] = ()
    row_security: tuple[str, ...] = ()
    collation: tuple[str, str] | None = None

    @property
    def table_count(self) -> int:
        return sum(len(names) for names in self.tables.values())


@dataclass(frozen=True)
class Finding:
    """Something that needs attention: a code, a sentence, what to do, and the verb that refuses because of it.

    stops: backup, restore (that is, its switch), or "" when nothing refuses.
    """

    code: str
    text: str
    remedy: str
    stops: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text, "remedy": self.remedy, "stops": self.stops}


def _prefix(name: str) -> str | None:
    """The part of a schema's name up to the first separator, or its letters before a number; None without either."""
    found = re.match(r"(.+?[_.\-])(?=.)|(\D{2,})(?=\d+$)", name)
    return found.group(0) if found else None


def _pattern(names: Sequence[str]) -> str:
    """What all the names have in common at their beginning, cut after a separator or before a number."""
    first, last = min(names), max(names)
    same = next((at for at, char in enumerate(first) if last[at : at + 1] != char), len(first))
    common = first[:same]
    cut = re.match(r".*[_.\-]", common)
    start = cut.group(0) if cut else common.rstrip("0123456789")
    return re.sub(r"([*?\[\]])", "?", start) + "*"


def tenancies(tables: Mapping[str, Collection[str]]) -> list[Tenancy]:
    """Groups of at least three schemas with a common prefix and equal, non-empty sets of tables, the largest first.

    tables: schema -> the names of its tables.
    """
    groups: dict[tuple[str, frozenset[str]], list[str]] = {}
    for schema, names in sorted(tables.items()):
        prefix = _prefix(schema)
        if prefix and names:
            groups.setdefault((prefix, frozenset(names)), []).append(schema)
    found = []
    for (_group, names), schemas in groups.items():
        if len(schemas) >= TENANTS_AT_LEAST:
            pattern = _pattern(schemas)
            others = tuple(s for s in sorted(tables) if s.startswith(pattern[:-1]) and s not in schemas)
            found.append(Tenancy(pattern, tuple(schemas), len(names), others))
    return sorted(found, key=lambda item: (-len(item.schemas), item.pattern))


def shown(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


_Look = Callable[[ServerSight, DatabaseSight], "Iterable[Finding]"]


def _unreadable(server: ServerSight, database: DatabaseSight) -> Iterable[Finding]:
    if database.unreadable:
        yield Finding(
            "unreadable_tables",
            f"The role {server.role} may not read {_count(len(database.unreadable), 'relation')}"
            f" ({shown(database.unreadable)}).",
            f"GRANT pg_read_all_data TO {server.role}, or log in as a superuser.",
            "backup",
        )


def _row_security(server: ServerSight, database: DatabaseSight) -> Iterable[Finding]:
    if database.row_security:
        yield Finding(
            "row_security_active",
            f"Row security hides rows of {_count(len(database.row_security), 'table')} from the role {server.role}"
            f" ({shown(database.row_security)}); a backup with hidden rows is refused.",
            f"ALTER ROLE {server.role} BYPASSRLS, or log in as a superuser.",
            "backup",
        )


def _secrets(_server: ServerSight, database: DatabaseSight) -> Iterable[Finding]:
    if database.user_mappings:
        yield Finding(
            "dump_holds_secrets",
            f"{_count(database.user_mappings, 'user mapping')}: the dump carries their passwords in clear.",
            "Accept it (database_backup_accept_secrets: true) and keep the store as closed as the server.",
            "backup",
        )
    if database.subscriptions:
        yield Finding(
            "subscriptions_left_out",
            f"{_count(database.subscriptions, 'subscription')} will be left out: the definition holds a password.",
            "Keep how it was made, to create it again after a restore.",
        )


_BLOCKERS = {
    "prepared_transaction": (
        "The prepared transaction {name} ({detail}) blocks the switch after a restore, and VACUUM meanwhile.",
        "COMMIT PREPARED or ROLLBACK PREPARED, whichever its owner says.",
    ),
    "logical_slot": (
        "The logical replication slot {name} ({detail}) stays with the old database at a switch.",
        "Plan to make it again on the restored database; the switch is refused while it is there.",
    ),
    "subscription": (
        "The subscription {name} ({detail}) would go on in the old database after a switch.",
        "Plan to make it again on the restored database; the switch is refused while it is there.",
    ),
    "tied_extension": (
        "The extension {name} is tied to this database ({detail}): its workers do not follow a switch.",
        "Restore by its own procedure, or stop its workers first.",
    ),
}


def _blockers(_server: ServerSight, database: DatabaseSight) -> Iterable[Finding]:
    for item in database.blockers:
        text, remedy = _BLOCKERS.get(item.kind, ("{name} ({detail}) hinders a switch.", "Look at it before a restore."))
        yield Finding(item.kind, text.format(name=item.name, detail=item.detail), remedy, "restore")


def _server(server: ServerSight, _database: DatabaseSight) -> Iterable[Finding]:
    if server.in_recovery:
        yield Finding(
            "in_recovery",
            "The server is a standby: it can be read, not restored to, and replay may cancel a long dump.",
            "Name the primary for restore; for backups raise max_standby_streaming_delay.",
            "restore",
        )
    if not server.superuser:
        yield Finding(
            "not_superuser",
            f"The role {server.role} is no superuser: backups work with the right to read everything, while a restore"
            " needs to create databases and to give objects to their owners.",
            "Use a superuser for restore (peer authentication as postgres needs no password).",
        )
    if not server.reads_settings:
        yield Finding(
            "settings_unreadable",
            f"The role {server.role} may not read all settings: the configuration in the set will be incomplete, and"
            " whether staging lies on the data directory's volume is not checked.",
            f"GRANT pg_read_all_settings TO {server.role}.",
        )
    if server.connections_free is not None and server.connections_free < SESSIONS_NEEDED:
        yield Finding(
            "few_connections",
            f"Only {_count(server.connections_free, 'connection')} are free; a backup takes up to {SESSIONS_NEEDED}.",
            "End idle sessions, raise max_connections, or back up with fewer jobs (database_backup_jobs: 1).",
        )


def _collation(_server: ServerSight, database: DatabaseSight) -> Iterable[Finding]:
    if database.collation:
        made, now = database.collation
        yield Finding(
            "collation_changed",
            f"The database was made with collation version {made}, the system has {now}: indexes on text may be wrong.",
            "REINDEX the indexes on text, then ALTER DATABASE ... REFRESH COLLATION VERSION.",
        )


_LOOKS: tuple[_Look, ...] = (_unreadable, _row_security, _secrets, _blockers, _collation, _server)


def findings(server: ServerSight, database: DatabaseSight) -> list[Finding]:
    """What needs attention before a backup or a restore of this database: what stops a backup comes first."""
    order = {"backup": 0, "restore": 1, "": 2}
    found = [finding for look in _LOOKS for finding in look(server, database)]
    return sorted(found, key=lambda item: order[item.stops])


@dataclass(frozen=True)
class Found:
    """One database with what is to be said of it."""

    sight: DatabaseSight
    tenants: tuple[Tenancy, ...]
    attention: tuple[Finding, ...]


def judge(server: ServerSight, database: DatabaseSight) -> Found:
    """A database as it was read, with its tenants and what needs attention."""
    return Found(database, tuple(tenancies(database.tables)), tuple(findings(server, database)))
