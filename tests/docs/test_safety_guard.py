# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/safety.md: approval, what stays open, the undo of a run and break glass, as a reader types them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.docs.conftest import Shop
from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_set

GUIDE = sections("docs/safety.md")
SHOWN = "20261122T201747Z-1a2b3c4d"
OPEN = GUIDE["What stays open, and how it is put back"]
LIMIT = "SELECT datconnlimit FROM pg_database WHERE datname = 'shop'"


def last_run(store: Path) -> str:
    """The run of the journal's newest record."""
    newest = max(store.glob("journal/0*.json"))
    found = re.search(r'"run":"([^"]+)"', newest.read_text(encoding="utf-8"))
    assert found
    return found.group(1)


def test_what_needs_an_approval_is_refused_until_somebody_else_agrees(
    reader: Callable[..., Reader], shop: Shop, store: Path
) -> None:
    now = time.time()
    for age in (3 * DAY + HOUR, 3 * DAY, 2 * DAY, HOUR):
        make_set(store, now - age, size=10, system="shop")
    for path in store.rglob("*"):
        shutil.chown(path, shop.user.pw_uid, shop.user.pw_gid)
    somebody = reader()
    begin, after = GUIDE["What every run passes"][:2], GUIDE["What every run passes"][2:]
    somebody.follow(begin)
    (plan,) = (path.stem for path in (store / "plans").glob("*.json"))
    assert f"approve -e plan={plan}" in somebody.outputs[-1]
    # this machine has one login, and it is the one that asked
    somebody.values = {**somebody.values, SHOWN: plan, "valid_for=1h": "valid_for=1h -e guard_by=berta"}
    before = len(list(store.glob("backups/*/manifest.json")))
    somebody.follow(after)
    assert len(list(store.glob("backups/*/manifest.json"))) < before


@pytest.fixture
def released(shop: Shop) -> Iterator[None]:
    yield
    shop.server.psql("ALTER DATABASE shop CONNECTION LIMIT -1")


def test_a_hold_is_shown_ended_and_undone_by_its_run(
    reader: Callable[..., Reader], shop: Shop, store: Path, released: None
) -> None:
    somebody = reader()
    files = [block for block in OPEN if block.kind == "file"]
    hold, reconcile, undo = (block for block in OPEN if block.kind == "run")
    somebody.follow([*files, hold])
    held, status, _released = somebody.outputs
    assert "Clients are kept out of shop" in held
    assert "OPEN hold-" in status
    assert shop.server.psql(LIMIT).strip() == "-1"
    somebody.follow([reconcile])
    code, output = somebody.shell(hold.commands[0])
    assert code == 0, output
    assert shop.server.psql(LIMIT).strip() == "0"
    somebody.values = {**somebody.values, SHOWN: last_run(store)}
    somebody.follow([undo])
    assert shop.server.psql(LIMIT).strip() == "-1"


def test_break_glass_undoes_a_switch_while_the_store_is_gone(
    reader: Callable[..., Reader], shop: Shop, store: Path
) -> None:
    somebody = reader()
    somebody.follow([block for block in OPEN if block.kind == "file"])
    was = shop.server.psql("SELECT oid FROM pg_database WHERE datname = 'shop'")
    for verb in ("backup", "restore -e switch=true"):
        code, output = somebody.shell(f"ansible-playbook saasops.runbook.{verb} -i inventory.yml")
        assert code == 0, output
    assert shop.server.psql("SELECT oid FROM pg_database WHERE datname = 'shop'") != was
    away = store.with_name("away")
    store.rename(away)
    try:
        somebody.follow(GUIDE["Break glass"])
    finally:
        away.rename(store)
    assert shop.server.psql("SELECT oid FROM pg_database WHERE datname = 'shop'") == was
    assert "went past the guard" in somebody.outputs[-1]
    for name in shop.server.psql("SELECT datname FROM pg_database WHERE datname LIKE 'shop_%'").split():
        shop.server.dropdb(name)
