# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixes as data: named statements with parameters that an operator may run, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

LIMIT, LARGEST = 100, 1000
# what a parameter may be, and how its text looks; the server reads the rest
TYPES: Mapping[str, str] = {
    "text": r"(?s).*",
    "integer": r"[+-]?\d{1,10}",
    "bigint": r"[+-]?\d{1,19}",
    "numeric": r"[+-]?\d+(\.\d+)?",
    "boolean": r"(?i)true|false|yes|no|on|off",
    "uuid": r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}",
    "date": r"\d{4}-\d\d-\d\d",
    "timestamptz": r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?",
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_PLACE = re.compile(r"<[^<>]*>\Z")
_FIELDS = frozenset(
    [
        "name",
        "description",
        "parameters",
        "table",
        "schemas",
        "where",
        "show",
        "key",
        "requires",
        "set",
        "insert",
        "delete",
        "limit",
        "verify",
        "report_only",
        "accept_triggers",
        "search_path",
        "keep_archive",
        "lock_timeout",
    ]
)
_PARAMETER = frozenset(["name", "type", "required", "default", "pattern", "choices", "description"])


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type is a key of TYPES; pattern must match the whole text."""

    name: str
    type: str = "text"
    required: bool = True
    default: str | None = None
    pattern: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirement:
    """A condition that each chosen row must meet, and what is said of one that does not."""

    condition: str
    says: str


@dataclass(frozen=True)
class Fix:
    """One fix. act: update, insert, delete or report; values: column -> SQL expression over the row t."""

    name: str
    description: str
    act: str
    table: str
    schemas: tuple[str, ...]
    where: str
    values: Mapping[str, str] = field(default_factory=dict)
    into: str = ""
    parameters: tuple[Parameter, ...] = ()
    show: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    verify: str = ""
    limit: int = LIMIT
    report_only: bool = False
    accept_triggers: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    keep_archive: int | None = None
    lock_timeout: int = 5


def _bad(name: str, why: str, remedy: str = "Correct it in saasops_repairs.") -> OpsError:
    return OpsError("fix_invalid", f"Fix {name}: {why}.", remedy, {"fix": name})


def _known(body: Mapping[str, object], fields: Iterable[str], name: str) -> None:
    unknown = sorted(set(body) - set(fields))
    if unknown:
        raise _bad(name, f"{', '.join(unknown)} is not known", f"Known are {', '.join(sorted(fields))}.")


def _texts(value: object, name: str, where: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence):
        raise _bad(name, f"{where} is not a list")
    return tuple(str(item) for item in value)


def _parameter(body: object, name: str) -> Parameter:
    if not isinstance(body, Mapping):
        raise _bad(name, "a parameter is not a dictionary with a name")
    _known(body, _PARAMETER, name)
    parameter = Parameter(
        name=str(body.get("name") or ""),
        type=str(body.get("type") or "text"),
        required=body.get("required", "default" not in body) in (True, "true", "yes"),
        default=None if body.get("default") is None else str(body["default"]),
        pattern=str(body.get("pattern") or ""),
        choices=_texts(body.get("choices"), name, "choices"),
    )
    if not _NAME.match(parameter.name):
        raise _bad(name, f"a parameter has the name {parameter.name!r}")
    if parameter.type not in TYPES:
        raise _bad(name, f"parameter {parameter.name} has the type {parameter.type}", f"One of {', '.join(TYPES)}.")
    return parameter


def _act(body: Mapping[str, object], name: str) -> tuple[str, str, dict[str, str]]:
    """(act, table that rows are inserted into, values)."""
    given = [act for act in ("set", "insert", "delete") if body.get(act)]
    if body.get("report_only") and not given:
        return "report", "", {}
    if len(given) != 1:
        raise _bad(name, "it needs exactly one of set, insert and delete")
    if given[0] == "delete":
        return "delete", "", {}
    inner = body[given[0]]
    into = ""
    if given[0] == "insert":
        if not isinstance(inner, Mapping) or set(inner) != {"into", "values"}:
            raise _bad(name, "insert needs into and values")
        into, inner = str(inner["into"]), inner["values"]
    if not isinstance(inner, Mapping) or not inner:
        raise _bad(name, f"{given[0]} names no column")
    return ("insert" if into else "update"), into, {str(column): str(value) for column, value in inner.items()}


def parse_fix(body: Mapping[str, object], tenants: Sequence[str] = ()) -> Fix:
    """A fix of saasops_repairs. tenants: what `schemas: tenants` stands for. Raises fix_invalid, bad_duration."""
    name = str(body.get("name") or "")
    if not _NAME.match(name):
        raise _bad(repr(name), "its name is not made of small letters, digits and _")
    _known(body, _FIELDS, name)
    act, into, values = _act(body, name)
    if not body.get("table") or not str(body.get("where") or "").strip():
        raise _bad(name, "it needs a table and a condition (where) that chooses its rows")
    schemas = _texts(body.get("schemas") or "public", name, "schemas")
    if schemas == ("tenants",):
        schemas = tuple(tenants)
        if not schemas:
            raise _bad(name, "schemas is tenants, and saasops_tenant_schemas is empty", "Set saasops_tenant_schemas.")
    limit = int(str(body.get("limit") or LIMIT))
    if not 1 <= limit <= LARGEST:
        raise _bad(name, f"limit is {limit}", f"At most {LARGEST} rows; more is the verb cleanup's or a migration's.")
    keep = body.get("keep_archive")
    return Fix(
        name=name,
        description=" ".join(str(body.get("description") or "").split()),
        act=act,
        table=str(body["table"]),
        schemas=schemas,
        where=str(body["where"]),
        values=values,
        into=into,
        parameters=tuple(_parameter(item, name) for item in cast("Sequence[object]", body.get("parameters") or [])),
        show=_texts(body.get("show"), name, "show"),
        key=_texts(body.get("key"), name, "key"),
        requires=tuple(
            Requirement(str(item["condition"]), str(item.get("says") or item["condition"]))
            for item in cast("Sequence[Mapping[str, object]]", body.get("requires") or [])
        ),
        verify=str(body.get("verify") or ""),
        limit=limit,
        report_only=body.get("report_only") in (True, "true", "yes"),
        accept_triggers=_texts(body.get("accept_triggers"), name, "accept_triggers"),
        search_path=_texts(body.get("search_path"), name, "search_path"),
        keep_archive=None if not keep else parse_duration(str(keep), "keep_archive"),
        lock_timeout=parse_duration(str(body.get("lock_timeout") or "5s"), "lock_timeout"),
    )


def given_reason(reason: str) -> bool:
    """Whether somebody said why: the place for it in a line that was pasted, <why>, says nothing."""
    return bool(reason) and not _PLACE.match(reason)


def choose(bodies: Sequence[Mapping[str, object]], name: str, tenants: Sequence[str]) -> Fix:
    """The fix of that name. Raises OpsError fix_unknown, fix_invalid."""
    found = [body for body in bodies if body.get("name") == name]
    if len(found) != 1:
        known = "; ".join(
            f"{body.get('name')} ({' '.join(str(body.get('description') or '').split())})" for body in bodies
        )
        raise OpsError(
            "fix_unknown",
            f"There is no fix {name!r}." if not found else f"There are {len(found)} fixes {name!r}.",
            f"Fixes of this system: {known or 'none; set saasops_repairs'}.",
            {"fixes": [str(body.get("name")) for body in bodies]},
        )
    return parse_fix(found[0], tenants)


def check_values(fix: Fix, given: Mapping[str, object]) -> dict[str, tuple[str, str | None]]:
    """name -> (type, text or None), each held against its type, pattern and choices.

    Raises OpsError parameter_unknown, parameter_missing, parameter_invalid.
    """
    unknown = sorted(set(given) - {item.name for item in fix.parameters})
    if unknown:
        raise OpsError(
            "parameter_unknown",
            f"Fix {fix.name} has no parameter {', '.join(unknown)}.",
            f"It has {', '.join(item.name for item in fix.parameters) or 'none'}.",
        )
    values: dict[str, tuple[str, str | None]] = {}
    for item in fix.parameters:
        value = given.get(item.name, item.default)
        if value is None or value == "":
            if item.required:
                raise OpsError(
                    "parameter_missing", f"Fix {fix.name} needs {item.name}.", f"Say -e {item.name}=<{item.type}>."
                )
            values[item.name] = (item.type, None)
            continue
        text = str(value)
        fits = re.fullmatch(TYPES[item.type], text) and (not item.pattern or re.fullmatch(item.pattern, text))
        if not fits or (item.choices and text not in item.choices) or "\0" in text:
            wanted = f"one of {', '.join(item.choices)}" if item.choices else item.pattern or item.type
            raise OpsError(
                "parameter_invalid", f"{item.name} is {text[:80]!r}.", f"It must be {wanted}.", {"parameter": item.name}
            )
        values[item.name] = (item.type, text)
    return values
