# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the checkout, the laid-out tree, and the git-ignored cache."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
LOGS = CACHE / "logs"
RESULTS = CACHE / "results"
REQUIREMENTS = ROOT / "requirements"
COLLECTION = Path("ansible_collections") / "saasops" / "runbook"
TREE = ROOT / COLLECTION


class CheckError(Exception):
    """Something the person who runs the checks can put right; the message says what and how."""
