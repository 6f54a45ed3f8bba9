# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: witness
type: aggregate
short_description: Put other changed and failed tasks of a guarded run into the journal
version_added: 0.2.0
description:
  - The modules of this collection write their own intents and outcomes into a system's journal. This callback adds
    every other task of the run that changed something or failed, so that the journal tells all that was done.
  - Of each task it keeps host, action, name, what became of it, the number of items, start and end, the first lines of
    a failure's message, and with C(--diff) the first lines of the diff.
  - Of a task with C(no_log) it keeps neither name nor message nor diff. Elsewhere the values of parameters whose names
    look secret, keys, passwords in addresses and long random words are taken out.
  - A run without any guarded module leaves nothing behind.
  - It never fails a task or a run. When it cannot write, it says so once and counts as switched off.
author:
  - saasops.runbook contributors (@saasops)
requirements:
  - enable it with C(callbacks_enabled = saasops.runbook.witness) in the section C([defaults]) of ansible.cfg, or with
    the environment variable C(ANSIBLE_CALLBACKS_ENABLED=saasops.runbook.witness)
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = saasops.runbook.witness
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from ansible.plugins.callback import CallbackBase

from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.witness import OWN, Task, facts
from ansible_collections.saasops.runbook.plugins.module_utils.store.handover import Handover, Witnessed
from ansible_collections.saasops.runbook.plugins.plugin_utils.results import part_of
from ansible_collections.saasops.runbook.plugins.plugin_utils.witness import handover, operator, spool


def _never_raises(method: Callable[..., None]) -> Callable[..., None]:
    """What a witness fails at is said once and ends its work; the run goes on."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if self.silent:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a journal must not fail the task that it only looks at
            self.fall_silent(error)

    return guarded


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core is not typed
    """Looks at the results of all tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "saasops.runbook.witness"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.silent = False
        self._started: dict[tuple[str, str], float] = {}
        self._operator = ""
        self._handover: Handover | None = None

    def fall_silent(self, error: Exception) -> None:
        """Say why, once, and let admission know that nobody witnesses any more."""
        self.silent = True
        if self._handover is not None:
            self._handover.give_up()
        self._display.warning(
            f"The witness of the journal stops: {type(error).__name__}"
            f"{': ' + str(error.strerror) if isinstance(error, OSError) else ''}. "
            "Other changes of this run will not be in the journal."
        )

    @_never_raises
    def v2_playbook_on_start(self, playbook: object) -> None:
        self._handover = handover()
        self._operator = operator()
        self._handover.begin()

    @_never_raises
    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._started[(host.get_name(), str(task._uuid))] = time.time()

    @_never_raises
    def v2_runner_on_ok(self, result: Any) -> None:
        self._look(result)

    @_never_raises
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._look(result, failed=True, ignored=bool(ignore_errors))

    @_never_raises
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._look(result, unreachable=True)

    @_never_raises
    def v2_runner_on_skipped(self, result: Any) -> None:
        self._started.pop((part_of(result, "host").get_name(), str(part_of(result, "task")._uuid)), None)

    @_never_raises
    def v2_playbook_on_stats(self, stats: object) -> None:
        """Keep what nobody took for the next run; a run that guarded nothing leaves nothing."""
        place = self._handover
        if place is None:
            return
        systems, run = place.systems(), place.run_id()
        if not systems:
            return
        waiting: dict[str, list[Event]] = {}
        for task in place.take():
            # a host that no guarded task named belongs to the run: every system of the run hears of it
            for system in {systems[task.host]} if task.host in systems else set(systems.values()):
                waiting.setdefault(system, []).append(task.event(system, run))
        for system, events in waiting.items():
            spool(system).add(events)

    def _look(self, result: Any, *, failed: bool = False, unreachable: bool = False, ignored: bool = False) -> None:
        task, host, body = part_of(result, "task"), part_of(result, "host").get_name(), part_of(result, "result")
        started = self._started.pop((host, str(task._uuid)), None)
        if self._handover is None or not (failed or unreachable or body.get("failed") or body.get("changed")):
            return
        action = str(getattr(task, "resolved_action", None) or task.action)
        if action.startswith(OWN):
            return
        now = time.time()
        seen = Task(
            action=action,
            # as the screen shows it: core 2.16 gives it as written, the newest with its expressions filled in
            name=str(task.name or ""),
            host=host,
            delegated_to=str(task.delegate_to or ""),
            no_log=task.no_log is not False and bool(task.no_log),
            check_mode=bool(task.check_mode),
            started=started,
            ended=now,
        )
        found = facts(seen, body, failed=failed, unreachable=unreachable, ignored=ignored)
        if found:
            found["operator"] = self._operator
            self._handover.write(Witnessed(new_id(os.urandom(16)), now, host, found))
