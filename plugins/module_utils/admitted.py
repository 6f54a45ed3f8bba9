# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard inside a module: between its decision and its first act, right before points of no return, and at its end.

It lives here and not on the controller because only here is the real plan known, and because the store's address is
valid here. Admission (plugins/action/admission.py) hands in who asks and under which rules, and takes what could not
be written to the journal back to the controller.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.admitted_chronicle import Chronicle
from ansible_collections.saasops.runbook.plugins.module_utils.admitted_ground import Ground, names
from ansible_collections.saasops.runbook.plugins.module_utils.admitted_lease import Holding
from ansible_collections.saasops.runbook.plugins.module_utils.deadline import Deadline
from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import (
    envelope_of,
    parse_envelope,
    refuse_outside,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import (
    BYPASSABLE,
    Approval,
    decide,
    failed_hosts,
    needs_approval,
    parse_approval,
    refusal,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem, over
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.withheld import HOLDABLE, refusals, unreadable
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import Silencing
from ansible_collections.saasops.runbook.plugins.module_utils.store import approvals, open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store import plans as plan_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases


@dataclass(frozen=True)
class Opening:
    """What a module is about to open, and how it is put back; see domain/open_item.py for the fields."""

    id: str
    what: str
    module: str
    undo: Mapping[str, Json]
    expiry: float | None = None
    outlives: bool = False
    actor: str = ""
    holds: tuple[str, ...] = ()


class Admitted:
    """One module under the guard; see module.Admission."""

    def __init__(
        self,
        body: Mapping[str, object],
        params: Mapping[str, object],
        now: float,
        silencing: Silencing | None = None,
        anchor: Mapping[str, object] | None = None,
    ) -> None:
        self._ground = Ground(body, params, now)
        self._body, self._request, self._policy = body, self._ground.request, self._ground.policy
        self._chronicle = Chronicle(self._ground, anchor)
        self._holding = Holding(self._ground, self._chronicle)
        self._silencing = silencing
        self._plan: Plan | None = None
        self._overdue: list[str] = []
        # break glass works past the end of a window, as it begins outside of one
        self._deadline = Deadline(None if self.break_glass else self._request.deadline)

    @property
    def run(self) -> str:
        """The run's id."""
        return self._request.run

    @property
    def break_glass(self) -> str:
        """The reason, "" without."""
        return self._ground.glass

    @property
    def bypassed(self) -> Sequence[OpsError]:
        """What was gone past so far."""
        return tuple(self._ground.bypassed)

    def go_past(self, error: OpsError, what: str) -> bool:
        """Whether break glass goes past an unavailable store; it is told with what follows from it, once."""
        return self._ground.go_past(error, what)

    def authorise(self, plan: Plan) -> None:
        """Everything that must hold before the first act; then the lease, then the intent on record.

        Asked again (a second attempt at the same act), the plan must stay within the first one.
        Raises OpsError: all refusals together, lease_held, journal_unavailable.
        """
        if plan.empty:
            return
        if self._plan is not None:
            beyond = refuse_outside(envelope_of(plan), envelope_of(self._plan), "the plan that was begun")
            if beyond is not None:
                raise beyond
            return
        self._require_journal()
        held = self._held_back(plan)
        if held:
            raise refusal(held)
        agreed = self._body.get("envelope")
        if self._body.get("mode") == "none":
            self._ground.bypassed.append(OpsError("guard_none", "The guard is switched off (saasops_guard: none).", ""))
        elif agreed is not None:
            # decided over all hosts before; this host's plan must be what was decided about
            beyond = refuse_outside(envelope_of(plan), parse_envelope(agreed), f"plan {self._body.get('plan')}")
            if beyond is not None:
                raise beyond
            self._check_hosts()
            self._holding.take()
        else:
            self._check(plan)
            self._holding.take()
        try:
            facts = {"plan": plan.as_dict(), "process": self._ground.process()}
            self._chronicle.write(
                [*self._chronicle.bypasses(), *self._silence(), self._chronicle.event("intent", facts)]
            )
        except OpsError:
            self._holding.give_back()
            raise
        self._plan = plan
        self._find_overdue()
        self._deadline.arm()

    def _silence(self) -> list[Event]:
        if self._silencing is None:
            return []
        lease = self._holding.name if self._holding.token else ""
        facts = self._silencing.open(lambda: self._ground.store, lease, bool(self.break_glass))
        return [self._chronicle.event(kind, fact) for kind, fact in facts]

    def _require_journal(self) -> None:
        """Where a journal is required, what the guard does not see must be seen too."""
        if self._policy.journal != "required" or self._body.get("witnessed"):
            return
        error = OpsError(
            "journal_unavailable",
            "The journal is required here, and the callback that records other tasks is not on.",
            "Set callbacks_enabled = saasops.runbook.witness in ansible.cfg (ANSIBLE_CALLBACKS_ENABLED).",
        )
        if not self.break_glass:
            raise error
        self._ground.bypassed.append(error)

    def _held_back(self, plan: Plan) -> list[OpsError]:
        """What is open and holds this verb back; neither break glass nor `guard: none` goes past that."""
        verb = self._request.verb.name
        if verb not in HOLDABLE:
            return []
        found: list[OpsError] = []
        with self._ground.tolerating("what is held back could not be read"):
            items, bad = open_items.read(self._ground.store, self._ground.system)
            unknown = unreadable(bad)
            found += [*refusals(items, verb, plan), *([unknown] if unknown else [])]
        return found

    def _approvals(self) -> list[Approval]:
        readable: list[Approval] = []
        if needs_approval(self._policy, self._request.verb):
            with self._ground.tolerating("approvals could not be read"):
                found = (parse_approval(*pair) for pair in approvals.read(self._ground.store))
                readable = [item for item in found if item is not None]
        return readable

    def against(self, plan: Plan | None) -> list[OpsError]:
        """Everything that would speak against the plan now; for check mode, which is refused nothing."""
        if plan is None or plan.empty:
            return []
        try:
            held = self._held_back(plan)
            return held if self._body.get("mode") == "none" else [*held, *self._against(plan)]
        except OpsError as error:
            return [error]

    def _against(self, plan: Plan) -> list[OpsError]:
        verdict = decide(self._policy, self._request, plan, self._approvals(), time.time())
        return [*verdict.refusals, *verdict.bypassed, *self._holding.of_others()]

    def grant(self, plans: Mapping[str, Plan], whole: Plan) -> dict[str, object]:
        """Decide over all hosts of a run, take the lease for all of them and keep the plan; see execute/admission.py.

        Raises OpsError: all refusals together, lease_held, journal_unavailable.
        """
        self._require_journal()
        held = self._held_back(whole)
        if held:
            raise refusal(held)
        self._check(whole, plans)
        tokens: dict[str, int] = {}
        try:
            # in one order, so that two runs never wait for each other
            for name, hosts in sorted(cast("dict[str, list[str]]", self._body.get("leases") or {}).items()):
                with self._ground.tolerating("no lease could be taken"):
                    tokens[name] = self._holding.acquire(name, tuple(hosts))
            kept = ""
            with self._ground.tolerating("the plan could not be kept"):
                kept = plan_store.keep(self._ground.store, self._ground.system, self._request, plans, time.time())
            self._chronicle.write(
                [*self._chronicle.bypasses(), self._chronicle.event("note", {"code": "admitted", "plan": kept})]
            )
        except OpsError:
            for name in tokens:
                with contextlib.suppress(OpsError):
                    Leases(self._ground.store).release(name, self._request.run, time.time(), self._request.operator)
            raise
        return {
            "run": self._request.run,
            "plan": kept,
            "verb": self._request.verb.name,
            "tokens": tokens,
            "envelopes": {host: envelope_of(plan).as_json() for host, plan in plans.items()},
        }

    def _check_hosts(self) -> None:
        """Before each batch: too many hosts of the run failed by now, or the window closed meanwhile."""
        hosts = failed_hosts(self._policy, self._request)
        now = [item for item in (self._request.window, hosts) if item is not None]
        past = [item for item in now if self.break_glass and item.code in BYPASSABLE]
        self._ground.bypassed += past
        if len(past) < len(now):
            raise refusal([item for item in now if item not in past])

    def _check(self, plan: Plan, plans: Mapping[str, Plan] | None = None) -> None:
        verdict = decide(self._policy, self._request, plan, self._approvals(), time.time())
        self._ground.bypassed += verdict.bypassed
        if not verdict.refusals:
            return
        error = refusal(verdict.refusals)
        codes = {item.code for item in verdict.refusals}
        if codes & {"approval_required", "approval_expired", "outside_envelope"}:
            mine = plans or {self._ground.host: plan}
            try:
                kept = plan_store.keep(self._ground.store, self._ground.system, self._request, mine, time.time())
            except OpsError as lost:
                # the refusals are what the operator must know, not that the store is in trouble too
                raise OpsError(
                    error.code, f"{error.cause} The plan could not be kept: {lost.cause}", lost.remedy, error.details
                ) from lost
            error = OpsError(
                error.code,
                error.cause,
                f"{error.remedy} This plan is kept as {kept}: ansible-playbook saasops.runbook.approve -e plan={kept}",
                {**error.details, "plan": kept},
            )
        raise error

    def confirm(self) -> None:
        """Raises lease_lost, window_ended; with break glass a store that does not answer is gone past."""
        self._deadline.pass_by()
        self._holding.confirm()

    def opens(self, opening: Opening) -> None:
        """Before the thing is opened: what it is, and how whoever comes next puts it back."""
        with self._ground.tolerating(f"{opening.id} could not be recorded as open"):
            open_items.record(
                self._ground.store,
                OpenItem(
                    id=opening.id,
                    system=self._ground.system,
                    host=self._ground.host,
                    what=opening.what,
                    verb=self._request.verb.name,
                    opened_by=self._request.run,
                    operator=self._request.operator,
                    opened=time.time(),
                    module=opening.module,
                    undo=opening.undo,
                    expiry=opening.expiry,
                    outlives=opening.outlives,
                    actor=opening.actor,
                    process=self._ground.process(),
                    holds=opening.holds,
                ),
            )

    def closes(self, identifier: str, how: str) -> None:
        """After the thing is closed; one that was not open is no error."""
        with self._ground.tolerating(f"{identifier} could not be recorded as closed"):
            item = open_items.look(self._ground.store, identifier)
            if item is not None:
                open_items.close(self._ground.store, item, self._request.run, how, time.time())

    def says(self, kind: str, facts: Mapping[str, object]) -> None:
        """One more record for the journal; what it does not take waits, as outcomes do."""
        self._chronicle.write([self._chronicle.event(kind, facts)], final=True)

    def _find_overdue(self) -> None:
        """What should have been closed by now: one listing; the controller has it put back after this module."""
        with contextlib.suppress(OpsError):
            items, _unreadable = open_items.read(self._ground.store, self._ground.system)
            dead = names(self._body.get("dead_runs"))
            self._overdue = [item.id for item in items if over(item, time.time(), dead)]

    def _report(self, *, failed: bool) -> dict[str, object]:
        self._holding.give_back(failed=failed)
        if self._silencing is not None:
            self._silencing.close(failed)
        return {
            "guard_report": {
                "refused": failed and self._plan is None,
                "run": self._request.run,
                "token": self._holding.token,
                "unwritten": [event.as_json() for event in self._chronicle.unwritten],
                "break_glass": self.break_glass,
                "bypassed": [{"code": item.code, "cause": item.cause} for item in self._ground.bypassed],
                "overdue": self._overdue,
                "interrupted": self._holding.interrupted,
                "warnings": self._chronicle.warnings,
            }
        }

    def refused(self, error: OpsError) -> dict[str, object]:
        """The module ends with an error: before its first act a refusal, after it a failed outcome."""
        self._deadline.disarm()
        seconds = round(time.time() - self._ground.began, 3)
        said: dict[str, object] = {"code": error.code, "cause": error.cause, "remedy": error.remedy}
        kind = "refusal" if self._plan is None else "outcome"
        self._chronicle.write([self._chronicle.event(kind, {**said, "failed": True, "seconds": seconds})], final=True)
        return self._report(failed=True)

    def done(
        self, plan: Plan | None, changed: bool, message: str, undo: Mapping[str, Json] | None = None
    ) -> dict[str, object]:
        """The module ends well."""
        self._deadline.disarm()
        facts: dict[str, object] = {
            "changed": changed,
            "failed": False,
            "seconds": round(time.time() - self._ground.began, 3),
            "message": message,
        }
        if self._plan is not None or changed:
            facts["plan"] = plan.as_dict() if plan else {}
        if undo:
            facts["undo"] = dict(undo)
        self._chronicle.write([self._chronicle.event("outcome", facts)], final=True)
        return self._report(failed=False)
