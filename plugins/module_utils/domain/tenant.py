# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore of one tenant is going to do, and every reason for which it will not."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Action, Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.refusals import Refusal, settle
from ansible_collections.saasops.runbook.plugins.module_utils.domain.shape import Foreign, Shape, Surroundings, Table
from ansible_collections.saasops.runbook.plugins.module_utils.domain.tenant_refusals import listed, structure_refusal

VERB = "ansible-playbook saasops.runbook.restore_tenant"


@dataclass(frozen=True)
class Source:
    """The set: its id, the kind of set, when its snapshot was taken (ISO 8601)."""

    set_id: str
    kind: str
    snapshot_at: str


@dataclass(frozen=True)
class Count:
    """Rows of a table in the set and in the live schema; same: True when their hashes are known to be equal."""

    restored: int
    live: int
    same: bool = False


@dataclass(frozen=True)
class Change:
    """What becomes of one table, in rows.

    emptied: all rows are deleted and inserted, for want of a key. rewritten: rows that stay as they are, but are
    deleted and inserted again, because a row that they refer to must make room for another one.
    """

    table: str
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    emptied: bool = False
    rewritten: int = 0

    @property
    def any(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)

    def as_dict(self) -> dict[str, object]:
        return {
            "table": self.table,
            "inserted": self.inserted,
            "updated": self.updated,
            "deleted": self.deleted,
            "unchanged": self.unchanged,
            "rewritten": self.rewritten,
        }


# what pg_restore lists that neither rows nor their keys depend on; views may even need what is not there
_IRRELEVANT = (
    "ACL", "COMMENT", "DEFAULT", "EVENT TRIGGER", "FOREIGN TABLE", "MATERIALIZED VIEW", "POLICY", "PROCEDURAL LANGUAGE",
    "PUBLICATION", "ROW SECURITY", "RULE", "SECURITY LABEL", "SERVER", "STATISTICS", "SUBSCRIPTION", "TRIGGER",
    "USER MAPPING", "VIEW",
)  # fmt: skip
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?:" + "|".join(_IRRELEVANT) + r") ")


def data_relevant(listing: str) -> str:
    """The lines of pg_restore --list that a scratch copy of the tables needs."""
    return "".join(line for line in listing.splitlines(keepends=True) if not _ENTRY.match(line))


def command(tenant: str, set_id: str) -> str:
    """The command that restores the tenant from a set, ready to paste."""
    if re.fullmatch(r"[\w.-]+", tenant, re.ASCII):
        return f"{VERB} -e tenant={tenant} -e set={set_id}"
    return f"{VERB} -e {shlex.quote(json.dumps({'tenant': tenant, 'set': set_id}, ensure_ascii=False))}"


def _refuse(code: str, cause: str, remedy: str, details: Mapping[str, object] | None = None) -> Refusal:
    return Refusal(OpsError(code, cause, remedy, details))


def _referenced(shape: Shape, table: Table) -> list[Foreign]:
    return [f for f in shape.foreign if (f.to_schema, f.to_table) == (shape.schema, table.name)]


def _shape_refusals(shape: Shape, around: Surroundings) -> list[Refusal]:
    found = []
    if around.rules:
        found.append(
            _refuse(
                "tenant_has_rules",
                f"Rules would rewrite the changes: {listed(around.rules)}.",
                "Disable them for the restore (ALTER TABLE ... DISABLE RULE), or restore the database beside.",
                {"rules": list(around.rules)},
            )
        )
    if around.elsewhere:
        found.append(
            _refuse(
                "partition_elsewhere",
                f"Partitions of the tenant's tables lie outside of its schema: {listed(around.elsewhere)}.",
                "The set of one schema does not hold them. Restore the database beside and copy by hand.",
                {"partitions": list(around.elsewhere)},
            )
        )
    bare = [t for t in shape.tables if t.key is None and _referenced(shape, t)]
    if bare:
        names = [f"{t.name} (by {', '.join(f'{f.schema}.{f.table}' for f in _referenced(shape, t))})" for t in bare]
        found.append(
            _refuse(
                "table_without_key",
                f"Tables without a primary key are referred to, so their rows cannot be told apart: {listed(names)}.",
                "Give them a primary key or a unique index over NOT NULL columns.",
                {"tables": [t.name for t in bare]},
            )
        )
    return found


def _tables_refusal(shape: Shape, restored: Mapping[str, Mapping[str, Json]]) -> list[Refusal]:
    """A refusal when tables appeared or went since, which is known before anything is restored."""
    parts = {name for table in shape.tables for name in table.parts}
    found = [("table", name, f"table {name} is missing") for name in sorted(set(restored) - parts)]
    found += [
        ("table", table.name, f"table {table.name} is new")
        for table in shape.tables
        if not table.partitioned and table.name not in restored
    ]
    return [Refusal(structure_refusal(shape.schema, found))] if found else []


def tables_of(fingerprint: Mapping[str, Json], schema: str) -> dict[str, Mapping[str, Json]]:
    """The fingerprint's entries of one schema's tables, by bare name; materialized views are not among them."""
    found: dict[str, Mapping[str, Json]] = {}
    for key, entry in cast("Mapping[str, Mapping[str, Json]]", fingerprint.get("tables") or {}).items():
        where, name = json.loads(key)
        if where == schema and entry.get("kind") != "m":
            found[str(name)] = entry
    return found


def counts_of(
    shape: Shape, restored: Mapping[str, Mapping[str, Json]], live: Mapping[str, Mapping[str, Json]], comparable: bool
) -> dict[str, Count]:
    """Rows of each table on both sides, a partitioned one's summed up. comparable: hashes mean the same on both."""
    found = {}
    for table in shape.tables:
        mine = [(restored.get(name), live.get(name)) for name in table.parts]
        same = comparable and all(
            rows_in(one) == rows_in(other)
            and (rows_in(one) == 0 or (one and other and one.get("hash") == other.get("hash")))
            and (rows_in(one) == 0 or bool(one and one.get("hash")))
            for one, other in mine
        )
        found[table.name] = Count(
            sum(rows_in(one) for one, _other in mine), sum(rows_in(other) for _one, other in mine), bool(same)
        )
    return found


def rows_in(entry: Mapping[str, Json] | None) -> int:
    """Rows that a fingerprint's entry counts; 0 when there is none."""
    return int(str((entry or {}).get("rows") or 0))


def _warnings(shape: Shape, around: Surroundings) -> list[str]:
    said = []
    bare = [t.name for t in shape.tables if t.key is None]
    if bare:
        said.append(
            f"Without a key, {', '.join(bare)}: when anything differs there, all rows are deleted and inserted again."
        )
    active = sorted({f"{t.name} on {t.table}" for t in around.triggers if t.state != "D"})
    if active:
        said.append(f"Triggers that do not fire for these changes: {listed(active)}.")
    if around.readers:
        said.append(f"Views of other schemas that will show the restored rows: {listed(around.readers)}.")
    if around.stale:
        said.append(f"Materialized views of other schemas, not refreshed by this: {listed(around.stale)}.")
    if around.publications:
        said.append(f"Publications that send the changes to their subscribers: {listed(around.publications)}.")
    if around.foreign_tables:
        said.append(f"Foreign tables, left as they are: {listed(around.foreign_tables)}.")
    said += [
        f"{f.schema}.{f.table} refers to {f.to_table} ({f.name}, ON DELETE {f.action}): "
        "rows that it refers to are not deleted; if the set lacks one, nothing is changed."
        for f in shape.inbound
    ]
    return said


def _numbers(count: Count) -> dict[str, object]:
    """What is known without the rows: the least that must happen."""
    if count.same:
        return {"unchanged": count.restored}
    known: dict[str, object] = {"in the set": count.restored, "live": count.live}
    if count.restored > count.live:
        known["inserted, at least"] = count.restored - count.live
    if count.live > count.restored:
        known["deleted, at least"] = count.live - count.restored
    return known


def _steps(tenant: str, views: Sequence[str]) -> tuple[list[Action], list[Action]]:
    before = [
        Action("keep", tenant, "the rows as they are right before go into a set of their own, to go back to"),
    ]
    after = [Action("refresh", f"{tenant}.{name}", "it reads the tenant's tables") for name in views]
    return before, after


def decide_tenant(
    source: Source,
    shape: Shape,
    around: Surroundings,
    restored: Mapping[str, Mapping[str, Json]],
    counts: Mapping[str, Count],
) -> Plan:
    """The plan before any row was seen.

    restored: the set's tables (tables_of); counts: by table, may be empty. Raises OpsError, all refusals at once.
    """
    settle(_shape_refusals(shape, around) + _tables_refusal(shape, restored), ())
    before, after = _steps(shape.schema, [name for name, _concurrent in around.own_views])
    merges = []
    for table in shape.tables:
        count = counts.get(table.name)
        if count is not None and count.same:
            continue
        merges.append(
            Action(
                "merge",
                f"{shape.schema}.{table.name}",
                f"rows as they were at {source.snapshot_at}" if table.key else "no key: all rows anew if any differs",
                _numbers(count) if count else {},
            )
        )
    return Plan("restore_tenant", tuple(before + merges + after), {"schemas": 1}, tuple(_warnings(shape, around)))


def decide_changes(
    source: Source, shape: Shape, around: Surroundings, changes: Sequence[Change], sequences: Mapping[str, str]
) -> Plan:
    """The plan with exact numbers, once every row was compared under the locks; empty when nothing differs.

    sequences: name -> what it is raised to.
    """
    merges = [
        Action(
            "merge",
            f"{shape.schema}.{change.table}",
            "no key: all rows anew" if change.emptied else f"rows as they were at {source.snapshot_at}",
            {
                "inserted": change.inserted,
                "updated": change.updated,
                "deleted": change.deleted,
                "unchanged": change.unchanged,
                **({"rewritten": change.rewritten} if change.rewritten else {}),
            },
        )
        for change in changes
        if change.any
    ]
    raised = [Action("raise", f"{shape.schema}.{name}", text) for name, text in sorted(sequences.items())]
    if not merges and not raised:
        return Plan("restore_tenant", (), {"schemas": 1}, tuple(_warnings(shape, around)))
    before, after = _steps(shape.schema, [name for name, _concurrent in around.own_views])
    if not merges:
        before, after = [], []
    return Plan(
        "restore_tenant", tuple(before + merges + raised + after), {"schemas": 1}, tuple(_warnings(shape, around))
    )


@dataclass(frozen=True)
class Position:
    """Where a sequence stands. increment is negative for one that counts down."""

    last_value: int
    is_called: bool
    increment: int

    @property
    def _next(self) -> int:
        return self.last_value + (self.increment if self.is_called else 0)

    def behind(self, other: Position) -> bool:
        """Whether the other one has handed out more; both count in this one's direction."""
        return self._next < other._next if self.increment > 0 else self._next > other._next

    def text(self) -> str:
        return f"to {self.last_value}, {'handed out' if self.is_called else 'not yet handed out'}"


def sequences_behind(live: Mapping[str, Position], restored: Mapping[str, Position]) -> dict[str, Position]:
    """The sequences to raise, with the position to raise them to: none ever goes back."""
    return {name: want for name, want in restored.items() if name in live and live[name].behind(want)}


@dataclass(frozen=True)
class Outside:
    """An object of another schema that spoke of the tenant's: its type and name as pg_dump has them, and its SQL."""

    type: str
    name: str
    schema: str
    sql: str

    def text(self) -> str:
        return f"{self.type} {self.schema}.{self.name}" if self.schema != "-" else f"{self.type} {self.name}"


_HEADER = re.compile(
    r"^--\n-- Name: (?P<name>.*?); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*?); Owner: .*\n--\n", re.MULTILINE
)
# a restore of the schema brings these itself
_OWN_PUBLICATION = "PUBLICATION TABLE"


def spoke_of(schema_sql: str, tenant: str) -> list[Outside]:
    """Objects of other schemas in pg_dump --schema-only text whose SQL names the tenant's schema."""
    quoted = '"' + tenant.replace('"', '""') + '".'
    found = []
    headers = list(_HEADER.finditer(schema_sql))
    for header, following in zip(headers, [*headers[1:], None]):
        body = schema_sql[header.end() : following.start() if following else len(schema_sql)].strip()
        # pg_dump prints names in its comments without line breaks
        if header["schema"] == " ".join(tenant.split("\n")) or header["type"] == _OWN_PUBLICATION:
            continue
        if quoted in body:
            found.append(Outside(header["type"], header["name"], header["schema"], body))
    return found


def decide_whole(
    source: Source, tenant: str, restored: Mapping[str, Mapping[str, Json]], outside: Sequence[Outside] | None
) -> Plan:
    """The plan when the live database has no such schema: everything comes from the set, in one transaction.

    outside: what other schemas had that spoke of it; None when the set does not tell.
    """
    actions = [Action("create schema", tenant, f"the live database has none; as it was at {source.snapshot_at}")]
    actions += [
        Action("load", f"{tenant}.{name}", "with keys, indexes, triggers and grants", {"rows": rows_in(entry)})
        for name, entry in sorted(restored.items())
    ]
    if outside is None:
        said = ["A tenant's own set does not tell what other schemas had that spoke of it (foreign keys, views)."]
    elif outside:
        said = [
            "Not put back, because it belongs to other schemas; the result has the SQL (outside): "
            + listed([item.text() for item in outside])
            + "."
        ]
    else:
        said = []
    said.append("There is nothing to go back to: undoing this means to drop the schema.")
    return Plan("restore_tenant", tuple(actions), {"schemas": 1}, tuple(said))
