# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build of an index that is killed, cut, starved or held up leaves no invalid index, or the next run repairs it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.tests.lab import acts, disk, postgres, processes, restores
from ansible_collections.saasops.runbook.tests.lab.acts import make_indexes
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [18], indirect=True)

TABLE = (
    "CREATE TABLE t (id int, body text, twin int); INSERT INTO t SELECT i, md5(i::text), i / 2"
    " FROM generate_series(1, 20000) i; ANALYZE t"
)
WANTED: dict[str, object] = {"name": "i", "table": "t", "columns": ["body"]}
INVALID = "SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
THERE = (
    "SELECT coalesce(string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname), '')"
    " FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 't'::regclass"
)
PHASE = "SELECT coalesce(max(phase), '') FROM pg_stat_progress_create_index"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-index%'"
OLD_SNAPSHOTS = "waiting for old snapshots"
WAITS = re.compile(r"building public\.i: waiting for old snapshots \(\d+ of \d+ ended, now for pid \d+\)")


@pytest.fixture
def table(server: Server, database: str) -> str:
    server.psql(TABLE, database)
    return database


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextlib.contextmanager
def transaction(server: Server, database: str, *statements: str) -> Iterator[int]:
    """An open transaction with a snapshot, forgotten by somebody; its pid."""
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as other:
        cursor = other.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for statement in ("SELECT pg_backend_pid()", *statements):
            cursor.execute(statement)
        yield other.info.backend_pid


def make(server: Server, database: str, *entries: dict[str, object], **options: object) -> Result:
    return make_indexes(server, database, list(entries or [WANTED]), **{"old": "1h", "wait": "60s", **options})


def refused(call: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as found:
        call()
    return found.value


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread while the body runs; its error is the test's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def test_a_transaction_that_is_old_already_is_waited_for_and_then_named(server: Server, table: str) -> None:
    with transaction(server, table) as pid:
        time.sleep(1.1)
        planned = make(server, table, old="1s", wait="1s", check=True)
        assert planned.plan
        assert any(f"pid {pid}" in line for line in planned.plan.warnings)
        error = refused(lambda: make(server, table, old="1s", wait="1s"))
        assert error.code == "old_snapshot"
        assert f"pid {pid}" in error.cause
        assert server.psql(THERE, table) == ""
    assert make(server, table, old="1s", wait="1s").changed


def test_a_transaction_that_blocks_a_build_for_ever_is_named_and_nothing_stays(server: Server, table: str) -> None:
    with transaction(server, table, "SELECT count(*) FROM t") as pid:
        error = refused(lambda: make(server, table, wait="2s", drop_limit="2s"))
        assert (error.code, error.details["pid"]) == ("build_blocked", pid)
        # its snapshot holds the build up, and its lock on the table the removal
        assert "stay behind" in error.cause
        assert server.psql(THERE, table) == "i false"
    done = make(server, table)
    assert "repaired: public.i" in done.message
    assert server.psql(THERE, table) == "i true"
    with transaction(server, table) as pid:
        other = {**WANTED, "name": "j", "columns": ["id"]}
        error = refused(lambda: make(server, table, other, wait="2s"))
        assert (error.code, error.details["pid"]) == ("build_blocked", pid)
        assert server.psql(THERE, table) == "i true"


def test_a_build_that_takes_too_long_is_canceled_and_removed(server: Server, table: str) -> None:
    with transaction(server, table):
        error = refused(lambda: make(server, table, time_limit="1s"))
        assert error.code == "build_too_slow"
        assert server.psql(THERE, table) == ""


def test_a_prepared_transaction_that_holds_the_table_is_named(server: Server, table: str) -> None:
    server.psql("BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'forgotten'", table)
    try:
        error = refused(lambda: make(server, table, wait="1s"))
        assert error.code == "old_snapshot"
        assert "'forgotten'" in error.cause
        assert server.psql(THERE, table) == ""
    finally:
        server.psql("ROLLBACK PREPARED 'forgotten'", table)


def test_what_somebody_builds_now_is_no_debris(server: Server, table: str) -> None:
    server.psql(
        "CREATE ROLE builder LOGIN PASSWORD 'x'; ALTER TABLE t OWNER TO builder; GRANT ALL ON SCHEMA public TO builder",
        table,
    )
    try:
        with transaction(server, table), contextlib.closing(server.connect(table)) as theirs:
            pid = theirs.info.backend_pid

            def build() -> None:
                with contextlib.suppress(psycopg2.errors.QueryCanceled):
                    theirs.cursor().execute("CREATE INDEX CONCURRENTLY i ON t (body)")

            with meanwhile(build):
                try:
                    until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS)
                    for user, check in (({}, False), ({}, True), ({"user": "builder", "password": "x"}, True)):
                        login = acts.connection(server, **user)
                        error = refused(
                            lambda login=login, check=check: make(
                                server, table, connection=login, check=check, wait="1s"
                            )  # type: ignore[misc]
                        )
                        assert (error.code, error.details["pid"]) == ("build_under_way", pid)
                    assert server.psql(THERE, table) == "i false"
                finally:
                    server.psql(f"SELECT pg_cancel_backend({pid})", table)
        assert "repaired: public.i" in make(server, table).message
    finally:
        server.psql("ALTER TABLE t OWNER TO postgres; DROP OWNED BY builder; DROP ROLE builder", table)


def test_a_signal_ends_the_build_and_what_it_had_begun(server: Server, table: str) -> None:
    def end(*_signal: object) -> None:
        raise OpsError("interrupted", "SIGTERM.", "Again.")

    before = signal.signal(signal.SIGALRM, end)
    try:
        with transaction(server, table):
            signal.setitimer(signal.ITIMER_REAL, 2.0)
            error = refused(lambda: make(server, table, {**WANTED, "name": "j", "columns": ["id"]}, WANTED))
            assert error.code == "interrupted"
            assert server.psql(THERE, table) == ""
            until(lambda: server.psql(OURS, table) == "0")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert make(server, table).changed


def test_a_lost_connection_leaves_no_invalid_index(server: Server, table: str) -> None:
    def cut() -> None:
        until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS)
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index", table)

    with transaction(server, table), meanwhile(cut):
        assert refused(lambda: make(server, table)).code == "session_ended"
    assert server.psql(THERE, table) == ""
    assert make(server, table).changed


def test_no_index_is_dropped_once_the_lock_on_the_database_is_lost(server: Server, table: str) -> None:
    server.psql("CREATE INDEX old ON t (twin)", table)

    def cut() -> None:
        until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS)
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        until(lambda: server.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0")
        forgotten.close()

    with contextlib.ExitStack() as forgotten:
        forgotten.enter_context(transaction(server, table))
        with meanwhile(cut):
            error = refused(lambda: make(server, table, WANTED, {"name": "old", "table": "t", "state": "absent"}))
    assert error.code in ("lock_lost", "session_ended")
    assert server.psql(THERE, table) == "i true, old true"


@contextlib.contextmanager
def unacknowledged(own: Server, statement: str) -> Iterator[int]:
    """The synchronous standby is away: a session waits in the commit of this statement; its pid."""
    over = threading.Event()
    own.configure({"synchronous_standby_names": "away"})
    own.reload()
    with contextlib.closing(own.connect()) as client:

        def commit() -> None:
            # the server's processes hear of the standby one by one: the first commits may wait for nobody yet
            while not over.is_set():
                client.cursor().execute(statement)
                time.sleep(0.01)

        with meanwhile(commit):
            try:
                waits = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {client.info.backend_pid}"
                until(lambda: own.psql(waits) == "SyncRep")
                yield client.info.backend_pid
            finally:
                over.set()
                own.configure({"synchronous_standby_names": ""})
                own.reload()


def test_an_absent_synchronous_standby_holds_up_no_build_but_who_waits_for_it_on_the_table_is_named(
    server: Server,
) -> None:
    with postgres.running(17) as own:
        own.psql(f"CREATE TABLE other (id int); {TABLE}")
        with unacknowledged(own, "INSERT INTO other VALUES (1)"):
            # below the time after which a wait in a commit would be canceled
            limits: dict[str, object] = {"time_limit": "10s", "drop_limit": "10s"}
            assert make(own, "postgres", **limits).changed
            assert make(own, "postgres", {**WANTED, "columns": ["body", "id"], "replace": True}, **limits).changed
            assert own.psql(THERE) == "i true"
            assert make(own, "postgres", name="i", state="absent", **limits).changed
            assert own.psql(THERE) == ""
        assert "canceling wait for synchronous replication" not in own.log.read_text(encoding="utf-8")
        with unacknowledged(own, "INSERT INTO t VALUES (1)") as pid:
            error = refused(lambda: make(own, "postgres", wait="1s", drop_limit="1s"))
            assert (error.code, error.details["pid"]) == ("build_blocked", pid)
            assert "stay behind" in error.cause
        assert "repaired: public.i" in make(own, "postgres").message


def test_timeouts_of_the_role_do_not_end_a_build(server: Server, table: str) -> None:
    server.psql(
        "CREATE ROLE hurried SUPERUSER LOGIN PASSWORD 'x'; ALTER ROLE hurried SET statement_timeout = '300ms';"
        "ALTER ROLE hurried SET lock_timeout = '100ms'; ALTER ROLE hurried SET transaction_timeout = '400ms';"
        "ALTER ROLE hurried SET idle_session_timeout = '400ms'",
        table,
    )
    try:
        with contextlib.ExitStack() as held:
            held.enter_context(transaction(server, table))

            def let_go() -> None:
                until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS)
                time.sleep(1.5)
                held.close()

            with meanwhile(let_go):
                done = make(server, table, connection=acts.connection(server, user="hurried", password="x"))
        assert done.changed
        assert server.psql(THERE, table) == "i true"
    finally:
        server.psql("REASSIGN OWNED BY hurried TO postgres; DROP ROLE hurried", table)


def test_who_does_not_own_the_table_is_refused_before_anything_is_begun(server: Server, table: str) -> None:
    server.psql("CREATE ROLE guest LOGIN PASSWORD 'x'; GRANT SELECT ON t TO guest", table)
    try:
        login = acts.connection(server, user="guest", password="x")
        for check in (True, False):
            error = refused(lambda check=check: make(server, table, connection=login, check=check))  # type: ignore[misc]
            assert error.code == "not_permitted"
            assert "postgres" in error.cause
        server.psql(f'REVOKE TEMPORARY ON DATABASE "{table}" FROM PUBLIC', table)
        assert refused(lambda: make(server, table, connection=login)).code == "not_permitted"
        server.psql("ALTER TABLE t OWNER TO guest", table)
        server.psql(f'GRANT TEMPORARY ON DATABASE "{table}" TO guest', table)
        # the owner without the right to create in the schema
        assert refused(lambda: make(server, table, connection=login)).code == "not_permitted"
        assert server.psql(THERE, table) == ""
    finally:
        server.psql("ALTER TABLE t OWNER TO postgres; DROP OWNED BY guest; DROP ROLE guest", table)


def test_a_storm_of_locks_delays_a_build_and_breaks_nothing(server: Server, table: str) -> None:
    over = threading.Event()
    longest = [0.0]

    def storm() -> None:
        with contextlib.closing(server.connect(table)) as other:
            while not over.is_set():
                began = time.monotonic()
                # who asks for the whole table with a snapshot in hand may be the one that a deadlock ends
                with contextlib.suppress(psycopg2.errors.DeadlockDetected):
                    other.cursor().execute(
                        "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.05); COMMIT"
                    )
                other.cursor().execute("ROLLBACK")
                time.sleep(0.02)
                longest[0] = max(longest[0], time.monotonic() - began)

    def write() -> None:
        with contextlib.closing(server.connect(table)) as other:
            while not over.is_set():
                other.cursor().execute("UPDATE t SET twin = twin + 1 WHERE id = 1")

    with meanwhile(storm), meanwhile(write):
        try:
            entries = [
                {**WANTED, "name": f"i{n}", "columns": [column]} for n, column in enumerate(("id", "body", "twin"))
            ]
            done = make(server, table, *entries)
        finally:
            over.set()
    assert done.changed
    assert server.psql(INVALID, table) == "0"
    assert longest[0] < 30


@pytest.fixture
def small(server: Server, table: str) -> Iterator[Path]:
    """A tablespace of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with disk.small(8) as point:
        folder = point / "space"
        folder.mkdir()
        user = processes.unprivileged()
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        server.psql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        try:
            yield point
        finally:
            server.psql("DROP INDEX IF EXISTS i", table)
            server.psql("DROP TABLESPACE small")


def test_a_disk_that_would_fill_up_is_refused_and_one_that_does_leaves_nothing(
    server: Server, table: str, small: Path
) -> None:
    wanted = {**WANTED, "columns": ["id", "body"], "tablespace": "small"}
    server.psql("INSERT INTO t SELECT i, repeat(md5(i::text), 8), 0 FROM generate_series(1, 60000) i; ANALYZE t", table)
    error = refused(lambda: make(server, table, wanted, check=True))
    assert error.code == "no_space"
    # what the statistics did not know fills it nevertheless
    server.psql("UPDATE pg_class SET reltuples = 10 WHERE relname = 't'", table)
    error = refused(lambda: make(server, table, wanted))
    assert error.code == "server_disk_full"
    assert server.psql(THERE, table) == ""
    disk.grow(small, 100)
    assert make(server, table, wanted).changed


def test_a_reader_that_never_ends_holds_a_drop_up_for_its_limit_only(server: Server, table: str) -> None:
    make(server, table)
    with transaction(server, table, "SELECT count(*) FROM t") as pid:
        time.sleep(1.1)
        error = refused(lambda: make(server, table, name="i", state="absent", old="1s", wait="1s"))
        assert error.code == "old_snapshot"
        assert f"pid {pid}" in error.cause
        assert server.psql(THERE, table) == "i true"
        error = refused(lambda: make(server, table, name="i", state="absent", drop_limit="1s"))
        assert error.code == "build_too_slow"
        assert server.psql(THERE, table) == "i false"
    assert make(server, table, name="i", state="absent").changed
    assert server.psql(THERE, table) == ""


def test_a_replacement_that_was_cut_off_is_brought_to_its_end(server: Server, table: str) -> None:
    wanted = {**WANTED, "columns": ["body", "id"], "replace": True}
    server.psql("CREATE INDEX i ON t (body); CREATE INDEX i__saasops_new ON t (body, id)", table)
    built = server.psql("SELECT 'i__saasops_new'::regclass::oid", table)
    assert make(server, table, wanted).changed
    assert server.psql("SELECT 'i'::regclass::oid", table) == built
    assert server.psql(THERE, table) == "i true"
    server.psql("CREATE INDEX i__saasops_old ON t (body)", table)
    assert "interrupted replacement" in make(server, table, wanted).message
    server.psql("DROP INDEX i; CREATE INDEX i ON t (body); CREATE INDEX i__saasops_new ON t (id)", table)
    server.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i__saasops_new'::regclass", table)
    with transaction(server, table):
        assert refused(lambda: make(server, table, wanted, time_limit="1s")).code == "build_too_slow"
        assert server.psql(THERE, table) == "i true"
    assert make(server, table, wanted).changed
    assert server.psql(THERE, table) == "i true"
    assert not make(server, table, wanted).changed


def test_duplicates_in_one_tenant_do_not_keep_the_others_from_their_index(server: Server, table: str) -> None:
    server.psql(
        "".join(
            f"CREATE SCHEMA org_{n}; CREATE TABLE org_{n}.t AS SELECT generate_series(1, 9) AS id;" for n in range(3)
        ),
        table,
    )
    wanted = {"name": "u", "table": "t", "schemas": ["org_*"], "columns": ["id"], "unique": True}
    there = "SELECT string_agg(schemaname, ' ' ORDER BY schemaname) FROM pg_indexes WHERE indexname = 'u'"
    with contextlib.closing(psycopg2.connect(server.dsn(table))) as other:
        # a duplicate that nobody can see before the build has begun
        other.cursor().execute("INSERT INTO org_1.t VALUES (4)")

        def commit() -> None:
            until(lambda: server.psql(PHASE, table) == "waiting for writers before build")
            other.commit()

        with meanwhile(commit):
            error = refused(lambda: make(server, table, wanted))
    assert error.code == "duplicate_keys"
    assert "org_1.u cannot be unique: (id) = (4) 2 times" in error.cause
    assert "2 of 3 were done" in error.cause
    assert server.psql(there, table) == "org_0 org_2"
    error = refused(lambda: make(server, table, wanted, check=True))
    assert error.code == "duplicate_keys"
    server.psql("DELETE FROM org_1.t WHERE ctid = (SELECT max(ctid) FROM org_1.t)", table)
    assert make(server, table, wanted).changed
    assert server.psql(there, table) == "org_0 org_1 org_2"


@pytest.fixture
def hosts(server: Server, table: str, tmp_path: Path) -> Path:
    return inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": table,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(tmp_path / "store"), "create": True},
            "saasops_indexes": [WANTED],
            "saasops_index_old": "1h",
        },
    )


def test_a_killed_module_leaves_what_the_next_run_repairs(server: Server, table: str, hosts: Path) -> None:
    with transaction(server, table), start("index", hosts) as run:
        until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS, 60)
        for pid in processes.modules(run.pid):
            os.kill(pid, signal.SIGKILL)
        run.communicate(timeout=30)
        assert run.returncode != 0
        assert server.psql(THERE, table) == "i false"
        # the server sees that nobody is there any more
        until(lambda: server.psql(OURS, table) == "0")
    done = make(server, table)
    assert "repaired: public.i" in done.message
    assert server.psql(THERE, table) == "i true"


# an index that is dropped by name; a replacement before its names change, and after it: what is left at the kill,
# what the other session holds meanwhile, what waits for it, and what the next run comes to
READ, TOUCHED = "SELECT count(*) FROM t", "ALTER INDEX i SET (fillfactor = 80)"
KILLS = {
    "drop": ({"name": "i", "state": "absent"}, READ, "DROP INDEX", "i false", ""),
    "before the names": ({"replace": True}, TOUCHED, "ALTER INDEX", "i true, i__saasops_new true", "i true"),
    "after the names": ({"replace": True}, READ, "DROP INDEX", "i true, i__saasops_old false", "i true"),
}


@pytest.mark.parametrize("act", KILLS)
def test_a_module_that_is_killed_in_a_drop_or_a_replacement_leaves_what_the_next_run_ends(
    server: Server, table: str, tmp_path: Path, act: str
) -> None:
    options, held, waiting, left, after = KILLS[act]
    server.psql("CREATE INDEX i ON t (id)", table)
    wanted = {**WANTED, "columns": ["body", "id"], "replace": bool(options.get("replace"))}
    given = acts.parameters(server, tmp_path, table, {"indexes": [wanted], "old": "1h", **options})
    stuck = f"{OURS} AND wait_event_type = 'Lock' AND query LIKE '{waiting}%'"
    with contextlib.closing(server.connect(table)) as other:
        other.autocommit = False
        # READ COMMITTED: between two statements it has locks and no snapshot, which a build would wait for
        other.cursor().execute(held)
        with restores.process("pg_index", given) as module:
            until(lambda: server.psql(stuck, table) == "1" and server.psql(THERE, table) == left)
            module.kill()
            module.communicate(timeout=30)
        # the server sees that nobody is there any more
        until(lambda: server.psql(OURS, table) == "0")
        assert server.psql(THERE, table) == left
        other.rollback()
    assert make(server, table, wanted, **options).changed
    assert server.psql(THERE, table) == after
    if after:
        assert "(body, id)" in server.psql("SELECT pg_get_indexdef('i'::regclass)", table)
    assert not make(server, table, wanted, **options).changed


def test_ctrl_c_cancels_the_build_that_is_shown_and_removes_it(server: Server, table: str, hosts: Path) -> None:
    with transaction(server, table), start("index", hosts) as run:
        until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS, 60)
        assert run.stdout is not None
        said = ""
        # autovacuum may hold a snapshot too, so how many there are is not for the test to say
        while not WAITS.search(said):
            line = run.stdout.readline()
            assert line, said
            said += line
        (module,) = processes.modules(run.pid)
        # what ansible-core does with a Ctrl-C, and does not always: its workers are in process groups of their own
        os.killpg(os.getpgid(module), signal.SIGINT)
        run.communicate(timeout=60)
        assert run.returncode != 0
        until(lambda: server.psql(OURS, table) == "0")
        assert server.psql(THERE, table) == ""


def test_a_killed_server_leaves_what_the_next_run_repairs(server: Server) -> None:
    with postgres.running(18, own=True) as own:
        own.psql(TABLE)

        def kill() -> None:
            until(lambda: own.psql(PHASE) == OLD_SNAPSHOTS)
            own.kill()

        held = contextlib.suppress(psycopg2.Error)
        with held, transaction(own, "postgres"), meanwhile(kill):
            assert refused(lambda: make(own, "postgres")).code in ("session_ended", "server_unreachable")
        own.start()
        assert own.psql(THERE) == "i false"
        done = make(own, "postgres")
        assert "repaired: public.i" in done.message
        assert own.psql(THERE) == "i true"


def test_a_controller_that_is_killed_does_not_end_the_build(server: Server, table: str, hosts: Path) -> None:
    with contextlib.ExitStack() as held:
        held.enter_context(transaction(server, table))
        with start("index", hosts) as run:
            until(lambda: server.psql(PHASE, table) == OLD_SNAPSHOTS, 60)
            modules = [processes.identity(pid) for pid in processes.modules(run.pid)]
            run.kill()
            run.wait(30)
        held.close()
        until(lambda: not any(processes.alive(module) for module in modules))
    assert server.psql(THERE, table) == "i true"
    assert server.psql(OURS, table) == "0"
    assert not make(server, table).changed
