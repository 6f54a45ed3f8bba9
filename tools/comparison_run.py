# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook over several hosts at once and read what it said of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 180


@dataclass(frozen=True)
class Said:
    """What a run said of one host: whether it succeeded, else the failed task, the error's code and its message."""

    ok: bool
    task: str = ""
    code: str = ""
    message: str = ""


class UnusableError(Exception):
    """ansible-playbook itself did not work: nothing can be compared."""


def run(
    playbook: str,
    hosts: Mapping[str, Mapping[str, object]],
    arguments: Sequence[str],
    folder: Path,
    name: str,
    environment: Mapping[str, str],
) -> dict[str, Said]:
    """Run a playbook (a path or a fully qualified name) for these hosts; its log is folder/name.log.

    Raises UnusableError when a host was neither done nor failed.
    """
    inventory = folder / f"{name}.json"
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}, indent=1), encoding="utf-8")
    # an empty one of our own, so that no configuration of this user or folder is found
    configuration = folder / "ansible.cfg"
    configuration.touch()
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, playbook, "-i", str(inventory), "--forks", str(len(hosts)), *arguments],
        cwd=folder,
        env={
            **os.environ,
            **environment,
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl",
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    log = folder / f"{name}.log"
    log.write_text(done.stdout, encoding="utf-8")
    said = dict(_failures(done.stdout))
    reached = _reached(done.stdout)
    lost = [host for host in hosts if host not in reached]
    if lost:
        raise UnusableError(f"{playbook} said nothing of {', '.join(lost)}: {done.stdout[-2000:]}\nThe log: {log}")
    return {host: said.get(host, Said(True)) for host in hosts}


def _events(output: str) -> Iterator[dict[str, object]]:
    for line in output.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _failures(output: str) -> Iterator[tuple[str, Said]]:
    for event in _events(output):
        if event.get("_event") not in ("v2_runner_on_failed", "v2_runner_on_unreachable"):
            continue
        task, hosts = event.get("task"), event.get("hosts")
        title = str(task.get("name", "")) if isinstance(task, dict) else ""
        for host, result in hosts.items() if isinstance(hosts, dict) else ():
            message = str(result.get("msg") or result.get("stderr") or "").strip()
            yield str(host), Said(False, title, str(result.get("code") or ""), message)


def _reached(output: str) -> set[str]:
    """Hosts of which the recap says that at least one task was done or failed."""
    found: set[str] = set()
    for event in _events(output):
        stats = event.get("stats")
        for host, counts in stats.items() if isinstance(stats, dict) else ():
            if counts.get("ok", 0) + counts.get("failures", 0) + counts.get("unreachable", 0):
                found.add(str(host))
    return found
