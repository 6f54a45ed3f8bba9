# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boundary of our modules: one error type, one result.

Private to this collection: not an interface for others.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.saasops.runbook.plugins.module_utils.admitted import Admitted, Opening
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan, describe
from ansible_collections.saasops.runbook.plugins.module_utils.progress_file import ProgressFile, sweep
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import SILENCE_SPEC, Silencing
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

# What admission hands to every changing module; nobody else sets it.
GUARD_SPEC: dict[str, dict[str, object]] = {
    "guard": {"type": "dict", "no_log": False},
    "progress_file": {"type": "path"},
    "guard_silence": {"type": "dict", "options": SILENCE_SPEC},
    "guard_anchor": {**STORE_SPEC["store"], "required": False},
}


@dataclass
class Result:
    """What a module returns: the plan it had, whether it changed anything, the evidence, and a sentence.

    undo: the way back as data for the journal (verb and its variables), {} when there is none; undo -e run=<id>
    reads it.
    """

    plan: Plan | None = None
    changed: bool = False
    message: str = ""
    evidence: dict[str, object] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    undo: Mapping[str, Json] = field(default_factory=dict)


class Admission(Protocol):
    """The guard's side of a run, see admitted.Admitted."""

    def authorise(self, plan: Plan) -> None:
        """Begin to act, or raise every reason not to."""

    def confirm(self) -> None:
        """Still the run that may act, right before a point of no return. Raises lease_lost, window_ended."""

    def opens(self, opening: Opening) -> None:
        """Record what is about to be opened, before it is; durable on return. Raises the store's errors."""

    def closes(self, identifier: str, how: str) -> None:
        """Record that it is over; no error when it was not open. Raises the store's errors."""

    def says(self, kind: str, facts: Mapping[str, object]) -> None:
        """A record of the journal of its own, for instance reverted."""


class Unguarded:
    """No admission: check mode, and whoever calls execute() as Python."""

    def authorise(self, plan: Plan) -> None:
        """Always."""

    def confirm(self) -> None:
        """Always."""

    def opens(self, opening: Opening) -> None:
        """Nobody is told."""

    def closes(self, identifier: str, how: str) -> None:
        """Nobody is told."""

    def says(self, kind: str, facts: Mapping[str, object]) -> None:
        """Nobody is told."""


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
    # the reason of break glass, "" without; and whether it goes past an error, told with what follows from it
    break_glass: str = ""
    go_past: Callable[[OpsError, str], bool] = lambda _error, _what: False
    # the inventory's saasops_silence, for whoever ends silences of other runs
    silence: Mapping[str, object] | None = None
    # the run's id, "" when nobody gave one
    run: str = ""
    # names of the windows that the inventory defines and that are open now, and the end of work (POSIX seconds)
    windows: tuple[str, ...] = ()
    deadline: float | None = None

    def authorise(self, plan: Plan) -> None:
        """Stop here unless the plan may be carried out now. Nothing is asked in check mode."""
        if not self.check_mode:
            self.admission.authorise(plan)


@contextlib.contextmanager
def _progress(path: str | None) -> Iterator[Callable[[str], None]]:
    """What shows a line to the operator: through a small file that admission reads while the module runs."""
    if not path:
        yield lambda _line: None
        return
    sweep(path)
    with ProgressFile(path) as file:
        yield file.write


# seconds after a signal in which another one says nothing new
PATIENCE = 10.0


class Heeding:
    """An admission that remembers a signal: nothing final is begun after one, even if it went unheeded.

    The signal's error comes out of whatever call was under way, where somebody may take it for the failure of that
    call and go on. A second signal soon after it does not cut the cleaning up: Ctrl-C reaches a module more than once.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._told: OpsError | None = None
        self._told_at = 0.0
        self.opens, self.closes, self.says = admission.opens, admission.closes, admission.says

    def end(self, number: int, _frame: object) -> None:
        """Handler of a signal. Raises interrupted."""
        if self._told is not None and time.monotonic() - self._told_at < PATIENCE:
            return
        self._told_at = time.monotonic()
        # the end of a window must not cut the cleaning up that begins here
        signal.setitimer(signal.ITIMER_REAL, 0)
        # SIGTERM and SIGHUP would skip every finally: what a module opened would stay open
        self._told = OpsError(
            "interrupted",
            f"The module received {signal.Signals(number).name} and stopped.",
            "What it had begun was put back; run the verb again.",
        )
        raise self._told

    def _heed(self) -> None:
        if self._told is not None:
            raise self._told

    def authorise(self, plan: Plan) -> None:
        """Raises interrupted, and what the admission raises."""
        self._heed()
        self._admission.authorise(plan)

    def confirm(self) -> None:
        """Raises interrupted, and what the admission raises."""
        self._heed()
        self._admission.confirm()


def _foretell(guard: Admitted, plan: Plan | None, warn: Callable[[str], None]) -> None:
    """Say in check mode what the guard would make of the plan."""
    for found in guard.against(plan):
        warn(f"would be refused: {found.message}")
    for found in guard.bypassed:
        warn(f"would be gone past: {found.message}")


def run_module(
    spec: Mapping[str, object],
    execute: Callable[[dict[str, object], Context], Result],
    **constraints: object,
) -> None:
    """Parse, execute, and turn an OpsError into fail_json(msg, code, cause, remedy): the only place that does."""
    module = AnsibleModule(argument_spec=dict(spec), supports_check_mode=True, **constraints)
    params = dict(module.params)
    request = cast("dict[str, object]", params.pop("guard", None) or {})
    path = cast("str | None", params.pop("progress_file", None))
    now, check_mode = time.time(), bool(module.check_mode)
    quiet = cast("dict[str, object] | None", params.pop("guard_silence", None))
    silencing = Silencing(quiet, request, str(params.get("system") or ""), module.warn) if request else None
    anchor = cast("dict[str, object] | None", params.pop("guard_anchor", None))
    guard = Admitted(request, params, now, silencing, anchor) if request else None
    # nothing is asked or written in check mode; what would be refused is said at the end
    admission = None if check_mode else guard
    heeding = Heeding(admission or Unguarded())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, heeding.end)
    try:
        with _progress(path) as progress:
            context = Context(check_mode, now, progress, module.warn, heeding, silence=quiet)
            if guard:
                context = replace(
                    context,
                    break_glass=guard.break_glass,
                    go_past=guard.go_past,
                    windows=guard.open_windows,
                    deadline=guard.ends_at,
                    run=guard.run,
                )
            result = execute(params, context)
    except OpsError as error:
        told = admission.refused(error) if admission else {}
        module.fail_json(**error.as_result(), **told)
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
        _foretell(guard, result.plan, module.warn)
    if admission:
        answer.update(admission.done(result.plan, result.changed, result.message, result.undo))
    module.exit_json(**answer)
