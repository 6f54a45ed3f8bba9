# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slack and PagerDuty hear of start, end, refusal and failure, and never stand in the way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.tests.lab.certificates import self_signed
from ansible_collections.saasops.runbook.tests.lab.playbooks import Run
from ansible_collections.saasops.runbook.tests.lab.webhooks import Sink, running
from ansible_collections.saasops.runbook.tests.scenarios.test_admission import BARE, CLOSED, System, system

__all__ = ["system"]

pytestmark = pytest.mark.parametrize("server", [15], indirect=True)
HOOK, KEY = "T00/B00/geheimerHaken", "geheimer0Schluessel0000000000000"


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sink]:
    folder = tmp_path / "tls"
    folder.mkdir()
    certificate = self_signed(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "saasops.runbook.witness,saasops.runbook.notify")
    with running(certificate) as server:
        yield server


def both(sink: Sink) -> dict[str, object]:
    """The inventory's saasops_notify."""
    slack = {"type": "slack", "webhook_url": f"{sink.url}/services/{HOOK}"}
    events = ["start", "end", "refusal", "failure"]
    duty = {"type": "pagerduty", "routing_key": KEY, "api_url": sink.url, "on": events}
    return {"saasops_notify": [slack, duty]}


def spooled(system: System) -> list[dict[str, object]]:
    """What waits on the controller for the next run."""
    (path,) = (system.folder / "ansible" / "saasops" / "spool").glob("*/waiting.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def no_secret(run: Run, system: System) -> None:
    said = run.output + json.dumps(system.records()) + json.dumps(spooled(system))
    assert "geheim" not in said


def test_a_good_run_tells_start_and_end_once_and_the_next_one_journals_it(system: System, sink: Sink) -> None:
    run = system.verb("backup", "-vvvv", **both(sink))
    assert run.code == 0, run.output
    began, ended = sink.texts()
    assert "guarded: backup begins" in began
    assert "guarded: backup has succeeded" in ended
    identifier = str(system.records()[0]["run"])
    assert identifier in began
    actions = [action for action, _body in sink.events()]
    assert sorted(actions) == ["change", "change", "resolve"]
    no_secret(run, system)
    assert [(line["kind"], line["facts"]["sent"]) for line in spooled(system)] == [("notification", True)] * 4  # type: ignore[index]
    assert system.verb("backup", **both(sink)).code == 0
    told = [record for record in system.records() if record["kind"] == "notification"]
    assert [(record["event"], record["run"]) for record in told].count(("start", identifier)) == 2


def test_a_refusal_is_told_with_its_code_and_pagerduty_is_triggered(system: System, sink: Sink) -> None:
    run = system.verb("backup", saasops_windows=CLOSED, **both(sink))
    assert run.code != 0
    texts = sink.texts()
    assert [text for text in texts if "was refused on demo: [window_closed]" in text]
    assert not [text for text in texts if "has failed" in text]
    (trigger,) = [body for action, body in sink.events() if action == "trigger"]
    assert trigger["dedup_key"] == "saasops/guarded/backup"
    assert trigger["routing_key"] == KEY
    assert trigger["payload"]["severity"] == "warning"  # type: ignore[index]
    no_secret(run, system)


def test_a_failure_of_a_guarded_module_and_of_another_task_is_told(system: System, sink: Sink) -> None:
    broken = {**system.variables()["saasops_connection"], "password": "falsch"}  # type: ignore[dict-item]
    assert system.verb("backup", saasops_connection=broken, **both(sink)).code != 0
    assert [text for text in sink.texts() if "was refused" in text or "failed" in text]
    sink.told.clear()
    text = BARE + "    - name: Then something breaks\n      ansible.builtin.fail:\n        msg: broken\n"
    run = system.file(text, **both(sink))
    assert run.code != 0
    assert system.sets() == 1
    assert [text for text in sink.texts() if "backup failed on demo: another task of the run failed" in text]
    (trigger,) = [body for action, body in sink.events() if action == "trigger"]
    assert trigger["payload"]["severity"] == "error"  # type: ignore[index]


def test_check_mode_tells_nobody(system: System, sink: Sink) -> None:
    assert system.verb("backup", "--check", **both(sink)).code == 0
    assert sink.told == []


def test_each_entry_hears_only_what_it_asks_for(system: System, sink: Sink) -> None:
    wanted = both(sink)["saasops_notify"]
    only = [{**entry, "on": ["failure"]} for entry in wanted]  # type: ignore[attr-defined]
    assert system.verb("backup", saasops_notify=only).code == 0
    assert sink.texts() == []
    assert [action for action, _body in sink.events()] == ["resolve"]


@pytest.mark.parametrize("status", [500, 404, None])
def test_a_failing_messenger_fails_no_run_and_is_journaled(system: System, sink: Sink, status: int | None) -> None:
    sink.status = status
    began = time.monotonic()
    run = system.verb("backup", **both(sink))
    assert run.code == 0, run.output
    assert time.monotonic() - began < 60
    assert "[notifier_failed] slack was not told of the start" in run.output
    assert "[notifier_failed] pagerduty was not told of the end" in run.output
    assert {line["facts"]["sent"] for line in spooled(system)} == {False}  # type: ignore[index]
    no_secret(run, system)


@pytest.mark.parametrize(
    "wrong",
    [
        [{"type": "pigeon"}],
        [{"type": "slack"}],
        [{"type": "pagerduty", "routing_key": "x", "on": ["noon"]}],
        [{"type": "slack", "webhook_url": "geheim"}],
        [{"type": "slack", "webhook_url": "http://x/geheim", "loud": "geheim"}],
    ],
)
def test_a_list_that_is_not_understood_is_refused_without_quoting_it(
    system: System, sink: Sink, wrong: list[dict[str, object]]
) -> None:
    run = system.verb("backup", saasops_notify=wrong)
    assert run.code != 0
    assert "[guard_misconfigured]" in run.output
    assert "geheim" not in run.output
    assert system.sets() == 0


def test_routine_work_is_refused_while_nobody_could_be_told(
    system: System, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANSIBLE_CALLBACKS_ENABLED")
    run = system.verb("backup", **both(sink))
    assert run.code != 0
    assert "[notify_off]" in run.output
    glass = system.verb("backup", "-e", "break_glass=fire", **both(sink))
    assert glass.code == 0, glass.output
    assert "[notify_off]" in glass.output


def test_a_missing_library_is_named(system: System, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    # a finder that does not find the library, in every process of the run
    blind = system.folder / "blind"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(
        "import sys\n\n\nclass Blind:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'slack_sdk':\n            raise ModuleNotFoundError(name, name=name)\n\n\n"
        "import importlib.util\n_find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'slack_sdk' else _find(name, package)\n"
        "sys.meta_path.insert(0, Blind())\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", f"{blind}:{os.environ.get('PYTHONPATH', '')}")
    run = system.verb("backup", **both(sink))
    assert run.code != 0
    assert "[notifier_missing]" in run.output
    assert "pip install slack-sdk" in run.output
