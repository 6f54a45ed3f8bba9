# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which statement a server of each version is asked."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_checks import PG_CHECKS, queries_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Facts
from ansible_collections.saasops.runbook.plugins.module_utils.execute.pg_survey import Limits
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures import statements
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.measures.every import EVERY
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.sql import render

VERSIONS = (130000, 140011, 150018, 160004, 170002, 180006)
# column or function -> the version that brought it, and the query that may name it
NEWER = {
    "conflicting": (160000, "slots"),
    "invalidation_reason": (170000, "slots"),
    "inactive_since": (170000, "slots"),
    "last_idx_scan": (160000, "unused_indexes"),
    "datcollversion": (150000, "database_collations"),
    "pg_database_collation_actual_version": (150000, "database_collations"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_no_statement_names_what_its_server_does_not_have_and_newer_servers_are_asked_for_it(version: int) -> None:
    for name, query in EVERY.items():
        text = render(query.text(version), **Limits().values())
        for word, (since, where) in NEWER.items():
            # 17 replaced conflicting by the reason
            if name == where and word != "conflicting":
                assert (word in text) == (version >= since), (name, word)
            elif version < since:
                assert word not in text, (name, word)


def test_a_server_older_than_the_table_is_refused() -> None:
    with pytest.raises(OpsError) as refused:
        EVERY["slots"].text(120009)
    assert refused.value.code == "version_unknown"


@pytest.mark.parametrize(
    ("extension", "column"),
    [("1.6", "mean_time"), ("1.7", "mean_time"), ("1.8", "mean_exec_time"), ("1.10", "mean_exec_time")],
)
def test_statements_are_read_by_the_names_of_the_extensions_version(extension: str, column: str) -> None:
    facts = Facts(150000, False, "r", "d", False, frozenset(), 0.0, 0.0, 0, 8192, None, extension, '"my schema"')
    query = statements.query_for(facts)
    assert query is not None
    text = render(query.text(150000), **Limits().values())
    assert f"s.{column}::" in text
    assert '"my schema".pg_stat_statements' in text


def test_without_the_extension_there_is_nothing_to_ask() -> None:
    assert statements.query_for(Facts(150000, False, "r", "d", False, frozenset(), 0.0, 0.0, 0)) is None


def test_each_check_reads_what_there_is_and_each_query_is_read_by_a_check() -> None:
    assert queries_of(PG_CHECKS) - {"statements"} == set(EVERY)


def test_the_names_of_checks_are_unique_and_their_thresholds_parse() -> None:
    names = [item.check.name for item in PG_CHECKS]
    assert len(names) == len(set(names))
    for item in PG_CHECKS:
        item.check.thresholds()
