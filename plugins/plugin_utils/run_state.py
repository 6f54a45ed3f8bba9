# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run this is: one id for every ansible-playbook process, shared by all its workers."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible import constants as C  # noqa: N812 - its name everywhere

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import new_set_id

_NAME = "saasops-run.json"
_FORGET_AFTER = 30 * 86400


@dataclass(frozen=True)
class Run:
    """id, and the process on the controller that it is: boot id, pid and start time prove whether it still lives."""

    id: str
    controller: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: int
    operator: str

    def as_json(self) -> dict[str, object]:
        return {
            "run": self.id,
            "controller": self.controller,
            "boot_id": self.boot_id,
            "pid_namespace": self.pid_namespace,
            "pid": self.pid,
            "process_started": self.process_started,
            "operator": self.operator,
        }


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as stream:
        return stream.read().strip()
    return ""


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is none (or no /proc to tell)."""
    words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[19]) if len(words) > 19 else 0


def _here() -> tuple[str, str, str]:
    """(host name, boot id, pid namespace) of this controller: a process is only looked for where it was started."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), namespace


def temporary() -> str:
    """The folder that Ansible makes for this process alone and removes at its end; workers inherit it."""
    return str(C.DEFAULT_LOCAL_TMP)


def handover() -> str:
    """The folder in it that workers and the callback share."""
    path = os.path.join(temporary(), "saasops")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def home() -> str:
    """Where this operator's runs, spools and the like are kept between runs."""
    base = str(getattr(C, "ANSIBLE_HOME", "") or os.path.expanduser("~/.ansible"))
    return os.path.join(base, "saasops")


def operator(task_vars: Mapping[str, object]) -> str:
    """Who runs this: AWX says it in a variable, else the login name."""
    for name in ("awx_user_name", "tower_user_name"):
        if task_vars.get(name):
            return str(task_vars[name])
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return f"uid {os.getuid()}"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def current(task_vars: Mapping[str, object]) -> Run:
    """The run of this process; whichever worker asks first makes its id."""
    with _locked(os.path.join(temporary(), _NAME)) as descriptor:
        written = os.read(descriptor, 65536)
        if written:
            return Run(**json.loads(written))
        # a worker's parent is the process that the operator started
        parent, (controller, boot_id, namespace) = os.getppid(), _here()
        run = Run(
            id=new_set_id(time.time(), os.urandom(4)),
            controller=controller,
            boot_id=boot_id,
            pid_namespace=namespace,
            pid=parent,
            process_started=_start_of(parent),
            operator=operator(task_vars),
        )
        os.write(descriptor, json.dumps(run.__dict__).encode())
    _register(run)
    return run


def _register(run: Run) -> None:
    """Note the run in the operator's folder, so that a later one can tell that it is dead."""
    folder = os.path.join(home(), "runs")
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"{run.id}.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as out:
            json.dump(run.__dict__, out)


def dead_runs() -> list[str]:
    """Ids of runs of this operator on this controller whose process is gone for certain."""
    folder, found = os.path.join(home(), "runs"), []
    controller, boot_id, namespace = _here()
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError, ValueError, TypeError):
                if time.time() - os.stat(path).st_mtime > _FORGET_AFTER:
                    os.unlink(path)
                    continue
                run = Run(**json.loads(_read(path)))
                if run.controller != controller or not run.process_started:
                    continue
                if run.boot_id != boot_id:
                    found.append(run.id)
                elif run.pid_namespace == namespace and _start_of(run.pid) != run.process_started:
                    found.append(run.id)
    return sorted(found)
