# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments from lock files, made once and made again only when lock or interpreter changed.

A stamp is written last, so that an environment whose making was interrupted is thrown away and made anew.
A file lock lets two runs share one cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from checks.layout import CACHE, REQUIREMENTS, CheckError

NOT_COMPILED = "/ansible_collections/|/tests?/|/pip/"
PROBE = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"


@dataclass(frozen=True)
class Environment:
    """One lock file, the Python versions it may be installed on, best first, and where it is installed."""

    name: str
    pythons: tuple[str, ...]
    locks: Path = REQUIREMENTS
    venvs: Path = CACHE / "venvs"

    @property
    def lock(self) -> Path:
        return self.locks / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        return self.venvs / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("core-2.16", ("3.11", "3.12", "3.10")),
        Environment("core-newest", ("3.13", "3.12", "3.14")),
        Environment("demo", ("3.13", "3.12", "3.14", "3.11")),
        Environment("lint", ("3.13", "3.12", "3.14", "3.11")),
        Environment("target-3.9", ("3.9",)),
    )
}


def candidates(version: str) -> list[Path]:
    """Every file that may be the interpreter of this version ("3.11"): PATH, this one, pyenv, the system's."""
    names = [Path(folder) / f"python{version}" for folder in os.get_exec_path()]
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        names.insert(0, Path(sys.executable))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names += sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
    names += [Path(folder) / f"python{version}" for folder in ("/usr/local/bin", "/usr/bin")]
    return [name for name in dict.fromkeys(names) if os.access(name, os.X_OK)]


def find_python(versions: tuple[str, ...]) -> Path | None:
    """The first working interpreter of these versions; a pyenv shim of a version not switched on does not work."""
    for version in versions:
        for name in candidates(version):
            try:
                answer = subprocess.run(
                    [str(name), "-c", PROBE], capture_output=True, text=True, check=False, timeout=60, cwd="/"
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            found = answer.stdout.strip().split(" ", 1)
            if answer.returncode == 0 and found[0] == version:
                return Path(found[1])
    return None


def pip_environment() -> dict[str, str]:
    """The caller's environment with pip's cache inside the checkout, and nothing that would leak into a venv."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**environment, "PIP_CACHE_DIR": str(CACHE / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def stamp_of(environment: Environment, python: Path) -> str:
    """What an environment was made from: changes when the lock or the interpreter does."""
    lock = hashlib.sha256(environment.lock.read_bytes()).hexdigest()
    return f"{lock} {os.path.realpath(python)}\n"


def ensure(environment: Environment) -> Path:
    """Return the environment's interpreter, making the environment first when it is missing or out of date.

    Raises CheckError when no fitting Python is installed or the installation fails.
    """
    python = find_python(environment.pythons)
    if python is None:
        wanted = " or ".join(environment.pythons)
        raise CheckError(
            f"requirements/{environment.name}.txt needs Python {wanted}, and none is on PATH or in pyenv. "
            f"Install one, for example: pyenv install {environment.pythons[0]}"
        )
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(environment.folder.with_suffix(".lock"), "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        stamp = environment.folder / "stamp"
        wanted_stamp = stamp_of(environment, python)
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted_stamp:
            return environment.python
        make(environment, python)
        stamp.write_text(wanted_stamp, encoding="utf-8")
    return environment.python


def make(environment: Environment, python: Path) -> None:
    """Make the environment from nothing.

    Byte code is made for everything but Ansible's collections: for those it takes 40 s and serves nothing, since
    modules travel as source; without any, each start of ansible-playbook would compile for seconds.
    """
    shutil.rmtree(environment.folder, ignore_errors=True)
    pip = [str(environment.python), "-m", "pip", "--no-input"]
    compileall = [
        str(environment.python),
        "-m",
        "compileall",
        "-q",
        "-j",
        "2",
        "-x",
        "/ansible_collections/|/tests?/|/pip/",
    ]
    for argv in (
        [str(python), "-m", "venv", str(environment.folder)],
        [*pip, "install", "--quiet", "--no-compile", "--no-deps", "--requirement", str(environment.lock)],
        [*pip, "check"],
        [*compileall, str(environment.folder / "lib")],
    ):
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=pip_environment(), stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            hint = ""
            if "ensurepip is not available" in done.stdout:
                hint = "\nInstall what makes virtual environments: apt-get install python3-venv"
            raise CheckError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}{hint}")
