# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under break glass a folder of the host takes what a store that is away cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import stand_in
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import read_all


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PosixStore:
    """A store whose folder is not there."""
    monkeypatch.setattr(stand_in, "folder_of", lambda _system, _url: str(tmp_path / "waiting" / "one"))
    return PosixStore(str(tmp_path / "store"))


def yes(_error: OpsError, _what: str) -> bool:
    return True


def no(_error: OpsError, _what: str) -> bool:
    return False


def test_what_the_store_does_not_take_waits_and_is_brought_in_later(away: PosixStore, tmp_path: Path) -> None:
    store = stand_in.StandIn(away, "test", yes)
    store.check(write=True)
    assert store.is_down
    store.put("restores/1.json", [b"{}"])
    store.put("backups/a/manifest.json", iter([b"whole"]))
    assert [info.key for info in store.list("restores/")] == ["restores/1.json"]
    assert read_all(store, "restores/1.json") == b"{}"
    (tmp_path / "store").mkdir()
    left = stand_in.waiting("test", away.url)
    assert left is not None
    assert stand_in.bring(left, away) == ["restores/1.json", "backups/a/manifest.json"]
    assert read_all(away, "backups/a/manifest.json") == b"whole"
    assert stand_in.waiting("test", away.url) is None


def test_without_break_glass_nothing_is_gone_past(away: PosixStore) -> None:
    with pytest.raises(OpsError) as caught:
        stand_in.StandIn(away, "test", no).check(write=True)
    assert caught.value.code == "store_missing"


def test_sets_of_a_store_that_is_down_are_not_said_to_be_none(away: PosixStore) -> None:
    store = stand_in.StandIn(away, "test", yes)
    store.check(write=True)
    with pytest.raises(OpsError) as caught:
        store.list("backups/")
    assert "copy=1" in caught.value.remedy


def test_a_folder_that_somebody_else_can_write_to_is_not_used(away: PosixStore, tmp_path: Path) -> None:
    (tmp_path / "waiting").mkdir(mode=0o755)
    (tmp_path / "waiting").chmod(0o777)
    with pytest.raises(OpsError) as caught:
        stand_in.StandIn(away, "test", yes)
    assert caught.value.code == "stand_in_unsafe"
