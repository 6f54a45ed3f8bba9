# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lock common statements take on which table. tests/contract holds the same table against real servers."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_locks import classify, look_at
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import split
from ansible_collections.saasops.runbook.tests.lab.ddl import LOCKS

ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"


@pytest.mark.parametrize(("sql", "locks"), LOCKS)
def test_the_locks_of_a_statement_are_told_from_its_text(sql: str, locks: dict[str, str]) -> None:
    (statement,) = split(sql)
    verdict = classify(statement)
    assert {".".join(touch.table): touch.mode for touch in verdict.touches} == locks
    assert verdict.in_transaction


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY t",
        "REINDEX (VERBOSE) DATABASE d",
        "REINDEX SCHEMA s",
        "VACUUM",
        "VACUUM (FULL) t",
        "CREATE DATABASE d",
        "DROP DATABASE d",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "ALTER DATABASE d SET TABLESPACE x",
        "ALTER TABLE p DETACH PARTITION c CONCURRENTLY",
        "CLUSTER",
        "CREATE TABLESPACE x LOCATION '/x'",
    ],
)
def test_what_no_transaction_takes_is_known(sql: str) -> None:
    (statement,) = split(sql)
    assert not classify(statement).in_transaction


@pytest.mark.parametrize(
    ("sql", "scope"),
    [
        ("REINDEX TABLE CONCURRENTLY s.t", ("TABLE", "s", "t")),
        ('REINDEX (VERBOSE, TABLESPACE x) INDEX CONCURRENTLY "I"', ("INDEX", "I")),
        ("REINDEX (CONCURRENTLY) SCHEMA s", ("SCHEMA", "s")),
        ("REINDEX DATABASE CONCURRENTLY", ("DATABASE",)),
    ],
)
def test_what_a_concurrent_rebuild_may_leave_behind_is_looked_for_there(sql: str, scope: tuple[str, ...]) -> None:
    (statement,) = split(sql)
    assert classify(statement).scope == scope


@pytest.mark.parametrize(
    "sql", ["DO $$ BEGIN END $$", "SELECT f()", "CALL p()", "DROP INDEX i", "WITH x AS (SELECT 1) SELECT"]
)
def test_what_the_text_does_not_tell_is_said_to_be_unknown(sql: str) -> None:
    (statement,) = split(sql)
    assert not classify(statement).known


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint", "anew"),
        ("ALTER TABLE t ALTER a SET DATA TYPE bigint", "anew"),
        ("ALTER TABLE t ADD COLUMN b uuid DEFAULT gen_random_uuid()", "anew"),
        ("ALTER TABLE t ADD b serial", "anew"),
        ("ALTER TABLE t ADD b int GENERATED ALWAYS AS (a * 2) STORED", "anew"),
        ("ALTER TABLE t SET UNLOGGED", "anew"),
        ("CLUSTER t USING i", "anew"),
        ("CREATE INDEX i ON t (a)", "CONCURRENTLY"),
        ("CREATE INDEX ON t (a)", "CONCURRENTLY"),
        ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES o (a)", "NOT VALID"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "NOT VALID"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", "USING INDEX"),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", "reads every row"),
        ("ALTER TABLE t ADD b int; ALTER TABLE o ADD b int", "2 tables"),
    ],
)
def test_what_hurts_is_warned_of(sql: str, words: str) -> None:
    assert any(words in line for line in look_at(split(sql)).warnings)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t ADD COLUMN b timestamptz DEFAULT now()",
        "ALTER TABLE t ADD COLUMN b int NOT NULL DEFAULT 0",
        "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES o (a) NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT c",
        "ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i",
        "CREATE TABLE n (a int); CREATE INDEX ON n (a); ALTER TABLE n ALTER a TYPE bigint",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
    ],
)
def test_what_is_harmless_is_not_warned_of(sql: str) -> None:
    assert look_at(split(sql)).warnings == ()


def test_a_file_takes_the_strongest_lock_of_each_table_that_was_there_before() -> None:
    sql = "CREATE TABLE n (a int); UPDATE t SET a = 1; ALTER TABLE t VALIDATE CONSTRAINT c; ALTER TABLE n ADD b int;"
    look = look_at(split(sql))
    assert {touch.table: touch.mode for touch in look.touches} == {("t",): "SHARE UPDATE EXCLUSIVE"}
    assert look.heavy == ()


def test_names_are_folded_as_the_server_folds_them() -> None:
    look = look_at(split('ALTER TABLE ONLY Public."Mixed Case" ADD b int'))
    assert look.touches[0].table == ("public", "Mixed Case")
