# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: notify
type: notification
short_description: Tell Slack and PagerDuty of start, end, refusal and failure of guarded runs
version_added: 0.2.0
description:
  - Reads C(saasops_notify) of the inventory, and tells each entry what it asks for, once for each system of a run.
  - Messages are sent by processes of their own while the run goes on. At its end it waits a few seconds for them.
    A message that could not be sent is warned of and journaled; it never fails a task or a run.
  - Nothing is sent in check mode, and nothing of a run without a guarded module.
author:
  - saasops.runbook contributors (@saasops)
requirements:
  - the Python package slack-sdk on the controller for Slack, and pagerduty for PagerDuty
  - enable it with C(callbacks_enabled = saasops.runbook.notify) in the section C([defaults]) of ansible.cfg, or with
    the environment variable C(ANSIBLE_CALLBACKS_ENABLED)
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = saasops.runbook.witness, saasops.runbook.notify
"""

import contextlib
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import new_set_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.notify import (
    Notice,
    Notifier,
    parse_notifiers,
    wants,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import clean_text
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import VERBS, verb_of
from ansible_collections.saasops.runbook.plugins.module_utils.domain.witness import OWN
from ansible_collections.saasops.runbook.plugins.plugin_utils import notices, run_state, witness
from ansible_collections.saasops.runbook.plugins.plugin_utils.results import part_of

LONGEST_CAUSE = 300


class _System:
    """What the run does in one system."""

    def __init__(self, name: str, verb: str, operator: str, notifiers: tuple[Notifier, ...]) -> None:
        self.name = name
        self.verb = verb
        self.operator = operator
        self.notifiers = notifiers
        self.hosts: set[str] = set()
        self.said: set[str] = set()


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core is not typed
    """Looks at guarded tasks and at the end of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "saasops.runbook.notify"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._play: Any = None
        self._systems: dict[str, _System] = {}
        self._sendings: list[notices.Sending] = []

    def v2_playbook_on_start(self, playbook: object) -> None:
        with contextlib.suppress(OSError):
            notices.mark_active()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._safely(self._begun, host, task)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._safely(self._failed, result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._safely(self._failed, result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._safely(self._ended, stats)
        self._safely(self._settle)

    def _safely(self, method: Any, *args: Any) -> None:
        """A messenger must not fail the task that it only tells of; its own words could hold a secret."""
        try:
            method(*args)
        except Exception as error:  # noqa: BLE001
            self._display.warning(f"saasops.runbook.notify could not do its work ({type(error).__name__}).")

    def _system(self, host: Any, task: Any) -> _System | None:
        """The system that a guarded task works in; None for other tasks, check mode, and without notifiers."""
        action = str(getattr(task, "resolved_action", None) or task.action)
        if not action.startswith(OWN) or task.check_mode:
            return None
        manager = self._play.get_variable_manager()
        variables = manager.get_vars(play=self._play, host=host, task=task)
        templar = Templar(loader=self._play.get_loader(), variables=variables)
        # before a task runs its resolved action is the routed plugin, admission; what was written is the module
        short = str(task.action).rpartition(".")[2]
        if short == "admission":
            verb = VERBS.get(str(templar.template(task.args.get("verb"))))
            verb = verb if task.args.get("step") == "decide" else None
        else:
            verb = verb_of(short, task.args, str(templar.template(variables.get("saasops_verb") or "")))
        if verb is None:
            return None
        name = str(templar.template(variables.get("saasops_system")) or host.get_name())
        if name not in self._systems:
            try:
                notifiers = parse_notifiers(templar.template(variables.get("saasops_notify") or []))
            except OpsError:
                notifiers = ()  # admission refuses it, and says why
            self._systems[name] = _System(name, verb.name, run_state.operator(variables), notifiers)
        found = self._systems[name]
        found.hosts.add(host.get_name())
        return found

    def _begun(self, host: Any, task: Any) -> None:
        system = self._system(host, task)
        if system is not None:
            self._tell(system, "start")

    def _failed(self, result: Any) -> None:
        host, task, body = part_of(result, "host"), part_of(result, "task"), part_of(result, "result")
        system = self._system(host, task)
        if system is None:
            return
        guard = body.get("guard")
        code = str(body.get("code") or "")
        # what admission itself refuses on the controller has a code and never reached a module
        refused = bool(guard.get("refused")) if isinstance(guard, dict) else bool(code)
        words = str(body.get("cause") or body.get("msg") or "")
        if task.no_log or "censored" in body or body.get("_ansible_no_log") is True:
            words = ""
        cause = clean_text(words, strict=True, limit=LONGEST_CAUSE)
        self._tell(system, "refusal" if refused else "failure", host=host.get_name(), code=code, cause=cause)

    def _ended(self, stats: Any) -> None:
        for system in self._systems.values():
            bad = sorted(h for h in system.hosts if stats.failures.get(h) or stats.dark.get(h))
            if bad and not system.said & {"refusal", "failure"}:
                self._tell(system, "failure", host=", ".join(bad[:5]), cause="another task of the run failed")
            self._tell(system, "end", result="failed" if bad else "succeeded")

    def _tell(self, system: _System, event: str, **more: str) -> None:
        """Each event once for a system: a hundred hosts are no hundred messages."""
        if event in system.said:
            return
        run = witness.handover().run_id(lambda: new_set_id(time.time(), os.urandom(4)))
        about = {"host": "", "operator": system.operator, "run": run, **more}
        notice = Notice(event=event, system=system.name, verb=system.verb, **about)
        for notifier in system.notifiers:
            told = bool(system.said & notifier.on & {"refusal", "failure"})
            if wants(notifier, notice, told):
                self._sendings.append(notices.send(notifier, notice))
        system.said.add(event)

    def _settle(self) -> None:
        """Wait a little for the senders, warn of what failed, and keep it for the journal."""
        deadline = time.monotonic() + notices.PATIENCE
        waiting: dict[str, list[Any]] = {}
        for sending in self._sendings:
            outcome = sending.outcome(deadline)
            if not outcome.get("sent"):
                about = f"{sending.notifier.type} was not told of the {sending.notice.event}"
                self._display.warning(f"[{outcome.get('code')}] {about}: {outcome.get('cause')}")
            waiting.setdefault(sending.notice.system, []).append(sending.event(outcome))
        self._sendings.clear()
        for name, events in waiting.items():
            witness.spool(name).add(events)
