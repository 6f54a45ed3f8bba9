# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications on the controller: whether they can go out, and the processes that send them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id
from ansible_collections.saasops.runbook.plugins.module_utils.domain.notify import (
    LIBRARIES,
    Notice,
    Notifier,
    parse_notifiers,
    request,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import ROUTINE, Verb
from ansible_collections.saasops.runbook.plugins.plugin_utils import witness

PATIENCE = 8.0  # seconds that the end of a run waits for all senders together
_SENDER = Path(__file__).with_name("notify_send.py")
_MARK = "notify-active"


def mark_active() -> None:
    """The callback saasops.runbook.notify is on in this run."""
    folder = witness.handover().folder
    os.makedirs(folder, mode=0o700, exist_ok=True)
    Path(folder, _MARK).touch(mode=0o600)


def hindrance(given: object, verb: Verb, break_glass: bool) -> OpsError | None:
    """Why configured notifications cannot go out, to be warned of.

    Raises it for routine verbs, unless glass is broken: what is needed at three in the morning does not wait for a
    messenger. Raises OpsError guard_misconfigured in any case.
    """
    notifiers = parse_notifiers(given)
    if not notifiers:
        return None
    found = None
    if not Path(witness.handover().folder, _MARK).exists():
        found = OpsError(
            "notify_off",
            "saasops_notify is set, and the callback that notifies is not on.",
            "Set callbacks_enabled = saasops.runbook.notify in ansible.cfg (ANSIBLE_CALLBACKS_ENABLED).",
        )
    for kind in sorted({notifier.type for notifier in notifiers}):
        module, package = LIBRARIES[kind]
        if found is None and importlib.util.find_spec(module) is None:
            found = OpsError(
                "notifier_missing",
                f"Notifications to {kind} need the Python package {package} on the controller.",
                f"Install it: {sys.executable} -m pip install {package}",
            )
    if found is not None and verb.verb_class == ROUTINE and not break_glass:
        raise found
    return found


@dataclass
class Sending:
    """One message on its way."""

    notifier: Notifier
    notice: Notice
    at: float
    process: subprocess.Popen[bytes] | None

    def outcome(self, deadline: float) -> dict[str, object]:
        """What became of it, waiting until the deadline (monotonic seconds)."""
        lost = {"sent": False, "code": "notifier_failed", "cause": "The sender ended without a word."}
        if self.process is None:
            return lost
        try:
            said, _none = self.process.communicate(timeout=max(0.05, deadline - time.monotonic()))
            answer = json.loads(said)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return {**lost, "cause": f"No answer within {PATIENCE:.0f} s."}
        except (OSError, ValueError):
            return lost
        return answer if isinstance(answer, dict) else lost

    def event(self, outcome: dict[str, object]) -> Event:
        """For the journal."""
        facts = {"notifier": self.notifier.type, "event": self.notice.event, **self.notice.details, **outcome}
        for own in ("system", "run"):
            facts.pop(own, None)
        return Event("notification", self.at, new_id(os.urandom(16)), self.notice.system, self.notice.run, facts)


def send(notifier: Notifier, notice: Notice) -> Sending:
    """Start to send; returns at once and never raises."""
    process = None
    with contextlib.suppress(OSError):
        process = subprocess.Popen(
            [sys.executable, str(_SENDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps(request(notifier, notice)).encode() + b"\n")
            process.stdin.flush()
    return Sending(notifier, notice, time.time(), process)
