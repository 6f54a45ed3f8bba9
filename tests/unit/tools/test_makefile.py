# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Makefile: targets that explain themselves, and a connection string that no one else can read."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DSN = "postgresql://me:pa$$w$(x)rd'\"@host/name"

# Stands in for the environment's Python: says with which words and variables it was started.
WITNESS = """#!{python}
import json, os, sys
print(json.dumps({{"argv": sys.argv, "DSN": os.environ.get("DSN")}}))
"""


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**{n: v for n, v in os.environ.items() if n not in ("DSN", "MAKEFLAGS")}, **variables}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )


def executable(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python that answers tools/environment.py with the path of the witness."""
    witness = executable(tmp_path / "witness", WITNESS.format(python=sys.executable))
    return executable(tmp_path / "python", f"#!/bin/sh\necho '{witness}'\n")


def test_help_is_the_default_and_names_every_target() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    said = make().stdout
    assert {line.split()[1] for line in said.splitlines()} == set(targets.group(1).split())


def test_the_connection_string_arrives_unchanged_by_environment_and_is_not_printed(python: Path) -> None:
    done = make("try", f"DSN={DSN}", f"PYTHON={python}")
    assert json.loads(done.stdout) == {"argv": [str(python.parent / "witness"), "tools/try_database.py"], "DSN": DSN}
    assert done.stderr == ""


def test_a_connection_string_that_is_in_the_environment_already_needs_no_argument(python: Path) -> None:
    assert json.loads(make("try", f"PYTHON={python}", DSN=DSN).stdout)["DSN"] == DSN
