# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of ours passes: meta/runtime.yml routes them here, so no way leads past it.

Those that only read are looked at for secrets that would lie open on their way; what follows is for those that
change something.

The module itself asks for lease and approval and writes intent and outcome, between its decision and its first act
(module_utils/admitted.py): only there is the real plan known, and it costs no call of its own. Here, on the
controller, is what only the controller knows: the run, its hosts, the calendar, and that a module ended without
a word.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import cast

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import parse_plan, preview
from ansible_collections.saasops.runbook.plugins.module_utils.domain.secrets import carried
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import (
    RECONCILE,
    VERBS,
    Verb,
    lease_name,
    verb_of,
)
from ansible_collections.saasops.runbook.plugins.module_utils.process import is_dead
from ansible_collections.saasops.runbook.plugins.plugin_utils import run_state, witness
from ansible_collections.saasops.runbook.plugins.plugin_utils.notices import hindrance
from ansible_collections.saasops.runbook.plugins.plugin_utils.progress import Watch
from ansible_collections.saasops.runbook.plugins.plugin_utils.records import Records
from ansible_collections.saasops.runbook.plugins.plugin_utils.request import (
    anchor_of,
    as_request,
    calendar_lines,
    calendar_of,
    group_of,
    mode_of,
    of_grant,
    plain_policy,
    silence_of,
    standing_hosts,
)
from ansible_collections.saasops.runbook.plugins.plugin_utils.results import failure

display = Display()
_Answer = dict[str, object]
_Bypasses = Sequence[dict[str, str]]
# seconds that a second attempt waits for a lease; then it names the holder
LEASE_WAIT = 10.0
# facts of a host during a run: the plans of its first play, and what the second play admitted
_RECONCILE = "saasops.runbook.guard_reconcile"
PLANS, GRANT = "saasops_plans", "saasops_grant"
# what the run went past on a host so far
BYPASSED = "saasops_bypassed"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs one of our modules under the guard."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, object] | None = None) -> dict[str, object]:
        task_vars = task_vars or {}
        result: dict[str, object] = super().run(tmp, task_vars)
        del tmp
        if self._task.async_val:
            return {**result, **failure(_no_async())}
        short = str(self._task.action).rpartition(".")[2]
        args = dict(self._task.args)
        exposed = self._exposed(args)
        if exposed is not None:
            return {**result, **failure(exposed)}
        if short == "admission":
            return {**result, **self._step(args, task_vars)}
        if short == "guard_status":
            try:
                args["calendar"] = calendar_lines(task_vars, self._templar.template, time.time())
            except OpsError as error:
                args["calendar"] = [f"CALENDAR: {error.message}"]
        verb = verb_of(short, args, str(task_vars.get("saasops_verb") or ""))
        if verb is None:
            return {**result, **self._execute_module(module_args=args, task_vars=task_vars)}
        if {"guard", "guard_anchor", "guard_silence", "progress_file"} & set(args):
            return {**result, **failure(_internal_option())}
        try:
            request = self._request(verb, args, task_vars)
            args.update(self._beside(verb, request, task_vars))
            exposed = self._exposed(args)
            if exposed is not None:
                raise exposed
            if verb is RECONCILE:
                args = self._with_dead(args, request, task_vars)
        except OpsError as error:
            return {**result, **failure(error)}
        answer = self._admitted(verb, args, request, task_vars)
        if verb is not RECONCILE:
            self._put_back(answer.pop("overdue", None), args, task_vars)
        return {**result, **answer}

    def _with_dead(
        self, args: dict[str, object], request: Mapping[str, object], task_vars: dict[str, object]
    ) -> dict[str, object]:
        """The options of guard_reconcile with the runs that are over, proven by their processes on this controller.

        Raises OpsError internal_option, and reconcile_failed when it could not look.
        """
        if {"dead_runs", "own_run"} & set(args):
            raise _internal_option()
        seen = self._execute_module(
            module_name=_RECONCILE, module_args={**args, "own_run": request["run"]}, task_vars=task_vars
        )
        if seen.get("failed") or seen.get("unreachable"):
            cause = str(seen.get("cause") or seen.get("msg"))
            raise OpsError(str(seen.get("code") or "reconcile_failed"), cause, str(seen.get("remedy") or ""))
        processes = cast("Mapping[str, Mapping[str, object]]", seen.get("processes") or {})
        dead = [run for run, process in processes.items() if run != request["run"] and is_dead(process)]
        named = [str(args["run"])] if args.get("run") else []
        return {**args, "own_run": request["run"], "dead_runs": sorted({*dead, *named})}

    def _beside(self, verb: Verb, request: Mapping[str, object], task_vars: dict[str, object]) -> dict[str, object]:
        """Options that carry a login of their own: whom the guard tells, and where it keeps the journal's head.

        Raises OpsError guard_misconfigured, bad_matcher.
        """
        silence = silence_of(verb, request, self._templar.template(task_vars.get("saasops_silence")))
        return {**silence, **anchor_of(task_vars, self._templar.template)}

    def _put_back(self, overdue: object, args: Mapping[str, object], task_vars: dict[str, object]) -> None:
        """What the module found open past its end: closed now, and said; its failure is not the module's."""
        if not overdue or self._task.check_mode or "connection" not in args:
            return
        options: dict[str, object] = {name: args[name] for name in ("system", "connection", "store") if name in args}
        try:
            request = self._request(RECONCILE, options, task_vars)
            options.update(self._beside(RECONCILE, request, task_vars))
            options = self._with_dead(options, request, task_vars)
            done = self._admitted(RECONCILE, options, request, task_vars, module=_RECONCILE)
        except OpsError as error:
            display.warning(f"what is open past its end stays: {error.message}")
            return
        for line in cast("list[str]", done.get("reverted") or []):
            display.display(f"    {request['host']}: {line}")
        if done.get("failed"):
            display.warning(f"what is open past its end stays: {done.get('msg')}")

    def _exposed(self, args: Mapping[str, object]) -> OpsError | None:
        """Why secrets among the parameters would lie in a file on the host while the module runs; None when not.

        Asked of Ansible itself: the answer is the one by which it chooses between standard input and a file.
        """
        secrets = carried(args)
        if not secrets or self._is_pipelining_enabled("new"):
            return None
        become = self._connection.become
        how = "Set ansible_pipelining: true for the host, or pipelining = true in [connection] of ansible.cfg"
        if constants.DEFAULT_KEEP_REMOTE_FILES:
            why, how = "ANSIBLE_KEEP_REMOTE_FILES is on", "Switch ANSIBLE_KEEP_REMOTE_FILES (keep_remote_files) off"
        elif not self._connection.has_pipelining:
            why = f"the connection {self._connection.ansible_name} cannot pipeline"
            how = "Use another connection (ssh, local)"
        elif become is not None and (become.name == "su" or not getattr(become, "pipelining", True)):
            why, how = f"become_method {become.name} cannot pipeline", "Use another become_method (sudo)"
        else:
            why = "pipelining is off"
        return _pipelining_required(secrets, why, how)

    def _step(self, args: dict[str, object], task_vars: dict[str, object]) -> dict[str, object]:
        """Decide, join or close: on the first host of each system that still stands, for all of them."""
        verb = VERBS.get(str(args.get("verb")))
        if verb is None and "verb" in args:
            return failure(_unknown_verb(str(args["verb"])))
        if verb is None or "step" not in args:
            # the module's own words about its options
            return cast(_Answer, self._execute_module(module_args=args, task_vars=task_vars))
        try:
            request = self._request(verb, args, task_vars)
        except OpsError as error:
            return failure(error)
        host, standing = str(request["host"]), standing_hosts(request)
        hostvars = cast("Mapping[str, Mapping[str, object]]", task_vars.get("hostvars") or {})
        if args["step"] == "join":
            grant = hostvars[standing[0]].get(GRANT)
            if not isinstance(grant, Mapping) or grant.get("run") != request["run"]:
                return failure(_no_grant(standing[0]))
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

    def _attempts(
        self, module_args: dict[str, object], task_vars: dict[str, object], module: str | None
    ) -> dict[str, object]:
        """Run the module; when a lease is held, once more: at once if its holder is provably dead, else waiting."""
        answer: dict[str, object] = self._execute_module(
            module_name=module, module_args=module_args, task_vars=task_vars
        )
        held = _held_by(answer)
        if not held:
            return answer
        request = cast("dict[str, object]", module_args["guard"])
        report = cast("Mapping[str, object]", answer.get("guard_report") or {})
        # what the first attempt wrote is written
        again: dict[str, object] = {**request, "events": report.get("unwritten") or [], "lease_wait": LEASE_WAIT}
        # of those some may be in the chain, up to where the store failed
        again["events_again_since"] = time.time()
        if is_dead(cast("Mapping[str, object]", held.get("holder") or {})):
            again["dead_runs"] = [held["run"]]
        repeated = {**module_args, "guard": again}
        return cast(
            "dict[str, object]",
            self._execute_module(module_name=module, module_args=repeated, task_vars=task_vars),
        )

    def _admitted(
        self,
        verb: Verb,
        args: dict[str, object],
        request: dict[str, object],
        task_vars: dict[str, object],
        module: str | None = None,
    ) -> dict[str, object]:
        host, system = str(request["host"]), str(args.get("system") or request["host"])
        path = f"/tmp/saasops-progress-{os.urandom(8).hex()}"  # noqa: S108 - made by the module, mode 0600, gone at its end

        def show(line: str) -> None:
            display.display(f"    {host}: {line}")

        answer: dict[str, object] = {}
        with Records(system, request, str(self._task.action)) as records:
            if not self._task.check_mode:
                request.update(records.to_write())
            try:
                with Watch(self, path, show):
                    answer = self._attempts({**args, "progress_file": path, "guard": request}, task_vars, module)
            finally:
                report = answer.pop("guard_report", None)
                if not self._task.check_mode:
                    # without a report the module was killed, or its host went away: what it had begun is unknown here
                    records.settle(report if isinstance(report, dict) else None, answer)
        plan = answer.get("plan")
        planning = task_vars.get("saasops_phase") == "plan"
        if self._task.check_mode and not planning and isinstance(plan, Mapping):
            for line in preview(parse_plan(plan)):
                show(line)
        if planning and isinstance(plan, Mapping):
            earlier = cast("Mapping[str, object]", task_vars.get(PLANS) or {})
            answer["ansible_facts"] = {PLANS: {**earlier, verb.name: {"plan": plan, "lease": request["lease"]}}}
        if isinstance(report, dict):
            bypassed = cast("list[dict[str, str]]", report.get("bypassed") or [])
            for line in [*(report.get("interrupted") or []), *(report.get("warnings") or [])]:
                display.warning(line)
            answer["overdue"] = report.get("overdue") or []
            answer["guard"] = {
                "run": report["run"],
                "bypassed": bypassed,
                "refused": bool(report.get("refused")),
            }
            earlier_in_run = cast(_Bypasses, task_vars.get(BYPASSED) or [])
            past = [*earlier_in_run, *(item for item in bypassed if item not in earlier_in_run)]
            if bypassed:
                # one block, last of all that is said, and whole: a later task of the run repeats the earlier ones'
                why = str(report.get("break_glass") or "saasops_guard: none")
                display.warning("\n".join([f"{host} went past the guard ({why}):", *map(_past_line, past)]), True)
                facts = cast("dict[str, object]", answer.setdefault("ansible_facts", {}))
                facts[BYPASSED] = past
        return answer


def _held_by(answer: Mapping[str, object]) -> Mapping[str, object]:
    """What a refused module said of the run that holds its lease."""
    details = answer.get("details")
    return details if answer.get("code") == "lease_held" and isinstance(details, Mapping) else {}


def _past_line(item: Mapping[str, str]) -> str:
    return f"  [{item['code']}] gone past: {item['cause']}"


def _unknown_verb(name: str) -> OpsError:
    return OpsError("unknown_verb", f"{name!r} is no verb that changes anything.", f"Use one of {', '.join(VERBS)}.")


def _no_grant(leader: str) -> OpsError:
    return OpsError("not_admitted", f"This run was not admitted; {leader} decided for the system.", "See what it said.")


def _no_async() -> OpsError:
    return OpsError(
        "async_not_supported",
        "Modules of this collection are not run with async: nobody would see their end.",
        "Leave async out; the module shows its progress.",
    )


def _pipelining_required(secrets: list[str], why: str, how: str) -> OpsError:
    return OpsError(
        "pipelining_required",
        f"The parameters hold secrets ({', '.join(secrets)}) and {why}: Ansible would write them to a temporary file "
        "on the host, and a run that is killed would leave it there.",
        f"{how}; or keep the secret on the host (.pgpass, a profile) instead of in the inventory.",
        {"secrets": secrets},
    )


def _internal_option() -> OpsError:
    return OpsError(
        "internal_option",
        "The options guard, guard_anchor, guard_silence and progress_file are set by admission alone.",
        "Leave them out.",
    )
