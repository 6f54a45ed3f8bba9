# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide a switch, an undo and a finish: what is lost, what forbids it, what is left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Entries, readable
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pooler import Pool
from ansible_collections.saasops.runbook.plugins.module_utils.domain.refusals import Refusal, settle
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restoration import CATALOG, Restoration, fitted
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Blocker, blocker_refusals
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sequences import SequenceState

WRITES = ("ins", "upd", "del")


@dataclass(frozen=True)
class Loss:
    """Rows of one table that were written since the reference: inserted, updated, deleted."""

    table: str
    inserted: int
    updated: int
    deleted: int

    @property
    def rows(self) -> int:
        return self.inserted + self.updated + self.deleted

    def text(self) -> str:
        """As a person reads it."""
        parts = [(self.inserted, "inserted"), (self.updated, "updated"), (self.deleted, "deleted")]
        return f"{self.table}: " + ", ".join(f"{count:,} {verb}" for count, verb in parts if count)


@dataclass(frozen=True)
class Losses:
    """What a change of databases would lose, per table.

    exact is False when the statistics were reset or began elsewhere: then losses come from row counts, which see
    neither updates nor a row deleted for each one inserted, and certain says so.
    """

    tables: tuple[Loss, ...]
    exact: bool

    @property
    def rows(self) -> int:
        return sum(item.rows for item in self.tables)

    def lines(self, limit: int = 20) -> list[str]:
        """The largest first."""
        ordered = sorted(self.tables, key=lambda item: (-item.rows, item.table))
        more = [f"and {len(ordered) - limit} more tables"] if len(ordered) > limit else []
        return [item.text() for item in ordered[:limit]] + more

    def as_json(self) -> dict[str, Json]:
        return {
            "rows": self.rows,
            "exact": self.exact,
            "tables": {
                i.table: {"inserted": i.inserted, "updated": i.updated, "deleted": i.deleted} for i in self.tables
            },
        }


def written_since(before: Mapping[str, Json], now: Mapping[str, Json]) -> Losses | None:
    """Losses from two readings of the table statistics ({"counters", "stats_reset"}).

    None when they cannot be compared: a reset in between, a crash (which sets them to zero), or none recorded.
    """
    old, new = cast(Optional[Entries], before.get("counters")), cast(Optional[Entries], now.get("counters"))
    if old is None or new is None or before.get("stats_reset") != now.get("stats_reset"):
        return None
    found = []
    for name in sorted(new):
        was, now_ = old.get(name) or {}, new[name]
        delta = [int(str(now_.get(kind) or 0)) - int(str(was.get(kind) or 0)) for kind in WRITES]
        if min(delta) < 0:
            return None
        if any(delta):
            found.append(Loss(readable(name), *delta))
    # a dropped table is a loss too, of all the rows it had; its counters went with it
    for name in sorted(set(old) - set(new)):
        found.append(
            Loss(readable(name), 0, 0, int(str(old[name].get("ins") or 0)) - int(str(old[name].get("del") or 0)))
        )
    return Losses(tuple(item for item in found if item.rows), True)


def counted_since(before: Mapping[str, Json], now: Mapping[str, Json]) -> Losses:
    """Losses from two counts of all rows (fingerprints): a lower bound."""
    old, new = cast(Entries, before.get("tables") or {}), cast(Entries, now.get("tables") or {})
    found = []
    for name in sorted(set(old) | set(new)):
        delta = int(str((new.get(name) or {}).get("rows") or 0)) - int(str((old.get(name) or {}).get("rows") or 0))
        if delta:
            found.append(Loss(readable(name), max(delta, 0), 0, max(-delta, 0)))
    return Losses(tuple(found), False)


@dataclass(frozen=True)
class Sessions:
    """Sessions that will be ended: how many, and those that the login role may not end (as text)."""

    count: int
    protected: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """What was read before a switch or an undo. oids are None when there is no such database.

    live_*: the database under the live name. other_*: the one that shall take the name.
    pools: those of poolers before the live database. pooler_errors: why a pooler could not be asked.
    """

    database: str
    record: Restoration
    live_oid: int | None
    other_name: str
    other_oid: int | None
    losses: Losses
    blockers: tuple[Blocker, ...]
    sessions: Sessions
    may_rename: bool
    carried: tuple[str, ...]
    maintenance: str
    sequences: tuple[SequenceState, ...]
    pools: tuple[Pool, ...] = ()
    pooler_errors: tuple[OpsError, ...] = ()


def aside_name(database: str, verb: str, stamp: str) -> str:
    """The name under which the database that steps aside is kept: verb is before (switch) or undone (undo)."""
    return fitted(database, f"_{verb}_{stamp}")


def _common(scene: Scene) -> list[Refusal]:
    found = blocker_refusals(scene.blockers, acknowledgeable=False)
    found += [Refusal(error) for error in scene.pooler_errors]
    if scene.database == scene.maintenance:
        found.append(
            Refusal(
                OpsError(
                    "maintenance_database",
                    f"{scene.database!r} is the maintenance database of the connection, and nobody can rename the "
                    "database he is in.",
                    "Set connection.maintenance_database to another one, for instance template1.",
                )
            )
        )
    if not scene.may_rename:
        found.append(
            Refusal(
                OpsError(
                    "not_permitted",
                    "The login role may not rename both databases.",
                    "Log in as a superuser, or as a role with CREATEDB (ALTER ROLE ... CREATEDB) that owns both "
                    "or is a member of their owner.",
                )
            )
        )
    if scene.sessions.protected:
        found.append(
            Refusal(
                OpsError(
                    "connections_not_held_off",
                    "The login role may not end these sessions: " + "; ".join(scene.sessions.protected[:10]) + ".",
                    "Grant the login role pg_signal_backend (it ends every session but a superuser's) or membership "
                    "in those roles, end them yourself, or log in as a superuser.",
                    {"sessions": list(scene.sessions.protected)},
                )
            )
        )
    return found


def _shared_actions(scene: Scene, aside: str) -> list[Action]:
    actions = [Action("set", scene.other_name, f"as {scene.database} has it: {item}") for item in scene.carried]
    actions += [
        Action("advance sequence", item.name, "never hand a number out twice", {"last_value": item.last_value})
        for item in scene.sequences
    ]
    held = [pool for pool in scene.pools if not pool.paused]
    actions += [Action("pause", pool.label, "its clients wait for the renames") for pool in held]
    if scene.live_oid is not None:
        actions.append(
            Action("end sessions", scene.database, "both renames need it", {"sessions now": scene.sessions.count})
        )
        actions.append(Action("rename", scene.database, f"to {aside}, in one transaction with the next"))
    actions.append(Action("rename", scene.other_name, f"to {scene.database}"))
    actions += [Action("resume", pool.label, f"its clients go on in what is {scene.database} then") for pool in held]
    if scene.live_oid is not None:
        actions.append(Action("close", aside, "kept until restore_finish; nobody can connect to it"))
    if scene.record.vacuum_left and scene.record.state == "verified":
        count = len(scene.record.vacuum_left)
        actions.append(Action("vacuum", scene.database, "large tables, once it is live", {"tables": count}))
    return actions


def _pool_warnings(scene: Scene) -> list[str]:
    return [line for pool in scene.pools for line in pool.warnings()]


def _loss_warnings(losses: Losses, since: str) -> list[str]:
    if not losses.rows:
        return [] if losses.exact else [f"Statistics were reset {since}: only numbers of rows were compared."]
    bound = "" if losses.exact else "at least "
    lines = losses.lines()
    return [f"Lost: {bound}{losses.rows:,} rows written {since}: " + "; ".join(lines)]


def decide_switch(scene: Scene, aside: str) -> Plan:
    """The plan of a switch. Raises OpsError, all refusals at once."""
    found = _common(scene)
    record = scene.record
    if record.partial:
        found.append(
            Refusal(
                OpsError(
                    "partial_restore",
                    f"Restore {record.id} holds {', '.join(record.schemas) or 'schemas'} only: "
                    "a switch would lose everything else.",
                    "Restore the whole database, or a tenant with the verb restore_tenant.",
                )
            )
        )
    if scene.other_oid is None or scene.other_oid != record.target_oid:
        found.append(
            Refusal(
                OpsError(
                    "restore_not_verified",
                    f"The database {record.target!r} is not the one that restore {record.id} verified.",
                    "Restore again.",
                    {"expected_oid": record.target_oid, "found_oid": scene.other_oid},
                )
            )
        )
    settle(found, ())
    warnings = _loss_warnings(scene.losses, f"since the backup of {record.snapshot_at}") + _pool_warnings(scene)
    return Plan("switch", tuple(_shared_actions(scene, aside)), {"databases": 2}, tuple(warnings))


def decide_undo(scene: Scene, aside: str, acknowledged_rows: int | None) -> Plan:
    """The plan of an undo. Raises OpsError, all refusals at once; writes_since_switch names the loss."""
    found = _common(scene)
    record = scene.record
    if scene.live_oid is not None and scene.live_oid != record.target_oid:
        found.append(
            Refusal(
                OpsError(
                    "live_database_changed",
                    f"{scene.database!r} is no longer the database that restore {record.id} switched to.",
                    "Nothing can be undone by this record; look at the databases with psql -l.",
                )
            )
        )
    if scene.other_oid is None or scene.other_oid != record.aside_oid:
        found.append(
            Refusal(
                OpsError(
                    "old_database_missing",
                    f"The old database {record.aside!r} of restore {record.id} is not there any more.",
                    "Restore from a backup set instead (verb restore).",
                )
            )
        )
    losses = scene.losses
    # without the record of the switch nothing but a lower bound is known: then even none must be agreed to
    if (losses.rows or record.reason == CATALOG) and acknowledged_rows != losses.rows:
        bound = "" if losses.exact else "at least "
        found.append(
            Refusal(
                OpsError(
                    "writes_since_switch",
                    f"The undo would lose {bound}{losses.rows:,} rows written since the switch"
                    + "".join([": " + "; ".join(losses.lines())] if losses.rows else [])
                    + "."
                    + (" The record of the switch cannot be read, so this is no exact count." * (not losses.exact)),
                    f"If they may be lost, run again with -e acknowledge_loss={losses.rows}; "
                    "the newer database is kept beside the old one in any case.",
                    {"rows": losses.rows, "losses": losses.as_json()},
                )
            )
        )
    settle(found, ())
    actions = [Action("open", scene.other_name, "closed since the switch"), *_shared_actions(scene, aside)]
    warnings = _loss_warnings(losses, "since the switch") + _pool_warnings(scene)
    return Plan("undo", tuple(actions), {"databases": 2, "rows": losses.rows}, tuple(warnings))


@dataclass(frozen=True)
class ProvenSet:
    """A complete set that was proven: snapshot in POSIX seconds, and the database it was taken from."""

    set_id: str
    snapshot_at: float
    system_identifier: str
    database_oid: int


def decide_finish(
    record: Restoration,
    aside_found: int | None,
    live_oid: int | None,
    changed_at: float,
    proven: Sequence[ProvenSet],
    slots: Sequence[str],
) -> Plan:
    """The plan that drops the database kept aside. changed_at: when the live one went live, POSIX seconds.

    Raises OpsError: no_proven_backup, logical_slots, live_database_missing. Empty when it is gone already.
    """
    if aside_found is None or aside_found != record.aside_oid:
        return Plan("restore_finish", ())
    found: list[Refusal] = []
    if live_oid is None:
        found.append(
            Refusal(
                OpsError(
                    "live_database_missing",
                    f"There is no database {record.database!r}: {record.aside!r} may be all that is left.",
                    "Look at the databases with psql -l before anything is dropped.",
                )
            )
        )
    good = [
        item
        for item in proven
        if item.system_identifier == record.server and item.database_oid == live_oid and item.snapshot_at > changed_at
    ]
    if live_oid is not None and not good:
        found.append(
            Refusal(
                OpsError(
                    "no_proven_backup",
                    f"There is no proven backup of {record.database!r} as it is since it went live.",
                    "Run the verb backup first, then restore_finish again.",
                )
            )
        )
    settle(found + _slot_refusals(record.aside, slots), ())
    newest = max(good, key=lambda item: item.snapshot_at)
    action = Action("drop database", record.aside, f"set {newest.set_id} holds what replaced it")
    return Plan("restore_finish", (action,), {"databases": 1})


def _slot_refusals(name: str, slots: Sequence[str]) -> list[Refusal]:
    """DROP DATABASE takes inactive logical slots with it without a word; here it does not."""
    if not slots:
        return []
    error = OpsError(
        "logical_slots",
        f"The database {name!r} has logical replication slots, which would be dropped with it: {', '.join(slots)}.",
        "Drop them first, if nobody needs them (pg_drop_replication_slot).",
        {"names": list(slots)},
    )
    return [Refusal(error)]


def decide_discard(record: Restoration, present: bool, slots: Sequence[str]) -> Plan:
    """The plan that drops a restored copy that was never switched. Raises OpsError logical_slots."""
    if not present:
        return Plan("restore_finish", ())
    settle(_slot_refusals(record.target, slots), ())
    action = Action("drop database", record.target, f"a copy of set {record.set}, which stays")
    return Plan("restore_finish", (action,), {"databases": 1})
