# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What two readings of a database's properties are called different for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import (
    Database,
    Grant,
    Setting,
    compare_properties,
    database_differences,
    database_from_json,
    handed_on,
)

OWN = Database(
    owner="app",
    encoding="UTF8",
    locale_provider="libc",
    collate="C.UTF-8",
    ctype="C.UTF-8",
    locale="",
    icu_rules="",
    collation_version="2.36",
    tablespace="pg_default",
    connection_limit=-1,
    is_template=False,
    comment="",
    grants=(Grant("", "CONNECT", False), Grant("app", "CREATE", True)),
    settings=(Setting("", "work_mem", "4MB"), Setting("app", "search_path", '"A", b')),
    labels=(("provider", "label"),),
)


def body(**changes: Json) -> dict[str, Json]:
    """A set's properties with one schema of one table."""
    return {
        "server_major": 15,
        "database": OWN.as_json(),
        "extensions": {"citext": {"version": "1.6", "schema": "public"}},
        "publications": {"p": "owner app"},
        "event_triggers": {},
        "default_privileges": {"app everywhere r x": "SELECT"},
        "statistics": {},
        "objects": {
            "public": {
                "relations": {"count": 1, "hash": "aa", "items": ["r t owner app"]},
                "grants": {"count": 1, "hash": "bb", "items": ["table t app SELECT"]},
            }
        },
        **changes,
    }


def objects(**kinds: Json) -> dict[str, Json]:
    found = body()["objects"]
    assert isinstance(found, dict)
    public = found["public"]
    assert isinstance(public, dict)
    return {"public": {**public, **kinds}}


def test_a_database_goes_through_json_unchanged() -> None:
    assert database_from_json(OWN.as_json()) == OWN


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"owner": "other"}, "database"),
        ({"encoding": "LATIN1"}, "database"),
        ({"locale_provider": "icu"}, "database"),
        ({"icu_rules": "&a < b"}, "database"),
        ({"tablespace": "fast"}, "database"),
        ({"connection_limit": 3}, "database"),
        ({"comment": "x"}, "database"),
        ({"grants": OWN.grants[:1]}, "grant"),
        ({"grants": (*OWN.grants, Grant("x", "CONNECT", False))}, "grant"),
        ({"settings": OWN.settings[1:]}, "setting"),
        ({"labels": ()}, "label"),
    ],
)
def test_each_trait_of_the_database_counts(change: dict[str, object], kind: str) -> None:
    assert [item.kind for item in database_differences(OWN, replace(OWN, **change))] == [kind]  # type: ignore[arg-type]


def test_the_version_of_the_collation_is_not_a_trait_that_a_restore_keeps() -> None:
    assert database_differences(OWN, replace(OWN, collation_version="2.40")) == []


def test_equal_properties_have_no_difference() -> None:
    assert compare_properties(body(), body()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extensions": {}}, "extension citext is missing"),
        ({"extensions": {"citext": {"version": "1.7", "schema": "public"}}}, "extension citext is"),
        ({"publications": {"p": "owner app", "q": "owner app"}}, "publication q is surplus"),
        ({"event_triggers": {"e": "sql_drop O f()"}}, "event trigger e is surplus"),
        ({"default_privileges": {}}, "default privilege app everywhere r x is missing"),
        ({"statistics": {"public.s": "on t"}}, "statistic public.s is surplus"),
        (
            {"objects": objects(grants={"count": 1, "hash": "cc", "items": ["table t app INSERT"]})},
            "schema public lacks, among its grants: table t app SELECT",
        ),
        (
            {"objects": objects(relations={"count": 2, "hash": "dd", "items": None})},
            "schema public has other relations than the backup (2 instead of 1)",
        ),
        ({"objects": {}}, "schema public lacks, among its relations: r t owner app"),
    ],
)
def test_each_kind_of_object_counts_and_is_named(change: dict[str, Json], text: str) -> None:
    texts = [item.text for item in compare_properties(body(), body(**change))]
    assert any(item.startswith(text) for item in texts), texts


def test_a_restore_of_schemas_is_held_against_those_schemas_only() -> None:
    other = body(publications={}, extensions={}, objects={**objects(), "other": {}})
    assert compare_properties(body(), other, ["public"]) == []
    assert compare_properties(body(), body(objects={}), ["public"]) != []
    assert compare_properties(body(), body(objects={}), ["elsewhere"]) == []


def test_between_major_versions_numbers_count_and_texts_do_not() -> None:
    other_texts = objects(
        relations={"count": 1, "hash": "zz", "items": ["r t owner app new"]},
        grants={"count": 2, "hash": "yy", "items": []},
    )
    newer = body(
        server_major=18,
        objects=other_texts,
        extensions={"citext": {"version": "1.8", "schema": "public"}},
        default_privileges={},
    )
    assert compare_properties(body(), newer) == []
    lost = body(server_major=18, objects=objects(relations={"count": 0, "hash": None, "items": []}))
    assert [item.kind for item in compare_properties(body(), lost)] == ["relations"]
    assert [item.kind for item in compare_properties(body(), body(server_major=18, extensions={}))] == ["extensions"]


def test_a_switch_hands_on_what_the_owner_may_change_and_nothing_that_create_fixed() -> None:
    built = replace(OWN, owner="x", encoding="LATIN1", settings=(), tablespace="fast", collation_version="9")
    assert handed_on(OWN, built) == replace(OWN, encoding="LATIN1", tablespace="fast", collation_version="9")
