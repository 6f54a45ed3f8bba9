# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal on a full disk, and a spool on one: refused by name, nothing half, and on again when there is room."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import verify
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import Spool
from ansible_collections.saasops.runbook.tests.lab import disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
PADDING = {f"part {part}": "two words " * 190 for part in range(30)}  # about 60 kB a record


def event(number: int) -> Event:
    own = new_id(hashlib.sha256(str(number).encode()).digest())
    return Event("outcome", 1795377600.0 + number, own, "shop", "r1", {"host": "db1", "plan": PADDING})


def test_a_full_disk_refuses_the_record_and_leaves_a_chain_that_goes_on() -> None:
    with disk.small(4) as point:
        store = PosixStore(str(point / "store"), create=True)
        journal.append(store, [event(0)])
        filler = disk.fill(point, leave=200_000)
        with pytest.raises(OpsError) as caught:
            journal.append(store, [event(number) for number in range(1, 60)])
        assert caught.value.code == "store_full"
        chain = journal.read_chain(store)
        written = len(chain.entries)
        assert 1 < written < 60
        assert verify(chain.entries, [chain.hint] if chain.hint else []) == []
        filler.unlink()
        again = journal.append(store, [event(number) for number in range(1, 60)], again_since=1795377600.0)
        assert again.numbers == tuple(range(2, 61)), "what was written before the disk was full is not written twice"
        assert verify(journal.read_chain(store).entries) == []


def test_a_spool_on_a_full_disk_is_refused_by_name_and_keeps_what_it_had() -> None:
    with disk.small(2) as point:
        spool = Spool(str(point / "spool"))
        spool.add([event(1)])
        filler: Path = disk.fill(point)
        with pytest.raises(OpsError) as caught:
            spool.add([event(number) for number in range(2, 20)])
        assert caught.value.code == "spool_failed"
        filler.unlink()
        spool.add([event(30)])
        with spool.merging() as batch:
            assert batch is not None
            assert {event(1).id, event(30).id} <= {found.id for found in batch.events}
            assert batch.torn <= 1
