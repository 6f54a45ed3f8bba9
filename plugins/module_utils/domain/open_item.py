# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Something that a run opened and that somebody has to close: recorded before it is opened, with its way back.

It lies in the store as open/<id>.json, so that whoever comes next finds it, however the run ended. The id names what
is open, not the run: the same thing is open only once, and a second run that opens it again continues the first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, utc
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso, posix

FORMAT = 1
ROOT = "open/"
ID = re.compile(r"[a-z][a-z0-9-]{2,79}\Z")
# seconds after its end in which the item's own actor (a timer) may still be at it
GRACE = 30.0


@dataclass(frozen=True)
class OpenItem:
    """One open thing. Times are POSIX seconds.

    what: a sentence. opened_by: the run. process: the run's process on its controller (process.Process), for the
    proof that it is gone. expiry: when it ends by itself, None when it does not. outlives: it is meant to stay open
    after its run, until expiry or until somebody closes it; otherwise it is over with its run.
    module, undo: which of our modules puts it back, and with which options; data only, no commands, no secrets.
    actor: who ends it at its expiry (a systemd timer), "" when nobody does by himself.
    holds: the verbs that it holds back while it is open (domain/withheld.py).
    """

    id: str
    system: str
    host: str
    what: str
    verb: str
    opened_by: str
    operator: str
    opened: float
    module: str
    undo: Mapping[str, Json]
    expiry: float | None = None
    outlives: bool = False
    actor: str = ""
    process: Mapping[str, Json] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """The object's body."""
        return {
            "format": FORMAT,
            "id": self.id,
            "state": "open",
            "system": self.system,
            "host": self.host,
            "what": self.what,
            "verb": self.verb,
            "run": self.opened_by,
            "operator": self.operator,
            "opened": iso(self.opened),
            "expiry": None if self.expiry is None else iso(self.expiry),
            "outlives": self.outlives,
            "actor": self.actor,
            "process": dict(self.process),
            **({"holds": list(self.holds)} if self.holds else {}),
            "undo": {"module": self.module, "options": dict(self.undo)},
        }


def key(identifier: str) -> str:
    """Where an item lies. Raises OpsError bad_item for an id that is no key."""
    if not ID.match(identifier):
        raise OpsError("bad_item", f"{identifier[:80]!r} cannot name an open item.", "Use a-z, 0-9 and hyphens.")
    return f"{ROOT}{identifier}.json"


def parse(body: Mapping[str, Json]) -> OpenItem | None:
    """The reverse of as_json; None for one that was closed. Raises OpsError item_unreadable."""
    try:
        if int(str(body["format"])) > FORMAT:
            raise ValueError(f"format {body['format']}")
        if body["state"] == "closed":
            return None
        undo, process, holds = body["undo"], body.get("process"), body.get("holds") or []
        if not isinstance(holds, (list, tuple)):
            raise ValueError("holds")
        if not isinstance(undo, Mapping) or not isinstance(undo["options"], Mapping):
            raise ValueError("undo")
        return OpenItem(
            id=str(body["id"]),
            system=str(body["system"]),
            host=str(body["host"]),
            what=str(body["what"]),
            verb=str(body["verb"]),
            opened_by=str(body["run"]),
            operator=str(body.get("operator") or ""),
            opened=posix(str(body["opened"])),
            module=str(undo["module"]),
            undo=dict(undo["options"]),
            expiry=None if body.get("expiry") is None else posix(str(body["expiry"])),
            outlives=bool(body.get("outlives")),
            actor=str(body.get("actor") or ""),
            process=dict(process) if isinstance(process, Mapping) else {},
            holds=tuple(str(verb) for verb in holds),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OpsError(
            "item_unreadable",
            f"A record of something open cannot be read ({error}).",
            "Update the collection if a newer one wrote it; otherwise look at open/ in the store.",
        ) from error


def closed(item: OpenItem, by: str, how: str, now: float) -> dict[str, Json]:
    """The body of an item that is over, for a store in which it cannot be deleted."""
    return {**item.as_json(), "state": "closed", "closed": {"at": iso(now), "run": by, "how": how}}


def over(item: OpenItem, now: float, dead: Collection[str], grace: float = GRACE) -> str:
    """Why an item is to be put back now; "" while it is rightly open.

    dead: runs that are known to be over. An actor of its own is given grace seconds before somebody else steps in.
    """
    if item.expiry is not None and now >= item.expiry + (grace if item.actor else 0.0):
        return f"it was to end {utc(item.expiry)}"
    if not item.outlives and item.opened_by in dead:
        return f"run {item.opened_by} is over"
    return ""


def line(item: OpenItem, now: float) -> str:
    """One item for a terminal."""
    until = "until somebody ends it"
    if item.expiry is not None:
        left = item.expiry - now
        ends = f"ends by itself in {human_duration(left)}" if item.actor else f"to be ended in {human_duration(left)}"
        until = ends if left > 0 else f"was to end {human_duration(-left)} ago"
    elif not item.outlives:
        until = "until its run ends"
    return f"OPEN {item.id}: {item.what}; since {utc(item.opened)} by {item.operator or '?'} ({item.verb}), {until}."


def runs_of(items: Sequence[OpenItem]) -> dict[str, Mapping[str, Json]]:
    """Run -> its process, of everything that is over with its run."""
    return {item.opened_by: item.process for item in items if not item.outlives and item.process}
