# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guarded module writes to the journal when the store fails between two records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.admitted_chronicle import Chronicle
from ansible_collections.saasops.runbook.plugins.module_utils.admitted_ground import Ground
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal_proof import verify
from ansible_collections.saasops.runbook.plugins.module_utils.store import posix
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.journal import read_chain

T0 = 1795377600.0
REQUEST = {"run": "20261122T200000Z-1a2b3c4d", "verb": "backup", "host": "db1"}


def test_records_of_which_the_store_took_some_are_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = posix.PosixStore(str(tmp_path), create=True)
    put, left = posix.PosixStore.put, [2]

    def failing(self: posix.PosixStore, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        if not left[0]:
            raise OpsError("store_full", "No room.", "Make some.")
        left[0] -= 1
        return put(self, key, chunks, if_absent=if_absent)

    ground = Ground(REQUEST, {"store": {"type": "posix", "path": str(tmp_path)}, "system": "shop"}, T0)
    chronicle = Chronicle(ground)
    with monkeypatch.context() as patch:
        patch.setattr(posix.PosixStore, "put", failing)
        chronicle.write([chronicle.event("note", {"n": number}) for number in range(3)])
        assert len(chronicle.unwritten) == 3
    chronicle.write([chronicle.event("outcome", {"changed": True})])
    assert chronicle.unwritten == []
    entries = read_chain(store).entries
    assert verify(entries) == []
    assert [json.loads(entry.text).get("n") for entry in entries] == [0, 1, 2, None]
