# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boundary of our modules: one error type, one result.

Private to this collection: not an interface for others.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Admitted
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan, describe
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import SILENCE_SPEC, Silencing

# What admission hands to every changing module; nobody else sets it.
GUARD_SPEC: dict[str, dict[str, object]] = {
    "guard": {"type": "dict", "no_log": False},
    "progress_file": {"type": "path"},
    "guard_silence": {"type": "dict", "options": SILENCE_SPEC},
}


@dataclass
class Result:
    """What a module returns: the plan it had, whether it changed anything, the evidence, and a sentence."""

    plan: Plan | None = None
    changed: bool = False
    message: str = ""
    evidence: dict[str, object] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)


class Admission(Protocol):
    """The guard's side of a run, see admitted.Admitted."""

    def authorise(self, plan: Plan) -> None:
        """Begin to act, or raise every reason not to."""

    def confirm(self) -> None:
        """Still the run that may act, right before a point of no return. Raises lease_lost, window_ended."""


class Unguarded:
    """No admission: check mode, and whoever calls execute() as Python."""

    def authorise(self, plan: Plan) -> None:
        """Always."""

    def confirm(self) -> None:
        """Always."""


@dataclass(frozen=True)
class Context:
    """What every execute() is given beside its parameters.

    now is a POSIX time in seconds, taken once. progress(line) shows one line to the operator.
    warn(line) appears as an Ansible warning. admission is asked between the decision and the first act
    (authorise), and right before each point of no return (confirm).
    """

    check_mode: bool
    now: float
    progress: Callable[[str], None]
    warn: Callable[[str], None]
    admission: Admission = field(default_factory=Unguarded)

    def authorise(self, plan: Plan) -> None:
        """Stop here unless the plan may be carried out now. Nothing is asked in check mode."""
        if not self.check_mode:
            self.admission.authorise(plan)


def _progress_writer(path: str | None) -> Callable[[str], None]:
    """Append whole lines to a small file that the admission plugin reads while the module runs."""

    def write(line: str) -> None:
        if path:
            with open(path, "a", encoding="utf-8") as stream:
                stream.write(line.replace("\n", " ") + "\n")

    return write


def _end_orderly(number: int, _frame: object) -> None:
    # SIGTERM and SIGHUP would skip every finally: what a module opened would stay open
    raise OpsError(
        "interrupted",
        f"The module received {signal.Signals(number).name} and stopped.",
        "What it had begun was put back; run the verb again.",
    )


def run_module(
    spec: Mapping[str, object],
    execute: Callable[[dict[str, object], Context], Result],
    **constraints: object,
) -> None:
    """Parse, execute, and turn an OpsError into fail_json(msg, code, cause, remedy): the only place that does."""
    module = AnsibleModule(argument_spec=dict(spec), supports_check_mode=True, **constraints)
    params = dict(module.params)
    request = cast("dict[str, object]", params.pop("guard", None) or {})
    progress = _progress_writer(cast("str | None", params.pop("progress_file", None)))
    now, check_mode = time.time(), bool(module.check_mode)
    quiet = cast("dict[str, object] | None", params.pop("guard_silence", None))
    silencing = Silencing(quiet, request, str(params.get("system") or ""), module.warn) if request else None
    guard = Admitted(request, params, now, silencing) if request else None
    # nothing is asked or written in check mode; what would be refused is said at the end
    admission = None if check_mode else guard
    context = Context(check_mode, now, progress, module.warn, admission or Unguarded())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end_orderly)
    try:
        result = execute(params, context)
    except OpsError as error:
        told = admission.refused(error) if admission else {}
        module.fail_json(
            msg=error.message, code=error.code, cause=error.cause, remedy=error.remedy, details=error.details, **told
        )
        return
    except BaseException as error:
        if admission:
            admission.refused(OpsError("module_failed", f"{type(error).__name__} ended the module.", "See its output."))
        raise
    answer: dict[str, object] = {"changed": result.changed, "msg": result.message}
    answer.update(result.evidence)
    if result.plan is not None:
        answer["plan"] = result.plan.as_dict()
        for line in result.plan.warnings:
            module.warn(line)
        if module._diff:
            after = describe(result.plan.actions)
            answer["diff"] = {"before": "\n".join(result.before) + "\n", "after": "\n".join(after) + "\n"}
    if guard and check_mode:
        for found in guard.against(result.plan):
            module.warn(f"would be refused: {found.message}")
    if admission:
        answer.update(admission.done(result.plan, result.changed, result.message))
    module.exit_json(**answer)
