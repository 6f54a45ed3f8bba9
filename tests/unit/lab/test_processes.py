# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab import processes, scratch

FAMILY = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"


def named_as(pid: int, program: str) -> None:
    """Return once `pid` runs `program`: its parent knows the pid before the kernel has changed the program."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != program:
        assert time.monotonic() < deadline, f"{pid} never became {program}"
        time.sleep(0.005)


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """Pids of a parent and of its child, which sleeps."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        named_as(child, "sleep")
        names = [processes.identity(child), processes.identity(parent.pid)]
        yield parent.pid, child
        processes.end(names)


@pytest.fixture
def own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder that no other run on this machine sweeps."""
    monkeypatch.setenv("SAASOPS_LAB_TMP", str(tmp_path))
    return tmp_path


def test_a_process_is_alive_under_its_own_identity_only() -> None:
    name = processes.identity(os.getpid())
    pid, started, boot = name.split("-")
    assert processes.alive(name)
    assert not processes.alive(f"{pid}-{int(started) - 1}-{boot}")
    assert not processes.alive("")


def test_descendants_are_found_below_the_process_given(family: tuple[int, int]) -> None:
    parent, child = family
    assert child in processes.descendants(os.getpid())
    assert processes.descendants(parent) == [child]


COUNTING = """
import sys, threading
def count():
    while True:
        sys.stdout.write('.')
        sys.stdout.flush()
for _ in range(4):
    threading.Thread(target=count, daemon=True).start()
threading.Event().wait()
"""


def test_a_frozen_process_does_nothing_more_in_any_of_its_threads() -> None:
    with subprocess.Popen([sys.executable, "-c", COUNTING], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1000)
        processes.freeze(child.pid)
        os.set_blocking(child.stdout.fileno(), False)
        while child.stdout.read(1 << 20):
            pass
        time.sleep(0.2)
        assert not child.stdout.read(1)
        processes.end([processes.identity(child.pid)])


def test_running_finds_a_program_by_its_name(family: tuple[int, int]) -> None:
    parent, child = family
    assert processes.running("sleep", below=parent) == [child]
    assert child in processes.running("sleep")
    assert processes.running("pg_dump", below=parent) == []


def test_end_kills_exactly_the_named_and_tells_which_ran(family: tuple[int, int]) -> None:
    _parent, child = family
    name = processes.identity(child)
    assert processes.end([name, "999999999-1-00000000"]) == [name]
    assert not processes.alive(name)


def test_a_claimed_folder_stays_while_its_owner_lives_and_goes_on_release() -> None:
    folder = scratch.claim("test")
    scratch.sweep()
    assert folder.is_dir()
    scratch.release(folder)
    assert not folder.exists()


def test_the_folder_and_the_processes_of_a_dead_owner_are_swept(own_scratch: Path) -> None:
    program = (
        "import os, subprocess\n"
        "from ansible_collections.saasops.runbook.tests.lab import scratch\n"
        "folder = scratch.claim('test')\n"
        "null = subprocess.DEVNULL\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=null, stderr=null, start_new_session=True)\n"
        "scratch.record(folder, child.pid)\n"
        "print(folder, child.pid, flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    folder, child = done.stdout.split()
    left = processes.identity(int(child))
    assert processes.alive(left)
    assert os.path.basename(folder) in scratch.sweep()
    assert not processes.alive(left)
    assert not os.path.exists(folder)
