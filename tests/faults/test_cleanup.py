# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup that is killed, cut or starved at any step loses no row: table and archive together are the original."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import purge
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result, Unguarded
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import open_codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, disk, postgres, processes, row_kill, rows, standby
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)
SMALL = rows.rule(batch_rows=90)
LEFT = "SELECT count(*) FROM org_a.events"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def filled(server: Server, database: str) -> str:
    rows.make(server, database)
    return database


def archives_of(store: Path) -> list[str]:
    """All archives that say what they are for; another one holds nothing that was deleted."""
    return sorted(path.parent.name for path in store.glob("archives/*/begun.json"))


def whole(server: Server, store: Path, database: str, before: str) -> None:
    """Everything that is not in the table comes back out of the archives, bit for bit."""
    archives = archives_of(store)
    if archives:
        rows.put_back(server, store, database, archives)
    assert rows.picture(server, database) == before


def kill_points(server: Server, store: Path, database: str, log: Path) -> list[str]:
    """The names of all steps of a run, on rows that are put back after it."""
    assert row_kill.steps(lambda: rows.clean(server, store, database, rules=[SMALL]), log) == 0
    names = log.read_text(encoding="utf-8").splitlines()
    rows.put_back(server, store, database, archives_of(store))
    shutil.rmtree(store / "archives", ignore_errors=True)
    return names


@ONE
def test_a_kill_at_any_step_loses_nothing_and_the_next_run_goes_on(
    server: Server, filled: str, store: Path, tmp_path: Path
) -> None:
    before = rows.picture(server, filled)
    names = kill_points(server, store, filled, tmp_path / "log")
    first = next(number for number, name in enumerate(names) if name.startswith("put archives"))
    commits = [number for number, name in enumerate(names) if "COMMIT" in name]
    # every step of the first batch that has children, the seam to the next, and the very end
    points = [first - 1, *range(first, commits[0] + 2), commits[1] - 1, commits[1], len(names) - 1]
    assert len(points) > 15
    for turn, at in enumerate(points):
        status = row_kill.steps(lambda: rows.clean(server, store, filled, rules=[SMALL]), tmp_path / "log", at)
        assert os.WIFSIGNALED(status), f"step {at} ({names[at]}) was not reached"
        if turn % 3 == 0 or at == points[-1]:
            done = rows.clean(server, store, filled, rules=[SMALL])
            assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD), names[at]
            for found in cast("list[dict[str, object]]", done.evidence["recovered"]):
                assert str(found["archive"]) in archives_of(store)
            assert bool(done.evidence["recovered"]) or at < first, "at first nothing is archived yet"
            for archive in archives_of(store):
                assert archives.read(PosixStore(str(store)), archive).outcome is not None, names[at]
        whole(server, store, filled, before)
        shutil.rmtree(store / "archives", ignore_errors=True)


@pytest.mark.parametrize("server", [15, 18], indirect=True)
def test_a_server_that_is_killed_between_archive_and_delete_or_at_the_commit_loses_nothing(
    server: Server, tmp_path: Path
) -> None:
    with postgres.running(server.version, settings={"fsync": "on"}) as own:
        own.createdb("shop")
        rows.make(own, "shop")
        before = rows.picture(own, "shop")
        (store := tmp_path / "store").mkdir()
        names = kill_points(own, store, "shop", tmp_path / "log")
        commits = [number for number, name in enumerate(names) if "COMMIT" in name]
        deletes = [number for number, name in enumerate(names) if "DELETE" in name]
        for at in (commits[0] - 4, deletes[0], commits[1], commits[1] + 1):
            victims = (own.pid,)

            def strike(pids: tuple[int, ...] = victims) -> None:
                for pid in (*pids, *processes.descendants(pids[0])):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

            status = row_kill.steps(lambda: rows.clean(own, store, "shop", rules=[SMALL]), tmp_path / "log", at, strike)
            assert os.WEXITSTATUS(status) == 1, names[at]
            own.kill()
            own.start()
            whole(own, store, "shop", before)


@ONE
def test_the_id_of_a_transaction_that_a_crash_wiped_out_proves_nothing_when_another_one_gets_it(
    server: Server, tmp_path: Path
) -> None:
    (store := tmp_path / "store").mkdir()
    with postgres.running(server.version, own=True) as own:
        own.createdb("shop")
        rows.make(own, "shop")
        xid = int(own.psql("SELECT pg_current_xact_id()"))
        # as a run leaves it that stored its first batch before its server, and itself, were killed
        context = replace(acts.context(), admission=At(1, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        parameters = acts.parameters(own, store, "shop", {"rules": [SMALL]})
        status = row_kill.steps(lambda: purge.execute(parameters, context), tmp_path / "log")
        assert os.WIFSIGNALED(status)
        (archive,) = archives_of(store)
        (part,) = store.glob("archives/*/rows/*")
        batch, _entry = archives.get(PosixStore(str(store)), archive, f"rows/{part.name}")
        part.unlink()
        # the same id, given to a transaction that came through
        codec = open_codec("zstd")
        archives.put(PosixStore(str(store)), codec, replace(batch, xid=str(xid)))
        assert own.psql(f"SELECT pg_xact_status('{xid}')") == "committed"
        done = rows.clean(own, store, "shop", rules=[SMALL])
        assert done.evidence["recovered"] == [{"archive": archive, "rule": "events", "rows": 0}]


class At(Unguarded):
    """Does something before the deletion of the n-th batch."""

    def __init__(self, number: int, act: object) -> None:
        self.left, self.act = number, act

    def confirm(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()  # type: ignore[operator]


def clean_at(server: Server, store: Path, database: str, number: int, act: object, **changes: object) -> OpsError:
    """A cleanup that meets something before its n-th deletion and fails by it."""
    context = replace(acts.context(), admission=At(number, act))
    parameters = {"rules": [SMALL], **changes}
    with pytest.raises(OpsError) as caught:
        purge.execute(acts.parameters(server, store, database, parameters), context)
    return caught.value


@ONE
def test_a_session_that_is_ended_by_somebody_loses_nothing_and_says_how_to_go_on(
    server: Server, filled: str, store: Path
) -> None:
    before = rows.picture(server, filled)
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-cleanup-%' "
        "AND application_name NOT LIKE '%guard%'"
    )
    error = clean_at(server, store, filled, 3, lambda: server.psql(end))
    assert error.code == "session_ended"
    assert "had archived and deleted" in error.message
    assert f"undo -e archive={archives_of(store)[0]}" in error.message
    assert int(server.psql(LEFT, filled)) > rows.ROWS - rows.OLD
    whole(server, store, filled, before)


@ONE
@pytest.mark.parametrize("code", ["window_ended", "interrupted", "lease_lost"])
def test_a_run_that_must_stop_stops_between_two_batches_and_the_next_one_keeps_its_cut_off_by_the_key(
    server: Server, filled: str, store: Path, code: str
) -> None:
    before = rows.picture(server, filled)

    def stop() -> None:
        raise OpsError(code, "It is over.", "Run it again.")

    error = clean_at(server, store, filled, 3, stop, key="november")
    assert error.code == code
    assert "had archived and deleted" in error.message
    (archive,) = archives_of(store)
    began = archives.read(PosixStore(str(store)), archive)
    assert began.outcome is not None
    assert began.outcome.state == "stopped"
    done = rows.clean(server, store, filled, rules=[SMALL], key="november")
    assert done.changed
    (last,) = cast("list[str]", done.evidence["archives"])
    assert archives.read(PosixStore(str(store)), last).begun.cutoff == began.begun.cutoff
    assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)
    whole(server, store, filled, before)


@ONE
def test_a_database_server_whose_disk_fills_up_in_the_middle_loses_nothing(server: Server, tmp_path: Path) -> None:
    (store := tmp_path / "store").mkdir()
    with disk.small(400) as point:
        point.chmod(0o777)
        with postgres.running(server.version, data=point / "data") as own:
            own.createdb("shop")
            rows.make(own, "shop")
            before = rows.picture(own, "shop")

            def fill() -> None:
                disk.fill(point)
                # the WAL that is there already is used up, too; then the server panics
                with contextlib.suppress(OpsError):
                    own.psql(
                        "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000)) FROM generate_series(1, 90)"
                    )

            error = clean_at(own, store, "shop", 2, fill)
            assert error.code in ("server_disk_full", "session_ended", "server_starting", "server_unreachable")
            (point / "filler").unlink()
            own.kill()
            own.start()
            whole(own, store, "shop", before)
            assert rows.clean(own, store, "shop").changed


@ONE
def test_a_lost_advisory_lock_stops_before_the_next_deletion(server: Server, filled: str, store: Path) -> None:
    before = rows.picture(server, filled)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    error = clean_at(server, store, filled, 2, lambda: server.psql(end))
    assert error.code in ("session_ended", "lock_lost")
    whole(server, store, filled, before)


@ONE
def test_a_store_that_fills_up_stops_the_cleanup_before_anything_unarchived_is_deleted(
    server: Server, filled: str, tmp_path: Path
) -> None:
    before = rows.picture(server, filled)
    with disk.small(8) as point:
        (store := point / "store").mkdir()
        error = clean_at(server, store, filled, 1, lambda: disk.fill(point))
        assert error.code == "store_full"
        assert int(server.psql(LEFT, filled)) > rows.ROWS - rows.OLD
        (point / "filler").unlink()
        done = rows.clean(server, store, filled, rules=[SMALL])
        assert done.evidence["recovered"], "the archive of the run that met the full store is brought to its end"
        assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)
        whole(server, store, filled, before)


@ONE
def test_a_store_that_is_down_stops_the_cleanup_before_its_first_deletion(
    server: Server, filled: str, tmp_path: Path
) -> None:
    before = rows.picture(server, filled)
    with pytest.raises(OpsError) as caught:
        rows.clean(server, tmp_path / "nothing", filled)
    assert caught.value.code.startswith("store_")
    assert rows.picture(server, filled) == before


def clean_slowly(server: Server, store: Path, database: str) -> Result:
    """A cleanup that rests half a second in each of its transactions."""
    context = replace(acts.context(), admission=At(-1, lambda: None))
    context.admission.confirm = lambda: time.sleep(0.5)  # type: ignore[method-assign]
    return purge.execute(acts.parameters(server, store, database, {"rules": [SMALL]}), context)


@ONE
def test_a_statement_timeout_of_the_role_does_not_end_a_cleanup(server: Server, filled: str, store: Path) -> None:
    server.psql(
        "ALTER ROLE postgres SET statement_timeout = '300ms'; ALTER ROLE postgres SET lock_timeout = '300ms';"
        "ALTER ROLE postgres SET idle_in_transaction_session_timeout = '300ms'"
    )
    try:
        slow = clean_slowly(server, store, filled)
    finally:
        server.psql("SET statement_timeout = 0; ALTER ROLE postgres RESET ALL")
    assert slow.changed
    assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)


@ONE
def test_a_lock_storm_on_the_table_stops_the_cleanup_in_order_and_the_next_run_goes_on(
    server: Server, filled: str, store: Path
) -> None:
    before = rows.picture(server, filled)
    held: list[object] = []

    def lock() -> None:
        client = server.connect(filled)
        client.autocommit = False
        with client.cursor() as cursor:
            cursor.execute("LOCK TABLE org_a.events IN SHARE MODE")
        held.append(client)

    began = time.monotonic()
    error = clean_at(server, store, filled, 2, lock, rules=[{**SMALL, "lock_limit": "200ms"}])
    assert error.code == "lock_timeout"
    assert time.monotonic() - began < 25
    for client in held:
        client.close()  # type: ignore[attr-defined]
    whole(server, store, filled, before)
    assert rows.clean(server, store, filled, rules=[SMALL]).changed


@ONE
def test_a_batch_that_takes_too_long_is_rolled_back_and_made_smaller(server: Server, filled: str, store: Path) -> None:
    server.psql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END';"
        "CREATE TRIGGER slow BEFORE DELETE ON org_a.events FOR EACH ROW EXECUTE FUNCTION slow()",
        filled,
    )
    before = rows.picture(server, filled)
    rule = rows.rule(accept_triggers=["slow"], lock_target="100ms", lock_limit="300ms")
    (told,) = cast("list[dict[str, float]]", rows.clean(server, store, filled, rules=[rule]).evidence["rules"])
    assert told["retries"] >= 1
    assert told["rows"] == rows.OLD
    assert told["longest_lock_ms"] < 1500, "all rows at once take 2.2 s"
    whole(server, store, filled, before)


@ONE
def test_a_trigger_that_keeps_rows_is_an_error_and_nothing_of_the_batch_goes(
    server: Server, filled: str, store: Path
) -> None:
    server.psql(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE DELETE ON org_a.events FOR EACH ROW EXECUTE FUNCTION keep()",
        filled,
    )
    before = rows.picture(server, filled)
    with pytest.raises(OpsError) as caught:
        rows.clean(server, store, filled, rules=[rows.rule(accept_triggers=["keep"])])
    assert caught.value.code == "rows_not_deleted"
    assert rows.picture(server, filled) == before


@pytest.fixture
def replica(server: Server) -> Iterator[Server]:
    with standby.following(server) as found:
        yield found


@ONE
def test_a_replica_that_does_not_replay_pauses_the_cleanup_and_lets_it_go_on_later(
    server: Server, filled: str, store: Path, replica: Server
) -> None:
    replica.psql("SELECT pg_wal_replay_pause()")
    rule = {**SMALL, "batch_rows": 20, "pause": {"replica_bytes": "1kB", "longest": "2s"}}
    server.psql("CREATE TABLE bulk AS SELECT repeat('x', 1000) FROM generate_series(1, 200)", filled)
    done = rows.clean(server, store, filled, rules=[rule])
    (told,) = cast("list[dict[str, object]]", done.evidence["rules"])
    assert "replica is" in str(told["stopped"])
    assert int(server.psql(LEFT, filled)) > rows.ROWS - rows.OLD
    resumed = threading.Timer(1.0, lambda: replica.psql("SELECT pg_wal_replay_resume()"))
    resumed.start()
    again = rows.clean(server, store, filled, rules=[{**rule, "pause": {"replica_bytes": "1kB", "longest": "60s"}}])
    resumed.join()
    assert cast("list[dict[str, object]]", again.evidence["rules"])[0]["stopped"] == ""
    assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)


@ONE
def test_a_killed_controller_leaves_a_state_from_which_the_next_run_goes_on(
    server: Server, filled: str, store: Path, tmp_path: Path
) -> None:
    server.psql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN OLD; END';"
        "CREATE TRIGGER slow BEFORE DELETE ON org_a.events FOR EACH ROW EXECUTE FUNCTION slow()",
        filled,
    )
    before = rows.picture(server, filled)
    rule = rows.rule(accept_triggers=["slow"], batch_rows=10)
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": filled,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_purge_rules": [rule],
        },
    )
    with start("cleanup", hosts) as controller:
        deadline = time.monotonic() + 60
        while int(server.psql(LEFT, filled)) == rows.ROWS and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(controller.pid, signal.SIGKILL)
    assert rows.ROWS > int(server.psql(LEFT, filled)) > rows.ROWS - rows.OLD
    server.psql("DROP TRIGGER slow ON org_a.events", filled)
    rows.clean(server, store, filled)
    assert server.psql(LEFT, filled) == str(rows.ROWS - rows.OLD)
    whole(server, store, filled, before)
