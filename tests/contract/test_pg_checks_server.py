# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built-in checks of the server itself, each with its condition made real on a cluster of its own, and once without."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.pg_facts import Expected, Timeout
from ansible_collections.saasops.runbook.plugins.module_utils.domain.recovery_point import RecoveryPoint
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_builtin import BUILTINS, Scene
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.tests.lab import acts, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.pg_checks import level, look, measured, outcome, until
from ansible_collections.saasops.runbook.tests.lab.standby import following

SEGMENT = 1048576  # transactions in one file of pg_xact


@pytest.fixture(scope="module")
def odd() -> Iterator[postgres.Server]:
    """A cluster that things are done to: it counts statements and archives nowhere."""
    settings = {
        "archive_mode": "on",
        "archive_command": "true",
        "shared_preload_libraries": "pg_stat_statements",
        "autovacuum_naptime": "1d",
        "fsync": "on",
    }
    with postgres.running(15, settings=settings) as server:
        yield server


def test_archiving_that_fails_is_critical_and_one_that_works_is_ok(odd: postgres.Server) -> None:
    odd.psql("SELECT pg_switch_wal()")
    assert until(lambda: odd.psql("SELECT archived_count > 0 FROM pg_stat_archiver") == "t")
    assert level(look(odd), "wal_archiving") == "ok"
    odd.psql("ALTER SYSTEM SET archive_command = 'false'")
    odd.psql("SELECT pg_reload_conf(); CREATE TABLE more AS SELECT 1; SELECT pg_switch_wal()")
    try:
        assert until(lambda: level(look(odd), "wal_archiving") == "critical")
        survey = look(odd)
        assert level(survey, "wal_archive_waiting", warning="> 0 s") == "warning"
    finally:
        odd.psql("ALTER SYSTEM RESET archive_command")
        odd.psql("SELECT pg_reload_conf(); SELECT pg_switch_wal()")
    assert until(lambda: level(look(odd), "wal_archiving") == "ok", 70)


def test_archiving_without_anything_that_archives_is_stuck(odd: postgres.Server) -> None:
    odd.psql("ALTER SYSTEM SET archive_command = ''")
    odd.psql("SELECT pg_reload_conf()")
    try:
        assert until(lambda: odd.psql("SHOW archive_command") in ("", "(disabled)"))
        survey = look(odd)
    finally:
        odd.psql("ALTER SYSTEM RESET archive_command")
        odd.psql("SELECT pg_reload_conf()")
    assert measured(survey, "wal_archiving")[""].value == "stuck"
    assert measured(survey, "settings")["archive_mode"].value == "unwise"


def test_slow_statements_need_the_extension_and_say_how_to_get_it(odd: postgres.Server) -> None:
    its = outcome(look(odd), "slow_statements")
    assert its.level.value == "inconclusive"
    assert "shared_preload_libraries" in its.why
    odd.psql("CREATE EXTENSION pg_stat_statements")
    odd.psql("SELECT pg_sleep(0.3)")
    survey = look(odd)
    assert level(survey, "slow_statements", warning="> 250 ms") == "warning"
    assert level(survey, "slow_statements", warning="> 5 s") == "ok"
    assert "pg_sleep" in str(outcome(survey, "slow_statements", warning="> 250 ms").detail)


def test_statements_of_an_extension_from_before_13_are_read_by_its_own_column_names(odd: postgres.Server) -> None:
    odd.psql("CREATE DATABASE older")
    odd.psql("CREATE EXTENSION pg_stat_statements VERSION '1.7'", "older")
    odd.psql("SELECT pg_sleep(0.3)", "older")
    assert level(look(odd, "older"), "slow_statements", warning="> 250 ms") == "warning"


def test_an_extension_that_is_not_loaded_is_inconclusive(server15: postgres.Server) -> None:
    server15.psql("CREATE DATABASE unloaded")
    server15.psql("CREATE EXTENSION pg_stat_statements", "unloaded")
    try:
        its = outcome(look(server15, "unloaded"), "slow_statements")
        assert its.level.value == "inconclusive"
        assert "shared_preload_libraries" in its.why
    finally:
        server15.dropdb("unloaded")


def test_deadlocks_and_temporary_files_are_counted_by_the_hour(odd: postgres.Server) -> None:
    # the cluster is a copy of one that may be hours old
    odd.psql("SELECT pg_stat_reset(), pg_stat_reset_shared('archiver')")
    quiet = look(odd)
    assert level(quiet, "deadlocks") == "ok"
    odd.psql("CREATE TABLE d (n int PRIMARY KEY, m int); INSERT INTO d VALUES (1, 0), (2, 0)")
    one, two = odd.connect(), odd.connect()
    with contextlib.closing(one), contextlib.closing(two):
        for connection, own in ((one, 1), (two, 2)):
            connection.cursor().execute(f"SET deadlock_timeout = '50ms'; BEGIN; UPDATE d SET m = 1 WHERE n = {own}")
        _send(one, "UPDATE d SET m = 1 WHERE n = 2")
        with contextlib.suppress(psycopg2.errors.DeadlockDetected):
            two.cursor().execute("UPDATE d SET m = 1 WHERE n = 1")
    odd.psql(
        "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n ORDER BY n DESC) q"
    )
    assert until(lambda: measured(look(odd), "deadlocks")["postgres"].value != 0)
    assert until(lambda: float(str(measured(look(odd), "temp_files")["postgres"].value)) > 1e6)
    survey = look(odd)
    rate = float(str(measured(survey, "deadlocks")["postgres"].value))
    assert 0 < rate <= 1.0, "over less than an hour it counts as if it had been one"
    assert level(survey, "deadlocks", warning="> 0") == "warning"
    assert level(survey, "temp_files", warning="> 1 MB") == "warning"


def _send(connection: object, sql: str) -> None:
    """In a thread that ends with its statement."""

    def run() -> None:
        with contextlib.suppress(psycopg2.Error):
            connection.cursor().execute(sql)  # type: ignore[attr-defined]

    threading.Thread(target=run, daemon=True).start()
    time.sleep(0.2)


def test_settings_that_endanger_data_and_those_that_wait_for_a_restart(odd: postgres.Server) -> None:
    fine = look(odd)
    assert level(fine, "settings") == "ok"
    assert level(fine, "pending_restart") == "ok"
    odd.psql("ALTER SYSTEM SET full_page_writes = off")
    odd.psql("ALTER SYSTEM SET autovacuum = off")
    odd.psql("ALTER SYSTEM SET max_connections = 77")
    odd.psql("SELECT pg_reload_conf()")
    try:
        assert until(lambda: odd.psql("SHOW full_page_writes") == "off")
        survey = look(
            odd, expected=Expected(rpo=3600.0, values={"synchronous_commit": "remote_apply", "nonsense": "on"})
        )
    finally:
        odd.psql("ALTER SYSTEM RESET ALL")
        odd.psql("SELECT pg_reload_conf()")
    found = {scope: item.value for scope, item in measured(survey, "settings").items()}
    assert found["full_page_writes"] == found["autovacuum"] == "dangerous"
    assert found["archive_timeout"] == found["synchronous_commit"] == "unwise"
    assert found["idle_in_transaction_session_timeout"] == "hint"
    assert measured(survey, "settings")["nonsense"].missing
    assert level(survey, "settings") == "critical"
    assert outcome(survey, "pending_restart").scope == "max_connections"


@pytest.mark.parametrize(("seconds", "found"), [(30, "ok"), (31, "warning"), (0, "warning")])
def test_a_statement_timeout_is_what_a_new_session_of_that_role_gets(
    odd: postgres.Server, seconds: int, found: str
) -> None:
    odd.psql(f"DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN; ALTER ROLE app SET statement_timeout = '{seconds}s'")
    expected = Expected(timeouts=(Timeout("statement_timeout", 30.0, "app"),))
    survey = look(odd, expected=expected)
    assert level(survey, "timeouts") == found
    remedy = outcome(survey, "timeouts").remedy
    assert remedy is None or "ALTER ROLE app SET statement_timeout = '30s'" in remedy.why


def test_a_collation_that_changed_below_its_indexes_is_named(odd: postgres.Server) -> None:
    assert level(look(odd), "collation_versions") == "ok"
    odd.psql(
        "CREATE COLLATION german (provider = icu, locale = 'de'); CREATE TABLE w (t text COLLATE german);"
        "CREATE INDEX ON w (t); UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'german'"
    )
    survey = look(odd)
    its = outcome(survey, "collation_versions")
    assert (its.level.value, its.scope) == ("warning", "public.german")
    assert "1 columns of indexes" in str(its.detail)
    odd.psql("ALTER COLLATION german REFRESH VERSION")
    assert level(look(odd), "collation_versions") == "ok"


def test_after_a_crash_dead_rows_are_unknown(odd: postgres.Server) -> None:
    odd.psql("CREATE TABLE crashed AS SELECT n FROM generate_series(1, 5000) n; ANALYZE crashed; CHECKPOINT")
    odd.psql("DELETE FROM crashed WHERE n < 4000")
    assert until(lambda: "public.crashed" in measured(look(odd), "dead_rows"))
    odd.kill()
    odd.start()
    its = outcome(look(odd), "dead_rows")
    assert its.level.value == "inconclusive"
    assert "crash" in its.why
    assert "public.crashed" not in measured(look(odd), "dead_rows")


def test_a_damaged_page_is_critical_and_leads_to_integrity(odd: postgres.Server) -> None:
    odd.psql("CREATE TABLE damaged AS SELECT n, repeat('x', 100) AS t FROM generate_series(1, 500) n; CHECKPOINT")
    assert level(look(odd), "checksum_failures") == "ok"
    path = odd.data / odd.psql("SELECT pg_relation_filepath('damaged')")
    odd.stop()
    with path.open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"\xff" * 16)
    odd.start()
    with contextlib.closing(odd.connect()) as connection, contextlib.suppress(psycopg2.Error):
        connection.cursor().execute("SELECT count(*) FROM damaged")
    assert until(lambda: level(look(odd), "checksum_failures") == "critical")
    its = outcome(look(odd), "checksum_failures")
    assert its.scope == "postgres"
    assert its.remedy is not None
    assert its.remedy.verb == "integrity"


def test_without_checksums_nobody_can_say_that_pages_are_sound_and_freeze_ages_are_measured() -> None:
    with postgres.running(15, settings={"autovacuum": "off", "autovacuum_vacuum_cost_limit": "1"}) as server:
        young = look(server)
        assert level(young, "freeze_age") == "ok"
        assert level(young, "freeze_tables") == "ok"
        assert level(young, "wraparound") == "ok"
        server.stop()
        _as_owner(server, "pg_checksums", "--disable", "-D", str(server.data))
        # 1,400 files of 1,048,576 transactions: 68 % of the way, seven times autovacuum_freeze_max_age
        xid = 1400 * SEGMENT
        _zeros(server, server.data / "pg_xact" / f"{1400:04X}", 262144)
        _zeros(server, server.data / "pg_multixact" / "offsets" / f"{0x4000:04X}", 262144)
        _as_owner(server, "pg_resetwal", "-f", "-x", str(xid), "-m", f"{0x40000000},1", "-D", str(server.data))
        server.start()
        survey = look(server)
        for name in ("freeze_age", "freeze_tables"):
            assert level(survey, name) == "critical", name
        assert level(survey, "wraparound") == "warning"
        assert level(survey, "wraparound", critical="> 68 %") == "critical"
        assert 68 < float(str(measured(survey, "wraparound")["postgres"].value)) < 69
        multis = float(str(measured(survey, "freeze_age")["postgres multixacts"].value))
        assert 268 < multis < 269, "2^30 multixacts against 400 million"
        remedy = measured(survey, "freeze_age")["postgres"].remedy
        assert remedy is not None
        assert (remedy.verb, remedy.variables["measures"]) == ("maintenance", "vacuum")
        assert level(survey, "checksum_failures") == "inconclusive"
        assert measured(survey, "settings")["data_checksums"].value == "unwise"
        assert measured(survey, "settings")["autovacuum"].value == "dangerous"


def _as_owner(server: postgres.Server, program: str, *arguments: str) -> None:
    owner = processes.unprivileged()
    subprocess.run(
        [str(server.bin / program), *arguments],
        check=True,
        capture_output=True,
        cwd="/",
        user=owner.pw_uid,
        group=owner.pw_gid,
        extra_groups=[],
    )


def _zeros(server: postgres.Server, path: Path, length: int) -> None:
    owner = processes.unprivileged()
    path.write_bytes(b"\0" * length)
    os.chown(path, owner.pw_uid, owner.pw_gid)


@pytest.mark.parametrize("version", [15, 18])
def test_a_standby_that_does_not_replay_is_seen_from_both_sides_and_a_lost_slot_too(version: int) -> None:
    settings = {"wal_keep_size": "0", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    with postgres.running(version, settings=settings) as primary:
        alone = look(primary, expected=Expected(replicas=1))
        assert level(alone, "standbys_missing") == "critical"
        assert level(alone, "replication_slots") == "ok"
        with following(primary, slot="one") as copy:
            assert until(lambda: primary.psql("SELECT state FROM pg_stat_replication") == "streaming")
            both = look(primary, expected=Expected(replicas=1))
            assert level(both, "standbys_missing") == "ok"
            assert level(both, "replication_lag_bytes") == "ok"
            assert level(both, "replication_slots") == "ok"
            follower = look(copy)
            assert follower.facts.standby
            assert level(follower, "wal_receiver") == "ok"
            assert level(follower, "replay_delay", warning="> 0.5 s") == "ok"
            assert level(follower, "wal_archiving") == "ok"
            copy.psql("SELECT pg_wal_replay_pause()")
            primary.psql("CREATE TABLE filled AS SELECT n FROM generate_series(1, 100000) n")
            assert until(lambda: level(look(primary), "replication_lag_bytes", warning="> 1 MB") == "warning")
            assert until(lambda: level(look(copy), "replay_delay", warning="> 0.5 s") == "warning")
            assert "replay is paused" in str(measured(look(copy), "replay_delay")[""].detail)
            primary.psql("CREATE ROLE onlooker LOGIN PASSWORD 'o'")
            blind = look(primary, user="onlooker", password="o")
            assert level(blind, "replication_lag_bytes") == "inconclusive"
            copy.psql("SELECT pg_wal_replay_resume()")
            assert until(lambda: level(look(copy), "replay_delay", warning="> 0.5 s") == "ok")
            primary.stop()
            assert until(lambda: level(look(copy), "wal_receiver") == "critical")
            primary.start()
        assert until(lambda: primary.psql("SELECT active FROM pg_replication_slots") == "f")
        survey = look(primary)
        assert level(survey, "replication_slots") == "warning"
        assert measured(survey, "replication_slots")["one"].value == "inactive"
        assert level(survey, "replication_slot_wal", warning=">= 0 B") == "warning"
        assert measured(survey, "settings")["max_slot_wal_keep_size"].value == "unwise"
        primary.psql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        primary.psql("SELECT pg_reload_conf()")
        for _time in range(3):
            primary.psql("CREATE TABLE waste AS SELECT n FROM generate_series(1, 200000) n; DROP TABLE waste")
            primary.psql("SELECT pg_switch_wal(); CHECKPOINT")
        assert until(lambda: level(look(primary), "replication_slots") == "critical")
        assert measured(look(primary), "replication_slots")["one"].value == "lost"


@pytest.mark.parametrize(
    ("verdict", "found"), [("ok", "ok"), ("warning", "warning"), ("critical", "critical"), ("unknown", "inconclusive")]
)
def test_the_recovery_point_is_judged_as_the_verb_backups_does(
    server15: postgres.Server, verdict: str, found: str
) -> None:
    survey = replace(
        look(server15), points=[RecoveryPoint("shop", (), None, "set", 1.0, 5.0, verdict, "shop: newest set")]
    )
    its = outcome(survey, "recovery_point")
    assert its.level.value == found
    assert found in ("ok", "inconclusive") or (its.remedy is not None and its.remedy.verb == "backup")


def test_the_table_measures_with_a_store_and_inside_a_transaction_of_the_callers(
    server15: postgres.Server, tmp_path: Path
) -> None:
    server15.createdb("shop")
    try:
        acts.take_backup(server15, tmp_path, "shop")
        target = Target.from_params(acts.connection(server15))
        options = {"system": "test", "store": {"type": "posix", "path": str(tmp_path)}, "expect": {"rpo": "1h"}}
        with contextlib.closing(target.session("shop")) as session:
            session.run("BEGIN READ ONLY")
            scene = Scene(session, target, "shop", options, time.time())
            found = {item.check.name: list(item.measure(scene)) for item in BUILTINS}
            session.run("ROLLBACK")
        assert found["recovery_point"][0].value == "ok"
        assert [item.missing for item in found["slow_statements"]] != [""]
        assert found["connections"][0].value is not None
    finally:
        server15.dropdb("shop")
