# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys a store takes: one rule for every implementation, so that no key leaves the store's root."""

from __future__ import annotations

import re

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

# A part never starts with a dot: no "..", and nothing that a posix store keeps for itself (".tmp").
_PART = r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_PREFIX = re.compile(rf"(?:{_PART}/)*(?:{_PART})?\Z")
LONGEST = 900  # S3 allows 1,024 bytes, of which the store's own prefix takes some


def valid_key(key: str) -> bool:
    """Whether an object may have this key."""
    return len(key) <= LONGEST and _KEY.match(key) is not None


def check_key(key: str) -> str:
    """The key itself. Raises OpsError bad_key."""
    if not valid_key(key):
        raise _refusal(key)
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself: empty, or the beginning of a valid key. Raises OpsError bad_key."""
    if len(prefix) > LONGEST or _PREFIX.match(prefix) is None:
        raise _refusal(prefix)
    return prefix


def _refusal(key: str) -> OpsError:
    return OpsError(
        "bad_key",
        f"{key[:120]!r} is not a key of an object store.",
        "Keys are made of letters, digits, '.', '_', '=', '-' and '/', and no part starts with a dot.",
    )
