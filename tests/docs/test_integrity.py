# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/integrity.md as a reader types it, from the first look to the release."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.saasops.runbook.tests.docs.conftest import Shop
from ansible_collections.saasops.runbook.tests.docs.guide import Reader, sections
from ansible_collections.saasops.runbook.tests.lab.backup_sets import DAY, HOUR, make_set

GUIDE = sections("docs/integrity.md")


def test_a_suspicion_holds_prune_back_until_it_is_released(
    reader: Callable[..., Reader], shop: Shop, store: Path
) -> None:
    now = time.time()
    for age in (12 * DAY, 11 * DAY, *(number * DAY + HOUR for number in range(8))):
        make_set(store, now - age, size=10, system="shop")
    for path in store.rglob("*"):
        shutil.chown(path, shop.user.pw_uid, shop.user.pw_gid)
    before = len(list(store.glob("backups/*/manifest.json")))
    somebody = reader()
    # the guide's psql takes the folder of the socket alone
    somebody.values = {
        "-h /run/postgresql -U postgres": f"-h {shop.server.host} -p {shop.server.port} -U keeper",
        **somebody.values,
    }
    (somebody.home / ".pgpass").write_text(f"*:*:*:keeper:{shop.password}\n", encoding="utf-8")
    (somebody.home / ".pgpass").chmod(0o600)
    somebody.follow(GUIDE["Look"])
    assert "No sign of corruption" in somebody.outputs[-1]
    somebody.follow(GUIDE["When something is found, or suspected"])
    assert "OPEN integrity-" in somebody.outputs[-1]
    assert "last proven set from before the suspicion" in somebody.outputs[-2]
    somebody.follow(GUIDE["When it is settled"])
    assert len(list(store.glob("backups/*/manifest.json"))) < before
    assert len(list(store.glob("integrity/*.json"))) == 2
    shop.server.psql("DROP EXTENSION amcheck", "shop")
