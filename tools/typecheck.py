# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run mypy over the laid-out tree: the plugins and tests by their import path, the tools as the scripts they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COLLECTION = Path.cwd()
IMPORT_ROOT = COLLECTION.parents[2]


def main() -> int:
    configuration = str(COLLECTION / "pyproject.toml")
    mypy = [sys.executable, "-m", "mypy", "--config-file", configuration]
    packages = [
        f"ansible_collections/saasops/runbook/{name}"
        for name in ("plugins", "tests/lab", "tests/conftest.py", "benchmarks")
        if (COLLECTION / name).exists()
    ]
    # Some tools import the lab by its full name.
    beside_plugins = {**os.environ, "MYPYPATH": str(IMPORT_ROOT)}
    results = [
        subprocess.run([*mypy, *packages], cwd=IMPORT_ROOT, check=False).returncode,
        subprocess.run([*mypy, "."], cwd=COLLECTION / "tools", check=False, env=beside_plugins).returncode,
    ]
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
