# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write requirements/*.txt anew: every package that requirements/*.in pulls in, exactly pinned.

A lock for several Python versions is resolved once on each; where the answers differ, the lines carry markers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from checks.environments import find_python, pip_environment
from checks.layout import REQUIREMENTS, CheckError

# The lowest Python of each range that is resolved on its own; a newer Python takes the last one's answer.
RESOLVED_ON = {
    "core-2.16": ("3.11",),
    "core-newest": ("3.12",),
    "demo": ("3.11", "3.12"),
    "lint": ("3.11", "3.12"),
    "target-3.9": ("3.9",),
}


def resolve(name: str, version: str) -> list[str]:
    """The `name==version` lines that the newest fitting packages give on one Python version."""
    python = find_python((version,))
    if python is None:
        raise CheckError(f"locking {name} needs Python {version}, and none is on PATH or in pyenv")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "bin" / "python"
        subprocess.run([str(python), "-m", "venv", folder], check=True)
        install = ["install", "--quiet", "--no-compile", "--upgrade", "--upgrade-strategy", "eager"]
        source = str(REQUIREMENTS / f"{name}.in")
        subprocess.run([str(fresh), "-m", "pip", *install, "-r", source], check=True, env=pip_environment())
        frozen = subprocess.run(
            [str(fresh), "-m", "pip", "freeze"], check=True, env=pip_environment(), capture_output=True, text=True
        )
    return sorted(frozen.stdout.split("\n")[:-1], key=str.lower)


def merge(answers: dict[str, list[str]]) -> list[str]:
    """One list for all versions: a line that all share stands alone, any other says from and up to which Python."""
    versions = list(answers)
    lines = sorted({line for answer in answers.values() for line in answer}, key=str.lower)
    merged = []
    for line in lines:
        held = [version for version in versions if line in answers[version]]
        if held == versions:
            merged.append(line)
            continue
        for version in held:
            follower = versions.index(version) + 1
            bounds = [f'python_version >= "{version}"'] if version != versions[0] else []
            if follower < len(versions):
                bounds.append(f'python_version < "{versions[follower]}"')
            merged.append(f"{line} ; {' and '.join(bounds)}")
    return merged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*RESOLVED_ON, []], help="which locks (default: all)")
    for name in parser.parse_args().names or RESOLVED_ON:
        lines = merge({version: resolve(name, version) for version in RESOLVED_ON[name]})
        heading = f"# Made by tools/lock.py from {name}.in; do not edit."
        (REQUIREMENTS / f"{name}.txt").write_text("\n".join([heading, *lines, ""]), encoding="utf-8")
        print(f"requirements/{name}.txt: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
