# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback in real runs: other changes are witnessed, secrets are not, and nothing of it disturbs a run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import read, verify
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import Spool, folder_of
from ansible_collections.saasops.runbook.tests.lab.playbooks import inventory, start_file

SECRET = "hunter2-Zq8vLm3Tx9-planted"
ON = "[defaults]\ncallbacks_enabled = saasops.runbook.witness\n"

# what admission does in its worker, with nothing guarded: says whom the host belongs to and takes what was witnessed
ADMIT = """
from ansible.plugins.action import ActionBase
from ansible_collections.saasops.runbook.plugins.plugin_utils import witness

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        place, host = witness.handover(), task_vars["inventory_hostname"]
        run = place.run_id(lambda: "20261122T201747Z-1a2b3c4d")
        place.announce(host, "shop")
        taken = [task.as_json() for task in place.take(frozenset([host]))]
        told = {"active": witness.witness_active(), "run": run, "versions": witness.versions(), "taken": taken}
        with open(self._task.args["to"], "a") as stream:
            stream.write(__import__("json").dumps(told) + "\\n")
        return {"changed": False}
"""


@dataclass(frozen=True)
class Seen:
    """How a run ended, what the operator saw, what admission was told each time, and what waits in the spool."""

    code: int
    output: str
    told: list[dict[str, object]]
    waiting: list[Event]

    def tasks(self, index: int) -> list[dict[str, object]]:
        """The facts of the tasks that admission took the index-th time."""
        taken = self.told[index]["taken"]
        assert isinstance(taken, list)
        return [{"host": task["host"], **task["facts"]} for task in taken]


def run(
    folder: Path, tasks: Sequence[dict[str, object]], *arguments: str, configuration: str = ON, hosts: int = 1
) -> Seen:
    (folder / "action_plugins").mkdir(exist_ok=True)
    (folder / "action_plugins" / "admit.py").write_text(ADMIT, encoding="utf-8")
    (folder / "ansible.cfg").write_text(configuration, encoding="utf-8")
    told = folder / "told.jsonl"
    told.touch()
    named = {f"h{number}": {} for number in range(hosts)}
    book = folder / "book.yml"
    body = [dict(task) for task in tasks]
    for task in body:
        if "admit" in task:
            task["admit"] = {"to": str(told)}
    play = {"name": "Book", "hosts": "all", "gather_facts": False, "tasks": body}
    book.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
    with start_file(book, inventory(folder, {}, named), *arguments) as process:
        try:
            output, _none = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    waiting = []
    if (folder / "ansible" / "saasops").is_dir():
        with Spool(folder_of(str(folder / "ansible"), "shop")).merging() as batch:
            waiting = batch.events if batch else []
    lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    return Seen(process.returncode, output, lines, waiting)


def planted(folder: Path) -> list[str]:
    """Files of the run, but for what the test itself wrote, that hold the secret."""
    own = {"book.yml", "secret.txt", "inventory.yml"}
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in own and SECRET in path.read_text(encoding="utf-8", errors="replace"):
            found.append(str(path))
    return found


ADMISSION: dict[str, object] = {"name": "Admit", "admit": {}}


@pytest.mark.essential
def test_other_changes_are_witnessed_and_what_is_left_waits_in_the_spool(tmp_path: Path) -> None:
    seen = run(
        tmp_path,
        [
            ADMISSION,
            {
                "name": "Write a file",
                "ansible.builtin.copy": {"content": "one\n", "dest": f"{tmp_path}/a", "mode": "0600"},
            },
            {"name": "Look only", "ansible.builtin.stat": {"path": "/"}},
            {
                "name": "Touch three files",
                "ansible.builtin.file": {"path": f"{tmp_path}/{{{{ item }}}}", "state": "touch", "mode": "0600"},
                "loop": ["x", "y", "z"],
            },
            {"name": "Fail", "ansible.builtin.fail": {"msg": "on purpose"}, "ignore_errors": True},
            ADMISSION,
            {"name": "Left over", "ansible.builtin.command": {"argv": ["true"]}},
        ],
        "--diff",
    )
    assert seen.code == 0, seen.output
    assert "witness of the journal" not in seen.output
    assert seen.told[0]["active"] is True
    tasks = seen.tasks(1)
    assert [(t["action"], t.get("task"), t["changed"], t["failed"]) for t in tasks] == [
        ("ansible.builtin.copy", "Write a file", True, False),
        ("ansible.builtin.file", "Touch three files", True, False),
        ("ansible.builtin.fail", "Fail", False, True),
    ]
    assert tasks[0]["diff"][0]["lines"] == ["+one"]  # type: ignore[index]
    assert tasks[1]["items"] == {"all": 3, "changed": 3, "failed": 0}
    assert (tasks[2]["msg"], tasks[2]["ignored"], tasks[2]["host"]) == ("on purpose", True, "h0")
    assert str(tasks[0]["started"]) < str(tasks[0]["ended"]) <= str(tasks[1]["ended"])
    (left,) = seen.waiting
    assert (left.facts["task"], left.facts["action"], left.run) == (
        "Left over",
        "ansible.builtin.command",
        "20261122T201747Z-1a2b3c4d",
    )


@pytest.mark.essential
def test_a_planted_secret_is_nowhere_in_the_records(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(SECRET, encoding="utf-8")
    command = ["sh", "-c", f"cat {tmp_path}/secret.txt"]
    path = f"{tmp_path}/out"
    copies = [{"content": f"password: {SECRET}\n"}, {"content": f"url=redis://:{SECRET}@host\n"}, {"content": SECRET}]
    tasks: list[dict[str, object]] = [
        ADMISSION,
        {"name": f"Quiet {SECRET}", "ansible.builtin.command": {"argv": command}, "no_log": True},
        {"name": "Quiet loop", "ansible.builtin.command": {"argv": ["echo", "{{ item }}"]}, "no_log": True}
        | {"loop": [SECRET]},
        {"name": "Quiet failure", "ansible.builtin.fail": {"msg": SECRET}, "no_log": True, "ignore_errors": True},
        {"name": "Quiet by expression", "ansible.builtin.command": {"argv": command}, "no_log": "{{ 1 == 1 }}"},
        *(
            {"name": "Loud", "ansible.builtin.copy": {**copy, "dest": f"{path}{n}", "mode": "0600"}, "no_log": n == 2}
            for n, copy in enumerate(copies)
        ),
        {"name": "Loud failure", "ansible.builtin.fail": {"msg": f"token={SECRET}"}, "ignore_errors": True},
        {
            "name": "Secret parameter",
            "ansible.builtin.uri": {"url": "http://127.0.0.1:9/", "url_password": SECRET, "url_username": "u"},
            "ignore_errors": True,
        },
        ADMISSION,
        {"name": f"Left over {SECRET}", "ansible.builtin.command": {"argv": command}, "no_log": True},
    ]
    seen = run(tmp_path, tasks, "--diff")
    assert seen.code == 0, seen.output
    assert len(seen.tasks(1)) == 9, seen.tasks(1)
    assert len(seen.waiting) == 1
    for copied in tmp_path.glob("out*"):
        copied.unlink()
    assert planted(tmp_path) == []


def test_without_the_callback_admission_is_told_so_and_nothing_waits(tmp_path: Path) -> None:
    tasks = [ADMISSION, {"name": "Left over", "ansible.builtin.command": {"argv": ["true"]}}]
    seen = run(tmp_path, tasks, configuration="")
    assert seen.code == 0, seen.output
    assert seen.told[0]["active"] is False
    assert seen.waiting == []


def test_a_run_that_guards_nothing_leaves_nothing(tmp_path: Path) -> None:
    seen = run(tmp_path, [{"name": "Change", "ansible.builtin.command": {"argv": ["true"]}}])
    assert seen.code == 0, seen.output
    assert not (tmp_path / "ansible" / "saasops").exists()


def test_check_mode_is_no_change(tmp_path: Path) -> None:
    content = {"content": "one\n", "dest": f"{tmp_path}/a", "mode": "0600"}
    seen = run(tmp_path, [ADMISSION, {"name": "Write", "ansible.builtin.copy": content}], "--check")
    assert seen.code == 0, seen.output
    assert seen.waiting == []


def test_several_hosts_at_once_are_told_apart(tmp_path: Path) -> None:
    change = {"name": "Change", "ansible.builtin.command": {"argv": ["true"]}}
    seen = run(tmp_path, [ADMISSION, change, ADMISSION, change], hosts=4)
    assert seen.code == 0, seen.output
    later = seen.told[4:]
    assert sorted(str(told["taken"][0]["host"]) for told in later) == ["h0", "h1", "h2", "h3"]  # type: ignore[index]
    assert all(len(told["taken"]) == 1 for told in later)  # type: ignore[arg-type]
    assert sorted(str(event.facts["host"]) for event in seen.waiting) == ["h0", "h1", "h2", "h3"]


def test_an_unreachable_host_is_a_witnessed_failure(tmp_path: Path) -> None:
    there = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    tasks = [ADMISSION, {"name": "Reach", "ansible.builtin.ping": None, "vars": there}]
    seen = run(tmp_path, tasks)
    assert seen.code != 0
    assert [(event.facts["failed"], event.facts["unreachable"]) for event in seen.waiting] == [(True, True)]


def test_a_spool_that_cannot_be_written_ends_no_run_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible" / "saasops").write_text("in the way")
    seen = run(tmp_path, [ADMISSION, {"name": "Change", "ansible.builtin.command": {"argv": ["true"]}}])
    assert seen.code == 0, seen.output
    assert "witness of the journal stops" in " ".join(seen.output.split())


def test_what_waited_becomes_records_of_the_chain_once(tmp_path: Path) -> None:
    seen = run(tmp_path, [ADMISSION, {"name": "Left over", "ansible.builtin.command": {"argv": ["true"]}}])
    store = PosixStore(str(tmp_path / "store"), create=True)
    with Spool(folder_of(str(tmp_path / "ansible"), "shop")).merging() as batch:
        assert batch is not None
        assert batch.events == seen.waiting
        late = journal.spooled(batch.events, 1795377600.0 + 10**8, "shop")
        journal.append(store, late, batch.again_since)
        journal.append(store, late, batch.again_since)
        batch.done()
    chain = journal.read_chain(store)
    assert verify(chain.entries) == []
    (body,) = [read(entry.text) or {} for entry in chain.entries]
    assert (body["kind"], body["task"], body["host"]) == ("task", "Left over", "h0")
