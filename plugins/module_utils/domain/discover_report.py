# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was discovered, as lines for a terminal and as a drafted inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.containers import Container
from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover import (
    Found,
    ServerSight,
    Tenancy,
    shown,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.draft import Draft, host_name
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_size
from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable, table

# options of connection that a draft repeats when they are not the default; never a password
_REPEATED = (
    "service", "unix_socket", "host", "port", "user", "ssl_mode", "ca_cert", "client_bin", "session", "transport",
    "container", "container_user",
)  # fmt: skip
_DEFAULTS = {"port": 5432, "ssl_mode": "prefer", "session": "auto", "transport": "local"}
_STORE = "saasops_store: { path: /var/backups/NAME }  # fill in: a folder on another volume, or type: s3 and a bucket"
_RPO = "saasops_rpo: 24h  # fill in: how much may be lost"


def repeated(connection: Mapping[str, object]) -> dict[str, object]:
    """The options of a connection that say something, without the password."""
    given = {name: connection.get(name) for name in _REPEATED}
    return {name: value for name, value in given.items() if value and value != _DEFAULTS.get(name)}


def _tenancy(item: Tenancy) -> str:
    also = f"; {shown(item.others)} match too, with other tables" if item.others else ""
    return f"{len(item.schemas)} schemas {item.pattern} hold the same {item.tables} tables{also}"


def database_drafts(
    databases: Sequence[Found], variables: Mapping[str, object], connection: Mapping[str, object]
) -> list[Draft]:
    """One inventory host for each database; variables go before, connection is what `repeated` gives."""
    drafts: list[Draft] = []
    for found in databases:
        sight = found.sight
        name = host_name(sight.name, [draft.name for draft in drafts])
        own = {**variables, "saasops_database": sight.name}
        if connection:
            own["saasops_connection"] = connection
        unknown = [_STORE.replace("NAME", name), _RPO]
        unknown += [
            f'saasops_tenants_as_sets: ["{item.pattern}"]  # each a set of its own: {_tenancy(item)}'
            for item in found.tenants
        ]
        remark = f"{human_size(sight.bytes)}, {sight.table_count} tables in {len(sight.tables)} schemas"
        drafts.append(Draft(name, remark, own, open=tuple(unknown)))
    return drafts


def container_drafts(containers: Sequence[Container], variables: Mapping[str, object]) -> list[Draft]:
    """One inventory host for each container."""
    drafts: list[Draft] = []
    for item in containers:
        name = host_name(item.name, [draft.name for draft in drafts])
        own = dict(variables)
        unknown = [_STORE.replace("NAME", name), _RPO]
        connection: dict[str, object] = {"transport": "docker", "container": item.name}
        if item.user:
            connection["user"] = item.user
        else:
            unknown.insert(0, "the login role is the image's default; another one is saasops_connection's user")
        if item.database:
            own["saasops_database"] = item.database
        else:
            unknown.insert(0, "saasops_database: app  # fill in: the container's environment names none")
        own["saasops_connection"] = connection
        compose = f" of compose project {item.compose_project}" if item.compose_project else ""
        drafts.append(Draft(name, f"{item.image}{compose}", own, open=tuple(unknown)))
    return drafts


def attention_lines(found: Found) -> list[str]:
    """What needs attention in one database."""
    name = printable(found.sight.name)
    lines = [f"Attention in {name}:"] if found.attention else [f"Nothing in {name} needs attention."]
    for item in found.attention:
        stops = f" ({item.stops} refuses)" if item.stops else ""
        lines += [f"  [{item.code}]{stops} {printable(item.text)}", f"    {printable(item.remedy)}"]
    return lines


def server_lines(
    server: ServerSight, databases: Sequence[Found], login_roles: Sequence[str], hints: Sequence[str]
) -> list[str]:
    """The server, its databases as a table, its roles, and what needs attention in each database."""
    where = "standby" if server.in_recovery else "server"
    superuser = " (superuser)" if server.superuser else ""
    lines = [f"PostgreSQL {server.version_text}, {where}, logged in as {printable(server.role)}{superuser}."]
    rows = [
        [
            found.sight.name,
            human_size(found.sight.bytes),
            str(found.sight.table_count),
            str(len(found.sight.tables)),
            found.sight.owner,
            ", ".join(found.sight.extensions),
            ", ".join(item.pattern for item in found.tenants),
        ]
        for found in databases
    ]
    heads = ("DATABASE", "SIZE", "TABLES", "SCHEMAS", "OWNER", "EXTENSIONS", "TENANTS")
    lines += table(heads, rows, ("SIZE", "TABLES", "SCHEMAS"))
    lines.append(f"Roles that may log in: {printable(shown(login_roles))}.")
    lines += hints
    for found in databases:
        lines += [f"In {printable(found.sight.name)}, {printable(_tenancy(item))}." for item in found.tenants]
        lines += attention_lines(found)
    return lines


def container_lines(containers: Sequence[Container], running: int) -> list[str]:
    """The containers as a table; running: how many there are in all."""
    rows = [[c.name, c.image, c.database, c.user, ", ".join(c.ports), c.volume or "(none)"] for c in containers]
    lines = [f"{len(containers)} of {running} running containers run PostgreSQL."]
    lines += table(("CONTAINER", "IMAGE", "DATABASE", "USER", "PUBLISHED", "VOLUME"), rows)
    for item in containers:
        if not item.volume:
            lines.append(f"The data of {printable(item.name)} lie in no volume: they go away with the container.")
    return lines
