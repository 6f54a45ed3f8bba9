# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a restore of one tenant stops, once it has looked at the rows: each a list, and the ways on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.restore import Volume
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Foreign


@dataclass(frozen=True)
class Referring:
    """Rows of another table that stand in the way: how many, and a few of the values they hold."""

    foreign: Foreign
    rows: int
    samples: tuple[str, ...]

    def text(self) -> str:
        f = self.foreign
        values = ", ".join(self.samples) + (", ..." if self.rows > len(self.samples) else "")
        return (
            f"{self.rows} rows of {f.schema}.{f.table} ({', '.join(f.columns)}) -> {f.to_schema}.{f.to_table}"
            f" ({', '.join(f.to_columns)}), constraint {f.name}, ON DELETE {f.action}: {values}"
        )


def listed(items: Sequence[str], most: int = 10) -> str:
    """The first of them, and how many more there are."""
    return "; ".join(items[:most]) + (f"; and {len(items) - most} more" if len(items) > most else "")


WAYS_ON = (
    "Choose a set that was made with the present structure (verb backups); or restore the whole database beside "
    "(verb restore) and copy what is needed by hand."
)


def structure_refusal(tenant: str, found: Sequence[tuple[str, str, str]]) -> OpsError:
    """The live schema is not built as it was."""
    sentences = [text for _kind, _object, text in found]
    return OpsError(
        "structure_differs",
        f"Schema {tenant!r} is not built as it was when the set was made: {listed(sentences)}.",
        WAYS_ON,
        {"differences": [{"kind": k, "object": o, "text": t} for k, o, t in found[:200]]},
    )


def referring_refusal(tenant: str, found: Sequence[Referring]) -> OpsError:
    """Rows of other schemas refer to rows that the set does not have."""
    return OpsError(
        "rows_referenced",
        f"Other schemas refer to rows of tenant {tenant!r} that the set does not have, or has with another key: "
        + "; ".join(item.text() for item in found)
        + ".",
        "Nothing was changed. Delete or repoint these rows first, or choose a set that has the rows they refer to.",
        {
            "references": [
                {
                    "constraint": r.foreign.name,
                    "table": f"{r.foreign.schema}.{r.foreign.table}",
                    "refers_to": r.foreign.to_table,
                    "on_delete": r.foreign.action,
                    "rows": r.rows,
                    "samples": list(r.samples),
                }
                for r in found
            ]
        },
    )


def parents_refusal(tenant: str, found: Sequence[Referring]) -> OpsError:
    """Rows of the set refer to rows of other schemas that are gone."""
    return OpsError(
        "parents_missing",
        f"Rows of tenant {tenant!r} in the set refer to rows of other schemas that are not there any more: "
        + "; ".join(item.text() for item in found)
        + ".",
        "Nothing was changed. Put these rows back first (restore the database beside, copy them), or take another set.",
        {
            "references": [
                {
                    "constraint": r.foreign.name,
                    "parent": f"{r.foreign.to_schema}.{r.foreign.to_table}",
                    "rows": r.rows,
                    "samples": list(r.samples),
                }
                for r in found
            ]
        },
    )


def large_objects_refusal(tenant: str, missing: Sequence[int]) -> OpsError:
    """Rows of the set point at large objects that do not exist."""
    return OpsError(
        "large_objects_missing",
        f"Rows of tenant {tenant!r} in the set point at {len(missing)} large objects that the live one lacks: "
        f"{', '.join(str(n) for n in missing[:10])}{', ...' if len(missing) > 10 else ''}.",
        "Nothing was changed. Large objects belong to no schema: restore a set of the whole database beside (verb "
        "restore), bring these over (lo_export, lo_import with the same oid), and run the verb again.",
        {"oids": list(missing[:1000])},
    )


def mismatch(tenant: str, found: Sequence[str]) -> OpsError:
    """After the changes, inside the transaction, the rows are not the set's: everything was rolled back."""
    return OpsError(
        "tenant_mismatch",
        f"After the changes schema {tenant!r} was not what the set says: {listed(found)}. All was rolled back.",
        "Nothing was changed. Look for generated columns that depend on where or when they are computed, and for "
        "triggers of extensions.",
        {"tables": list(found)},
    )


def disk_refusal(short: Sequence[Volume]) -> OpsError:
    """File systems on which the restore would run out of room."""

    def text(volume: Volume) -> str:
        parts = ", ".join(f"{name} {count / 1e6:,.0f} MB" for name, count in volume.needs.items())
        return (
            f"the volume of {volume.path} has {volume.free / 1e6:,.0f} MB free and about {volume.needed / 1e6:,.0f} MB "
            f"are needed ({parts}, and a tenth to spare)"
        )

    return OpsError(
        "disk_too_small",
        f"There is not enough room beside the live rows: {'; '.join(text(volume) for volume in short)}.",
        "Nothing was changed. Free space there; for staging, name another path (saasops_restore_staging).",
        {"volumes": [{"path": v.path, "free": v.free, "needed": v.needed, "needs": dict(v.needs)} for v in short]},
    )
