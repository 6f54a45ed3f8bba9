# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells the processes of this run from what an interrupted one left behind."""

from __future__ import annotations

import os

# Environment variable of everything a transport starts: "<run>-<more>". transport/agent.py spells it out too.
MARK = "SAASOPS_EXEC"

# This Python process; several transports of it are one run.
RUN = os.urandom(8).hex()
