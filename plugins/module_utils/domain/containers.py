# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers run PostgreSQL, from what `docker inspect` says of them. Passwords are never taken over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

# what an image's environment may tell; POSTGRES_PASSWORD and its like are not among it
_TOLD = ("POSTGRES_DB", "POSTGRES_USER", "PGDATA", "PG_MAJOR", "PG_VERSION")
# the last part of an image's name; postgres-exporter and pgbouncer are none
_IMAGES = re.compile(r"(^|.*[/_-])(postgres|postgresql|postgis|timescaledb(-ha)?|pgvector|citus)([:@].*)?")
PORT = "5432/tcp"


@dataclass(frozen=True)
class Container:
    """A container that runs PostgreSQL. database and user are what its image was told; '' when it was not.

    ports: where 5432 is published on the host, as address:port. volume: what holds the data directory, '' for none.
    """

    name: str
    image: str
    version: str
    database: str
    user: str
    state: str
    ports: tuple[str, ...]
    volume: str
    compose_project: str

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "ports": list(self.ports)}


def _environment(body: Mapping[str, Json]) -> dict[str, str]:
    found = {}
    for line in cast("list[Json]", body.get("Env") or []):
        name, _equals, value = str(line).partition("=")
        if name in _TOLD:
            found[name] = value
    return found


def _runs_postgres(image: str, config: Mapping[str, Json], environment: Mapping[str, str]) -> bool:
    words = [*cast("list[Json]", config.get("Entrypoint") or []), *cast("list[Json]", config.get("Cmd") or [])]
    named = any(str(word).rpartition("/")[2] in ("postgres", "postmaster") for word in words)
    return bool(_IMAGES.fullmatch(image)) or named or "PG_MAJOR" in environment


def _ports(network: Mapping[str, Json]) -> tuple[str, ...]:
    bound = cast("dict[str, Json]", network.get("Ports") or {}).get(PORT) or []
    found = []
    for item in cast("list[dict[str, Json]]", bound):
        address = str(item.get("HostIp") or "0.0.0.0")  # noqa: S104  what docker means by an empty one
        found.append(f"[{address}]:{item.get('HostPort')}" if ":" in address else f"{address}:{item.get('HostPort')}")
    return tuple(found)


def _volume(mounts: Json, data: str) -> str:
    """The volume or folder of the host that holds the data directory."""
    best = ""
    where = ""
    for mount in cast("list[dict[str, Json]]", mounts or []):
        target = str(mount.get("Destination") or "").rstrip("/")
        if (data == target or data.startswith(target + "/")) and len(target) >= len(best):
            best, where = target, str(mount.get("Name") or mount.get("Source") or "")
    return where


def postgres_containers(inspected: Iterable[Mapping[str, Json]]) -> list[Container]:
    """The containers among those inspected that run PostgreSQL, by name."""
    found = []
    for item in inspected:
        config = cast("dict[str, Json]", item.get("Config") or {})
        environment = _environment(config)
        image = str(config.get("Image") or item.get("Image") or "")
        if not _runs_postgres(image, config, environment):
            continue
        user = environment.get("POSTGRES_USER") or ""
        labels = cast("dict[str, Json]", config.get("Labels") or {})
        found.append(
            Container(
                name=str(item.get("Name") or "").lstrip("/"),
                image=image,
                version=environment.get("PG_MAJOR") or environment.get("PG_VERSION") or "",
                # the official image makes a database of the user's name unless told another
                database=environment.get("POSTGRES_DB") or user,
                user=user,
                state=str(cast("dict[str, Json]", item.get("State") or {}).get("Status") or ""),
                ports=_ports(cast("dict[str, Json]", item.get("NetworkSettings") or {})),
                volume=_volume(item.get("Mounts"), environment.get("PGDATA") or "/var/lib/postgresql/data"),
                compose_project=str(labels.get("com.docker.compose.project") or ""),
            )
        )
    return sorted(found, key=lambda container: container.name)
