# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets go into a second store, and what a set lacks there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import StoredObject
from ansible_collections.saasops.runbook.plugins.module_utils.domain.retention import UNDO, BackupSet, Group, by_age

LATEST = "latest"
ALL = "all"


def _named(sets: Sequence[BackupSet], set_id: str) -> BackupSet:
    for item in sets:
        if item.set_id == set_id:
            if item.state == "complete":
                return item
            raise OpsError(
                "set_not_complete",
                f"Set {set_id} is {item.state} and was not copied: {item.problem}.",
                "Choose a complete set (verb backups); only these are copied.",
                {"set": set_id, "state": item.state},
            )
    raise OpsError(
        "set_unknown",
        f"There is no set {set_id} in the store.",
        "List the sets with the verb backups.",
        {"set": set_id},
    )


def choose(sets: Sequence[BackupSet], wanted: Sequence[str]) -> list[str]:
    """The ids of the sets to copy, oldest first.

    latest: the newest complete set of each database, and of each tenant or list of schemas with own sets, that no
    drill found to be wrong. all: every complete set. Anything else is an id.
    Raises OpsError: set_unknown, set_not_complete.
    """
    complete = [item for item in by_age(sets) if item.state == "complete" and item.group is not None]
    newest: dict[Group | None, str] = {}
    for item in complete:
        if item.proof != "failed" and item.group is not None and item.group.kind != UNDO:
            newest[item.group] = item.set_id
    chosen: set[str] = set()
    for name in wanted:
        if name == ALL:
            chosen.update(item.set_id for item in complete)
        elif name == LATEST:
            chosen.update(newest.values())
        else:
            chosen.add(_named(sets, name).set_id)
    return [item.set_id for item in by_age(sets) if item.set_id in chosen]


@dataclass(frozen=True)
class Lack:
    """What a second store lacks of one set.

    objects are to be sent; doubtful ones lie there with the right length, but no manifest says that they were read
    back. records: names of the small records beside a set (pin, proofs) that differ. commit: the manifest is missing.
    """

    set_id: str
    objects: tuple[StoredObject, ...] = ()
    doubtful: tuple[StoredObject, ...] = ()
    contents: bool = False
    records: tuple[str, ...] = ()
    disproof: bool = False
    commit: bool = False

    @property
    def nothing(self) -> bool:
        """Whether the second store has all of the set."""
        return not (self.objects or self.doubtful or self.contents or self.records or self.disproof or self.commit)

    @property
    def bytes(self) -> int:
        """Bytes of the objects to be sent."""
        return sum(item.length for item in self.objects)

    @property
    def reason(self) -> str:
        """Why something is written, in a few words."""
        if self.commit:
            return "not finished there" if self.doubtful else "not there"
        if self.objects or self.contents:
            return "objects are missing there"
        return "pin or proofs differ"


def missing_objects(
    objects: Sequence[StoredObject], there: Mapping[str, int], committed: bool
) -> tuple[tuple[StoredObject, ...], tuple[StoredObject, ...]]:
    """(to be sent, to be read back) of a set's objects; there: lengths in the second store by key below the set.

    Under a manifest every object was read back before, so length decides; without one nothing is known of it.
    """
    right = {item.key for item in objects if there.get(item.key) == item.length}
    absent = tuple(item for item in objects if item.key not in right)
    return absent, () if committed else tuple(item for item in objects if item.key in right)
