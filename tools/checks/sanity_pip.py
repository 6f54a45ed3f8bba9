# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the get-pip script that ansible-test would download: pip from the interpreter's own ensurepip.

ansible-test runs its cached copy inside each virtual environment that it makes, with pip's options as arguments.
"""

from __future__ import annotations

import subprocess
import sys

options = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
# A process of its own, because ensurepip switches pip's configuration off for the process it runs in.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *options], check=False).returncode)
