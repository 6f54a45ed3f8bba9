# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs backups and prune on a store in a folder; what they claim is looked up in the folder itself."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.backup_sets import (
    DAY,
    HOUR,
    complete,
    listing,
    make_partial,
    make_set,
    of_sets,
    pin,
)
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run, inventory, play

THREE_DAYS: Mapping[str, object] = {"daily": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty store."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def run(playbook: str, root: Path, *arguments: str, **variables: object) -> Run:
    facts = {"saasops_store": {"path": str(root)}, "saasops_retention": THREE_DAYS, "saasops_rpo": "24h"}
    return play(playbook, inventory(root.parent, {**facts, **variables}), *arguments)


def line_of(shown: Run, set_id: str) -> str:
    """The line of the table that speaks of a set."""
    found = re.search(rf'^ *"(?:keep|DELETE)? *{set_id} .*$', shown.output, re.MULTILINE)
    assert found, shown.output
    return found.group()


def daily(root: Path, days: int) -> list[str]:
    """One proven set a day, oldest first; the newest is an hour old."""
    now = time.time()
    return [make_set(root, now - HOUR - day * DAY) for day in reversed(range(days))]


@pytest.mark.essential
def test_prune_shows_deletes_and_repeats_without_change(root: Path) -> None:
    ids = daily(root, 6)
    pin(root, ids[0], "before version 2")
    before = listing(root)

    shown = run("prune", root, "--check", "--diff")
    assert shown.code == 0, shown.output
    assert listing(root) == before
    assert shown.changed == 1
    for set_id in ids[1:3]:
        assert "DELETE" in line_of(shown, set_id)
        assert f"superseded by proven {ids[-1]}" in line_of(shown, set_id)
        assert f"+delete {set_id}" in shown.output
    assert "pinned (before version 2)" in line_of(shown, ids[0])
    assert "one of the 2 newest proven sets" in line_of(shown, ids[-1])
    assert "2 of 6 sets would be deleted" in shown.output

    done = run("prune", root)
    assert done.code == 0, done.output
    assert "2 of 6 sets deleted" in done.output
    assert {path.name for path in (root / "backups").iterdir()} == {ids[0], *ids[3:]}
    assert {name: body for name, body in before.items() if name.split("/")[1] not in ids[1:3]} == of_sets(listing(root))

    again = run("prune", root)
    assert again.code == 0, again.output
    assert again.changed == 0
    assert "Nothing to delete: all 4 sets stay." in again.output


def test_prune_leaves_damaged_foreign_future_running_and_needed_sets(root: Path) -> None:
    now = time.time()
    ids = daily(root, 5)
    damaged = make_set(root, now - 90 * DAY)
    manifest = root / "backups" / damaged / "manifest.json"
    manifest.write_text(manifest.read_text().replace("34567", "34568"))
    foreign = make_set(root, now - 91 * DAY, system="other")
    foreign_partial = make_partial(root, now - 92 * DAY, system="other")
    future = make_set(root, now + 2 * DAY)
    running = make_partial(root, now - 3 * DAY, changed=now - 60)
    forgotten = make_partial(root, now - 3 * DAY)
    record: dict[str, Json] = {"set": ids[0], "state": "verified"}
    sets.write_json(PosixStore(str(root)), "restores/r1.json", record)

    done = run("prune", root)

    assert done.code == 0, done.output
    gone = {ids[1], forgotten}
    assert {path.name for path in (root / "backups").iterdir()} == (
        {*ids, damaged, foreign, foreign_partial, future, running} - gone
    )
    assert "in use by restore r1 (verified)" in line_of(done, ids[0])
    assert "was changed after it was sealed" in line_of(done, damaged)
    assert "belongs to the system 'other'" in line_of(done, foreign)
    assert "check the clocks" in line_of(done, future)
    assert "a backup may be running" in line_of(done, running)
    assert done.output.count("[WARNING]: Set ") == 4

    named = run("prune", root, "-e", json.dumps({"also_delete": [damaged]}))
    assert named.code == 0, named.output
    assert not (root / "backups" / damaged).exists()
    assert (root / "backups" / foreign).exists()


def test_prune_deletes_nothing_on_the_strength_of_a_set_that_lost_an_object(root: Path) -> None:
    now = time.time()
    old, older = make_set(root, now - 40 * DAY), make_set(root, now - 50 * DAY)
    newest = [make_set(root, now - HOUR), make_set(root, now - 2 * HOUR)]
    for set_id in newest:
        cut = root / "backups" / set_id / "objects" / "0002.zst"
        cut.rename(cut.with_name("0003.zst"))  # as many bytes as promised, under another name
    done = run("prune", root, saasops_retention={"hourly": 1})
    assert done.code == 0, done.output
    assert complete(root, [old, older, *newest]) == {old, older, *newest}
    assert "lacks 1 of its 2 objects" in done.output
    listed = run("backups", root)
    assert listed.code == 2
    assert "older than the RPO of 24 h" in listed.output


def test_a_pin_is_set_once_holds_against_prune_and_is_taken_away(root: Path) -> None:
    ids = daily(root, 4)
    wish = ("-e", f"set={ids[0]}", "-e", "reason='before version 2'", "-e", "until=2999-12-31")
    before = listing(root)
    planned = run("pin", root, *wish, "--check")
    assert planned.code == 0, planned.output
    assert planned.changed == 1
    assert of_sets(listing(root)) == before
    pinned = run("pin", root, *wish)
    assert pinned.code == 0, pinned.output
    assert f"Set {ids[0]} is pinned until 3000-01-01 00:00 UTC." in pinned.output
    assert run("pin", root, *wish).changed == 0
    assert "pinned until 3000-01-01 00:00 UTC (before version 2)" in line_of(run("prune", root), ids[0])
    assert complete(root, ids) == set(ids)
    assert run("pin", root, "-e", f"set={ids[0]}", "-e", "state=absent").changed == 1
    assert of_sets(listing(root)) == before
    assert run("prune", root).code == 0
    assert complete(root, ids) == set(ids[1:])


def test_a_pin_is_refused_without_a_reason_in_the_past_or_for_no_set(root: Path) -> None:
    ids = daily(root, 1)
    foreign = make_set(root, time.time() - DAY, system="other")
    before = listing(root)
    wishes: Mapping[str, Mapping[str, object]] = {
        "no-reason not_configured": {"set": ids[0]},
        "past bad_moment": {"set": ids[0], "reason": "x", "until": "2020-01-01"},
        "no-time bad_moment": {"set": ids[0], "reason": "x", "until": "tomorrow"},
        "unknown set_unknown": {"set": "20200101T000000Z-00000000", "reason": "x"},
        "no-id bad_set_id": {"set": "../restores", "reason": "x"},
        "foreign set_of_another_system": {"set": foreign, "reason": "x"},
    }
    facts: Mapping[str, object] = {"saasops_store": {"path": str(root)}, "saasops_system": "demo"}
    refused = play("pin", inventory(root.parent, facts, {name.split()[0]: own for name, own in wishes.items()}))
    for host, code in (name.split() for name in wishes):
        assert re.search(rf"fatal: \[{host}\]: .*\[{code}\]", refused.output), refused.output
    assert of_sets(listing(root)) == before


def test_a_set_that_failed_its_drill_replaces_nothing(root: Path) -> None:
    ids = daily(root, 4)
    store = PosixStore(str(root))
    for number, set_id in enumerate(ids[-3:]):
        record: dict[str, Json] = {"set": set_id, "outcome": "failed", "at": "2999-01-01T00:00:00.000000Z"}
        record["differences"] = [{"kind": "row count"}]
        sets.write_json(store, f"drills/{number}.json", record)
    shown = run("backups", root)
    assert shown.code == 2
    assert "FAILED" in line_of(shown, ids[-1])
    done = run("prune", root, saasops_retention={"daily": 1})
    assert done.code == 0, done.output
    assert complete(root, ids) == set(ids)


def test_prune_refuses_more_deletions_than_allowed_and_shows_them(root: Path) -> None:
    ids = daily(root, 6)
    refused = run("prune", root, "-e", "max_delete=2")
    assert refused.code == 2
    assert "[prune_over_ceiling] 3 sets would be deleted, max_delete allows 2; none was deleted." in refused.output
    assert "DELETE" in line_of(refused, ids[0])
    assert complete(root, ids) == set(ids)
    assert run("prune", root, "-e", "max_delete=3").code == 0
    assert complete(root, ids) == set(ids[3:])


def test_prune_refuses_to_leave_nothing(root: Path) -> None:
    foreign = make_set(root, time.time() - DAY, system="other")
    refused = run("prune", root, "-e", json.dumps({"also_delete": [foreign]}))
    assert refused.code == 2
    assert "[prune_everything]" in refused.output
    assert complete(root, [foreign]) == {foreign}


def test_prune_refuses_to_delete_a_sound_set_by_name(root: Path) -> None:
    ids = daily(root, 2)
    refused = run("prune", root, "-e", json.dumps({"also_delete": ids[0]}))
    assert refused.code == 2
    assert "[set_not_damaged]" in refused.output
    assert complete(root, ids) == set(ids)


def test_prune_refuses_what_cannot_be_meant(root: Path) -> None:
    ids = daily(root, 6)
    refusals: Mapping[str, Mapping[str, object]] = {
        "no-policy not_configured": {"saasops_retention": {}},
        "no-store not_configured": {"saasops_store": {}},
        "no-rule bad_retention": {"saasops_retention": {"minimum_proven": 3}},
        "no-unit bad_duration": {"saasops_retention": {"daily_max_age": "7"}},
        "no-folder store_missing": {"saasops_store": {"path": "/nowhere/at/all"}},
    }
    facts: Mapping[str, object] = {"saasops_store": {"path": str(root)}, "saasops_retention": THREE_DAYS}
    hosts = {name.split()[0]: {"saasops_system": "demo", **own} for name, own in refusals.items()}
    refused = play("prune", inventory(root.parent, facts, hosts))
    assert refused.code == 2
    for host, code in (name.split() for name in refusals):
        assert re.search(rf"fatal: \[{host}\]: .*\[{code}\]", refused.output), refused.output
    assert complete(root, ids) == set(ids)


@pytest.mark.essential
def test_backups_fails_when_the_newest_proven_recovery_point_is_older_than_the_rpo(tmp_path: Path) -> None:
    expected = {"a79": "OK", "a81": "WARNING", "a99": "WARNING", "a101": "CRITICAL"}
    now = time.time()
    for host in expected:
        make_set(tmp_path / host, now - int(host[1:]) / 100 * DAY, system=host)
        make_set(tmp_path / host, now - HOUR, system=host, proof=None)
    before = listing(tmp_path)
    hosts = {host: {"saasops_store": {"path": str(tmp_path / host)}} for host in expected}
    shown = play("backups", inventory(tmp_path, {"saasops_rpo": "24h"}, hosts))
    assert shown.code == 2
    for host, verdict in expected.items():
        block = shown.output.split(f"ok: [{host}] => {{")[1].split("}")[0]
        assert f"{verdict}: app: newest proven recovery point" in block
        assert "UNPROVEN" in block
    failed = re.findall(r"fatal: \[(\w+)\].*recovery_point_critical", shown.output)
    assert failed == ["a101"]
    assert shown.changed == 0
    assert {name: body for name, body in listing(tmp_path).items() if name in before} == before


def test_backups_of_a_database_that_has_none_is_critical_even_beside_others(root: Path) -> None:
    make_set(root, time.time() - HOUR, database="other")
    shown = run("backups", root, saasops_database="app")
    assert shown.code == 2
    assert "CRITICAL: app: no proven backup at all" in shown.output


def test_backups_lists_what_cannot_be_relied_on(root: Path) -> None:
    now = time.time()
    good = make_set(root, now - HOUR)
    unreadable = make_set(root, now - 2 * HOUR)
    (root / "backups" / unreadable / "manifest.json").write_bytes(b"\xff\x00 no JSON")
    bad_pin = make_set(root, now - 3 * HOUR)
    (root / "backups" / bad_pin / "pin.json").write_bytes(b"{")
    partial = make_partial(root, now - 4 * HOUR)
    odd = make_set(root, now - 5 * HOUR, tenant='org "ä"\n\x1b[31m; DROP')
    shown = run("backups", root)
    assert shown.code == 0, shown.output
    assert "DAMAGED" in line_of(shown, unreadable)
    assert "pin.json cannot be read" in line_of(shown, bad_pin)
    assert "PARTIAL" in line_of(shown, partial)
    assert r"tenant org \"ä\"\\n\\x1b[31m; DROP" in line_of(shown, odd)
    assert "stored" in line_of(shown, good)
    assert "Not to be relied on: 1 damaged, 1 partial." in shown.output


def test_backups_says_when_the_schedule_cannot_meet_the_rpo_and_when_each_set_expires(root: Path) -> None:
    ids = daily(root, 4)
    shown = run("backups", root, saasops_schedule="24h")
    assert shown.code == 0, shown.output
    assert "A backup every 24 h cannot meet an RPO of 24 h" in shown.output
    assert "next prune" in line_of(shown, ids[0])
    expiry = time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time() - HOUR + DAY))
    assert expiry[:10] in line_of(shown, ids[1])
    assert run("prune", root).code == 0
    assert complete(root, ids) == set(ids[1:])


def test_backups_without_a_policy_or_an_rpo_still_lists(root: Path) -> None:
    ids = daily(root, 2)
    shown = run("backups", root, saasops_retention={}, saasops_rpo="")
    assert shown.code == 0, shown.output
    assert line_of(shown, ids[0])
    assert "UNKNOWN: app" in shown.output
    assert "no RPO is given" in shown.output
