# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian packages of tools/debian.txt: which are missing, and installing them when run by root."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from checks.layout import ROOT, CheckError

LIST = ROOT / "tools" / "debian.txt"
ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Package:
    """A package, the group of tests that asks for it, and the file or command that proves it is there."""

    group: str
    name: str
    proof: str

    @property
    def present(self) -> bool:
        if self.proof.startswith("/"):
            return Path(self.proof).exists()
        path = os.pathsep.join([*os.get_exec_path(), *ADMIN_FOLDERS])
        return shutil.which(self.proof, path=path) is not None


def read(text: str) -> list[Package]:
    """The packages of a list in the form of tools/debian.txt."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Package(group, name, proof) for group, name, proof in rows]


def missing(groups: frozenset[str]) -> list[Package]:
    """What these groups of tests need and this machine does not have."""
    return [p for p in read(LIST.read_text(encoding="utf-8")) if p.group in groups and not p.present]


def install(groups: frozenset[str]) -> str:
    """Install what is missing and say what was done. Raises CheckError when that is not possible here."""
    wanted = [package.name for package in missing(groups)]
    if not wanted:
        return "nothing missing"
    command = f"apt-get install --no-install-recommends {' '.join(wanted)}"
    if shutil.which("apt-get") is None:
        raise CheckError(f"These are missing, and this is no Debian to install them on: {' '.join(wanted)}")
    if os.geteuid() != 0:
        raise CheckError(f"Missing packages, and only root may install them. Run: sudo {command}")
    # RUNLEVEL=1 keeps the packages from starting services of their own: tests start private ones.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for argv in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "--yes", *command.split()[1:]]):
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        # An update that fails for one of many sources still lets what is known be installed.
        if done.returncode != 0 and "install" in argv:
            raise CheckError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    left = [package.name for package in missing(groups)]
    if left:
        raise CheckError(f"Installed, but not found afterwards: {' '.join(left)}")
    return f"installed {' '.join(wanted)}"
