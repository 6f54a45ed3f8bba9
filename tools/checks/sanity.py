# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A home for ansible-test, so that its sanity tests need no download of their own and leave the user's home alone.

ansible-test makes a virtual environment per test from requirements it pins itself. It fetches pip's installer
from a host of its own and drops PIP_* variables; a cached installer and a pip.conf in its home settle both.
"""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
from pathlib import Path

from checks.environments import Environment, find_python, pip_environment
from checks.layout import CACHE, CheckError

INSTALLER = Path(__file__).with_name("sanity_pip.py")
# The oldest Python of a managed host; the interpreters of the controller's side are found by ansible-test.
TARGET_PYTHON = "3.9"


def pip_settings(listing: str) -> dict[str, dict[str, str]]:
    """Sections and values of `pip config list`, which prints lines such as `:env:.cert='/etc/ssl/ca.pem'`."""
    sections: dict[str, dict[str, str]] = {}
    for section, name, value in re.findall(r"^(.+?)\.([^.=]+)=(.+)$", listing, re.MULTILINE):
        text = str(ast.literal_eval(value)).replace("\n", "\n\t")
        sections.setdefault("global" if section == ":env:" else section, {})[name] = text
    return sections


def installer_names(source: str) -> set[str]:
    """Under which names ansible-test looks for a cached installer, read from the versions of pip it pins."""
    return {f"get_pip_{version.replace('.', '_')}.py" for version in re.findall(r"\bpip='([0-9.]+)'", source)}


def prepare(environment: Environment) -> dict[str, str]:
    """Make the home for one ansible-core and return the variables that its ansible-test is started with."""
    home = CACHE / "ansible-test" / environment.name
    cached = home / ".ansible" / "test" / "cache"
    cached.mkdir(parents=True, exist_ok=True)
    pins = list(environment.folder.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py"))
    names = installer_names(pins[0].read_text(encoding="utf-8")) if pins else set()
    if not names:
        raise CheckError(f"{environment.name}: this ansible-test does not pin pip in the way tools/checks expects")
    for name in names:
        shutil.copyfile(INSTALLER, cached / name)
    write_pip_configuration(environment, home / ".config" / "pip" / "pip.conf")
    return {"HOME": str(home), "PATH": f"{environment.folder / 'bin'}:{target_pythons()}:/usr/sbin:/usr/bin:/sbin:/bin"}


def own_repository(copy: Path) -> None:
    """Make the copy a repository of its own.

    ansible-test looks for .git upwards and asks git for the files; below the checkout it would find that one, in
    which this copy is ignored, and test nothing.
    """
    if shutil.which("git") and not (copy / ".git").exists():
        subprocess.run(["git", "init", "--quiet", str(copy)], check=True)


def endless(tree: Path) -> list[str]:
    """Parameters named like their own annotation, as "file:line"; ansible-test 2.21 looks for their type for ever.

    Its check of deprecated calls follows the annotation's name in the scope where that name is the parameter again.
    """
    found = []
    for file in sorted(tree.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name) and node.annotation.id == node.arg:
                found.append(f"{file.relative_to(tree)}:{node.lineno}")
    return found


def nothing_tested(log: str) -> bool:
    """Whether ansible-test looked at no file at all, which it calls a success."""
    return "All targets skipped" in log


def write_pip_configuration(environment: Environment, path: Path) -> None:
    """Give ansible-test's pip the caller's settings and the checkout's cache."""
    listing = subprocess.run(
        [str(environment.python), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        env=pip_environment(),
    )
    configuration = configparser.RawConfigParser()
    configuration.read_dict(pip_settings(listing.stdout))
    ours = {"global": {"cache-dir": str(CACHE / "pip"), "quiet": "1"}, "install": {"no-compile": "true"}}
    configuration.read_dict(ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        configuration.write(stream)


def target_pythons() -> Path:
    """A folder with the oldest target Python alone: ansible-test takes every version on PATH, shims included."""
    folder = CACHE / "pythons"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"python{TARGET_PYTHON}"
    python = find_python((TARGET_PYTHON,))
    if python is None:
        raise CheckError(
            f"The import test of managed hosts needs Python {TARGET_PYTHON}: pyenv install {TARGET_PYTHON}"
        )
    if not link.is_symlink() or link.resolve() != python.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(python)
    return folder
