# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No backup ran at all: who says so, from inside (backups, metrics) and from outside (a watcher that is not told)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.acts import connection
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_partial, make_set
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play
from ansible_collections.saasops.runbook.tests.lab.postgres import Server
from ansible_collections.saasops.runbook.tests.lab.watcher import Watcher
from ansible_collections.saasops.runbook.tests.unit.domain.test_metrics import parse


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with Watcher() as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def backups(store: Path, *arguments: str, **variables: object) -> Run:
    facts = {"saasops_store": {"path": str(store)}, "saasops_rpo": "24h", "saasops_database": "app", **variables}
    return play("backups", inventory(store.parent, facts), *arguments)


def young(store: Path) -> None:
    make_set(store, time.time() - HOUR)


def old(store: Path) -> None:
    make_set(store, time.time() - 25 * HOUR)


def unproven(store: Path) -> None:
    make_set(store, time.time() - HOUR, proof=None)


def partial(store: Path) -> None:
    make_partial(store, time.time() - HOUR)


def of_another(store: Path) -> None:
    make_set(store, time.time() - HOUR, database="other")


def of_a_tenant(store: Path) -> None:
    make_set(store, time.time() - 2 * DAY)
    make_set(store, time.time() - HOUR, tenant="org_a", act="undo of a tenant's restore")


def nothing(_store: Path) -> None:
    """An empty store."""


def not_there(store: Path) -> None:
    store.rmdir()


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (young, ""),
        (old, "recovery_point_critical"),
        (unproven, "recovery_point_critical"),
        (partial, "recovery_point_critical"),
        (of_another, "recovery_point_critical"),
        (of_a_tenant, "recovery_point_critical"),
        (nothing, "recovery_point_critical"),
        (not_there, "store_missing"),
    ],
)
def test_backups_ends_with_an_error_unless_something_young_is_proven(store: Path, planted: object, said: str) -> None:
    planted(store)  # type: ignore[operator]
    run = backups(store)
    assert (run.code == 0) is (said == ""), run.output
    assert f"[{said}]" in run.output or not said
    if planted is of_a_tenant:
        assert "app: undo of tenant org_a" in run.output


def test_backups_ends_with_an_error_when_the_bucket_cannot_be_reached(store: Path) -> None:
    away = {"type": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:1", "connect_timeout": 1, "retries": 1}
    run = backups(store, saasops_store={**away, "access_key": "0123456789", "secret_key": "9876543210"})
    assert run.code != 0
    assert "[store_unreachable]" in run.output


def test_backups_writes_its_metrics_whole_and_also_when_it_is_critical(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    started = time.time() - 2 * DAY
    make_set(store, started)
    run = backups(store, saasops_metrics_folder=str(folder), saasops_system="demo")
    assert run.code != 0
    assert run.changed == 0
    (path,) = folder.iterdir()
    assert path.name == "saasops_backups_demo_0.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    first = path.stat().st_ino
    values = parse(path.read_text(encoding="utf-8"))
    labels = f'system="demo",store="{store}",database="app",schemas="",tenant=""'
    assert values["saasops_recovery_point_timestamp_seconds", labels] == pytest.approx(started, abs=0.01)
    assert values["saasops_recovery_point_age_seconds", labels] == pytest.approx(2 * DAY, abs=120)
    assert values["saasops_recovery_point_critical", labels] == 1

    young(store)
    assert backups(store, saasops_metrics_folder=str(folder), saasops_system="demo").code == 0
    assert [path.name for path in folder.iterdir()] == [path.name]
    assert path.stat().st_ino != first, "another file took its place: a reader sees the old one or the new one"
    assert parse(path.read_text(encoding="utf-8"))["saasops_recovery_point_critical", labels] == 0
    assert backups(store, "--check", saasops_metrics_folder=str(folder), saasops_system="demo").code == 0


@pytest.mark.parametrize("server", [17], indirect=True)
class TestHeartbeat:
    """The verb backup and a watcher outside."""

    def run(self, server: Server, store: Path, database: str, watcher: Watcher, *arguments: str, **more: object) -> Run:
        facts = {
            "saasops_database": database,
            "saasops_connection": connection(server),
            "saasops_store": {"path": str(store)},
            "saasops_heartbeat_url": watcher.url,
            "database_backup_heartbeat_delay": 0,
            **more,
        }
        run = play("backup", inventory(store.parent, facts), "-vvvv", *arguments)
        assert watcher.secret not in run.output
        written = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
        assert not [body for body in written if watcher.secret.encode() in body]
        return run

    def test_it_is_told_once_of_a_good_backup(
        self, server: Server, store: Path, database: str, watcher: Watcher
    ) -> None:
        assert self.run(server, store, database, watcher).code == 0
        assert watcher.heard == [("GET", f"/ping/{watcher.secret}")]
        assert self.run(server, store, database, watcher, saasops_heartbeat_method="POST").code == 0
        assert [method for method, _path in watcher.heard] == ["GET", "POST"]

    def test_it_is_not_told_of_a_plan_a_failure_or_a_failed_copy(
        self, server: Server, store: Path, database: str, watcher: Watcher, tmp_path: Path
    ) -> None:
        assert self.run(server, store, database, watcher, "--check").code == 0
        assert self.run(server, store, "no such database", watcher).code != 0
        gone = [{"path": str(tmp_path / "gone")}]
        assert self.run(server, store, database, watcher, saasops_store_copies=gone).code != 0
        assert watcher.heard == []

    def test_a_slot_that_was_used_keeps_the_alarm_and_a_young_set_quiets_it(
        self, server: Server, store: Path, database: str, watcher: Watcher
    ) -> None:
        assert self.run(server, store, database, watcher, "-e", "key=always").code == 0
        assert self.run(server, store, database, watcher, "-e", "key=always").code == 0
        assert len(watcher.heard) == 1
        assert self.run(server, store, database, watcher, "-e", "max_age=6h").code == 0
        assert len(watcher.heard) == 2

    def test_a_watcher_that_fails_is_tried_again_and_is_only_a_warning(
        self, server: Server, store: Path, database: str, watcher: Watcher
    ) -> None:
        watcher.statuses = [503]
        once = self.run(server, store, database, watcher)
        assert once.code == 0
        assert len(watcher.heard) == 2
        assert "heartbeat_failed" not in once.output
        watcher.statuses = [500] * 20
        never = self.run(server, store, database, watcher)
        assert never.code == 0, never.output
        assert "[heartbeat_failed] WARNING: the backup is good" in never.output
        assert len(watcher.heard) == 2 + 4
        assert len([e for e in sets.entries(PosixStore(str(store)), None) if e.state == "complete"]) == 2

    def test_a_watcher_that_is_not_there_is_only_a_warning(
        self, server: Server, store: Path, database: str, watcher: Watcher
    ) -> None:
        gone = self.run(
            server, store, database, watcher, saasops_heartbeat_url=f"http://127.0.0.1:1/ping/{watcher.secret}"
        )
        assert gone.code == 0
        assert "[heartbeat_failed]" in gone.output
