# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A partition that holds nothing but old rows is archived and dropped; others lose their old rows in batches."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.execute import purge
from ansible_collections.saasops.runbook.plugins.module_utils.module import Unguarded
from ansible_collections.saasops.runbook.tests.lab import acts, row_kill, rows
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

KINDS = ["timestamptz", "timestamp", "date"]
RULE: dict[str, object] = {"name": "m", "table": "m", "age_column": "at", "older_than": "90d"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


def make(server: Server, database: str, kind: str = "timestamptz") -> None:
    """Four partitions: two wholly past 90 days, one across the cut-off, one for all that comes; and a default one."""
    server.psql(
        f"CREATE TABLE m (id int, at {kind} NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE m_rest PARTITION OF m DEFAULT;"
        "SELECT format('CREATE TABLE m_%s PARTITION OF m FOR VALUES FROM (%L) TO (%L)', n,"
        " current_date - 160 + n * 40, current_date - 120 + n * 40) FROM generate_series(0, 3) n \\gexec\n"
        "INSERT INTO m SELECT i, current_date - i, E'n\\t' || i FROM generate_series(1, 170) i",
        database,
    )


def picture(server: Server, database: str) -> str:
    return server.psql("COPY (SELECT tableoid::regclass, * FROM m ORDER BY id) TO STDOUT", database)


def names(server: Server, database: str) -> list[str]:
    return server.psql("SELECT relid FROM pg_partition_tree('m') WHERE isleaf ORDER BY 1", database).split()


@pytest.mark.parametrize("server", [15, 18], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_partitions_wholly_past_the_cut_off_are_dropped_and_come_back(
    server: Server, database: str, store: Path, kind: str
) -> None:
    make(server, database, kind)
    before = picture(server, database)
    checked = rows.clean(server, store, database, check=True, rules=[RULE])
    assert checked.plan is not None
    assert checked.plan.actions[0].measured["partitions dropped whole"] == "public.m_0"
    done = rows.clean(server, store, database, rules=[RULE])
    (told,) = cast("list[dict[str, object]]", done.evidence["rules"])
    assert told["dropped_partitions"] == ["public.m_0"]
    assert "m_0" not in names(server, database)
    assert server.psql("SELECT to_regclass('m_0')", database) == ""
    assert server.psql("SELECT count(*) FROM m WHERE at < now() - interval '91 days'", database) == "0"
    rows.put_back(server, store, database, done.evidence["archives"])
    assert picture(server, database) == before
    assert "m_0" in names(server, database)


class Once(Unguarded):
    def __init__(self, server: Server, database: str) -> None:
        self.server, self.database, self.done = server, database, False

    def confirm(self) -> None:
        if not self.done:
            self.done = True
            self.server.psql("UPDATE m SET note = 'late' WHERE id = 150", self.database)


@pytest.mark.parametrize("server", [15], indirect=True)
def test_a_partition_that_is_written_to_between_archive_and_drop_is_archived_again(
    server: Server, database: str, store: Path
) -> None:
    make(server, database)
    context = replace(acts.context(), admission=Once(server, database))
    done = purge.execute(acts.parameters(server, store, database, {"rules": [RULE]}), context)
    (told,) = cast("list[dict[str, object]]", done.evidence["rules"])
    assert (told["retries"], told["dropped_partitions"]) == (1, ["public.m_0"])
    rows.put_back(server, store, database, done.evidence["archives"])
    assert server.psql("SELECT note FROM m WHERE id = 150", database) == "late"


@pytest.mark.parametrize("server", [15], indirect=True)
def test_a_rule_with_a_condition_a_view_or_too_small_a_limit_drops_no_partition(
    server: Server, database: str, store: Path
) -> None:
    make(server, database)
    for changes in ({"where": "note <> ''"}, {"limit": 10}):
        done = rows.clean(server, store, database, rules=[{**RULE, **changes}])
        assert cast("list[dict[str, object]]", done.evidence["rules"])[0]["dropped_partitions"] == []
        rows.put_back(server, store, database, done.evidence["archives"])
    server.psql("CREATE VIEW v AS SELECT * FROM m_0", database)
    done = rows.clean(server, store, database, rules=[RULE])
    assert cast("list[dict[str, object]]", done.evidence["rules"])[0]["dropped_partitions"] == []
    assert "m_0" in names(server, database)
    assert server.psql("SELECT count(*) FROM m_0", database) == "0"


@pytest.mark.parametrize("server", [15], indirect=True)
def test_a_kill_at_any_step_of_dropping_a_partition_loses_nothing(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    make(server, database)
    before = picture(server, database)

    def act() -> object:
        return rows.clean(server, store, database, rules=[RULE])

    def back() -> None:
        for archive in sorted(path.parent.name for path in store.glob("archives/*/begun.json")):
            rows.put_back(server, store, database, [archive])

    assert row_kill.steps(act, tmp_path / "log") == 0
    steps = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    back()
    first = next(number for number, name in enumerate(steps) if name.startswith("put archives"))
    last = next(number for number, name in enumerate(steps) if "COMMIT" in name)
    for at in range(first - 1, last + 2):
        assert os.WIFSIGNALED(row_kill.steps(act, tmp_path / "log", at)), steps[at]
        back()
        assert picture(server, database) == before, steps[at]
