# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events that wait on the controller: never lost, never readable by others, each merged once."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import WAITING, Spool, folder_of

T0 = 1795377600.0
IMPORT_ROOT = Path(__file__).resolve().parents[6]


def event(number: int) -> Event:
    facts = {"host": f"db{number}"}
    return Event("task", T0 + number, new_id(hashlib.sha256(str(number).encode()).digest()), "shop", "r1", facts)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(folder_of(str(tmp_path), "shop"))


def test_what_was_added_is_merged_once_in_the_order_of_time(spool: Spool) -> None:
    spool.add([event(2), event(3)])
    spool.add([event(1)])
    with spool.merging() as batch:
        assert batch is not None
        assert batch.events == [event(1), event(2), event(3)]
        assert (batch.torn, batch.again_since) == (0, None)
        batch.done()
    assert spool.is_empty()
    with spool.merging() as batch:
        assert batch is None


def test_files_are_for_the_operator_alone(spool: Spool) -> None:
    spool.add([event(1)])
    assert stat.S_IMODE(os.stat(spool.folder).st_mode) == 0o700
    for name in os.listdir(spool.folder):
        assert stat.S_IMODE(os.stat(os.path.join(spool.folder, name)).st_mode) == 0o600


def test_a_torn_last_line_is_reported_and_harms_neither_what_was_before_nor_what_comes(spool: Spool) -> None:
    spool.add([event(1), event(2)])
    path = os.path.join(spool.folder, WAITING)
    with open(path, "r+b") as stream:
        stream.truncate(os.path.getsize(path) - 20)
    spool.add([event(3)])
    with spool.merging() as batch:
        assert batch is not None
        assert batch.events == [event(1), event(3)]
        assert batch.torn == 1


def test_an_attempt_that_did_not_end_is_repeated_with_care_and_with_what_came_since(spool: Spool) -> None:
    spool.add([event(1)])
    with spool.merging() as batch:
        assert batch is not None
    spool.add([event(2)])
    with spool.merging() as batch:
        assert batch is not None
        assert batch.again_since is not None
        assert batch.events == [event(1), event(2)]
        batch.done()
    assert spool.is_empty()


def test_what_a_module_tried_to_write_is_merged_with_care_from_the_beginning(spool: Spool) -> None:
    spool.add([event(1)], tried=True)
    spool.add([event(2)])
    with spool.merging() as batch:
        assert batch is not None
        assert batch.again_since is not None
        assert batch.events == [event(1), event(2)]
        batch.done()
    assert spool.is_empty()


def test_what_is_added_during_a_merge_waits_for_the_next(spool: Spool) -> None:
    spool.add([event(1)])
    with spool.merging() as batch:
        assert batch is not None
        spool.add([event(2)])
        batch.done()
    with spool.merging() as batch:
        assert batch is not None
        assert batch.events == [event(2)]


def test_only_one_process_merges_at_a_time(spool: Spool) -> None:
    spool.add([event(1)])
    with spool.merging() as batch, Spool(spool.folder).merging() as other:
        assert batch is not None
        assert other is None


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import Spool
for number in range(50):
    name = new_id(bytes([int(sys.argv[2]), number]) * 8)
    Spool(sys.argv[1]).add([Event("task", float(number), name, "shop", "r1", {"pad": "x" * 1500})])
"""


def test_two_processes_that_add_at_once_lose_and_mix_nothing(spool: Spool) -> None:
    argv = [sys.executable, "-c", WRITER, spool.folder]
    writers = [subprocess.Popen([*argv, str(number), str(IMPORT_ROOT)]) for number in (1, 2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with spool.merging() as batch:
        assert batch is not None
        assert (len(batch.events), batch.torn) == (100, 0)


def test_a_folder_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "saasops").write_text("a file")
    with pytest.raises(OpsError) as caught:
        Spool(folder_of(str(tmp_path), "shop")).add([event(1)])
    assert caught.value.code == "spool_failed"
    assert str(tmp_path) in caught.value.cause


@pytest.mark.parametrize("system", ["shop", "a/b", "..", ".", "", "grüße", "x" * 500])
def test_no_name_of_a_system_leaves_the_folder(system: str, tmp_path: Path) -> None:
    folder = folder_of(str(tmp_path), system)
    assert os.path.dirname(os.path.abspath(folder)) == str(tmp_path / "saasops" / "spool")
    assert len(os.path.basename(folder)) <= 200
