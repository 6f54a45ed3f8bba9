# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook as an operator starts it, with an inventory of one host and a home of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.saasops.runbook.benchmarks.programs import COLLECTIONS, TIMEOUT, FailedError

_OK = re.compile(r" ok=(\d+) ")


class Playbooks:
    """One inventory in a folder; collections: where the collection lies that is measured."""

    def __init__(self, folder: Path, variables: Mapping[str, object], collections: Path = COLLECTIONS) -> None:
        self.folder, self.collections = folder, collections
        self.inventory = folder / "inventory.json"
        own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_pipelining": True}
        body = {"all": {"vars": {**own, **variables}, "hosts": {"demo": {}}}}
        self.inventory.write_text(json.dumps(body), encoding="utf-8")
        self.inventory.chmod(0o600)
        (folder / "ansible.cfg").touch()
        self.tasks = 0

    def play(self, playbook: str, *arguments: str, **environment: str) -> float:
        """Seconds of one run; tasks is then how many ended well. Raises FailedError with its last lines."""
        own = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "home" / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "home" / "remote"),
            "ANSIBLE_NOCOLOR": "1",
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        began = time.monotonic()
        done = subprocess.run(
            [program, playbook, "-i", str(self.inventory), *arguments],
            env={**own, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode != 0:
            raise FailedError(f"{playbook}: {(done.stdout + done.stderr)[-1500:]}")
        self.tasks = sum(int(count) for count in _OK.findall(done.stdout))
        return seconds
