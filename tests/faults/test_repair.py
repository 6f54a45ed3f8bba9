# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repair that is killed, hindered or starved has either not begun or is whole, and can be taken back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import repair
from ansible_collections.saasops.runbook.plugins.module_utils.module import Context, Result, Unguarded
from ansible_collections.saasops.runbook.plugins.module_utils.postgres import synchronous
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.locks import lock_key
from ansible_collections.saasops.runbook.plugins.module_utils.store import archives
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import (
    acts,
    disk,
    podcastflow,
    postgres,
    processes,
    row_kill,
    rows,
    standby,
)
from ansible_collections.saasops.runbook.tests.lab.clients import until
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

ONE = pytest.mark.parametrize("server", [15], indirect=True)
FIXES = podcastflow.shipped("repairs.yml", "saasops_repairs")
ACTS: list[tuple[str, dict[str, str]]] = [
    ("decide_approval", {"id": "a-a1", "decision": "approved"}),
    ("release_reservation", {"id": "a-stuck"}),
    ("missing_order", {"id": "a-bare"}),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (folder := tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def flow(server: Server, database: str) -> str:
    podcastflow.make(server, database)
    return database


def picture(server: Server, database: str) -> list[str]:
    return [rows.picture(server, database, schema, podcastflow.TABLES) for schema in ("org_a", "org_b")]


def mend(
    server: Server,
    store: Path,
    database: str,
    act: tuple[str, dict[str, str]],
    hook: Callable[[], object] | None = None,
    **more: object,
) -> Result:
    context = acts.context()
    if hook is not None:
        admission = Unguarded()
        admission.confirm = hook  # type: ignore[method-assign,assignment]
        context = replace(context, admission=admission)
    changes = {
        "fixes": FIXES,
        "fix": act[0],
        "parameters": act[1],
        "reason": "test",
        "tenant_schemas": ["org_*"],
        **more,
    }
    return repair.execute(acts.parameters(server, store, database, changes), context)


def archives_of(store: Path) -> list[str]:
    return sorted(path.parent.name for path in store.glob("archives/*/begun.json"))


def back(server: Server, store: Path, database: str) -> None:
    if made := archives_of(store):
        changes = {"state": "put_back", "archives": made}
        repair.execute(acts.parameters(server, store, database, changes), acts.context())


@ONE
@pytest.mark.parametrize("act", ACTS, ids=[item[0] for item in ACTS])
def test_a_kill_at_any_step_leaves_all_or_nothing_and_the_way_back_stands(
    server: Server, flow: str, store: Path, tmp_path: Path, act: tuple[str, dict[str, str]]
) -> None:
    before = picture(server, flow)
    log = tmp_path / "log"
    assert row_kill.steps(lambda: mend(server, store, flow, act), log) == 0
    assert picture(server, flow) != before
    steps = log.read_text(encoding="utf-8").splitlines()
    back(server, store, flow)
    shutil.rmtree(store / "archives", ignore_errors=True)
    first = next(number for number, name in enumerate(steps) if name.startswith("put archives"))
    for at in range(first, len(steps)):
        assert os.WIFSIGNALED(row_kill.steps(lambda: mend(server, store, flow, act), log, at)), steps[at]
        # the server ends the transaction of a client that is gone
        deadline = time.monotonic() + 5
        busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-repair%'"
        while server.psql(busy) != "0" and time.monotonic() < deadline:
            time.sleep(0.02)
        committed = "COMMIT" in log.read_text(encoding="utf-8")
        assert (picture(server, flow) != before) == committed, steps[at]
        if committed:
            again = mend(server, store, flow, act)
            assert not again.changed, "there is nothing left to repair"
            (archive,) = archives_of(store)
            assert archives.read(PosixStore(str(store)), archive).outcome is not None, steps[at]
        if committed or at % 3 == 0:
            back(server, store, flow)
            assert picture(server, flow) == before, steps[at]
        shutil.rmtree(store / "archives", ignore_errors=True)


@ONE
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("""UPDATE org_a."CampaignApproval" SET "updatedAt" = now() WHERE id = 'a-a1'""", "rows_changed"),
        ("""DELETE FROM org_a."CampaignApproval" WHERE id = 'a-a1'""", "rows_changed"),
        ("""UPDATE org_a."Campaign" SET probability = 10 WHERE id = 'a-open'""", "not_repairable"),
    ],
)
def test_what_changes_between_plan_and_act_stops_it(
    server: Server, flow: str, store: Path, statement: str, code: str
) -> None:
    meanwhile: list[list[str]] = []

    def meddle() -> None:
        server.psql(statement, flow)
        meanwhile.append(picture(server, flow))

    with pytest.raises(OpsError) as caught:
        mend(server, store, flow, ACTS[0], meddle)
    assert caught.value.code == code
    assert picture(server, flow) == meanwhile[0]


@ONE
def test_a_row_that_is_locked_is_waited_for_a_bounded_time(server: Server, flow: str, store: Path) -> None:
    fixes = [{**fix, "lock_timeout": "1s"} for fix in FIXES]
    with server.connect(flow) as holder:
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute("""SELECT FROM org_a."CampaignApproval" FOR UPDATE""")
            began = time.monotonic()
            with pytest.raises(OpsError) as caught:
                mend(server, store, flow, ACTS[0], fixes=fixes)
            assert caught.value.code == "lock_timeout"
            assert 0.9 < time.monotonic() - began < 30
    holder.close()
    assert mend(server, store, flow, ACTS[0]).changed


@ONE
def test_a_store_that_is_down_changes_nothing(server: Server, flow: str, tmp_path: Path) -> None:
    before = picture(server, flow)
    with pytest.raises(OpsError) as caught:
        mend(server, tmp_path / "nothing", flow, ACTS[0])
    assert caught.value.code.startswith("store_")
    assert picture(server, flow) == before


@ONE
def test_missing_rights_are_refused_with_the_grant(server: Server, flow: str, store: Path) -> None:
    server.psql(
        "CREATE ROLE looker LOGIN PASSWORD 'looker'; GRANT USAGE ON SCHEMA org_a TO looker;"
        "GRANT SELECT ON ALL TABLES IN SCHEMA org_a TO looker",
        flow,
    )
    try:
        with pytest.raises(OpsError) as caught:
            mend(server, store, flow, ACTS[0], connection=acts.connection(server, user="looker", password="looker"))
        assert caught.value.code == "not_permitted"
        assert "UPDATE" in caught.value.message
    finally:
        server.psql("DROP OWNED BY looker; DROP ROLE looker", flow)


def fail(server: Server, store: Path, database: str, hook: Callable[[], object], **more: object) -> OpsError:
    """A repair that meets something right before its rows are locked, and fails by it."""
    with pytest.raises(OpsError) as caught:
        mend(server, store, database, ACTS[0], hook, **more)
    return caught.value


@ONE
def test_a_lost_fence_stops_the_repair_before_its_first_row(server: Server, flow: str, store: Path) -> None:
    before = picture(server, flow)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    assert fail(server, store, flow, lambda: server.psql(end)).code in ("session_ended", "lock_lost")
    assert picture(server, flow) == before
    assert mend(server, store, flow, ACTS[0]).changed


@ONE
def test_a_second_repair_is_kept_out_while_one_is_at_work_and_so_is_its_look_at_unfinished_archives(
    server: Server, flow: str, store: Path
) -> None:
    met: list[str] = []

    def second() -> None:
        for what, more in ((ACTS[2], {}), (ACTS[1], {"state": "put_back", "archives": [done]})):
            with pytest.raises(OpsError) as caught:
                mend(server, store, flow, what, **more)
            met.append(caught.value.code)
        # the archive of the repair at work has no manifest yet, and must not be given one
        assert [one for one in archives_of(store) if not (store / "archives" / one / "manifest.json").exists()]

    (done,) = mend(server, store, flow, ACTS[1]).evidence["archives"]  # type: ignore[misc]
    assert mend(server, store, flow, ACTS[0], second).changed
    assert met == ["database_busy", "database_busy"]


@ONE
def test_a_repair_does_not_wait_for_a_backup_that_holds_the_database(server: Server, flow: str, store: Path) -> None:
    with contextlib.closing(server.connect("postgres")) as client, client.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("test", flow),))
        assert mend(server, store, flow, ACTS[0]).changed
        back(server, store, flow)


@ONE
def test_a_session_that_is_ended_by_somebody_changes_nothing_and_the_next_run_does_it(
    server: Server, flow: str, store: Path
) -> None:
    before = picture(server, flow)
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'saasops-repair-%' "
        "AND application_name NOT LIKE '%guard%'"
    )
    assert fail(server, store, flow, lambda: server.psql(end)).code == "session_ended"
    assert picture(server, flow) == before
    assert mend(server, store, flow, ACTS[0]).changed
    back(server, store, flow)
    assert picture(server, flow) == before


@ONE
def test_timeouts_of_the_role_do_not_end_a_repair(server: Server, flow: str, store: Path) -> None:
    server.psql(
        "ALTER ROLE postgres SET statement_timeout = '20ms'; ALTER ROLE postgres SET lock_timeout = '20ms';"
        "ALTER ROLE postgres SET idle_in_transaction_session_timeout = '20ms'"
    )
    try:
        done = mend(server, store, flow, ACTS[0], lambda: time.sleep(0.1))
    finally:
        server.psql("SET statement_timeout = 0; ALTER ROLE postgres RESET ALL")
    assert done.changed


@ONE
def test_a_server_that_is_killed_in_the_middle_or_at_the_commit_leaves_all_or_nothing(
    server: Server, tmp_path: Path
) -> None:
    with postgres.running(server.version, settings={"fsync": "on"}) as own:
        own.createdb("flow")
        podcastflow.make(own, "flow")
        before = picture(own, "flow")
        (store := tmp_path / "store").mkdir()
        log = tmp_path / "log"
        assert row_kill.steps(lambda: mend(own, store, "flow", ACTS[2]), log) == 0
        names = log.read_text(encoding="utf-8").splitlines()
        back(own, store, "flow")
        commit = next(number for number, name in enumerate(names) if "COMMIT" in name)
        for at in (commit - 3, commit, commit + 1):
            shutil.rmtree(store / "archives")

            def strike(pid: int = own.pid) -> None:
                for one in (pid, *processes.descendants(pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)

            status = row_kill.steps(lambda: mend(own, store, "flow", ACTS[2]), log, at, strike)
            assert os.WIFEXITED(status), names[at]
            own.kill()
            own.start()
            assert (picture(own, "flow") != before) == (at > commit), names[at]
            back(own, store, "flow")
            assert picture(own, "flow") == before, names[at]


@ONE
def test_a_database_server_whose_disk_fills_up_leaves_all_or_nothing(server: Server, tmp_path: Path) -> None:
    (store := tmp_path / "store").mkdir()
    with disk.small(400) as point:
        point.chmod(0o777)
        with postgres.running(server.version, data=point / "data") as own:
            own.createdb("flow")
            podcastflow.make(own, "flow")
            before = picture(own, "flow")

            def fill() -> None:
                disk.fill(point)
                # the WAL that is there already is used up, too; then the server panics
                with contextlib.suppress(OpsError):
                    own.psql(
                        "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000)) FROM generate_series(1, 90)"
                    )

            error = fail(own, store, "flow", fill)
            assert error.code in ("server_disk_full", "session_ended", "server_starting", "server_unreachable")
            (point / "filler").unlink()
            own.kill()
            own.start()
            assert picture(own, "flow") == before
            assert mend(own, store, "flow", ACTS[0]).changed
            back(own, store, "flow")
            assert picture(own, "flow") == before


@ONE
def test_a_store_that_is_full_stops_the_repair_before_its_first_row(server: Server, flow: str, tmp_path: Path) -> None:
    before = picture(server, flow)
    with disk.small(8) as point:
        (store := point / "store").mkdir()
        disk.fill(point)
        with pytest.raises(OpsError) as caught:
            mend(server, store, flow, ACTS[0])
        assert caught.value.code == "store_full"
        assert picture(server, flow) == before
        (point / "filler").unlink()
        assert mend(server, store, flow, ACTS[0]).changed


@ONE
def test_a_store_that_fills_up_between_the_commit_and_the_manifest_is_told_and_the_next_run_completes_the_archive(
    server: Server, flow: str, tmp_path: Path
) -> None:
    before = picture(server, flow)
    with disk.small(8) as point:
        (store := point / "store").mkdir()
        assert mend(server, store, flow, ACTS[0], lambda: disk.fill(point)).changed
        (archive,) = archives_of(store)
        assert archives.read(PosixStore(str(store)), archive).outcome is None
        (point / "filler").unlink()
        assert not mend(server, store, flow, ACTS[0]).changed
        assert archives.read(PosixStore(str(store)), archive).outcome is not None
        back(server, store, flow)
        assert picture(server, flow) == before


@ONE
def test_a_synchronous_standby_that_lags_or_is_away_keeps_no_row_locked_and_is_told(
    server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.is_running
    with postgres.running(15) as own, standby.following(own) as replica:
        own.createdb("flow")
        podcastflow.make(own, "flow")
        before = picture(own, "flow")
        replica.psql("SELECT pg_wal_replay_pause()")
        own.configure({"synchronous_standby_names": "standby", "synchronous_commit": "remote_apply"})
        own.reload()
        until(lambda: own.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1", 30)
        said: list[str] = []
        context = acts.context(lines=said)
        assert act_on(own, store, "flow", context, ACTS[0]).changed
        assert not any("standby" in line for line in said), "it has the repair, it only has not replayed it"
        replica.kill()
        monkeypatch.setattr(synchronous, "_PATIENCE", 0.3)
        until(lambda: own.psql("SELECT count(*) FROM pg_stat_replication") == "0", 30)
        assert act_on(own, store, "flow", context, ACTS[1]).changed
        assert any("no synchronous standby" in line for line in said)
        back(own, store, "flow")
        assert picture(own, "flow") == before


def act_on(server: Server, store: Path, database: str, context: Context, act: tuple[str, dict[str, str]]) -> Result:
    """A repair in a given context."""
    changes = {"fixes": FIXES, "fix": act[0], "parameters": act[1], "reason": "test", "tenant_schemas": ["org_*"]}
    return repair.execute(acts.parameters(server, store, database, changes), context)


@ONE
def test_a_killed_controller_leaves_all_or_nothing_and_the_next_run_ends_what_was_left(
    server: Server, flow: str, store: Path, tmp_path: Path
) -> None:
    server.psql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(120); RETURN NEW; END';"
        """CREATE TRIGGER slow BEFORE UPDATE ON org_a."CampaignApproval" FOR EACH ROW EXECUTE FUNCTION slow()""",
        flow,
    )
    before = picture(server, flow)
    hosts = inventory(
        tmp_path,
        {
            "saasops_system": "test",
            "saasops_database": flow,
            "saasops_connection": acts.connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_tenant_schemas": ["org_*"],
            # its own limits would end the killed run's statement first
            "saasops_repairs": [{**fix, "accept_triggers": ["slow"], "lock_timeout": "60s"} for fix in FIXES],
        },
    )
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saasops-repair-%' AND query ~ 'UPDATE '"
    asked = ("-e", "fix=decide_approval", "-e", "id=a-a1", "-e", "decision=approved", "-e", "reason=test")
    with start("repair", hosts, *asked) as controller:
        until(lambda: server.psql(f"{busy} AND state = 'active'") == "1", 60)
        for pid in processes.modules(controller.pid):
            os.kill(pid, signal.SIGKILL)
        os.killpg(controller.pid, signal.SIGKILL)
    # the backend of the killed run still sleeps on the row; the next run must not wait for it
    server.psql("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", flow)
    assert picture(server, flow) == before
    assert mend(server, store, flow, ACTS[0], fixes=[{**fix, "accept_triggers": ["slow"]} for fix in FIXES]).changed
    server.psql("DROP FUNCTION slow() CASCADE", flow)
    back(server, store, flow)
    assert picture(server, flow) == before
