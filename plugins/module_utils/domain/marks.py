# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the small records beside a set say of it: its pin, its proofs, the restores and drills that need it.

They are written by different verbs, by hand, and by later releases. What cannot be understood is read on the
safe side: an unreadable pin pins, an unknown proof proves nothing, an unknown state is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import PROOFS, Pin

CLOSED = ("finished", "failed", "undone", "abandoned", "passed", "closed")
_TIMES = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d")


def parse_moment(text: str) -> float:
    """POSIX seconds of an ISO 8601 time in UTC, or of a day (its end). Raises ValueError."""
    for form in _TIMES:
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
        return moment + 86400 if form == "%Y-%m-%d" else moment
    raise ValueError(f"{text!r} is not a time like 2026-11-22T20:17:47Z or 2026-11-22")


def read_pin(record: Mapping[str, Json] | None) -> Pin | None:
    """The pin of pin.json; one that cannot be read holds for ever and says so."""
    if record is None:
        return None
    reason = str(record.get("reason") or "no reason given")
    until = record.get("until")
    if until is None:
        return Pin(reason)
    try:
        return Pin(reason, parse_moment(str(until)))
    except ValueError:
        return Pin(f"{reason}; its expiry {str(until)[:40]!r} cannot be read")


def proof_level(manifest_proof: Mapping[str, Json], records: Iterable[Mapping[str, Json]]) -> str:
    """ "" (never verified), "failed", or one of PROOFS.

    Records are taken by their time: a failure takes everything earlier back, a later success stands again.
    """
    level = ""
    for record in sorted((manifest_proof, *records), key=lambda item: str(item.get("at") or "")):
        found = str(record.get("level") or "")
        if found == "failed":
            level = "failed"
        elif found in PROOFS and (level not in PROOFS or PROOFS.index(found) > PROOFS.index(level)):
            level = found
    return level


def open_use(kind: str, name: str, record: Mapping[str, Json]) -> tuple[str, str] | None:
    """(set id, "restore 20261122...") when a record of restores/ or drills/ still needs a set.

    A record with an outcome was written when all was over.
    """
    set_id = record.get("set")
    state = str(record.get("state") or "unknown")
    if not isinstance(set_id, str) or state in CLOSED or "outcome" in record:
        return None
    return set_id, f"{kind} {name} ({state})"


def disproof(record: Mapping[str, Json]) -> tuple[str, dict[str, Json]] | None:
    """(set id, a failed proof) when a drill's record names differences between a set and what it restored to.

    A drill that failed for its time or the health of an application says nothing against the set.
    """
    set_id = record.get("set")
    if not isinstance(set_id, str) or record.get("outcome") != "failed" or not record.get("differences"):
        return None
    return set_id, {"level": "failed", "at": record.get("at")}
