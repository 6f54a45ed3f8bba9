# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the real playbooks the way an operator does: ansible-playbook, an inventory, short variables."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# .../ansible_collections/saasops/runbook/tests/lab/playbooks.py
COLLECTIONS = Path(__file__).resolve().parents[5]


@dataclass(frozen=True)
class Run:
    """How a run ended and what the operator saw."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """Changed tasks of all hosts, from the recap."""
        return sum(int(part.partition("=")[2]) for part in self.output.split() if part.startswith("changed="))


def inventory(
    folder: Path, variables: Mapping[str, object], hosts: Mapping[str, Mapping[str, object]] | None = None
) -> Path:
    """Write an inventory of this machine: the host demo, or others with variables of their own on top."""
    # the password of a lab server stands in its variables, and that asks for pipelining
    own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_pipelining": True}
    body = {**own, **variables}
    path = folder / "inventory.yml"
    content = {"all": {"vars": body, "hosts": {"demo": {}} if hosts is None else hosts}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def start(playbook: str, hosts: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `ansible-playbook saasops.runbook.<playbook>` as the leader of a process group of its own."""
    return start_file(f"saasops.runbook.{playbook}", hosts, *arguments)


def start_file(playbook: Path | str, hosts: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ansible-playbook with a file, or the full name of a collection's playbook, like start."""
    return _start([str(playbook), "-i", str(hosts), *arguments], hosts)


def _start(arguments: Sequence[str], hosts: Path) -> subprocess.Popen[str]:
    # an empty file of ours, so that no configuration of this user or folder is found
    configuration = hosts.parent / "ansible.cfg"
    configuration.touch()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_HOME": str(hosts.parent / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(hosts.parent / "ansible" / "local"),
        "ANSIBLE_REMOTE_TEMP": str(hosts.parent / "ansible" / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "200",
    }
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ansible-playbook"), *arguments],
        env=environment,
        cwd=hosts.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )


def play(playbook: str, hosts: Path, *arguments: str, timeout: float = 120) -> Run:
    """Run a playbook to its end. Raises subprocess.TimeoutExpired after killing it."""
    return _finish(start(playbook, hosts, *arguments), timeout)


def _finish(process: subprocess.Popen[str], timeout: float) -> Run:
    with process:
        try:
            output, _none = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Run(process.returncode, output)


def commands(run: Run) -> list[str]:
    """The lines that a run of triage or health told to paste, as they stand on the terminal."""
    # ansible shows a list as JSON
    shown = [
        line.strip().rstrip(",") for line in run.output.splitlines() if "ansible-playbook saasops.runbook." in line
    ]
    texts = [str(json.loads(line)) for line in shown if line.startswith('"')]
    return [text[text.index("ansible-playbook ") :] for text in texts]


def paste(line: str, hosts: Path, *more: str, timeout: float = 120) -> Run:
    """Run such a line as a shell would; more: what an operator adds to it."""
    program, *arguments = shlex.split(line)
    assert program == "ansible-playbook", line
    return _finish(_start([*arguments, *more], hosts), timeout)
