# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cleanup deletes: rules as data, their cut-off, and how large the next batch may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

FIRST, LARGEST = 200, 10_000
# what a batch may hold in memory and in one object of the store
BATCH_BYTES = 16_000_000
LIMIT = 1_000_000
# a module that only waits for its share of a processor must not be taken for one that is frozen
_IDLE_LEAST = 5_000
_MOVES = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|localtimestamp|"
    r"localtime|current_timestamp|current_date|current_time|random)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_SIZE = re.compile(r"(\d+)\s*(|k|M|G)B\Z")
_UNITS = {"": 1, "k": 1000, "M": 1000_000, "G": 1000_000_000}


@dataclass(frozen=True)
class Child:
    """Rows that refer to the rule's rows and go with them. columns: () takes the foreign key's."""

    table: str
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    accept_triggers: tuple[str, ...] = ()
    children: tuple[Child, ...] = ()


@dataclass(frozen=True)
class Pause:
    """When to wait between batches: seconds and bytes that a replica is behind, busy sessions, a condition as SQL.

    longest: seconds of one pause after which the run ends in order.
    """

    replica_lag: int | None = 30
    replica_bytes: int | None = 256_000_000
    active_sessions: int | None = None
    condition: str = ""
    longest: int = 600


@dataclass(frozen=True)
class Rule:
    """One purge rule. schemas: patterns; older_than: seconds; keep_archive: seconds, None for ever.

    target, most: milliseconds that a batch should and may hold locks. limit: rows a run, children included.
    """

    name: str
    table: str
    schemas: tuple[str, ...]
    where: str = ""
    age_column: str = ""
    older_than: int | None = None
    zone: str = "UTC"
    key: tuple[str, ...] = ()
    children: tuple[Child, ...] = ()
    batch: int = LARGEST
    target: int = 100
    most: int = 1000
    limit: int = LIMIT
    pause: Pause = Pause()
    keep_archive: int | None = None
    accept_triggers: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    report_only: bool = False

    def cutoff(self, now: float) -> float | None:
        """The moment before which rows are old, in whole seconds; None when the rule knows no age."""
        return None if self.older_than is None else float(int(now) - self.older_than)


_FIELDS = frozenset(
    [
        "name",
        "description",
        "table",
        "schemas",
        "where",
        "age_column",
        "older_than",
        "zone",
        "key",
        "children",
        "batch_rows",
        "lock_target",
        "lock_limit",
        "limit",
        "pause",
        "keep_archive",
        "accept_triggers",
        "search_path",
        "report_only",
    ]
)
_PAUSE = frozenset(["replica_lag", "replica_bytes", "active_sessions", "condition", "longest"])
_CHILD = frozenset(["table", "columns", "key", "accept_triggers", "children"])


def idle_limit(most: int) -> int:
    """Milliseconds after which the server ends a session that holds locks and asks for nothing.

    A module that is stopped, or whose host is gone, cannot give them back. most: what a batch may hold locks, in ms.
    """
    return max(_IDLE_LEAST, 2 * most)


def invalid(name: str, why: str, remedy: str = "") -> OpsError:
    """A rule that is not understood is refused: it must not delete by a guess."""
    return OpsError(
        "rule_invalid", f"Rule {name}: {why}.", remedy or "Correct it in saasops_purge_rules.", {"rule": name}
    )


def _known(body: Mapping[str, object], fields: Iterable[str], name: str) -> None:
    unknown = sorted(set(body) - set(fields))
    if unknown:
        raise invalid(name, f"{', '.join(unknown)} is not known", f"A rule has {', '.join(sorted(fields))}.")


def texts(value: object, name: str = "", field: str = "") -> tuple[str, ...]:
    """A list of texts, or one text."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise invalid(name, f"{field} is not a list of names")
    return tuple(value)


def _whole(body: Mapping[str, object], field: str, default: int | None, name: str, least: int = 1) -> int | None:
    value = body.get(field)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not str(value).isdigit() or int(str(value)) < least:
        raise invalid(name, f"{field} is {value!r}, not a whole number from {least} on")
    return int(str(value))


def _length(body: Mapping[str, object], field: str, default: int | None) -> int | None:
    value = body.get(field)
    return default if value is None or value == "" else parse_duration(str(value), field)


def _milliseconds(body: Mapping[str, object], field: str, default: int, name: str) -> int:
    value = body.get(field)
    if value is None or value == "":
        return default
    found = re.match(r"(\d+)\s*(ms|s)\Z", str(value))
    if not found or not int(found.group(1)):
        raise invalid(name, f"{field} is {value!r}, not a time such as 100ms or 2s")
    return int(found.group(1)) * (1000 if found.group(2) == "s" else 1)


def _bytes(body: Mapping[str, object], field: str, default: int | None, name: str) -> int | None:
    value = body.get(field)
    if value is None or value == "":
        return default
    found = _SIZE.match(str(value))
    if not found:
        raise invalid(name, f"{field} is {value!r}, not a size such as 64MB")
    return int(found.group(1)) * _UNITS[found.group(2)]


def _child(body: object, name: str) -> Child:
    if not isinstance(body, Mapping):
        raise invalid(name, "a child is not a dictionary with a table")
    _known(body, _CHILD, name)
    if not body.get("table"):
        raise invalid(name, "a child has no table")
    return Child(
        table=str(body["table"]),
        columns=texts(body.get("columns"), name, "columns"),
        key=texts(body.get("key"), name, "key"),
        accept_triggers=texts(body.get("accept_triggers"), name, "accept_triggers"),
        children=tuple(_child(item, name) for item in cast("Sequence[object]", body.get("children") or [])),
    )


def _pause(body: Mapping[str, object], name: str) -> Pause:
    _known(body, _PAUSE, name)
    longest = _length(body, "longest", 600)
    return Pause(
        replica_lag=_length(body, "replica_lag", Pause.replica_lag),
        replica_bytes=_bytes(body, "replica_bytes", Pause.replica_bytes, name),
        active_sessions=_whole(body, "active_sessions", None, name),
        condition=str(body.get("condition") or ""),
        longest=600 if longest is None else longest,
    )


def parse_rule(body: Mapping[str, object], tenants: Sequence[str] = ()) -> Rule:
    """A rule of saasops_purge_rules. tenants: what `schemas: tenants` stands for. Raises rule_invalid, bad_duration."""
    name = str(body.get("name") or "")
    if not _NAME.match(name):
        raise invalid(repr(name), "it has no name of letters, digits, _, . and -")
    _known(body, _FIELDS, name)
    table, where = str(body.get("table") or ""), str(body.get("where") or "").strip()
    if not table:
        raise invalid(name, "it has no table")
    schemas = texts(body.get("schemas") or "public", name, "schemas")
    if schemas == ("tenants",):
        schemas = tuple(tenants)
        if not schemas:
            raise invalid(
                name, "schemas is tenants, and saasops_tenant_schemas is empty", "Set saasops_tenant_schemas."
            )
    age, older = str(body.get("age_column") or ""), _length(body, "older_than", None)
    if bool(age) != (older is not None):
        raise invalid(name, "age_column and older_than belong together")
    if not age and not where:
        raise invalid(name, "it has neither a condition (where) nor an age, so it would delete every row")
    if _MOVES.search(where):
        raise invalid(
            name,
            f"its condition asks for the time ({(_MOVES.search(where) or [''])[0]}), so it would move meanwhile",
            "Use age_column and older_than, whose cut-off is fixed once in the plan.",
        )
    target = _milliseconds(body, "lock_target", Rule.target, name)
    return Rule(
        name=name,
        table=table,
        schemas=schemas,
        where=where,
        age_column=age,
        older_than=older,
        zone=str(body.get("zone") or "UTC"),
        key=texts(body.get("key"), name, "key"),
        children=tuple(_child(item, name) for item in cast("Sequence[object]", body.get("children") or [])),
        batch=_whole(body, "batch_rows", LARGEST, name) or LARGEST,
        target=target,
        most=max(target, _milliseconds(body, "lock_limit", Rule.most, name)),
        limit=_whole(body, "limit", LIMIT, name) or LIMIT,
        pause=_pause(cast("Mapping[str, object]", body.get("pause") or {}), name),
        keep_archive=_length(body, "keep_archive", None),
        accept_triggers=texts(body.get("accept_triggers"), name, "accept_triggers"),
        search_path=texts(body.get("search_path"), name, "search_path"),
        report_only=body.get("report_only") in (True, "true", "yes"),
    )


def parse_rules(bodies: Sequence[Mapping[str, object]], asked: Sequence[str], tenants: Sequence[str]) -> list[Rule]:
    """The rules asked for, in the inventory's order; all of them when none is. Raises rule_unknown, rule_invalid."""
    rules = [parse_rule(body, tenants) for body in bodies]
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise invalid(twice[0], "there are two of that name")
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise OpsError(
            "rule_unknown",
            f"There is no rule {', '.join(unknown)}.",
            f"Rules of this system: {', '.join(names) or 'none; set saasops_purge_rules'}.",
            {"rules": names},
        )
    return [rule for rule in rules if not asked or rule.name in asked]


def next_size(size: int, milliseconds: float, rule: Rule, rows: int, raw: int) -> int:
    """Rows of the next batch, from what the last one held; at most doubled, so that one fast batch misleads little.

    rows, raw: of the last batch, the bytes of its archive before compression.
    """
    factor = min(2.0, max(0.25, rule.target / max(milliseconds, 0.1) * 0.9))
    wanted = int(size * factor)
    if rows and raw:
        wanted = min(wanted, int(BATCH_BYTES / (raw / rows)))
    return max(1, min(wanted, rule.batch))
