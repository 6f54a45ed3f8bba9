# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an index may be dropped, and what its end would mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.index_scene import ForeignKey, Index

# what an operator may accept with acknowledge
FOREIGN_KEY, IN_USE = "index_of_foreign_key", "index_in_use"
_CONSTRAINTS = {"p": "the primary key", "u": "the unique constraint", "x": "the exclusion constraint"}


def supports(index: Index, columns: Sequence[str]) -> bool:
    """Whether the index finds the rows of a foreign key's columns: they lead it, in whatever order, in all rows."""
    keys = [key.column for key in index.definition.keys[: len(columns)]]
    return (
        index.sound
        and not index.definition.predicate
        and index.definition.method in ("btree", "hash")
        and sorted(keys) == sorted(columns)
    )


def only_for(index: Index, others: Sequence[Index], keys: Sequence[ForeignKey]) -> list[ForeignKey]:
    """The foreign keys whose referenced rows could only be deleted by scanning this table, without the index."""
    return [
        key
        for key in keys
        if supports(index, key.columns)
        and not any(supports(other, key.columns) for other in others if other.oid != index.oid)
    ]


def against(
    index: Index, others: Sequence[Index], keys: Sequence[ForeignKey], acknowledged: Collection[str] = ()
) -> list[OpsError]:
    """Why the index must stay; others: the indexes of its table that stay, keys: the table's foreign keys."""
    found: list[OpsError] = []

    def refuse(code: str, cause: str, remedy: str) -> None:
        found.append(OpsError(code, f"{index.full} {cause}.", remedy, {"index": index.full}))

    name, kind = index.constraint
    if kind:
        refuse(
            "index_of_constraint",
            f"belongs to {_CONSTRAINTS.get(kind, 'a constraint')} {name}",
            "It goes with the constraint only: that is a migration (ALTER TABLE ... DROP CONSTRAINT).",
        )
    if index.replica_identity:
        refuse(
            "index_is_replica_identity",
            "is the table's replica identity: logical replication finds rows by it",
            "Choose another with ALTER TABLE ... REPLICA IDENTITY first.",
        )
    if index.rests:
        refuse(
            "index_is_referenced",
            f"makes the columns unique that {', '.join(index.rests)} refers to",
            "Drop or move those foreign keys first.",
        )
    if index.parent:
        refuse(
            "index_of_partition",
            "is a part of a partitioned index",
            "Drop the partitioned table's index; its parts go with it.",
        )
    if index.extension:
        refuse("index_of_extension", f"belongs to the extension {index.extension}", "Leave it to the extension.")
    needed = only_for(index, others, keys)
    if needed and FOREIGN_KEY not in acknowledged:
        which = ", ".join(f"{key.name} (to {key.table})" for key in needed)
        refuse(
            FOREIGN_KEY,
            f"is the only index for the foreign key {which}: each delete there would scan this whole table",
            f"Make another index on the same columns first, or accept it with -e acknowledge={FOREIGN_KEY}.",
        )
    return found


def remarks(index: Index, conflicts: int) -> list[str]:
    """What its end would mean. conflicts: statements with ON CONFLICT on its table that pg_stat_statements knows."""
    said = []
    if index.definition.unique and not index.constraint[1]:
        keys = ", ".join(key.text for key in index.definition.keys)
        uses = f" {conflicts} such statements are known." if conflicts else ""
        said.append(
            f"{index.full} keeps ({keys}) unique. Without it, equal rows can come in, and INSERT ... ON CONFLICT on "
            f"these columns fails.{uses}"
        )
    if index.scans:
        said.append(f"{index.full} was used {index.scans:,} times here since the statistics were reset.")
    if index.clustered:
        said.append(f"{index.full} is what CLUSTER orders its table by.")
    return said
