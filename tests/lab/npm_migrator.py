# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real migrator of an application: node-pg-migrate, as its lock file pins it, installed once by `npm ci`.

It needs node and npm (tools/debian.txt). npm asks the registry that is configured for its user.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ansible_collections.saasops.runbook.tests.lab import scratch

PROJECT = Path(__file__).with_name("npm")


def install() -> Path:
    """The folder with node_modules, made by the first who asks for this lock file."""
    pinned = (PROJECT / "package-lock.json").read_bytes()
    kept = scratch.base() / f"npm-{hashlib.sha256(pinned).hexdigest()[:12]}"
    if not (kept / "node_modules").is_dir():
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        partial.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROJECT / name, partial / name)
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=partial,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm ci failed: {done.stderr[-2000:]}")
        try:
            partial.rename(kept)
        except OSError:
            shutil.rmtree(partial)
    return kept


def project(folder: Path) -> Path:
    """An application of the test's own in folder: its migrations, and the shared node_modules."""
    kept = install()
    shutil.copytree(PROJECT / "migrations", folder / "migrations")
    shutil.copy(PROJECT / "package.json", folder / "package.json")
    (folder / "node_modules").symlink_to(kept / "node_modules")
    return folder
