# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""While one tenant is restored the others go on, and what holds its tables is waited for, named, never broken."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import lock_key
from ansible_collections.saasops.runbook.tests.lab.acts import take_backup
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.tenants import (
    change_hard,
    changes_of,
    leftovers,
    make_hard,
    restore_tenant,
    rows_of,
)
from ansible_collections.saasops.runbook.tests.lab.traffic import Prober, Writer

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
ROWS = 60_000
WRITE = """
INSERT INTO org_bluebird."Activity" ("campaignId", kind, "actorEmail", note, details)
VALUES (NULL, 'seen', 'a@b.c', 'written meanwhile', '{}'); COMMIT
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def hard(server: Server, database: str, store: Path) -> str:
    make_hard(server, database)
    take_backup(server, store, database)
    change_hard(server, database)
    return database


def test_other_tenants_write_and_readers_of_this_one_read_without_a_gap(
    server: Server, demo_database: str, store: Path
) -> None:
    server.psql(
        'INSERT INTO org_acme."Activity" ("campaignId", kind, "actorEmail", note, details)'
        f" SELECT NULL, 'k', 'a@b.c', md5(n::text), '{{}}' FROM generate_series(1, {ROWS}) n",
        demo_database,
    )
    take_backup(server, store, demo_database)
    server.psql("UPDATE org_acme.\"Activity\" SET note = note || 'x' WHERE id % 2 = 0", demo_database)
    dsn = server.dsn(demo_database)
    reading = 'SELECT count(*) FROM (SELECT FROM org_acme."Activity" LIMIT 1000) x'
    totals = 'SELECT count(*) FROM org_acme."CampaignTotals"'
    with contextlib.ExitStack() as stack:
        others = stack.enter_context(Prober(dsn, question=WRITE))
        shared = stack.enter_context(Writer(dsn))
        readers = [stack.enter_context(Prober(dsn, question=question)) for question in (reading, totals)]
        result = restore_tenant(server, store, demo_database, "org_acme")
    gaps = [now - before for (_one, before), (_other, now) in zip(shared.committed, shared.committed[1:])]
    assert changes_of(result)["Activity"][1] >= ROWS // 2
    assert (others.failures, shared.refused, [r.failures for r in readers]) == ([], 0, [[], []])
    assert max([others.largest_gap, *gaps, *[r.largest_gap for r in readers]]) < 2
    written = server.psql(
        "SELECT count(*) FROM org_bluebird.\"Activity\" WHERE note = 'written meanwhile'", demo_database
    )
    assert int(written) == others.succeeded


def test_a_reader_sees_all_of_the_change_or_nothing_of_it(server: Server, hard: str, store: Path) -> None:
    # parents exchanged their codes after the backup: a view in between would have neither
    question = "SELECT count(*) || ' ' || (SELECT count(*) FROM org_a.left_half) FROM org_a.right_half"
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        with contextlib.closing(server.connect(hard)) as connection, connection.cursor() as cursor:
            while not ended.is_set():
                cursor.execute(question)
                row = cursor.fetchone()
                assert row is not None
                seen.add(str(row[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        restore_tenant(server, store, hard, "org_a")
    finally:
        ended.set()
        watcher.join()
    assert seen <= {"21 21", "30 30"}


def test_a_table_that_stays_locked_is_given_up_and_its_holder_named(server: Server, hard: str, store: Path) -> None:
    before = rows_of(server, hard, "org_a")
    with contextlib.closing(server.connect(hard)) as holder, holder.cursor() as cursor:
        cursor.execute("SET application_name = 'a long report'; BEGIN; SET session_replication_role = replica")
        cursor.execute("UPDATE org_a.tree SET at = 1 WHERE id = 1")
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, hard, "org_a", lock_wait=0.2, lock_attempts=2)
        holder.rollback()
        cursor.execute("ROLLBACK")
    assert caught.value.code == "lock_timeout"
    assert "a long report" in caught.value.cause
    assert rows_of(server, hard, "org_a") == before
    assert leftovers(server, hard, store) == []


def test_a_prepared_transaction_that_holds_a_table_is_named_by_its_id(server: Server, hard: str, store: Path) -> None:
    server.psql("BEGIN; INSERT INTO org_a.empty_one VALUES (77); PREPARE TRANSACTION 'forgotten one'", hard)
    try:
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, hard, "org_a", lock_wait=0.1, lock_attempts=1)
    finally:
        server.psql("ROLLBACK PREPARED 'forgotten one'", hard)
    assert caught.value.code == "lock_timeout"
    assert "forgotten one" in caught.value.cause


def test_a_lock_that_goes_away_is_waited_for(server: Server, hard: str, store: Path) -> None:
    with contextlib.closing(server.connect(hard)) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE org_a.tree IN ROW EXCLUSIVE MODE")
        threading.Timer(4, cursor.execute, ("COMMIT",)).start()
        result = restore_tenant(server, store, hard, "org_a", lock_wait=0.5, lock_attempts=20)
    assert result.changed


def test_writers_of_the_tenant_wait_no_longer_than_allowed(server: Server, hard: str, store: Path) -> None:
    before = rows_of(server, hard, "org_a")
    with pytest.raises(OpsError) as caught:
        restore_tenant(server, store, hard, "org_a", time_limit=0.001)
    assert caught.value.code == "time_limit"
    assert rows_of(server, hard, "org_a") == before
    assert leftovers(server, hard, store) == []


def test_it_does_not_run_beside_another_verb_on_the_same_database(server: Server, hard: str, store: Path) -> None:
    with contextlib.closing(server.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("test", hard),))
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, hard, "org_a")
    assert caught.value.code == "database_busy"


def test_a_reference_made_meanwhile_is_seen(server: Server, hard: str, store: Path) -> None:
    # the row is committed by another session while the rows that vanish are being locked
    server.psql("CREATE TABLE public.bills (tree_id int REFERENCES org_a.tree ON DELETE CASCADE)", hard)
    server.psql("SET session_replication_role = replica; INSERT INTO org_a.tree VALUES (900)", hard)
    with contextlib.closing(server.connect(hard)) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO public.bills VALUES (900)")
        began = time.monotonic()
        threading.Timer(3, cursor.execute, ("COMMIT",)).start()
        with pytest.raises(OpsError) as caught:
            restore_tenant(server, store, hard, "org_a", lock_wait=30)
    assert caught.value.code == "rows_referenced"
    assert time.monotonic() - began >= 3
    assert server.psql("SELECT count(*) FROM public.bills", hard) == "1"
