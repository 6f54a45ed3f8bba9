# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs status and unlock, on leases that runs hold in a folder."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.backup_sets import listing
from ansible_collections.saasops.runbook.tests.lab.leases import ask
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play

APP, SYSTEM = "database:app", "system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def run(playbook: str, root: Path, *arguments: str) -> Run:
    return play(playbook, inventory(root.parent, {"saasops_store": {"path": str(root)}}), *arguments)


@pytest.mark.essential
def test_status_shows_the_holder_and_unlock_ends_the_lease_with_a_reason(root: Path) -> None:
    assert "No run is under way." in run("status", root).output
    leases = Leases(PosixStore(str(root)))
    token = leases.acquire(ask("r1", name=APP), time.time() - 600).token
    before = listing(root)

    shown = run("status", root)
    assert shown.code == 0, shown.output
    assert re.search(r"database:app: HELD by anna on ctl-1 \(restore, run r1\), since 10 min", shown.output)
    planned = run("unlock", root, "-e", "reason='the machine burned'", "--check", "--diff")
    assert planned.code == 0, planned.output
    assert "+unlock database:app: the machine burned" in planned.output
    assert listing(root) == before

    done = run("unlock", root, "-e", "reason='the machine burned'", "-e", "guard_by=bert")
    assert done.code == 0, done.output
    assert "The lease database:app is ended. It was held by anna on ctl-1" in done.output
    assert leases.look(APP).state() == "unlocked"
    assert leases.acquire(ask("r2", name=APP), time.time()).token > token
    leases.release(APP, "r2", time.time())
    again = run("unlock", root, "-e", "reason='the machine burned'", "-e", f"lease={APP}")
    assert again.code == 0, again.output
    assert again.changed == 0


def test_unlock_refuses_what_cannot_be_meant(root: Path) -> None:
    leases = Leases(PosixStore(str(root)))
    for name in (APP, SYSTEM):
        leases.acquire(ask("r1", name=name), time.time())
    before = listing(root)
    wishes: Mapping[str, Mapping[str, object]] = {
        "silent not_configured": {"lease": APP, "reason": " "},
        "vague lease_ambiguous": {"reason": "x"},
        "wrong lease_unknown": {"lease": "database:none", "reason": "x"},
        "late lease_moved": {"lease": APP, "run": "r0", "reason": "x"},
        "nowhere not_configured": {"lease": APP, "reason": "x", "saasops_store": {}},
    }
    facts = {"saasops_store": {"path": str(root)}}
    refused = play("unlock", inventory(root.parent, facts, {name.split()[0]: own for name, own in wishes.items()}))
    for host, code in (name.split() for name in wishes):
        assert re.search(rf"fatal: \[{host}\]: .*\[{code}\]", refused.output), refused.output
    assert listing(root) == before


def test_a_lease_whose_record_is_damaged_can_be_unlocked(root: Path) -> None:
    leases = Leases(PosixStore(str(root)))
    leases.acquire(ask("r1", name=APP), time.time())
    (record,) = root.rglob("0000000001.json")
    record.write_bytes(b"{")
    assert "database:app: UNREADABLE" in run("status", root).output
    done = run("unlock", root, "-e", "reason='somebody edited it'")
    assert done.code == 0, done.output
    assert leases.acquire(ask("r2", name=APP), time.time()).run == "r2"
