# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup sets of a store as retention sees them, and the removal of one set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, Manifest, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import (
    disproof,
    open_use,
    proof_level,
    read_pin,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import UNDO, BackupSet, Group
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import (
    MANIFEST,
    SetEntry,
    entries,
    folder,
    load,
    read_json,
    write_json,
)

PRUNING = "pruning.json"
BEGUN = "begun.json"
RECORDS = (("restore", "restores/"), ("drill", "drills/"))
_BATCH = 200
_LOST = ("manifest_damaged", "set_incomplete", "object_missing", "object_damaged")


@dataclass(frozen=True)
class Held:
    """One set: what retention decides on, what the store says of it, its manifest if that can be trusted."""

    facts: BackupSet
    entry: SetEntry

    @property
    def manifest(self) -> Manifest | None:
        return self.entry.manifest

    @property
    def set_id(self) -> str:
        return self.entry.set_id


@dataclass(frozen=True)
class _Records:
    """What restores and drills say of sets, by set id: who still needs one, which proofs failed."""

    uses: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, list[dict[str, Json]]] = field(default_factory=dict)


def group_of(manifest: Manifest) -> Group:
    """A whole database is one group whatever schemas it had that day; a set to go back to stands for no backup."""
    schemas = () if manifest.kind == "database" else tuple(sorted(manifest.schemas))
    kind = UNDO if manifest.undo else manifest.kind
    return Group(manifest.system, manifest.database, kind, schemas, manifest.tenant)


def _start_in_id(set_id: str) -> float:
    try:
        return datetime.strptime(set_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:  # sixteen digits that are no date, such as month 13
        return 0.0


def _owner(store: Store, entry: SetEntry) -> str:
    """The system that a partial set belongs to, by what its backup or an interrupted prune noted; "" when unknown."""
    for name in (BEGUN, PRUNING):
        key = folder(entry.set_id) + name
        if key in entry.keys:
            try:
                return str(read_json(store, key).get("system") or "")
            except OpsError as error:
                if error.code not in ("object_missing", "object_damaged"):
                    raise
    return ""


def _brief(problem: str, set_id: str) -> str:
    """A refusal's cause without what the line of a listing says anyway."""
    for known in (f"Set {set_id} ", f" of set {set_id}"):
        problem = problem.replace(known, "")
    problem = problem.rstrip(".")
    return problem[:1].lower() + problem[1:]


def _facts(store: Store, entry: SetEntry, system: str, records: _Records) -> BackupSet:
    failures = records.failures.get(entry.set_id, [])
    state, problem, manifest = entry.state, entry.problem, entry.manifest
    half_deleted = state == "partial" and folder(entry.set_id) + PRUNING in entry.keys
    owner = _owner(store, entry) if state == "partial" else ""
    if owner not in ("", system):
        state, problem = "foreign", f"a partial set of the system {owner!r}"
    elif half_deleted:
        problem = "a prune was interrupted in it; the next prune removes the rest"
    if state == "complete" and manifest is not None and entry.stored_bytes < manifest.stored_bytes:
        state = "damaged"
        problem = f"it holds {entry.stored_bytes} of the {manifest.stored_bytes} bytes that were stored"
    return BackupSet(
        set_id=entry.set_id,
        state=state,
        group=group_of(manifest) if manifest is not None else None,
        started=manifest.started if manifest is not None else _start_in_id(entry.set_id),
        newest_change=entry.newest_change,
        snapshot_at=manifest.snapshot_at if manifest is not None else 0.0,
        finished=manifest.finished if manifest is not None else 0.0,
        proof=proof_level(manifest.proof, (*entry.proofs, *failures)) if manifest is not None else "",
        pin=read_pin(entry.pin),
        in_use=", ".join(records.uses.get(entry.set_id, [])),
        half_deleted=half_deleted,
        problem=_brief(problem, entry.set_id),
    )


def _records(store: Store) -> _Records:
    found = _Records()
    for kind, prefix in RECORDS:
        for info in store.list(prefix):
            name = info.key[len(prefix) :]
            if "/" in name or not name.endswith(".json"):
                continue
            try:
                record = read_json(store, info.key)
            except OpsError as error:
                if error.code not in ("object_missing", "object_damaged"):
                    raise
                continue
            use, failure = open_use(kind, name[: -len(".json")], record), disproof(record)
            if use is not None:
                found.uses.setdefault(use[0], []).append(use[1])
            if failure is not None:
                found.failures.setdefault(failure[0], []).append(failure[1])
    return found


def take_stock(store: Store, system: str) -> list[Held]:
    """Every set in the store, oldest id first, with pins, proofs and open uses. Raises the store's OpsErrors."""
    records = _records(store)
    return [Held(_facts(store, entry, system, records), entry) for entry in entries(store, system)]


def damage(store: Store, held: Held, system: str) -> str:
    """What is wrong with a complete set when its list of contents is held against the store's listing; "" if nothing.

    Finds what is missing, cut or swapped, without reading the objects themselves.
    """
    try:
        load(store, held.set_id, system)
    except OpsError as error:
        if error.code not in _LOST:
            raise
        return error.cause
    return ""


def as_damaged(held: Held, problem: str) -> Held:
    """The same set, no longer trusted."""
    return replace(held, facts=replace(held.facts, state="damaged", problem=_brief(problem, held.set_id)))


def unchanged(store: Store, held: Held) -> bool:
    """Whether nothing was added to a set or written in it since stock was taken."""
    return all(
        info.key in held.entry.keys and info.modified <= held.entry.newest_change
        for info in store.list(folder(held.set_id))
    )


def remove(store: Store, held: Held, system: str, now: float) -> Iterator[int]:
    """Delete a set and yield after each batch how many objects are gone.

    The manifest goes first: from then on the set is partial and no verb takes it for good. The mark that is written
    before lets the next prune finish at once what an interrupted one began; without room for it (a full store must
    still be pruned) the rest waits for the grace of partial sets. The mark goes last.
    """
    prefix = folder(held.set_id)
    mark = prefix + PRUNING
    try:
        write_json(store, mark, {"system": system, "at": iso(now)})
    except OpsError as error:
        if error.code != "store_full":
            raise
    manifest = prefix + MANIFEST
    store.delete([manifest])
    rest = [key for key in held.entry.keys if key not in (manifest, mark)]
    for start in range(0, len(rest), _BATCH):
        store.delete(rest[start : start + _BATCH])
        yield min(start + _BATCH, len(rest)) + 1
    store.delete([mark])
