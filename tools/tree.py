# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay the collection's files out as ansible_collections/saasops/runbook.

ansible-test, mypy and Python imports all need that path, and ansible-test refuses a symlink to it.
Copies what git tracks or would track, only where it changed, and removes what is gone, so that a
second call costs milliseconds.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def wanted(root: Path) -> list[Path]:
    """Relative paths of all files git tracks or does not ignore; without git, all but hidden and built ones."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [Path(os.fsdecode(n)) for n in listing.stdout.split(b"\0") if n]
    else:
        skip = {"ansible_collections", "__pycache__"}
        names = [
            p.relative_to(root)
            for p in root.rglob("*")
            if not any(part in skip or part.startswith(".") for part in p.relative_to(root).parts)
        ]
    return [n for n in names if (root / n).is_file()]


def lay_out(target: Path, root: Path = ROOT) -> int:
    """Bring target to the state of root and return the number of files copied or removed."""
    files = set(wanted(root))
    changed = 0
    for name in files:
        source, copy = root / name, target / name
        if copy.is_file() and filecmp.cmp(source, copy, shallow=False) and source.stat().st_mode == copy.stat().st_mode:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
        changed += 1
    if target.is_dir():
        for copy in list(target.rglob("*")):
            relative = copy.relative_to(target)
            # ansible-test writes its results and reads git's metadata inside the tree
            if relative.parts[0] == ".git" or relative.parts[:2] == ("tests", "output"):
                continue
            if copy.is_file() and relative not in files and "__pycache__" not in relative.parts:
                copy.unlink()
                changed += 1
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT, help="folder that will hold ansible_collections/")
    target = parser.parse_args().to / "ansible_collections" / "saasops" / "runbook"
    lay_out(target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
