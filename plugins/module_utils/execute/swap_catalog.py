# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An undo without the record of its switch: what the server's catalog shows, while the store does not answer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import CATALOG, Restoration, key
from ansible_collections.saasops.runbook.plugins.module_utils.domain.swap import aside_name
from ansible_collections.saasops.runbook.plugins.module_utils.execute.swap_scene import SwapJob
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import server_state as look
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.restorations import save

_STAMP = re.compile(r"_before_(\d{8}t\d{6}z)\Z")


def from_catalog(job: SwapJob, wanted: str) -> Restoration:
    """A record of the switch that moved a closed database aside; wanted is latest, or the name of that database.

    Raises OpsError nothing_to_undo, undo_ambiguous.
    """
    closed = job.session.rows(
        "SELECT oid::bigint AS oid, datname::text AS name FROM pg_database WHERE NOT datallowconn ORDER BY 2"
    )
    found: dict[str, tuple[int, datetime]] = {}
    for row in closed:
        name, match = str(row["name"]), _STAMP.search(str(row["name"]))
        # the very name that a switch gives, so that a database of a longer name is not taken for ours
        if match and name == aside_name(job.database, "before", match.group(1)):
            moment = datetime.strptime(match.group(1), "%Y%m%dt%H%M%Sz").replace(tzinfo=timezone.utc)
            found[name] = (int(str(row["oid"])), moment)
    if wanted != "latest":
        found = {name: facts for name, facts in found.items() if name == wanted}
    if not found:
        raise OpsError(
            "nothing_to_undo",
            f"The store does not answer, and no closed database stands aside that {job.database!r} was switched from.",
            "Look at the databases with psql -l; with the store back, run the undo again.",
        )
    if len(found) > 1:
        raise OpsError(
            "undo_ambiguous",
            f"The store does not answer, and several databases stand aside: {', '.join(found)}.",
            "Name the one to go back to: -e restore=<name of the database>.",
            {"databases": list(found)},
        )
    ((name, (oid, moment)),) = found.items()
    word = hashlib.sha256(f"{job.server} {oid}".encode()).hexdigest()[:8]
    return Restoration(
        id=f"{moment.strftime('%Y%m%dT%H%M%SZ')}-{word}",
        system=job.system,
        set="",
        database=job.database,
        target="",
        building="",
        server=job.server,
        state="switched",
        started=iso(moment.timestamp()),
        target_oid=look.database_oid(job.session, job.database) or 0,
        aside=name,
        aside_oid=oid,
        switched_at=iso(moment.timestamp()),
        reason=CATALOG,
    )


def adopted(store: Store, records: list[Restoration], *, check_mode: bool) -> tuple[list[Restoration], list[str]]:
    """The records once those made from a catalog are told by the switch's own record, and a sentence for each.

    A record whose switch is known nowhere stays: restore_finish works by it.
    """
    kept = [record for record in records if record.reason != CATALOG]
    said = []
    for made in [record for record in records if record.reason == CATALOG]:
        own = next((record for record in kept if _same_switch(record, made)), None)
        if own is None:
            kept.append(made)
            continue
        after = replace(
            own,
            state=made.state,
            undone_at=made.undone_at,
            aside=made.aside,
            aside_oid=made.aside_oid,
            aside_sequences=made.aside_sequences,
            newer=made.newer,
            paused=made.paused,
        )
        kept[kept.index(own)] = after
        said.append(f"Restore {own.id} was undone while the store was away; its record says so now.")
        if not check_mode:
            save(store, after)
            store.delete([key(made.id)])
    return sorted(kept, key=lambda record: (record.started, record.id)), said


def _same_switch(record: Restoration, made: Restoration) -> bool:
    return record.target_oid == made.target_oid and record.state in ("switching", "switched", "undoing")
