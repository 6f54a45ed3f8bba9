# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back, killed or hindered at any step: the next undo goes on, nothing is doubled, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import put_back_batch, repair
from ansible_collections.saasops.runbook.tests.lab import acts, podcastflow, row_kill, rows
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.traffic import Readers

ONE = pytest.mark.parametrize("server", [15], indirect=True)
RULE: dict[str, object] = {
    "name": "m",
    "table": "m",
    "age_column": "at",
    "older_than": "90d",
    "lock_limit": "400ms",
    "batch_rows": 15,
}
# what CREATE TABLE ... PARTITION OF would give a partition, and what an empty table must have to be attached
TABLE = """
CREATE TABLE kinds (id int PRIMARY KEY);
INSERT INTO kinds VALUES (1);
CREATE TABLE m (
  id bigint GENERATED ALWAYS AS IDENTITY, at date NOT NULL, kind int NOT NULL DEFAULT 1 REFERENCES kinds,
  note text DEFAULT 'none' CHECK (note <> ''), length int GENERATED ALWAYS AS (length(note)) STORED,
  PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX m_note ON m (note);
CREATE TABLE m_old PARTITION OF m FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
CREATE TABLE m_now PARTITION OF m FOR VALUES FROM (CURRENT_DATE) TO (CURRENT_DATE + 100);
INSERT INTO m (at, note) SELECT date '2000-01-01' + i, 'n' || i FROM generate_series(1, 40) i;
INSERT INTO m (at) VALUES (CURRENT_DATE);
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


def archives_of(store: Path) -> list[str]:
    return sorted(path.parent.name for path in store.glob("archives/*/begun.json"))


def content(server: Server, database: str) -> str:
    return server.psql("COPY (SELECT tableoid::regclass, * FROM m ORDER BY id) TO STDOUT", database)


def shape(server: Server, database: str) -> str:
    """Columns, constraints and number of indexes of the partition."""
    return server.psql("SELECT pg_get_partition_constraintdef('m_old'::regclass)", database) + server.psql(
        "SELECT string_agg(concat(attname, attnotnull, attgenerated, atthasdef), ' ' ORDER BY attnum) || (SELECT "
        " string_agg(concat(contype, pg_get_constraintdef(oid)), ' ' ORDER BY contype, conname) FROM pg_constraint "
        "WHERE conrelid = attrelid) || (SELECT count(*) FROM pg_index WHERE indrelid = attrelid AND indisvalid)"
        " FROM pg_attribute WHERE attrelid = 'm_old'::regclass AND attnum > 0 GROUP BY attrelid",
        database,
    )


@contextlib.contextmanager
def holding(server: Server, database: str, statement: str) -> Iterator[None]:
    """Somebody who has run a statement in a transaction and leaves it open."""
    with contextlib.closing(server.connect(database)) as client:
        client.autocommit = False
        with client.cursor() as cursor:
            cursor.execute(statement)
            yield


@ONE
def test_an_undo_of_a_cleanup_that_is_killed_at_any_step_is_continued_by_the_next(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    rows.make(server, database)
    before = rows.picture(server, database)
    rows.clean(server, store, database, rules=[rows.rule(batch_rows=90)])
    cleaned = rows.picture(server, database)
    made = archives_of(store)
    log = tmp_path / "log"

    def back() -> object:
        return rows.put_back(server, store, database, made)

    assert row_kill.steps(back, log) == 0
    assert rows.picture(server, database) == before
    names = log.read_text(encoding="utf-8").splitlines()
    first = next(number for number, name in enumerate(names) if name == "_execute BEGIN")
    commits = [number for number, name in enumerate(names) if "COMMIT" in name]
    assert len(commits) >= 3

    def clean_again() -> None:
        shutil.rmtree(store / "archives")
        rows.clean(server, store, database, rules=[rows.rule(batch_rows=90)])
        made[:] = archives_of(store)

    clean_again()
    for at in range(first, commits[0] + 1):
        assert os.WIFSIGNALED(row_kill.steps(back, log, at)), names[at]
        assert rows.picture(server, database) == cleaned, names[at]
    for at in (commits[0], commits[0] + 1, commits[1] + 1, commits[-1]):
        assert os.WIFSIGNALED(row_kill.steps(back, log, at)), names[at]
        rows.put_back(server, store, database, made)
        assert rows.picture(server, database) == before, names[at]
        assert not rows.put_back(server, store, database, made).changed
        clean_again()


@pytest.mark.parametrize("server", [15, 18], indirect=True)
def test_an_undo_that_makes_a_partition_again_and_is_killed_at_any_step_is_continued_by_the_next(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    server.psql(TABLE, database)
    before, looked = content(server, database), shape(server, database)
    rows.clean(server, store, database, rules=[RULE])
    assert server.psql("SELECT to_regclass('m_old')", database) == ""
    made = archives_of(store)
    log = tmp_path / "log"

    def back() -> object:
        return rows.put_back(server, store, database, made)

    def gone() -> None:
        server.psql("DROP TABLE IF EXISTS m_old", database)

    assert row_kill.steps(back, log) == 0
    assert (content(server, database), shape(server, database)) == (before, looked)
    names = log.read_text(encoding="utf-8").splitlines()
    first = next(number for number, name in enumerate(names) if name == "_execute BEGIN")
    last = max(number for number, name in enumerate(names) if "COMMIT" in name)
    for at in range(first, last + 1) if server.version == 15 else ():
        gone()
        assert os.WIFSIGNALED(row_kill.steps(back, log, at)), names[at]
        rows.put_back(server, store, database, made)
        assert (content(server, database), shape(server, database)) == (before, looked), names[at]


@ONE
def test_an_undo_of_a_repair_that_is_killed_at_any_step_is_continued_by_the_next(
    server: Server, database: str, store: Path, tmp_path: Path
) -> None:
    podcastflow.make(server, database)
    fixes = podcastflow.shipped("repairs.yml", "saasops_repairs")
    log = tmp_path / "log"

    def act(**changes: object) -> object:
        return repair.execute(acts.parameters(server, store, database, changes), acts.context())

    def mend() -> None:
        shutil.rmtree(store / "archives", ignore_errors=True)
        given = {"id": "a-stuck"}
        act(fixes=fixes, fix="release_reservation", parameters=given, reason="test", tenant_schemas=["org_*"])

    def back() -> object:
        return act(state="put_back", archives=archives_of(store))

    def picture() -> str:
        return rows.picture(server, database, "org_a", podcastflow.TABLES)

    before = picture()
    mend()
    assert row_kill.steps(back, log) == 0
    assert picture() == before
    names = log.read_text(encoding="utf-8").splitlines()
    first = next(number for number, name in enumerate(names) if name == "_execute BEGIN")
    last = max(number for number, name in enumerate(names) if "COMMIT" in name)
    mend()
    mended = picture()
    assert mended != before
    for at in range(first, last + 1):
        assert os.WIFSIGNALED(row_kill.steps(back, log, at)), names[at]
        assert picture() == mended, names[at]
    for at in (last, last + 1):
        assert os.WIFSIGNALED(row_kill.steps(back, log, at)), names[at]
        back()
        assert picture() == before, names[at]
        mend()


@ONE
@pytest.mark.parametrize("default", [False, True])
def test_a_reader_who_holds_the_partitioned_table_makes_nobody_queue_behind_an_undo(
    server: Server, database: str, store: Path, default: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_back_batch, "_ATTEMPTS", 3)
    server.psql(TABLE + ("CREATE TABLE m_rest PARTITION OF m DEFAULT;" if default else ""), database)
    before = content(server, database)
    rows.clean(server, store, database, rules=[RULE])
    ended: list[object] = []

    def back() -> None:
        try:
            ended.append(rows.put_back(server, store, database, archives_of(store)).changed)
        except OpsError as error:
            ended.append(error)

    question = "SELECT count(*) FROM m"
    # the first reader stays for all of it; those who come after him must not wait for him
    with holding(server, database, question), Readers(server.dsn(database), question) as readers:
        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        thread.join(60)
        (end,) = ended
    if default:
        assert isinstance(end, OpsError)
        assert end.code == "lock_timeout"
        assert "m_old" in end.message
    else:
        assert end is True
    assert readers.longest < 15
    rows.put_back(server, store, database, archives_of(store))
    assert content(server, database) == before


@ONE
def test_rows_of_a_partition_whose_range_another_one_took_come_back_into_that_one(
    server: Server, database: str, store: Path
) -> None:
    server.psql(TABLE, database)
    rows.clean(server, store, database, rules=[RULE])
    server.psql("CREATE TABLE m_early PARTITION OF m FOR VALUES FROM ('1990-01-01') TO ('2005-01-01')", database)
    assert rows.put_back(server, store, database, archives_of(store)).changed
    assert server.psql("SELECT count(*) FROM m_early", database) == "40"
    assert server.psql("SELECT to_regclass('m_old')", database) == ""


@ONE
def test_an_undo_does_not_wait_for_a_locked_table_for_ever_and_says_who_to_look_for(
    server: Server, database: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_back_batch, "_ATTEMPTS", 2)
    rows.make(server, database)
    before = rows.picture(server, database)
    done = rows.clean(server, store, database, rules=[rows.rule(lock_limit="300ms")])
    with holding(server, database, "LOCK TABLE org_a.events IN SHARE MODE"), pytest.raises(OpsError) as caught:
        rows.put_back(server, store, database, cast("list[str]", done.evidence["archives"]))
    assert caught.value.code == "lock_timeout"
    assert "triage" in caught.value.message
    rows.put_back(server, store, database, cast("list[str]", done.evidence["archives"]))
    assert rows.picture(server, database) == before
