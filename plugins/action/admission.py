# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every changing module of ours passes: meta/runtime.yml routes them here, so no way leads past it.

The module itself asks for lease and approval and writes intent and outcome, between its decision and its first act
(module_utils/admitted.py): only there is the real plan known, and it costs no call of its own. Here, on the
controller, is what only the controller knows: the run, its hosts, the calendar, and that a module ended without
a word.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import cast

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import VERBS, Verb, lease_name, verb_of
from ansible_collections.saasops.runbook.plugins.module_utils.process import is_dead
from ansible_collections.saasops.runbook.plugins.plugin_utils import run_state, witness
from ansible_collections.saasops.runbook.plugins.plugin_utils.notices import hindrance
from ansible_collections.saasops.runbook.plugins.plugin_utils.progress import Watch
from ansible_collections.saasops.runbook.plugins.plugin_utils.records import Records
from ansible_collections.saasops.runbook.plugins.plugin_utils.request import (
    as_request,
    calendar_of,
    group_of,
    mode_of,
    of_grant,
    plain_policy,
    silence_of,
    standing_hosts,
)

display = Display()
# seconds that a second attempt waits for a lease; then it names the holder
LEASE_WAIT = 10.0
# facts of a host during a run: the plans of its first play, and what the second play admitted
PLANS, GRANT = "saasops_plans", "saasops_grant"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs one of our modules under the guard."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, object] | None = None) -> dict[str, object]:
        task_vars = task_vars or {}
        result: dict[str, object] = super().run(tmp, task_vars)
        del tmp
        if self._task.async_val:
            return {**result, **_failure(_no_async())}
        short = str(self._task.action).rpartition(".")[2]
        args = dict(self._task.args)
        if short == "admission":
            return {**result, **self._step(args, task_vars)}
        verb = verb_of(short, args, str(task_vars.get("saasops_verb") or ""))
        if verb is None:
            return {**result, **self._execute_module(module_args=args, task_vars=task_vars)}
        if {"guard", "guard_silence", "progress_file"} & set(args):
            return {**result, **_failure(_internal_option())}
        try:
            request = self._request(verb, args, task_vars)
            args.update(silence_of(verb, request, self._templar.template(task_vars.get("saasops_silence"))))
        except OpsError as error:
            return {**result, **_failure(error)}
        return {**result, **self._admitted(verb, args, request, task_vars)}

    def _step(self, args: dict[str, object], task_vars: dict[str, object]) -> dict[str, object]:
        """Decide, join or close: on the first host of each system that still stands, for all of them."""
        verb = VERBS.get(str(args.get("verb")))
        if verb is None:
            return _failure(_unknown_verb(str(args.get("verb"))))
        try:
            request = self._request(verb, args, task_vars)
        except OpsError as error:
            return _failure(error)
        host, standing = str(request["host"]), standing_hosts(request)
        hostvars = cast("Mapping[str, Mapping[str, object]]", task_vars.get("hostvars") or {})
        if args["step"] == "join":
            grant = hostvars[standing[0]].get(GRANT)
            if not isinstance(grant, Mapping) or grant.get("run") != request["run"]:
                return _failure(_no_grant(standing[0]))
            return {"changed": False, "ansible_facts": {GRANT: dict(grant)}}
        if host != standing[0]:
            return {"changed": False, "skipped": True, "msg": f"{standing[0]} does it for the whole system."}
        made = {
            name: found[verb.name]
            for name in standing
            if isinstance(found := hostvars[name].get(PLANS), Mapping) and verb.name in found
        }
        leases: dict[str, list[str]] = {}
        for name, one in made.items():
            if one["lease"]:
                leases.setdefault(one["lease"], []).append(name)
        module_args = {
            **args,
            "request": {**request, "leases": leases},
            "plans": {name: one["plan"] for name, one in made.items()},
        }
        answer: dict[str, object] = self._execute_module(module_args=module_args, task_vars=task_vars)
        if answer.get("grant") is not None:
            answer["ansible_facts"] = {GRANT: answer["grant"] or {"run": request["run"], "hosts": []}}
        if answer.get("lines"):
            for line in cast("list[str]", answer["lines"]):
                display.display(f"    {line}")
        return answer

    def _request(self, verb: Verb, args: Mapping[str, object], task_vars: dict[str, object]) -> dict[str, object]:
        """The option guard. Raises OpsError guard_misconfigured, and the calendar's errors."""
        host = str(task_vars.get("inventory_hostname"))
        system = str(args.get("system") or host)
        glass = str(self._templar.template(task_vars.get("break_glass") or ""))
        if not self._task.check_mode:
            hindered = hindrance(self._templar.template(task_vars.get("saasops_notify")), verb, bool(glass))
            if hindered is not None:
                display.warning(hindered.message)
        run = run_state.current(task_vars)
        hosts, failed = group_of(system, task_vars)
        calendar = calendar_of(verb, task_vars, self._templar.template, time.time())
        return as_request(
            verb,
            run,
            host,
            hosts,
            failed,
            action=str(self._task.action),
            witnessed=witness.witness_active(),
            mode=mode_of(self._templar.template(task_vars.get("saasops_guard"))),
            lease=lease_name(verb, str(args.get("database") or "")),
            policy=plain_policy(task_vars, self._templar.template),
            break_glass=glass,
            reason=str(self._templar.template(task_vars.get("reason") or "")),
            **calendar,
            **of_grant(task_vars.get(GRANT), str(run["run"]), verb, host),
        )

    def _attempts(self, module_args: dict[str, object], task_vars: dict[str, object]) -> dict[str, object]:
        """Run the module; when a lease is held, once more: at once if its holder is provably dead, else waiting."""
        answer: dict[str, object] = self._execute_module(module_args=module_args, task_vars=task_vars)
        held = _held_by(answer)
        if not held:
            return answer
        request = cast("dict[str, object]", module_args["guard"])
        report = cast("Mapping[str, object]", answer.get("guard_report") or {})
        # what the first attempt wrote is written
        again: dict[str, object] = {**request, "events": report.get("unwritten") or [], "lease_wait": LEASE_WAIT}
        if is_dead(cast("Mapping[str, object]", held.get("holder") or {})):
            again["dead_runs"] = [held["run"]]
        return cast(
            "dict[str, object]", self._execute_module(module_args={**module_args, "guard": again}, task_vars=task_vars)
        )

    def _admitted(
        self,
        verb: Verb,
        args: dict[str, object],
        request: dict[str, object],
        task_vars: dict[str, object],
    ) -> dict[str, object]:
        host, system = str(request["host"]), str(args.get("system") or request["host"])
        path = f"/tmp/saasops-progress-{os.urandom(8).hex()}"  # noqa: S108 - the module makes it anew, mode 0600

        def show(line: str) -> None:
            display.display(f"    {host}: {line}")

        answer: dict[str, object] = {}
        with Records(system, request, str(self._task.action)) as records:
            if not self._task.check_mode:
                request.update(records.to_write())
            try:
                with Watch(self, path, show):
                    answer = self._attempts({**args, "progress_file": path, "guard": request}, task_vars)
            finally:
                report = answer.pop("guard_report", None)
                if not self._task.check_mode:
                    # without a report the module was killed, or its host went away: what it had begun is unknown here
                    records.settle(report if isinstance(report, dict) else None, answer)
        if task_vars.get("saasops_phase") == "plan" and isinstance(answer.get("plan"), Mapping):
            earlier = cast("Mapping[str, object]", task_vars.get(PLANS) or {})
            answer["ansible_facts"] = {
                PLANS: {**earlier, verb.name: {"plan": answer["plan"], "lease": request["lease"]}}
            }
        if isinstance(report, dict):
            for item in report.get("bypassed") or []:
                display.warning(f"[{item['code']}] gone past: {item['cause']}")
            answer["guard"] = {
                "run": report["run"],
                "bypassed": report.get("bypassed") or [],
                "refused": bool(report.get("refused")),
            }
        return answer


def _held_by(answer: Mapping[str, object]) -> Mapping[str, object]:
    """What a refused module said of the run that holds its lease."""
    details = answer.get("details")
    return details if answer.get("code") == "lease_held" and isinstance(details, Mapping) else {}


def _failure(error: OpsError) -> dict[str, object]:
    return {
        "failed": True,
        "msg": error.message,
        "code": error.code,
        "cause": error.cause,
        "remedy": error.remedy,
        "details": error.details,
    }


def _unknown_verb(name: str) -> OpsError:
    return OpsError("unknown_verb", f"{name!r} is no verb that changes anything.", f"Use one of {', '.join(VERBS)}.")


def _no_grant(leader: str) -> OpsError:
    return OpsError("not_admitted", f"This run was not admitted; {leader} decided for the system.", "See what it said.")


def _no_async() -> OpsError:
    return OpsError(
        "async_not_supported",
        "A module that changes something is not run with async: nobody would see its end.",
        "Leave async out; the module shows its progress.",
    )


def _internal_option() -> OpsError:
    return OpsError(
        "internal_option",
        "The options guard, guard_silence and progress_file are set by admission alone.",
        "Leave them out.",
    )
