# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of one restore: from the moment before it creates a database until nothing of it is left to decide.

It lies in the store as restores/<id>.json, so that an interrupted run tells the next one what there is to clean up
or to finish, and so that undo and finish know which databases they speak of, by oid and not only by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

FORMAT = 1
NAME_LIMIT = 63
# building: a database is being made; verified: it is whole, under the target's name; switching and undoing: a rename
# is under way; switched: it is live; undone: it was live and is not any more; failed, finished: nothing is left of it
STATES = ("building", "verified", "switching", "switched", "undoing", "undone", "failed", "finished")


# the reason of a restore that serves a drill: never switched unless it is named
DRILL = "drill"
# of a record that was made anew from the server's catalog, because the store did not answer
CATALOG = "catalog"


@dataclass(frozen=True)
class Restoration:
    """One restore. Times are ISO 8601 in UTC, '' when it has not happened; oids are 0 while unknown.

    database: the live name. target: the name of the restored database while it stands beside. building: its name
    until it is verified. aside: the name of the database that the last switch or undo moved out of the way, and that
    finish drops. newer: while an undo is under way, the name that the restored database will be kept under.
    counters: rows written per table (fingerprint's counters) in the restored database right before it went live.
    aside_sequences: the sequences of the database aside, because a closed database cannot be asked.
    paused: pools of poolers that were to be paused and have not been seen resumed.
    """

    id: str
    system: str
    set: str
    database: str
    target: str
    building: str
    server: str
    state: str
    started: str
    partial: bool = False
    in_place: bool = False
    schemas: tuple[str, ...] = ()
    staging: str = ""
    target_oid: int = 0
    roles_created: tuple[str, ...] = ()
    verified_at: str = ""
    snapshot_at: str = ""
    aside: str = ""
    aside_oid: int = 0
    newer: str = ""
    switched_at: str = ""
    undone_at: str = ""
    finished_at: str = ""
    counters: Mapping[str, Json] = field(default_factory=dict)
    aside_sequences: Mapping[str, Json] = field(default_factory=dict)
    vacuum_left: tuple[str, ...] = ()
    reason: str = ""
    paused: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """The record's body."""
        body = cast("dict[str, Json]", asdict(self))
        for name in ("schemas", "roles_created", "vacuum_left", "paused"):
            body[name] = list(cast("tuple[str, ...]", getattr(self, name)))
        return {"format": FORMAT, **body}


def key(identifier: str) -> str:
    """Where the record lies in the store."""
    return f"restores/{identifier}.json"


def parse(body: Mapping[str, Json]) -> Restoration:
    """The reverse of as_json. Raises OpsError record_unreadable."""
    try:
        if int(str(body["format"])) > FORMAT:
            raise ValueError(f"format {body['format']}")
        known = {item.name for item in fields(Restoration)}
        values: dict[str, object] = {name: value for name, value in body.items() if name in known}
        for name in ("schemas", "roles_created", "vacuum_left", "paused"):
            values[name] = tuple(cast("list[str]", body.get(name) or []))
        found = Restoration(**values)  # type: ignore[arg-type]
        if found.state not in STATES:
            raise ValueError(f"state {found.state}")
    except (KeyError, TypeError, ValueError) as error:
        raise OpsError(
            "record_unreadable",
            f"A record of an earlier restore cannot be read ({error}).",
            "Update the collection if a newer one wrote it; otherwise look at restores/ in the store.",
        ) from error
    return found


def fitted(database: str, suffix: str) -> str:
    """database + suffix as a name that PostgreSQL keeps whole: at most 63 bytes, cut between characters."""
    room = NAME_LIMIT - len(suffix.encode())
    return database.encode()[:room].decode("utf-8", "ignore") + suffix


def of_database(records: Iterable[Restoration], database: str, server: str) -> list[Restoration]:
    """The records of one live name on one server, oldest first."""
    return sorted(
        (r for r in records if r.database == database and r.server == server), key=lambda r: (r.started, r.id)
    )
