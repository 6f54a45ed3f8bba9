# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guarded verb silences exactly its targets while it works, and somebody always ends that."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime, timezone

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import iso
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import Silencing
from ansible_collections.saasops.runbook.tests.lab.alertmanager import Server as Alertmanager
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port
from ansible_collections.saasops.runbook.tests.scenarios.test_admission import CLOSED, System, system

__all__ = ["system"]

RUN = "20260101T000000Z-00000000"
pytestmark = pytest.mark.parametrize("server", [15], indirect=True)


def quiet(alerts: Alertmanager, **changes: object) -> dict[str, object]:
    """The inventory's saasops_silence."""
    matchers = [{"name": "instance", "value": "{{ inventory_hostname }}"}]
    return {"saasops_silence": {"url": alerts.url, "matchers": matchers, **changes}}


def left(silence: dict[str, object]) -> float:
    """Seconds until a silence ends."""
    end = datetime.fromisoformat(str(silence["endsAt"]).replace("Z", "+00:00"))
    return (end - datetime.now(timezone.utc)).total_seconds()


def items(system: System) -> list[str]:
    return [info.key for info in system.store.list("open/")]


def test_a_run_silences_its_host_and_the_silence_ends_soon_after(system: System, alerts: Alertmanager) -> None:
    run = system.verb("backup", **quiet(alerts, after="2m"))
    assert run.code == 0, run.output
    (seen,) = alerts.silences()
    identifier = str(system.records()[0]["run"])
    assert seen["comment"] == f"saasops.runbook: backup of guarded on demo, run {identifier}"
    assert [(m["name"], m["value"]) for m in seen["matchers"]] == [("instance", "demo")]  # type: ignore[attr-defined]
    assert 60 < left(seen) <= 120
    assert items(system) == []
    notes = [record for record in system.records() if record.get("code") == "silenced"]
    assert [note["silence"] for note in notes] == [seen["id"]]


def test_with_nothing_after_it_the_silence_is_ended_with_the_work(system: System, alerts: Alertmanager) -> None:
    run = system.verb("backup", **quiet(alerts, after="0s"))
    assert run.code == 0, run.output
    assert alerts.silences() == []
    assert [record["code"] for record in system.records() if record["kind"] == "note"] == ["silenced"]


def test_nothing_is_silenced_by_a_refusal_a_dry_run_or_another_verb(system: System, alerts: Alertmanager) -> None:
    before = alerts.amtool("silence", "query", "--expired", "-q")
    assert system.verb("backup", saasops_windows=CLOSED, **quiet(alerts)).code != 0
    assert system.verb("backup", "--check", **quiet(alerts)).code == 0
    assert system.verb("backup", **quiet(alerts, verbs=["restore"])).code == 0
    assert alerts.amtool("silence", "query", "--expired", "-q") == before


def test_alertmanager_down_is_warned_of_and_the_run_goes_on_unless_required(system: System) -> None:
    gone = {"url": f"http://127.0.0.1:{free_port()}", "matchers": [{"name": "instance", "value": "demo"}]}
    run = system.verb("backup", saasops_silence=gone)
    assert run.code == 0, run.output
    assert "[alertmanager_unreachable] Alerts are not silenced" in run.output
    assert "not_silenced" in [record.get("code") for record in system.records()]
    required = system.verb("backup", saasops_silence={**gone, "required": True})
    assert required.code != 0
    assert "The silence is required here" in required.output
    assert system.records()[-1]["kind"] == "refusal"
    assert (system.sets(), system.held()) == (1, [])
    glass = system.verb("backup", "-e", "break_glass=fire", saasops_silence={**gone, "required": True})
    assert glass.code == 0, glass.output


@pytest.mark.parametrize("wrong", [{"matchers": []}, {"after": "soon"}, {"verbs": ["dance"]}, {"loud": True}])
def test_a_silence_that_is_not_understood_is_refused_before_anything_runs(
    system: System, alerts: Alertmanager, wrong: dict[str, object]
) -> None:
    run = system.verb("backup", **quiet(alerts, **wrong))
    assert run.code != 0
    assert system.sets() == 0


def killed(system: System, alerts: Alertmanager) -> str:
    """A process opens a silence and is killed before it can close anything; its open item's key."""
    options = {"url": alerts.url, "matchers": [{"name": "instance", "value": "demo"}], "after": "5m", "longest": "1h"}
    body: dict[str, object] = {"run": RUN, "host": "demo", "verb": "backup"}
    child = os.fork()
    if child == 0:
        silencing = Silencing({**options, "required": False}, body, "guarded", lambda _line: None)
        silencing.open(lambda: system.store, "database:guarded", break_glass=False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (key,) = items(system)
    return key


def test_the_next_run_ends_what_a_killed_one_left_silent(system: System, alerts: Alertmanager) -> None:
    key = killed(system, alerts)
    (silent,) = alerts.silences()
    again = system.verb("backup", **quiet(alerts, after="0s"))
    assert again.code == 0, again.output
    assert silent["id"] not in [item["id"] for item in alerts.silences()]
    assert items(system) == []
    (reverted,) = [record for record in system.records() if record["kind"] == "reverted"]
    assert f"open/{reverted['open_item']}.json" == key


def test_reconcile_ends_what_a_killed_run_left_silent_and_silences_nothing_itself(
    system: System, alerts: Alertmanager
) -> None:
    key = killed(system, alerts)
    lost = system.verb("reconcile", "-e", f"run={RUN}")
    assert lost.code != 0
    assert "Set saasops_silence" in lost.output
    assert items(system) == [key]
    run = system.verb("reconcile", "-e", f"run={RUN}", **quiet(alerts, verbs=["restore"]))
    assert run.code == 0, run.output
    assert f"The silence of run {RUN} is ended." in run.output
    assert (alerts.silences(), items(system)) == ([], [])


def test_an_open_item_names_its_way_back_without_a_login(system: System, alerts: Alertmanager) -> None:
    # what is over by its own time is closed without asking anybody
    old = {"system": "guarded", "run": "old", "id": "silence-x", "expiry": iso(time.time() - 1), "lease": ""}
    system.store.put("open/silence-x.json", [json.dumps(old).encode()])
    alerts.stop()
    try:
        silence = quiet(alerts, url_username="ops", url_password="geheim")
        run = system.verb("backup", "-vvvv", **silence)
    finally:
        alerts.start()
    assert run.code == 0, run.output
    assert "geheim" not in run.output
    assert "open/silence-x.json" not in items(system)
    (key,) = items(system)
    with system.store.get(key) as chunks:
        text = b"".join(chunks).decode()
    assert "geheim" not in text
    assert json.loads(text)["undo"]["options"]["state"] == "absent"
