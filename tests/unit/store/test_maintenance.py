# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import Mark
from ansible_collections.saasops.runbook.plugins.module_utils.store.maintenance import FORGOTTEN, Memory, key
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore


@pytest.fixture
def store(tmp_path: Path) -> PosixStore:
    return PosixStore(str(tmp_path))


def memory(store: PosixStore, server: str = "one") -> Memory:
    found = Memory(store, "shop", "app", server)
    found.load()
    return found


def test_what_was_noted_is_remembered_with_its_age_and_only_of_the_same_server(store: PosixStore) -> None:
    first = memory(store)
    first.note("app/7", vacuumed=1000.0)
    first.note("app/7", held="session 42", bytes=5)
    first.save(1000.0)
    assert memory(store).marks(1060.0) == {"app/7": Mark(vacuumed=60.0, held="session 42", bytes=5)}
    assert memory(store, "another").marks(1060.0) == {}


def test_what_was_not_touched_for_long_is_forgotten(store: PosixStore) -> None:
    first = memory(store)
    first.note("app/7", vacuumed=1000.0)
    first.note("app/8", analyzed=1000.0 + FORGOTTEN)
    first.save(1000.0 + FORGOTTEN)
    assert list(memory(store).marks(0.0)) == ["app/8"]


def test_nothing_is_written_when_nothing_was_noted_and_what_cannot_be_read_counts_for_nothing(
    store: PosixStore, tmp_path: Path
) -> None:
    memory(store).save(1.0)
    assert store.list("maintenance/") == []
    store.put(key("shop", "app"), [b"not json"])
    assert memory(store).marks(1.0) == {}
