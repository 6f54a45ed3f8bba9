# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_discover_info: look at a server or at the containers of a host, and draft an inventory. Only reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.containers import postgres_containers
from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover import Found, ServerSight, judge
from ansible_collections.saasops.runbook.plugins.module_utils.domain.discover_report import (
    container_drafts,
    container_lines,
    database_drafts,
    repeated,
    server_lines,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.draft import render
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import discovery as look
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.facts import refuse_pooler
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport

# a server with more databases than a person reads is asked by name
MOST_DATABASES = 50


def _heading(context: Context, what: str) -> list[str]:
    return [f"Drafted by the verb discover on {utc(context.now, False)} from {what}. Read it before you use it."]


def _database_dict(found: Found) -> dict[str, object]:
    sight = found.sight
    return {
        "name": sight.name,
        "owner": sight.owner,
        "bytes": sight.bytes,
        "encoding": sight.encoding,
        "schemas": len(sight.tables),
        "tables": sight.table_count,
        "extensions": dict(sight.extensions),
        "tenants": [
            {"pattern": item.pattern, "schemas": list(item.schemas), "tables": item.tables, "others": list(item.others)}
            for item in found.tenants
        ],
        "attention": [item.as_dict() for item in found.attention],
    }


def _databases(
    target: Target, server: ServerSight, listed: list[look.Listed], wanted: str
) -> tuple[list[Found], list[str]]:
    """The databases looked at, and the names of those that were not."""
    found: list[Found] = []
    skipped = [item.name for item in listed if not item.open]
    for item in [item for item in listed if item.open]:
        if len(found) == MOST_DATABASES:
            skipped.append(item.name)
            continue
        with contextlib.closing(target.session(item.name)) as session:
            sight = look.read_sight(session, item)
        # the maintenance database is one's own only when somebody put something into it
        if item.name == target.connection.maintenance_database and not sight.table_count and not wanted:
            skipped.append(item.name)
        else:
            found.append(judge(server, sight))
    return found, skipped


def _look_at_server(params: Mapping[str, object], context: Context) -> Result:
    given = cast("dict[str, object]", params["connection"])
    target = Target.from_params(given, "saasops-discover")
    wanted = str(params.get("database") or "")
    with contextlib.closing(target.session(wanted or None)) as session:
        # a pooler in transaction mode answers like a server, and every other verb refuses it
        with contextlib.closing(target.session(wanted or None)) as other:
            refuse_pooler(session, other)
        server, roles, hints = look.read_server(session), look.list_roles(session), look.read_hints(session)
        listed = [item for item in look.list_databases(session) if not wanted or item.name == wanted]
    databases, skipped = _databases(target, server, listed, wanted)
    drafts = database_drafts(databases, cast("dict[str, object]", params.get("variables") or {}), repeated(given))
    lines = server_lines(server, databases, [str(role["name"]) for role in roles if role["login"]], hints)
    if skipped:
        lines.append(f"Not looked at: {', '.join(skipped)}.")
    return Result(
        message=f"PostgreSQL {server.version_text}: {len(databases)} database{'s' if len(databases) != 1 else ''}.",
        evidence={
            "server": {
                "version": server.version_text,
                "version_num": server.version,
                "role": server.role,
                "superuser": server.superuser,
                "in_recovery": server.in_recovery,
                "roles": roles,
                "hints": hints,
            },
            "databases": [_database_dict(found) for found in databases],
            "skipped": skipped,
            "containers": [],
            "inventory": render(_heading(context, f"PostgreSQL {server.version_text}"), drafts),
            "lines": lines,
        },
    )


def _look_at_containers(params: Mapping[str, object], context: Context) -> Result:
    transport = LocalTransport()
    listed = transport.run(["docker", "ps", "--quiet", "--no-trunc"], timeout=30)
    if listed.code != 0:
        raise _docker_failed("docker ps", listed.code, listed.stderr)
    names = listed.stdout.decode().split()
    inspected: list[dict[str, Json]] = []
    if names:
        answer = transport.run(["docker", "inspect", "--type=container", *names], timeout=60)
        # a container that ended meanwhile is no error: docker prints the others and exits 1
        if answer.code != 0 and b"No such" not in answer.stderr:
            raise _docker_failed("docker inspect", answer.code, answer.stderr)
        inspected = cast("list[dict[str, Json]]", json.loads(answer.stdout or b"[]"))
    found = postgres_containers(inspected)
    drafts = container_drafts(found, cast("dict[str, object]", params.get("variables") or {}))
    lines = container_lines(found, len(names))
    return Result(
        message=lines[0],
        evidence={
            "server": {},
            "databases": [],
            "skipped": [],
            "containers": [item.as_dict() for item in found],
            "inventory": render(_heading(context, "the containers of a Docker engine"), drafts),
            "lines": lines,
        },
    )


def _docker_failed(what: str, code: int, stderr: bytes) -> OpsError:
    said = " ".join(stderr.decode("utf-8", "replace").strip().split("\n")[-1].split())
    return OpsError(
        "docker_unreachable",
        f"{what} failed with exit code {code}: {said}.",
        "Check that the Docker engine runs and that this user may use it (group docker, or become).",
    )


def execute(params: dict[str, object], context: Context) -> Result:
    """The module pg_discover_info."""
    if params.get("look_at") == "containers":
        return _look_at_containers(params, context)
    return _look_at_server(params, context)
