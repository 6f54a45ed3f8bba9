# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a guarded run in the middle, the next one takes over at once, says so, and leaves nothing held."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import verify
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import acts, disk, processes, s3, sshd
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play, start
from ansible_collections.saasops.runbook.tests.lab.postgres import Server

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)
DATABASE = "interrupted"


class System:
    """One database whose dump can be made to wait, and its store."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.root = folder / "store"

    @property
    def store(self) -> PosixStore:
        return PosixStore(str(self.root))

    def hosts(self, more: Mapping[str, object] | None = None, store: Mapping[str, object] | None = None) -> Path:
        return inventory(
            self.folder,
            {
                "saasops_system": "guarded",
                "saasops_database": DATABASE,
                "saasops_connection": acts.connection(self.server),
                "saasops_store": store or {"type": "posix", "path": str(self.root)},
                **(more or {}),
            },
        )

    def verb(self, name: str, *arguments: str) -> Run:
        return play(name, self.hosts(), *arguments)

    def records(self) -> list[dict[str, object]]:
        chain = read_chain(self.store)
        assert verify(chain.entries) == []
        return [json.loads(entry.text) for entry in chain.entries]

    def held(self) -> list[str]:
        views, bad = Leases(self.store).status()
        assert bad == []
        return [view.name for view in views if view.state() == "held"]

    def sets(self) -> int:
        return len(list(self.root.glob("backups/*/manifest.json")))


@pytest.fixture
def system(server: Server, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "store").mkdir()
    server.dropdb(DATABASE)
    server.psql(f"CREATE DATABASE {DATABASE}")
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS id", DATABASE)
    yield System(server, tmp_path)
    server.dropdb(DATABASE)


def until(done: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.02)
    return False


def signalled(controller: subprocess.Popen[str], number: signal.Signals) -> None:
    """The controller, its workers, and the module on this same machine."""
    for pid in [controller.pid, *processes.descendants(controller.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def progress_files() -> list[str]:
    """Those that no living module holds locked: tests beside this one have files of their own there."""
    locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    held = {word.rpartition(":")[2] for line in locks for word in line.split() if word.count(":") == 2}
    left = []
    for name in glob.glob("/tmp/saasops-progress-*"):
        with contextlib.suppress(FileNotFoundError):
            if str(os.stat(name).st_ino) not in held:
                left.append(name)
    return left


def kill_all(controller: subprocess.Popen[str]) -> None:
    """SIGKILL, as the loss of power: the controller, its workers, and the module on this same machine."""
    names = [processes.identity(pid) for pid in [controller.pid, *processes.descendants(controller.pid)]]
    processes.end(names)
    controller.communicate()


def leases_taken(system: System) -> bool:
    return any(system.root.glob("leases/*/*.json"))


def intent_written(system: System) -> bool:
    return any(b'"kind":"intent"' in path.read_bytes() for path in system.root.glob("journal/0*.json"))


@pytest.mark.parametrize("step", ["before the lease", "after the lease", "in the module", "before the outcome"])
def test_after_a_killed_controller_the_next_run_takes_over_at_once_and_says_so(system: System, step: str) -> None:
    begun = {
        "before the lease": lambda: any(Path("/proc").glob("[0-9]*/environ")),
        "after the lease": lambda: leases_taken(system),
        "in the module": lambda: intent_written(system),
        "before the outcome": lambda: system.sets() == 1,
    }[step]
    with start("backup", system.hosts(), "-e", "key=one") as controller:
        if step == "before the lease":
            time.sleep(1.0)
        assert until(begun)
        kill_all(controller)
    left = system.held()
    began = time.monotonic()
    run = system.verb("backup", "-e", "key=two")
    assert run.code == 0, run.output
    assert time.monotonic() - began < 60
    assert system.held() == []
    system.records()
    if left:
        assert "was interrupted" in run.output
    assert until(lambda: not progress_files(), 10)


def test_ctrl_c_gives_the_lease_back_and_is_on_record(system: System) -> None:
    with start("backup", system.hosts()) as controller:
        assert until(lambda: intent_written(system))
        os.killpg(controller.pid, signal.SIGINT)
        controller.communicate(timeout=30)
    assert until(lambda: system.held() == [], 15) or system.verb("reconcile").code == 0
    assert system.held() == []
    run = system.verb("backup")
    assert run.code == 0, run.output
    system.records()
    assert until(lambda: not progress_files(), 10)


def test_reconcile_ends_what_a_killed_run_held_and_says_it_once(system: System) -> None:
    with start("backup", system.hosts()) as controller:
        assert until(lambda: intent_written(system))
        signalled(controller, signal.SIGSTOP)
        alive = system.verb("reconcile")
        assert alive.code == 0, alive.output
        assert alive.changed == 0, "what lives is left alone"
        assert system.held() == [f"database:{DATABASE}"]
        kill_all(controller)
    checked = system.verb("reconcile", "--check")
    assert "would be put back" in checked.output
    assert system.held() == [f"database:{DATABASE}"]
    run = system.verb("reconcile")
    assert run.code == 0, run.output
    assert "was interrupted" in run.output
    assert system.held() == []
    assert [r["lease"] for r in system.records() if r["kind"] == "reverted"] == [f"database:{DATABASE}"]
    again = system.verb("reconcile")
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_folder_that_went_away_at_the_beginning_stops_the_run_before_it_acts(system: System) -> None:
    system.root.rename(system.folder / "elsewhere")
    run = system.verb("backup")
    assert run.code != 0
    assert "[store_missing]" in run.output
    (system.folder / "elsewhere").rename(system.root)
    assert system.verb("backup").code == 0
    assert system.held() == []
    system.records()


def test_a_folder_that_goes_away_in_the_middle_leaves_nothing_that_the_next_run_waits_for(system: System) -> None:
    with start("backup", system.hosts()) as controller:
        assert until(lambda: intent_written(system))
        signalled(controller, signal.SIGSTOP)
        system.root.rename(system.folder / "elsewhere")
        signalled(controller, signal.SIGCONT)
        output, _none = controller.communicate(timeout=90)
    assert controller.returncode != 0, output
    (system.folder / "elsewhere").rename(system.root)
    run = system.verb("backup")
    assert run.code == 0, run.output
    assert system.held() == []
    system.records()


def test_a_store_without_room_stops_the_run_and_the_next_one_with_room_goes_on(system: System) -> None:
    with disk.small(4) as small:
        (filler := small / "filler").write_bytes(b"\0" * (small_free(small) - 4096))
        (small / "store").mkdir()
        system.root = small / "store"
        run = system.verb("backup")
        assert run.code != 0
        assert "[store_full]" in run.output, run.output
        filler.unlink()
        again = system.verb("backup")
        assert again.code == 0, again.output
        assert system.held() == []
        system.records()


def small_free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_an_s3_server_that_stops_in_the_middle(system: System) -> None:
    with s3.running() as bucket:
        store = {
            "type": "s3",
            "bucket": bucket.create_bucket(),
            "endpoint_url": bucket.endpoint,
            "access_key": bucket.access_key,
            "secret_key": bucket.secret_key,
            "retries": 1,
        }
        first = play("backup", system.hosts(store=store))
        assert first.code == 0, first.output
        kept = open_store(store)
        before = len(kept.list("journal/"))
        with start("backup", system.hosts(store=store)) as controller:
            assert until(lambda: len(kept.list("journal/")) > before)
            bucket.stop()
            controller.communicate(timeout=120)
        assert controller.returncode != 0
        bucket.start()
        again = play("backup", system.hosts(store=store))
        assert again.code == 0, again.output
        verified = play("journal_verify", system.hosts(store=store))
        assert verified.code == 0, verified.output


def test_a_host_that_goes_away_in_the_middle_is_on_record_and_the_next_run_takes_over(system: System) -> None:
    with sshd.running() as host:
        host.give(system.root)
        system.folder.chmod(0o755)
        for parent in system.folder.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o055)
        variables: dict[str, object] = {
            "ansible_connection": "ssh",
            "ansible_host": sshd.HOST,
            "ansible_port": host.port,
            "ansible_user": host.user.pw_name,
            "ansible_ssh_private_key_file": str(host.identity),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -o LogLevel=ERROR",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_args": "-o ControlMaster=no",
            "ansible_remote_tmp": f"{host.folder}/remote",
        }
        hosts = system.hosts(variables)
        with start("backup", hosts) as controller:
            assert until(lambda: intent_written(system)), controller.communicate(timeout=60)
            host.cut()
            output, _none = controller.communicate(timeout=60)
        assert controller.returncode != 0
        assert "UNREACHABLE" in output or "unreachable" in output
        run = play("backup", hosts)
        assert run.code == 0, run.output
        assert system.held() == []
        assert [r for r in system.records() if r.get("code") == "no_report"]
