# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triage finds a way into a server in trouble, says what is wrong within its time, and what to paste."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psycopg2
import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import triage
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.session import Session
from ansible_collections.saasops.runbook.tests.lab import acts, disk, docker, postgres, processes
from ansible_collections.saasops.runbook.tests.lab.pg_checks import sessions, until
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, commands, inventory, paste, play

# seconds from Enter to the end; the goal, 15, is measured by the benchmarks, on a machine that does nothing else
LIMIT = 60.0
SLOTS = 12
APP = {"user": "app", "password": "app's own secret"}
OF_APP = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
# as long as triage asks before it tells to end them
FORGOTTEN = f"{OF_APP} AND state = 'idle in transaction' AND now() - state_change > interval '11 s'"


def small(version: int, **settings: str) -> contextlib.AbstractContextManager[postgres.Server]:
    """A server with few slots, three of them reserved for superusers, and the role app."""
    return postgres.running(version, settings={"max_connections": str(SLOTS), "fsync": "on", **settings})


@pytest.fixture(scope="module")
def full15() -> Iterator[postgres.Server]:
    with small(15) as server:
        server.psql(
            "CREATE ROLE app LOGIN PASSWORD 'app''s own secret'; CREATE TABLE job AS SELECT 1 AS id;"
            "GRANT ALL ON job TO app"
        )
        yield server


def look(server: postgres.Server, **changes: object) -> dict[str, object]:
    """What the module returns, as Python."""
    connection = acts.connection(server, **cast("dict[str, object]", changes.pop("login", {})))
    params: dict[str, object] = {"connection": connection, "inventory": ["inventory.yml"], **changes}
    began = time.monotonic()
    found = triage.execute(params, acts.context()).evidence
    assert time.monotonic() - began < 30
    return found


def check(found: dict[str, object], name: str) -> dict[str, object]:
    return next(item for item in cast("list[dict[str, object]]", found["checks"]) if item["name"] == name)


def timed(hosts: Path, *arguments: str) -> Run:
    began = time.monotonic()
    run = play("triage", hosts, *arguments, timeout=120)
    assert time.monotonic() - began < LIMIT
    assert run.code == 0, run.output
    assert run.changed == 0
    return run


@pytest.mark.essential
def test_with_every_ordinary_slot_taken_the_rescue_connection_leads_in_and_the_root_blocker_comes_first(
    full15: postgres.Server, tmp_path: Path
) -> None:
    own = acts.connection(full15)
    variables = {
        "saasops_connection": {**own, **APP},
        "saasops_rescue_connection": own,
        "saasops_store": {"path": str(tmp_path / "store"), "create": True},
    }
    hosts = inventory(tmp_path, variables)
    with crowd(full15, SLOTS - 3) as root:
        assert until(lambda: full15.psql(FORGOTTEN) == "3", 30)
        run = timed(hosts)
        alone = timed(hosts, "-e", '{"saasops_rescue_connection": {}}')
        end_idle = commands(run)[1]
        pasted = paste(end_idle, hosts)
        assert (pasted.code, pasted.changed) == (0, 1), pasted.output
        assert "3 sessions were ended" in pasted.output
        assert full15.psql(OF_APP) == str(SLOTS - 3 - 3)
        full15.connect(**APP, dbname="postgres").close()
    assert "remaining connection slots are reserved" in run.output, run.output
    assert "looked through saasops_rescue_connection" in run.output
    assert "critical     connections against the limit" in run.output
    first = next(line for line in run.output.splitlines() if "  1. ansible-playbook" in line)
    assert f"saasops.runbook.sessions -i {hosts}" in first
    assert f"-e pid={root}" in first
    assert end_idle == f"ansible-playbook saasops.runbook.sessions -i {hosts} -e idle_in_transaction=10s"
    assert "3 of 10 connections are idle in transaction for more than 10 s" in run.output
    # no peer line in its pg_hba.conf: then it says what was tried, and what to set
    assert "CRITICAL, looked without a connection" in alone.output
    assert "set saasops_rescue_connection" in alone.output


@contextlib.contextmanager
def crowd(server: postgres.Server, count: int) -> Iterator[int]:
    """So many sessions of app: one holds a lock, six wait for it, and all but those are idle in a transaction."""
    workers = []
    with sessions(server, count, **APP, dbname="postgres") as opened:
        for one in opened:
            one.autocommit = False  # type: ignore[attr-defined]
        root, *others = opened
        root.cursor().execute("UPDATE job SET id = id")  # type: ignore[attr-defined]
        for one in others[6:]:
            one.cursor().execute("SELECT 1")  # type: ignore[attr-defined]
        for one in others[:6]:
            workers.append(threading.Thread(target=_swallow, args=(one, "UPDATE job SET id = id")))
            workers[-1].start()
        asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert until(lambda: server.psql(asked) == "6")
        try:
            yield root.info.backend_pid  # type: ignore[attr-defined]
        finally:
            # it may have been ended
            with contextlib.suppress(psycopg2.Error):
                root.rollback()  # type: ignore[attr-defined]
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            for worker in workers:
                worker.join()
    assert until(lambda: server.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'") == "0")


def _swallow(one: object, sql: str) -> None:
    with contextlib.suppress(psycopg2.Error):
        one.cursor().execute(sql)  # type: ignore[attr-defined]


def test_the_servers_own_user_gets_in_through_the_socket(full15: postgres.Server) -> None:
    _peer(full15)
    with sessions(full15, SLOTS - 3, **APP):
        found = look(full15, login=APP)
    assert found["connected"] == "socket", found["tried"]
    assert check(found, "connections")["level"] == "critical"
    assert "as postgres" in str(found["tried"])


def _reloaded(server: postgres.Server) -> None:
    """The postmaster has read pg_hba.conf: a new session inherits the time, which is set right before."""
    before = server.psql("SELECT pg_conf_load_time()")
    server.reload()
    assert until(lambda: server.psql("SELECT pg_conf_load_time()") != before)


def _peer(server: postgres.Server) -> None:
    """As Debian's pg_hba.conf has it."""
    hba = server.data / "pg_hba.conf"
    text = hba.read_text(encoding="utf-8")
    if not text.startswith("local all postgres peer"):
        hba.write_text("local all postgres peer\n" + text, encoding="utf-8")
        _reloaded(server)


@pytest.mark.parametrize(("member", "connected"), [(True, "rescue"), (False, "")])
def test_from_16_on_a_role_may_use_reserved_slots_without_being_a_superuser(member: bool, connected: str) -> None:
    with small(18, reserved_connections="2") as server:
        server.psql(
            "CREATE ROLE app LOGIN PASSWORD 'app''s own secret';"
            "CREATE ROLE keeper LOGIN PASSWORD 'keeper of slots' IN ROLE pg_monitor"
        )
        if member:
            server.psql("GRANT pg_use_reserved_connections TO keeper")
        rescue = acts.connection(server, user="keeper", password="keeper of slots")
        with sessions(server, SLOTS - 5, **APP):
            found = look(server, login=APP, rescue_connection=rescue)
    assert found["connected"] == connected, found["tried"]
    if connected:
        assert check(found, "connections")["value"] == 114.2857, "7 ordinary slots, and the 8th is our own"
    else:
        assert check(found, "server")["value"] == "full"


def test_a_role_that_sees_nothing_is_told_so_and_nothing_is_ok_by_that(full15: postgres.Server) -> None:
    found = look(full15, login=APP)
    assert found["connected"] == "given"
    assert check(found, "connections")["level"] == "inconclusive"
    assert "GRANT pg_monitor TO app" in str(check(found, "connections")["why"])
    assert found["level"] == "inconclusive"


def test_in_a_storm_of_locks_the_root_is_named_in_time() -> None:
    with postgres.running(15) as server:
        server.psql("CREATE TABLE job AS SELECT 1 AS id")
        workers = []
        with sessions(server, 41) as (root, *others):
            pid = root.info.backend_pid  # type: ignore[attr-defined]
            root.autocommit = False  # type: ignore[attr-defined]
            root.cursor().execute("LOCK TABLE job")  # type: ignore[attr-defined]
            for one in others:
                workers.append(threading.Thread(target=_swallow, args=(one, "UPDATE job SET id = id")))
                workers[-1].start()
            assert until(lambda: server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "40")
            found = look(server)
            root.rollback()  # type: ignore[attr-defined]
            for worker in workers:
                worker.join()
    assert check(found, "blocked_count")["value"] == 40
    assert f"-e pid={pid}" in cast("list[str]", found["commands"])[0]


def test_a_catalog_that_somebody_locked_does_not_hang_the_look_and_its_holder_is_named() -> None:
    with postgres.running(17) as server:
        server.createdb("shop")
        with sessions(server, 7, dbname="shop") as (root, *others):
            pid = root.info.backend_pid  # type: ignore[attr-defined]
            root.autocommit = False  # type: ignore[attr-defined]
            root.cursor().execute("LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE")  # type: ignore[attr-defined]
            workers = [threading.Thread(target=_swallow, args=(one, "SELECT count(*) FROM pg_class")) for one in others]
            for worker in workers:
                worker.start()
            assert until(lambda: server.psql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "6")
            found = look(server, database="shop")
            root.rollback()  # type: ignore[attr-defined]
            for worker in workers:
                worker.join()
    assert found["connected"] == "given", found["tried"]
    assert check(found, "blocked_count")["value"] == 6, found["lines"]
    assert f"-e pid={pid}" in str(found["commands"]), found["lines"]


def test_a_server_that_is_down_is_told_from_one_that_hangs() -> None:
    with small(15) as server:
        processes.freeze(server.pid)
        try:
            found = look(server)
            assert check(found, "server")["value"] == "hangs"
            assert "stopped by a signal" in str(check(found, "server")["detail"])
            assert check(found, "disk")["level"] == "ok", "its process tells where its data is"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        server.stop()
        found = look(server, data_directory=str(server.data))
    assert check(found, "server")["value"] == "down"
    assert found["connected"] == ""
    assert found["commands"] == []
    assert "read the end of its log" in str(found["lines"])


def test_a_session_that_hangs_after_it_was_let_in_does_not_hang_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    bound = triage.bounds

    def and_freeze(session: Session, seconds: float) -> None:
        bound(session, seconds)
        processes.freeze(session.pid)
        frozen.append(session.pid)

    monkeypatch.setattr(triage, "bounds", and_freeze)
    with small(15) as server:
        try:
            found = look(server)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
    assert frozen
    assert check(found, "connections")["level"] == "inconclusive"
    assert found["level"] in ("critical", "inconclusive")


def test_a_server_in_recovery_says_that_it_starts() -> None:
    with small(15) as server:
        server.stop()
        (server.data / "standby.signal").touch()
        server.configure({"hot_standby": "off", "restore_command": "false"})
        starting = threading.Thread(target=_start, args=(server,))
        starting.start()
        try:
            assert until(lambda: server.is_running)
            assert until(lambda: "entering standby mode" in server.log.read_text(encoding="utf-8"))
            found = look(server, rescue_connection=acts.connection(server))
        finally:
            os.kill(server.pid, signal.SIGQUIT)
            starting.join()
    assert check(found, "server")["value"] == "starting", found["tried"]
    assert "do not kill it" in str(found["lines"])


def _start(server: postgres.Server) -> None:
    with contextlib.suppress(OpsError):
        server.start(timeout=120)


def test_a_full_disk_is_seen_from_inside_and_after_the_server_went_down() -> None:
    settings = {"max_wal_size": "64MB"}
    with disk.small(150) as point, postgres.running(15, data=point / "data", settings=settings) as server:
        assert check(look(server), "disk")["level"] == "ok"
        filler = disk.fill(point)
        found = look(server)
        assert check(found, "disk")["level"] == "critical"
        assert "never delete in pg_wal" in str(found["lines"])
        server.kill()
        down = look(server, data_directory=str(server.data))
        assert check(down, "server")["value"] == "down"
        assert check(down, "disk")["level"] == "critical"
        filler.unlink()


def test_a_wrong_password_is_no_dead_server(full15: postgres.Server) -> None:
    hba = full15.data / "pg_hba.conf"
    text = hba.read_text(encoding="utf-8")
    hba.write_text(text.replace("local all postgres peer\n", ""), encoding="utf-8")
    _reloaded(full15)
    found = look(full15, login={"password": "wrong"})
    assert check(found, "server")["value"] == "refuses the login"


def test_through_docker_the_containers_superuser_gets_in(docker_engine: None, tmp_path: Path) -> None:
    with docker.postgres_container() as container:
        container.psql("ALTER SYSTEM SET max_connections = 8; CREATE ROLE app LOGIN PASSWORD 'app''s own secret'")
        docker.docker("restart", container.name)
        container.wait()
        # below a shell that stays: PostgreSQL as process 1 takes an orphan's end for a crash
        argv = ["docker", "exec", container.name, "sh", "-c", FILL.format(count=5)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL):
            assert until(lambda: container.psql(OF_APP) == "5", 60)
            hosts = inventory(tmp_path, {"saasops_connection": {**container.params(), **APP}})
            run = timed(hosts)
            container.run("touch", "/tmp/over")
            container.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    assert "looked through the socket inside the container" in run.output, run.output
    assert "critical     connections against the limit" in run.output


FILL = (
    # who asks how many there are takes a slot, so whoever is refused comes again
    'for n in $(seq {count}); do (until [ -e /tmp/over ] || PGPASSWORD="app\'s own secret" psql -h 127.0.0.1 -U app'
    " -c 'SELECT pg_sleep(120)' postgres >/dev/null 2>&1 </dev/null; do sleep 0.2; done) & done; wait"
)
