# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of a database's rows, and what differs between two of them.

Shape, JSON in contents.json:
    {"tables": {key: {"rows": int, "hash": str | null, "kind": "r" | "m", "populated": bool}},
     "sequences": {key: {"last_value": int | null, "is_called": bool}},
     "large_objects": {"count": int, "hash": str | null},
     "counters": {key: {"ins": int, "upd": int, "del": int}}, "stats_reset": str | null,
     "server_major": int}
A key is json.dumps([schema, name]): no separator can be confused with a character of a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union, cast

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Entries = Mapping[str, Mapping[str, Json]]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the fingerprint says: kind (rows, hash, missing, surplus ...), object, sentence."""

    kind: str
    object: str
    text: str

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "object": self.object, "text": self.text}


def key_of(schema: str, name: str) -> str:
    """The key of a table or sequence."""
    return json.dumps([schema, name])


def readable(key: str) -> str:
    """A key as a person reads it: schema.name."""
    schema, name = json.loads(key)
    return f"{schema}.{name}"


def _part(fingerprint: Mapping[str, Json], name: str) -> Entries:
    return cast("Entries", fingerprint.get(name) or {})


def _schema_of(key: str) -> str:
    return str(json.loads(key)[0])


def narrowed(fingerprint: Mapping[str, Json], schemas: Iterable[str]) -> dict[str, Json]:
    """The part of a fingerprint that speaks of these schemas; large objects belong to no schema and go."""
    wanted = set(schemas)
    result = dict(fingerprint)
    for part in ("tables", "sequences", "counters"):
        entries = _part(fingerprint, part)
        result[part] = {key: dict(value) for key, value in entries.items() if _schema_of(key) in wanted}
    result["large_objects"] = None
    return result


def rows_of(fingerprint: Mapping[str, Json]) -> int:
    """All rows that were counted."""
    return sum(int(cast("int", entry["rows"])) for entry in _part(fingerprint, "tables").values() if entry.get("rows"))


def _tables(expected: Entries, actual: Entries, hashes: bool) -> Iterable[Difference]:
    for key in sorted(expected):
        name, want, have = readable(key), expected[key], actual.get(key)
        if have is None:
            yield Difference("missing", name, f"table {name} is missing")
        elif want.get("kind") == "m":
            if want.get("populated") != have.get("populated"):
                state = "populated" if want.get("populated") else "not populated"
                yield Difference("populated", name, f"materialized view {name} should be {state}")
        elif want.get("rows") != have.get("rows"):
            yield Difference("rows", name, f"table {name} has {have.get('rows')} rows instead of {want.get('rows')}")
        elif hashes and want.get("hash") and have.get("hash") and want["hash"] != have["hash"]:
            yield Difference("hash", name, f"table {name} has the right number of rows, but other values")
    for key in sorted(set(actual) - set(expected)):
        yield Difference("surplus", readable(key), f"table {readable(key)} is not in the fingerprint")


def _position(entry: Mapping[str, Json]) -> float:
    """The last value handed out; one that was never called stands just before its start."""
    value = entry.get("last_value")
    return float("-inf") if value is None else int(cast("int", value)) - (0 if entry.get("is_called") else 0.5)


def _sequences(expected: Entries, actual: Entries, exact: bool) -> Iterable[Difference]:
    for key in sorted(expected):
        name, have = readable(key), actual.get(key)
        if have is None:
            yield Difference("missing", name, f"sequence {name} is missing")
            continue
        want, got = _position(expected[key]), _position(have)
        if got < want if not exact else got != want:
            yield Difference(
                "sequence",
                name,
                f"sequence {name} stands at {have.get('last_value')}, the backup at {expected[key].get('last_value')}",
            )


def compare(
    expected: Mapping[str, Json], actual: Mapping[str, Json], *, exact_sequences: bool = False
) -> list[Difference]:
    """Every difference; [] when actual is what expected promises.

    Sequences move outside of transactions: a restored one may stand later than the snapshot, never earlier.
    Hashes are compared only between equal major versions, since their functions may change with one.
    """
    hashes = expected.get("server_major") == actual.get("server_major")
    found = list(_tables(_part(expected, "tables"), _part(actual, "tables"), hashes))
    found += _sequences(_part(expected, "sequences"), _part(actual, "sequences"), exact_sequences)
    want, have = expected.get("large_objects"), actual.get("large_objects")
    if isinstance(want, dict) and isinstance(have, dict):
        if want.get("count") != have.get("count"):
            text = f"there are {have.get('count')} large objects instead of {want.get('count')}"
            found.append(Difference("large_objects", "large objects", text))
        elif hashes and want.get("hash") and have.get("hash") and want["hash"] != have["hash"]:
            found.append(Difference("large_objects", "large objects", "large objects have other contents"))
    return found
