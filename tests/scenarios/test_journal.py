# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb journal_verify: the last runs on the screen, and a failure as soon as anybody touched the journal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.store import journal
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play

RUN = "20261122T200000Z-1a2b3c4d"
T0 = 1795377600.0


@pytest.fixture
def store(tmp_path: Path) -> PosixStore:
    """A store with one finished run, its head anchored in the folder anchor."""
    found = PosixStore(str(tmp_path / "store"), create=True)
    who = {"verb": "backup", "operator": "ann", "controller": "desk"}
    told: list[tuple[str, dict[str, object]]] = [
        ("run_started", who),
        ("intent", {"host": "db1", "action": "saasops.runbook.pg_backup"}),
        ("outcome", {"host": "db1", "action": "saasops.runbook.pg_backup", "changed": True, "failed": False}),
        ("task", {"host": "db1", "task": "Reload the application", "changed": True}),
    ]
    events = [
        Event(kind, T0 + 30 * number, new_id(hashlib.sha256(kind.encode()).digest()), "demo", RUN, facts)
        for number, (kind, facts) in enumerate(told)
    ]
    done = journal.append(found, events)
    journal.write_anchor(journal.open_anchor(str(tmp_path / "anchor"), found), "demo", done.head, T0 + 90)
    return found


def verify(store: PosixStore, *arguments: str, **variables: object) -> Run:
    folder = Path(store.url).parent
    return play("journal_verify", inventory(folder, {"saasops_store": {"path": store.url}, **variables}), *arguments)


@pytest.mark.essential
def test_a_whole_journal_shows_its_runs_and_passes(store: PosixStore) -> None:
    shown = verify(store, saasops_journal_anchor=str(Path(store.url).parent / "anchor"))
    assert shown.code == 0, shown.output
    assert f"2026-11-22 20:00:00 UTC  {RUN}  backup  ann       db1    changed  1 min 30 s" in shown.output
    assert "The journal is whole: 4 records; it holds the 1 anchored heads, the newest is number 4." in shown.output
    assert shown.changed == 0


def test_without_an_anchor_the_verdict_says_what_it_cannot_find(store: PosixStore) -> None:
    shown = verify(store)
    assert shown.code == 0, shown.output
    assert "no anchor is set" in shown.output


def test_an_edited_record_fails_and_is_named(store: PosixStore) -> None:
    path = Path(store.url) / "journal" / "00000003.json"
    path.write_bytes(path.read_bytes().replace(b"true", b"false"))
    shown = verify(store)
    assert shown.code != 0
    assert "[journal_damaged]" in shown.output
    assert "Record 3 was edited" in shown.output
    known = verify(store, "-e", "first=4")
    assert known.code == 0, known.output


def test_a_cut_end_fails_against_the_anchor(store: PosixStore) -> None:
    store.delete([journal.key(4), journal.HEAD])
    shown = verify(store, saasops_journal_anchor={"path": str(Path(store.url).parent / "anchor")})
    assert shown.code != 0
    assert "Record 4 is missing from the end" in shown.output


def test_the_store_itself_is_refused_as_its_anchor(store: PosixStore) -> None:
    shown = verify(store, saasops_journal_anchor=store.url)
    assert shown.code != 0
    assert "[anchor_in_store]" in shown.output


def test_an_empty_store_has_no_record_and_no_finding(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shown = verify(PosixStore(str(tmp_path / "empty")))
    assert shown.code == 0, shown.output
    assert "The journal holds no record yet." in shown.output
