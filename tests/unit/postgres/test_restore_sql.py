# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL that makes and dresses databases, as far as it is decided without a server."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import Database, Setting
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import (
    create_statement,
    split_names,
    statements_towards,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import (
    default_load_jobs,
    loading_options,
)
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.swap import Rename, renames_for

OWN = Database(
    owner="app",
    encoding="UTF8",
    locale_provider="libc",
    collate="C",
    ctype="C.UTF-8",
    locale="",
    icu_rules="",
    collation_version="",
    tablespace="pg_default",
    connection_limit=-1,
    is_template=False,
    comment="",
    grants=(),
    settings=(),
    labels=(),
)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("public", ["public"]),
        ('"$user", public', ["$user", "public"]),
        ('"a, b", "c""d",e', ["a, b", 'c"d', "e"]),
        ("Public , MIXED", ["public", "mixed"]),
        ('""', [""]),
        ("", []),
    ],
)
def test_a_list_setting_is_split_as_the_server_does(value: str, names: list[str]) -> None:
    assert split_names(value) == names


@pytest.mark.parametrize(
    ("own", "version", "ending"),
    [
        (replace(OWN, tablespace="fast"), 130000, 'TABLESPACE "fast"'),
        (OWN, 150000, "LOCALE_PROVIDER libc"),
        (replace(OWN, locale_provider="icu", locale="de"), 150000, "LOCALE_PROVIDER icu ICU_LOCALE 'de'"),
        (
            replace(OWN, locale_provider="icu", locale="de", icu_rules="&a < g"),
            160000,
            "ICU_LOCALE 'de' ICU_RULES '&a < g'",
        ),
        (replace(OWN, locale_provider="builtin", locale="C"), 170000, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'"),
    ],
)
def test_create_database_names_the_locale_as_the_version_wants_it(own: Database, version: int, ending: str) -> None:
    statement = create_statement('na"me', own, version)
    assert statement.startswith("CREATE DATABASE \"na\"\"me\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C'")
    assert statement.endswith(ending)


@pytest.mark.parametrize(
    ("own", "version"),
    [
        (replace(OWN, locale_provider="icu", locale="de"), 140000),
        (replace(OWN, locale_provider="icu", locale="de", icu_rules="&a < g"), 150000),
        (replace(OWN, locale_provider="builtin", locale="C"), 160000),
    ],
)
def test_a_server_too_old_for_the_locale_is_refused(own: Database, version: int) -> None:
    with pytest.raises(OpsError) as refused:
        create_statement("name", own, version)
    assert refused.value.code == "locale_provider_unknown"


def test_only_what_differs_is_changed() -> None:
    assert statements_towards("d", OWN, OWN) == []
    wanted = replace(OWN, settings=(Setting("", "search_path", '"A", b'), Setting("r", "work_mem", "1MB")))
    assert statements_towards("d", OWN, wanted) == [
        "ALTER DATABASE \"d\" SET \"search_path\" TO 'A', 'b'",
        'ALTER ROLE "r" IN DATABASE "d" SET "work_mem" TO \'1MB\'',
    ]
    assert statements_towards("d", wanted, OWN) == [
        'ALTER DATABASE "d" RESET "search_path"',
        'ALTER ROLE "r" IN DATABASE "d" RESET "work_mem"',
    ]


def test_the_database_that_takes_over_is_moved_before_the_live_one() -> None:
    assert renames_for((1, "live"), (2, "copy"), "live", "aside") == [
        Rename(2, "copy", "saasops_passing_2"),
        Rename(1, "live", "aside"),
        Rename(2, "saasops_passing_2", "live"),
    ]
    assert renames_for(None, (2, "copy"), "live", "aside") == [Rename(2, "copy", "live")]


@pytest.mark.parametrize(("jobs", "helpers"), [(1, True), (2, True), (4, False), (5, False)])
def test_index_builds_have_helpers_only_while_processors_are_left_over(
    monkeypatch: pytest.MonkeyPatch, jobs: int, helpers: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert ("max_parallel_maintenance_workers=0" not in loading_options(jobs)) == helpers


@pytest.mark.parametrize(("processors", "jobs"), [(1, 2), (2, 3), (4, 5), (64, 5), (None, 2)])
def test_one_more_job_than_processors_loads(monkeypatch: pytest.MonkeyPatch, processors: int | None, jobs: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert default_load_jobs() == jobs
