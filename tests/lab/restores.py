# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores and exchanges on lab servers: in this process, or as a module's own process that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.execute import restore as execute_restore
from ansible_collections.saasops.runbook.plugins.module_utils.execute import swap as execute_swap
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.acts import context, parameters
from ansible_collections.saasops.runbook.tests.lab.playbooks import COLLECTIONS
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

MODULES = "ansible_collections.saasops.runbook.plugins.modules"
RESTORE: Mapping[str, object] = {"set": "latest", "staging": "/var/tmp"}


def restore(
    server: Server,
    store: Path,
    database: str,
    *,
    check: bool = False,
    lines: list[str] | None = None,
    **changes: object,
) -> Result:
    """pg_restore of a set in a folder."""
    return execute_restore.execute(parameters(server, store, database, {**RESTORE, **changes}), context(check, lines))


def swap(
    server: Server,
    store: Path,
    database: str,
    state: str,
    *,
    check: bool = False,
    lines: list[str] | None = None,
    **changes: object,
) -> Result:
    """pg_swap to a state."""
    given = parameters(server, store, database, {"state": state, "restore": "latest", **changes})
    return execute_swap.execute(given, context(check, lines))


def fact(result: Result, name: str, part: str = "restore") -> str:
    """One value of the evidence."""
    found = result.evidence[part]
    assert isinstance(found, dict)
    return str(found[name])


def databases(server: Server, beginning: str = "") -> dict[str, int]:
    """Name -> oid of the databases whose name begins so."""
    rows = server.psql("SELECT json_object_agg(datname, oid::bigint) FROM pg_database")
    found: dict[str, int] = json.loads(rows)
    return {name: oid for name, oid in found.items() if name.startswith(beginning)}


def drop_family(server: Server, database: str) -> None:
    """Drop a database, its copies and what half-done restores left; for the end of a test."""
    for name in databases(server):
        # the template is the session's, and begins like a database that a test calls demo
        if name == "demo_template":
            continue
        if name == database or name.startswith((f"{database}_", "saasops_building_")):
            server.psql(f"UPDATE pg_database SET datistemplate = false, datallowconn = true WHERE datname = '{name}'")
            server.dropdb(name)


def record(store: Path, identifier: str = "") -> dict[str, object]:
    """The newest record of a restore, or the one with this id."""
    place = PosixStore(str(store))
    keys = [info.key for info in place.list("restores/") if identifier in info.key]
    return dict(sets.read_json(place, keys[-1]))


@contextlib.contextmanager
def process(module: str, given: Mapping[str, object]) -> Iterator[subprocess.Popen[str]]:
    """A module (pg_restore, pg_swap) as a process of its own, as Ansible starts it; killed at the end."""
    arguments = {name: value for name, value in given.items() if value is not None}
    with subprocess.Popen(
        [sys.executable, "-m", f"{MODULES}.{module}"],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        child.stdin.close()
        child.stdin = None
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)


def outcome(child: subprocess.Popen[str], timeout: float = 60) -> dict[str, object]:
    """What the module said: its JSON."""
    said, _none = child.communicate(timeout=timeout)
    answer: dict[str, object] = json.loads(said)
    return answer


def until(condition: Callable[[], object], seconds: float = 20, every: float = 0.003) -> None:
    """Wait for a condition; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)


def content(server: Server, database: str) -> str:
    """A checksum of every row of every table, by psql, which shares no code with what is tested."""
    statement = server.psql(
        "SELECT string_agg(format('SELECT %L AS t, count(*), sum(hashtextextended(x.*::text, 0)::numeric)"
        " FROM ONLY %I.%I AS x', n.nspname || '.' || c.relname, n.nspname, c.relname), ' UNION ALL '"
        " ORDER BY n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
        database,
    )
    return server.psql(f"SET row_security = off; SELECT * FROM ({statement}) AS every ORDER BY 1", database)
