# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a database beside its rows, and what differs between two readings of it.

Neither pg_restore nor a rename carries a database's grants, settings, limits, comment or labels. The rest of the
catalog is compared too, so that a restore that lost a grant or a trigger is not called good.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import Difference
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

# kinds of objects whose catalog text is the same in every major version
STEADY = ("extensions", "publications", "event_triggers")


@dataclass(frozen=True, order=True)
class Grant:
    """One privilege on a database; grantee '' is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, order=True)
class Setting:
    """ALTER DATABASE SET, or with a role ALTER ROLE IN DATABASE SET; value is the raw text of the catalog."""

    role: str
    name: str
    value: str


@dataclass(frozen=True)
class Database:
    """One row of pg_database with what hangs on it. Locale fields are '' where they do not apply.

    locale_provider: libc, icu or builtin. labels: (provider, label).
    """

    owner: str
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    locale: str
    icu_rules: str
    collation_version: str
    tablespace: str
    connection_limit: int
    is_template: bool
    comment: str
    grants: tuple[Grant, ...]
    settings: tuple[Setting, ...]
    labels: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Json]:
        """For contents.json."""
        body = asdict(self)
        body["labels"] = [list(item) for item in self.labels]
        return cast("dict[str, Json]", body)


def database_from_json(body: Mapping[str, Json]) -> Database:
    """The reverse of as_json. Raises KeyError or TypeError on another shape."""
    values = dict(body)
    values["grants"] = tuple(Grant(**item) for item in cast("list[dict[str, object]]", body["grants"]))  # type: ignore[arg-type, assignment]
    values["settings"] = tuple(Setting(**item) for item in cast("list[dict[str, str]]", body["settings"]))  # type: ignore[assignment]
    values["labels"] = tuple((p, t) for p, t in cast("list[list[str]]", body["labels"]))  # type: ignore[assignment]
    return Database(**values)  # type: ignore[arg-type]


# fields that CREATE DATABASE fixes for ever
FIXED = ("encoding", "locale_provider", "collate", "ctype", "locale", "icu_rules")
# fields that the owner of the live database may have changed since, and that a switch hands on
CARRIED = ("owner", "connection_limit", "is_template", "comment")


def database_differences(expected: Database, actual: Database) -> list[Difference]:
    """What the database itself has otherwise than expected."""
    found = []
    for name in FIXED + CARRIED + ("tablespace",):
        want, have = getattr(expected, name), getattr(actual, name)
        if want != have:
            found.append(Difference("database", name, f"the database's {name} is {have!r} instead of {want!r}"))
    for title, wants, haves in (
        ("grant", _grant_texts(expected), _grant_texts(actual)),
        ("setting", _setting_texts(expected), _setting_texts(actual)),
        ("label", {f"{p}: {t}" for p, t in expected.labels}, {f"{p}: {t}" for p, t in actual.labels}),
    ):
        found += [
            Difference(title, text, f"the database's {title} {text} is missing") for text in sorted(wants - haves)
        ]
        found += [
            Difference(title, text, f"the database's {title} {text} is surplus") for text in sorted(haves - wants)
        ]
    return found


def _grant_texts(database: Database) -> set[str]:
    return {
        f"{g.privilege} to {g.grantee or 'PUBLIC'}{' with grant option' if g.grantable else ''}"
        for g in database.grants
    }


def _setting_texts(database: Database) -> set[str]:
    return {f"{s.name} = {s.value}{f' for role {s.role}' if s.role else ''}" for s in database.settings}


def handed_on(live: Database, built: Database) -> Database:
    """What a database must look like before it takes the live one's name: fixed traits its own, the rest live's."""
    return replace(
        live,
        **{name: getattr(built, name) for name in FIXED},
        collation_version=built.collation_version,
        tablespace=built.tablespace,
    )


def _entries(body: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", body.get(name) or {})


def _maps(kind: str, expected: Mapping[str, Json], actual: Mapping[str, Json]) -> Iterable[Difference]:
    singular = kind[:-1].replace("_", " ")
    for name in sorted(set(expected) | set(actual)):
        if name not in actual:
            yield Difference(kind, name, f"{singular} {name} is missing")
        elif name not in expected:
            yield Difference(kind, name, f"{singular} {name} is surplus")
        elif expected[name] != actual[name]:
            yield Difference(kind, name, f"{singular} {name} is {actual[name]} instead of {expected[name]}")


def _items(schema: str, kind: str, want: Mapping[str, Json], have: Mapping[str, Json]) -> Iterable[Difference]:
    where = f"schema {schema}" if schema else "the database"
    listed, present = want.get("items"), have.get("items")
    if isinstance(listed, list) and isinstance(present, list):
        wants, haves = {str(item) for item in listed}, {str(item) for item in present}
        for text in sorted(wants - haves):
            yield Difference(kind, text, f"{where} lacks, among its {kind}: {text}")
        for text in sorted(haves - wants):
            yield Difference(kind, text, f"{where} has, among its {kind}, a surplus: {text}")
        if wants != haves:
            return
    yield Difference(
        kind, schema, f"{where} has other {kind} than the backup ({have.get('count')} instead of {want.get('count')})"
    )


_NOTHING: Mapping[str, Json] = {"count": 0, "hash": None, "items": []}


def _objects(
    expected: Mapping[str, Json], actual: Mapping[str, Json], schemas: Collection[str], same_major: bool
) -> Iterable[Difference]:
    for schema in sorted(set(expected) | set(actual)):
        if schemas and schema not in schemas:
            continue
        wants = cast("Mapping[str, Mapping[str, Json]]", expected.get(schema) or {})
        haves = cast("Mapping[str, Mapping[str, Json]]", actual.get(schema) or {})
        for kind in sorted(set(wants) | set(haves)):
            want, have = wants.get(kind, _NOTHING), haves.get(kind, _NOTHING)
            # between major versions names of types and kinds of privileges change; their number of objects does not
            field = "hash" if same_major else "count"
            if want.get(field) == have.get(field) or (not same_major and kind == "grants"):
                continue
            yield from _items(schema, kind, want, have)


def compare_properties(
    expected: Mapping[str, Json], actual: Mapping[str, Json], schemas: Collection[str] = ()
) -> list[Difference]:
    """Every difference between the source at backup time and the restored database; [] when there is none.

    With schemas only their objects are held against each other: the database's own traits, publications and event
    triggers are not part of a restore of schemas.
    """
    same_major = expected.get("server_major") == actual.get("server_major")
    found: list[Difference] = []
    if not schemas:
        found += database_differences(
            database_from_json(_entries(expected, "database")), database_from_json(_entries(actual, "database"))
        )
        for kind in STEADY + (("default_privileges", "statistics") if same_major else ()):
            if kind == "extensions" and not same_major:
                found += _maps(
                    kind,
                    dict.fromkeys(_entries(expected, kind)),
                    dict.fromkeys(_entries(actual, kind)),
                )
                continue
            found += _maps(kind, _entries(expected, kind), _entries(actual, kind))
    found += _objects(_entries(expected, "objects"), _entries(actual, "objects"), schemas, same_major)
    return found
