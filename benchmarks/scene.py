# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the figures are made: one server, one database, one store folder, one staging volume, all on disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.benchmarks.baselines import BASELINES
from ansible_collections.saasops.runbook.benchmarks.programs import FailedError, Ran, run_module, run_steps
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import acts, demo, disk, postgres, scratch

DATABASE = "demo"
# of this run's own: a backup ends what an interrupted one of the same system and database left on this machine
SYSTEM = f"benchmarks-{os.getpid()}"
VERSION = 18
# loading in parallel, fsync and full-page writes as they are by default; for both sides the same
SETTINGS: Mapping[str, str] = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
MIB = 1024 * 1024


@dataclass(frozen=True)
class Scene:
    """server with DATABASE in it; folder: on the server's disk, for stores; staging: a volume of its own.

    staging_kind says which volume that is, for the table.
    """

    server: postgres.Server
    folder: Path
    staging: Path
    staging_kind: str
    tell: Callable[[str], None]

    def store(self, name: str) -> Path:
        """A folder for a store or a dump; made empty by `fresh`."""
        return self.folder / name

    def fresh(self, name: str) -> Path:
        """An empty folder of that name."""
        path = self.store(name)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def settle(self) -> None:
        """Let nothing of what was before be written during what comes now."""
        self.server.psql("CHECKPOINT")
        os.sync()

    def module(self, name: str, store: Mapping[str, object], **changes: object) -> Ran:
        """One of our modules on the database. Raises FailedError."""
        given = {"system": SYSTEM, "database": DATABASE, "connection": acts.connection(self.server), "store": store}
        return run_module(name, {**given, **changes})

    def baseline(self, name: str, store: Path, **values: str) -> float:
        """Run a baseline of the list; seconds. Raises FailedError."""
        words = {"bin": str(self.server.bin), "database": DATABASE, "store": str(store), "staging": str(self.staging)}
        steps = [step.filled({**words, **values}) for step in BASELINES[name]]
        return run_steps(steps, {**self.server.environment(), "LC_ALL": "C"})

    def drop_others(self) -> None:
        """Drop every database but the live one, which gets its name back when it stands aside."""
        names = json.loads(self.server.psql("SELECT json_object_agg(datname, oid::bigint) FROM pg_database"))
        original = int((self.folder / "oid").read_text(encoding="ascii"))
        for name, oid in names.items():
            if name.startswith((DATABASE, "saasops_building_")) and oid != original:
                self.server.dropdb(name)
        for name, oid in names.items():
            if oid == original and name != DATABASE:
                self.server.psql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
                self.server.psql(f'ALTER DATABASE "{name}" RENAME TO "{DATABASE}"')


def posix(folder: Path) -> dict[str, object]:
    """The option store for a folder."""
    return {"type": "posix", "path": str(folder)}


def folder_bytes(folder: Path) -> int:
    """All files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def staging_volume(megabytes: float) -> Iterator[tuple[Path, str]]:
    """A volume of its own for staging: ext4 in a loop-mounted file on the same disk; without root, memory."""
    try:
        with disk.small(int(megabytes * 1.3) + 300, "ext4") as point:
            yield point, "ext4 on the same disk, loop-mounted"
            return
    except OpsError as error:
        if error.code != "disk_not_mounted":
            raise
    folder = scratch.claim("staging", in_memory=True)
    try:
        folder.chmod(0o777)
        yield folder, "memory (tmpfs): not root, so no volume of its own could be mounted"
    finally:
        scratch.release(folder)


@contextlib.contextmanager
def scene(megabytes: float, tell: Callable[[str], None]) -> Iterator[Scene]:
    """A durable server with the demo database (seed 1) of about this size."""
    folder = scratch.claim("bench")
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(postgres.running(VERSION, durable=True, settings=SETTINGS))
            staging, kind = stack.enter_context(staging_volume(megabytes))
            tell(f"making the demo database of {megabytes:,.0f} MB")
            demo.create(server, DATABASE, parameters=demo.Parameters(megabytes))
            oid = server.psql(f"SELECT oid FROM pg_database WHERE datname = '{DATABASE}'")
            (folder / "oid").write_text(oid, encoding="ascii")
            yield Scene(server, folder, staging, kind, tell)
    finally:
        scratch.release(folder)


__all__ = ["DATABASE", "SYSTEM", "FailedError", "Scene", "folder_bytes", "posix", "scene"]
