# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of this collection, as it is installed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re


@functools.lru_cache(maxsize=1)
def collection_version() -> str:
    """From MANIFEST.json of an installed collection, or galaxy.yml of a checkout; "" when neither tells."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with contextlib.suppress(OSError, ValueError, KeyError), open(os.path.join(root, "MANIFEST.json"), "rb") as stream:
        return str(json.load(stream)["collection_info"]["version"])
    with contextlib.suppress(OSError), open(os.path.join(root, "galaxy.yml"), encoding="utf-8") as stream:
        found = re.search(r"^version:\s*(\S+)", stream.read(), re.MULTILINE)
        return found.group(1).strip("\"'") if found else ""
    return ""
