# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook over one or several hosts and read what it said of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 180.0
Result = Mapping[str, object]


@dataclass(frozen=True)
class Said:
    """What a run said of one host: whether it succeeded, else the failed task, the error's code and its message.

    results: what each module returned, by the module's name; the last one where it ran twice.
    """

    ok: bool
    task: str = ""
    code: str = ""
    message: str = ""
    results: Mapping[str, Result] = field(default_factory=dict)


class UnusableError(Exception):
    """ansible-playbook itself did not work: nothing can be read from it."""


def run(
    playbook: str,
    hosts: Mapping[str, Mapping[str, object]],
    arguments: Sequence[str],
    folder: Path,
    name: str,
    environment: Mapping[str, str],
    timeout: float = TIMEOUT,
) -> dict[str, Said]:
    """Run a playbook (a path or a fully qualified name) for these hosts; its log is folder/name.log.

    environment: what this process has, with these on top. timeout: seconds.
    Raises UnusableError when a host was neither done nor failed, and when it took too long.
    """
    inventory = folder / f"{name}.json"
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}, indent=1), encoding="utf-8")
    # an empty one of our own, so that no configuration of this user or folder is found
    configuration = folder / "ansible.cfg"
    configuration.touch()
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    try:
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
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnusableError(f"{playbook} took more than {timeout:.0f} s and was ended.") from error
    log = folder / f"{name}.log"
    log.write_text(done.stdout, encoding="utf-8")
    events = list(_events(done.stdout))
    failures = dict(_failures(events))
    results = _results(events)
    lost = set(hosts) - _reached(events)
    if lost:
        raise UnusableError(
            f"{playbook} said nothing of {', '.join(sorted(lost))}: {done.stdout[-2000:]}\nThe log: {log}"
        )
    return {
        host: Said(
            ok=host not in failures,
            task=failures[host][0] if host in failures else "",
            code=str(failures[host][1].get("code") or "") if host in failures else "",
            message=_message(failures[host][1]) if host in failures else "",
            results=results.get(host, {}),
        )
        for host in hosts
    }


def _events(output: str) -> Iterator[dict[str, object]]:
    for line in output.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _of_hosts(event: dict[str, object]) -> list[tuple[str, str, dict[str, object]]]:
    """(host, title of the task, result) of one event."""
    task, hosts = event.get("task"), event.get("hosts")
    title = str(task.get("name", "")) if isinstance(task, dict) else ""
    return [(str(host), title, result) for host, result in hosts.items()] if isinstance(hosts, dict) else []


def _failures(events: Sequence[dict[str, object]]) -> Iterator[tuple[str, tuple[str, dict[str, object]]]]:
    for event in events:
        if event.get("_event") in ("v2_runner_on_failed", "v2_runner_on_unreachable"):
            for host, title, result in _of_hosts(event):
                yield host, (title, result)


def _message(result: Result) -> str:
    return str(result.get("msg") or result.get("stderr") or "").strip()


def _results(events: Sequence[dict[str, object]]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {}
    for event in events:
        if event.get("_event") in ("v2_runner_on_ok", "v2_runner_on_failed"):
            for host, _title, result in _of_hosts(event):
                found.setdefault(host, {})[str(result.get("action", ""))] = result
    return found


def _reached(events: Sequence[dict[str, object]]) -> set[str]:
    """Hosts of which the recap says that at least one task was done or failed."""
    found: set[str] = set()
    for event in events:
        stats = event.get("stats")
        for host, counts in stats.items() if isinstance(stats, dict) else ():
            if counts.get("ok", 0) + counts.get("failures", 0) + counts.get("unreachable", 0):
                found.add(str(host))
    return found
