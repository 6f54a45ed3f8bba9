# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the Python of one of the project's environments, making the environment first when needed."""

from __future__ import annotations

import argparse
import sys

from checks.environments import ENVIRONMENTS, ensure
from checks.layout import CheckError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(ENVIRONMENTS))
    environment = ENVIRONMENTS[parser.parse_args().name]
    if not (environment.folder / "stamp").is_file():
        print(f"Installing requirements/{environment.name}.txt into .cache/venvs (about 20 s) ...", file=sys.stderr)
    try:
        print(ensure(environment))
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
