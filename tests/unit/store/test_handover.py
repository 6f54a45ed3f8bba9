# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What callback and workers of one run tell each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.store.handover import Handover, Witnessed


def task(number: int, host: str) -> Witnessed:
    return Witnessed(f"{number:032x}", float(number), host, {"action": "ansible.builtin.copy"})


@pytest.fixture
def place(tmp_path: Path) -> Handover:
    return Handover(str(tmp_path / "run"))


def test_the_callback_is_off_until_it_begins_and_after_it_gave_up(place: Handover) -> None:
    assert not place.active()
    place.begin()
    assert Handover(place.folder).active()
    place.give_up()
    assert not place.active()


def test_tasks_are_taken_once_and_by_their_hosts(place: Handover) -> None:
    for number, host in enumerate(["a", "b", "a", "c"]):
        place.write(task(number, host))
    assert place.take(frozenset("a")) == [task(0, "a"), task(2, "a")]
    assert place.take(frozenset("a")) == []
    place.write(task(9, "b"))
    assert place.take() == [task(1, "b"), task(3, "c"), task(9, "b")]
    assert place.take() == []


def test_the_run_has_one_id_whoever_asks(place: Handover) -> None:
    assert place.run_id() == ""
    assert place.run_id(lambda: "first") == "first"
    assert Handover(place.folder).run_id(lambda: "second") == "first"


def test_systems_are_known_by_host_and_the_last_word_counts(place: Handover) -> None:
    assert place.systems() == {}
    place.announce("a", "shop")
    place.announce("a", "shop")
    place.announce("b", "blog")
    assert place.systems() == {"a": "shop", "b": "blog"}
    assert len((Path(place.folder) / "systems.jsonl").read_text().splitlines()) == 2


def test_a_task_becomes_a_record_of_its_run() -> None:
    event = task(1, "a").event("shop", "r1")
    assert (event.kind, event.system, event.run, event.facts["host"]) == ("task", "shop", "r1", "a")
