# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard inside a module: between its decision and its first act, right before points of no return, and at its end.

It lives here and not on the controller because only here is the real plan known, and because the store's address is
valid here. Admission (plugins/action/admission.py) hands in who asks and under which rules, and takes what could not
be written to the journal back to the controller.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.envelope import (
    envelope_of,
    parse_envelope,
    refuse_outside,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.guard import (
    BYPASSABLE,
    Approval,
    Policy,
    Request,
    decide,
    failed_hosts,
    needs_approval,
    parse_approval,
    parse_policy,
    refusal,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, new_id, parse_event
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import Holder
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease_rules import Ask, held
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, iso
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import OpenItem, over
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_runs import INTERRUPTED
from ansible_collections.saasops.runbook.plugins.module_utils.domain.plan import Plan
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import PRUNE, VERBS
from ansible_collections.saasops.runbook.plugins.module_utils.silencing import Silencing
from ansible_collections.saasops.runbook.plugins.module_utils.store import approvals, journal, open_items
from ansible_collections.saasops.runbook.plugins.module_utils.store import plans as plan_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.stand_in import DOWN

# how much of the ttl passes before a long module renews
RENEWALS_PER_TTL = 3


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


def _told(body: object) -> OpsError | None:
    """A refusal that the controller found (the calendar's), handed in as a dictionary."""
    if not isinstance(body, Mapping):
        return None
    return OpsError(str(body["code"]), str(body["cause"]), str(body["remedy"]), body.get("details"))


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("Sequence[object]", value or []))


def parse_request(body: Mapping[str, object]) -> Request:
    """The option guard as admission made it."""
    deadline = body.get("deadline")
    return Request(
        run=str(body["run"]),
        verb=VERBS[str(body["verb"])],
        operator=str(body.get("operator") or ""),
        hosts=_names(body.get("hosts")),
        failed=_names(body.get("failed")),
        window=_told(body.get("window")),
        deadline=None if deadline is None else float(str(deadline)),
        break_glass=str(body.get("break_glass") or ""),
    )


class Admitted:
    """One module under the guard; see module.Admission."""

    def __init__(
        self,
        body: Mapping[str, object],
        params: Mapping[str, object],
        now: float,
        silencing: Silencing | None = None,
    ) -> None:
        self._body = body
        self._silencing = silencing
        self._params = params
        self._began = now
        self._request = parse_request(body)
        self._policy: Policy = parse_policy(cast("Mapping[str, object]", body.get("policy") or {}))
        self._host = str(body["host"])
        self._system = str(params.get("system") or self._host)
        self._lease = str(body.get("lease") or "")
        self._token = 0
        self._plan: Plan | None = None
        self._stop = threading.Event()
        self._lost: OpsError | None = None
        self._unwritten: list[Event] = [parse_event(item) for item in cast("list[object]", body.get("events") or [])]
        self._bypassed: list[OpsError] = []
        self._opened: Store | None = None
        self._overdue: list[str] = []
        self._interrupted: list[str] = []
        self._away: OpsError | None = None

    @property
    def break_glass(self) -> str:
        """The reason, "" without."""
        return self._request.break_glass

    @property
    def bypassed(self) -> Sequence[OpsError]:
        """What was gone past so far."""
        return tuple(self._bypassed)

    def go_past(self, error: OpsError, what: str) -> bool:
        """Whether break glass goes past an unavailable store; it is told with what follows from it, once."""
        if not self.break_glass:
            return False
        self._past(error, what)
        return True

    def _past(self, error: OpsError, what: str) -> None:
        if error.code in DOWN:
            # a store that is gone is not waited for again by whoever comes next
            self._away = error
        found = OpsError(error.code, f"{what}: {error.cause}", error.remedy)
        if found.cause not in {item.cause for item in self._bypassed}:
            self._bypassed.append(found)

    @property
    def _store(self) -> Store:
        if self._away is not None and self.break_glass:
            raise self._away
        if self._opened is None:
            self._opened = open_store(cast("dict[str, object]", self._params["store"]))
        return self._opened

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
        agreed = self._body.get("envelope")
        if self._body.get("mode") == "none":
            self._bypassed.append(OpsError("guard_none", "The guard is switched off (saasops_guard: none).", ""))
        elif agreed is not None:
            # decided over all hosts before; this host's plan must be what was decided about
            beyond = refuse_outside(envelope_of(plan), parse_envelope(agreed), f"plan {self._body.get('plan')}")
            if beyond is not None:
                raise beyond
            self._check_hosts()
            self._take()
        else:
            self._check(plan)
            self._take()
        try:
            facts = {"plan": plan.as_dict(), "process": self._process()}
            self._journal([*self._bypasses(), *self._silence(), self._event("intent", facts)])
        except OpsError:
            self._give_back()
            raise
        self._plan = plan
        self._find_overdue()

    def _silence(self) -> list[Event]:
        if self._silencing is None:
            return []
        lease = self._lease if self._token else ""
        facts = self._silencing.open(lambda: self._store, lease, bool(self._request.break_glass))
        return [self._event(kind, fact) for kind, fact in facts]

    def _require_journal(self) -> None:
        """Where a journal is required, what the guard does not see must be seen too."""
        if self._policy.journal != "required" or self._body.get("witnessed"):
            return
        error = OpsError(
            "journal_unavailable",
            "The journal is required here, and the callback that records other tasks is not on.",
            "Set callbacks_enabled = saasops.runbook.witness in ansible.cfg (ANSIBLE_CALLBACKS_ENABLED).",
        )
        if not self._request.break_glass:
            raise error
        self._bypassed.append(error)

    def _approvals(self) -> list[Approval]:
        readable: list[Approval] = []
        if needs_approval(self._policy, self._request.verb):
            with self._glass("approvals could not be read"):
                found = (parse_approval(*pair) for pair in approvals.read(self._store))
                readable = [item for item in found if item is not None]
        return readable

    def against(self, plan: Plan | None) -> list[OpsError]:
        """Everything that would speak against the plan now; for check mode, which is refused nothing."""
        if plan is None or plan.empty or self._body.get("mode") == "none":
            return []
        try:
            return self._against(plan)
        except OpsError as error:
            return [error]

    def _against(self, plan: Plan) -> list[OpsError]:
        verdict = decide(self._policy, self._request, plan, self._approvals(), time.time())
        found = [*verdict.refusals, *verdict.bypassed]
        if self._lease:
            view = Leases(self._store).look(self._lease)
            if view.lease is not None and view.state(time.time()) == "held" and view.lease.run != self._request.run:
                found.append(held(view, view.lease, time.time(), view.remaining(time.time())))
        return found

    def grant(self, plans: Mapping[str, Plan], whole: Plan) -> dict[str, object]:
        """Decide over all hosts of a run, take the lease for all of them and keep the plan; see execute/admission.py.

        Raises OpsError: all refusals together, lease_held, journal_unavailable.
        """
        self._require_journal()
        self._check(whole, plans)
        tokens: dict[str, int] = {}
        try:
            # in one order, so that two runs never wait for each other
            for name, hosts in sorted(cast("dict[str, list[str]]", self._body.get("leases") or {}).items()):
                with self._glass("no lease could be taken"):
                    tokens[name] = self._acquire(name, tuple(hosts))
            kept = ""
            with self._glass("the plan could not be kept"):
                kept = plan_store.keep(self._store, self._system, self._request, plans, time.time())
            self._journal([*self._bypasses(), self._event("note", {"code": "admitted", "plan": kept})])
        except OpsError:
            for name in tokens:
                with contextlib.suppress(OpsError):
                    Leases(self._store).release(name, self._request.run, time.time(), self._request.operator)
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
        past = [item for item in now if self._request.break_glass and item.code in BYPASSABLE]
        self._bypassed += past
        if len(past) < len(now):
            raise refusal([item for item in now if item not in past])

    def _check(self, plan: Plan, plans: Mapping[str, Plan] | None = None) -> None:
        verdict = decide(self._policy, self._request, plan, self._approvals(), time.time())
        self._bypassed += verdict.bypassed
        if not verdict.refusals:
            return
        error = refusal(verdict.refusals)
        codes = {item.code for item in verdict.refusals}
        if codes & {"approval_required", "approval_expired", "outside_envelope"}:
            mine = plans or {self._host: plan}
            try:
                kept = plan_store.keep(self._store, self._system, self._request, mine, time.time())
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

    @contextlib.contextmanager
    def _glass(self, what: str) -> Iterator[None]:
        """With break glass an unavailable store is gone past, and said; without, it is an error as any other."""
        try:
            yield
        except OpsError as error:
            if error.code == "store_full" and self._request.verb == PRUNE:
                # nobody else can take a lease there either, and only a prune makes room
                self._past(error, what)
            elif error.code == "lease_held" or not self.go_past(error, what):
                raise

    def _holder(self) -> Holder:
        body = self._body
        return Holder(
            operator=self._request.operator,
            controller=str(body.get("controller") or ""),
            boot_id=str(body.get("boot_id") or ""),
            pid_namespace=str(body.get("pid_namespace") or ""),
            pid=int(str(body.get("pid") or 0)),
            process_started=int(str(body.get("process_started") or 0)),
        )

    def _acquire(self, name: str, hosts: tuple[str, ...]) -> int:
        """The token of a lease that all these hosts of the run are in."""
        verb, tokens = self._request.verb, cast("dict[str, int]", self._body.get("tokens") or {})
        ask = Ask(
            name=name,
            run=self._request.run,
            host=self._host if self._host in hosts else hosts[0],
            holder=self._holder(),
            verb=verb.name,
            verb_class=verb.verb_class,
            hosts=hosts,
            reason=str(self._body.get("reason") or ""),
            ttl=int(self._policy.lease_ttl),
            token=int(tokens.get(name, 0)),
            dead=frozenset(_names(self._body.get("dead_runs"))),
        )
        lease = Leases(self._store).acquire(ask, time.time(), float(str(self._body.get("lease_wait") or 0)))
        if lease.took_over and lease.run == self._request.run and lease.number == lease.token:
            cause = f"Run {lease.took_over} held {name} and was interrupted ({lease.took_over_why}); this run goes on."
            self._interrupted.append(cause)
            self._unwritten.append(self._event("note", {"code": INTERRUPTED, "of": lease.took_over, "cause": cause}))
        return lease.token

    def _take(self) -> None:
        if not self._lease:
            return
        with self._glass("no lease could be taken"):
            self._token = self._acquire(self._lease, (self._host,))
            threading.Thread(target=self._renew, daemon=True, name="saasops-lease").start()

    def _renew(self) -> None:
        """Keep the lease while a long module works; a loss is told at the next point of no return."""
        while not self._stop.wait(self._policy.lease_ttl / RENEWALS_PER_TTL):
            try:
                self._still_ours()
            except OpsError as error:
                if error.code == "lease_lost":
                    self._lost = error
                    return

    def _still_ours(self) -> None:
        Leases(self._store).confirm(self._lease, self._request.run, self._token, self._host)

    def confirm(self) -> None:
        """Raises lease_lost, window_ended; with break glass a store that does not answer is gone past."""
        deadline = self._request.deadline
        if deadline is not None and time.time() > deadline and not self._request.break_glass:
            raise OpsError(
                "window_ended",
                f"The window in which this may run ended at {iso(deadline)}.",
                "What had been begun was put back; run the verb again in the next window.",
            )
        if self._lost is not None:
            raise self._lost
        if not self._token:
            return
        try:
            self._still_ours()
        except OpsError as error:
            if error.code == "lease_lost" or not self.go_past(error, "the lease could not be looked at again"):
                raise

    def opens(self, opening: Opening) -> None:
        """Before the thing is opened: what it is, and how whoever comes next puts it back."""
        with self._glass(f"{opening.id} could not be recorded as open"):
            open_items.record(
                self._store,
                OpenItem(
                    id=opening.id,
                    system=self._system,
                    host=self._host,
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
                    process=self._process(),
                ),
            )

    def closes(self, identifier: str, how: str) -> None:
        """After the thing is closed; one that was not open is no error."""
        with self._glass(f"{identifier} could not be recorded as closed"):
            item = open_items.look(self._store, identifier)
            if item is not None:
                open_items.close(self._store, item, self._request.run, how, time.time())

    def says(self, kind: str, facts: Mapping[str, object]) -> None:
        """One more record for the journal; what it does not take waits, as outcomes do."""
        self._journal([self._event(kind, facts)], final=True)

    def _process(self) -> dict[str, Json]:
        """The run's process on its controller, for the proof that it is gone."""
        names = ("controller", "boot_id", "pid_namespace", "pid", "process_started")
        return {name: cast("Json", self._body[name]) for name in names if self._body.get(name) is not None}

    def _find_overdue(self) -> None:
        """What should have been closed by now: one listing; the controller has it put back after this module."""
        with contextlib.suppress(OpsError):
            items, _unreadable = open_items.read(self._store, self._system)
            dead = _names(self._body.get("dead_runs"))
            self._overdue = [item.id for item in items if over(item, time.time(), dead)]

    def _give_back(self, *, failed: bool = True) -> None:
        """This host is through; of a run that was decided over all hosts, only one that failed leaves."""
        self._stop.set()
        if self._token and (failed or not self._body.get("envelope")):
            with contextlib.suppress(OpsError):
                Leases(self._store).leave(self._lease, self._request.run, self._host, time.time())
        self._token = 0

    def _event(self, kind: str, facts: Mapping[str, object]) -> Event:
        body, verb = self._body, self._request.verb
        common = {
            "host": self._host,
            "verb": verb.name,
            "class": verb.verb_class,
            "action": str(body.get("action") or ""),
            "operator": self._request.operator,
            "controller": str(body.get("controller") or ""),
        }
        return Event(kind, time.time(), new_id(os.urandom(16)), self._system, self._request.run, {**common, **facts})

    def _bypasses(self) -> list[Event]:
        if not self._bypassed:
            return []
        reason = self._request.break_glass or "saasops_guard: none"
        went_past = [{"code": item.code, "cause": item.cause} for item in self._bypassed]
        return [self._event("bypass", {"reason": reason, "past": went_past})]

    def _journal(self, events: list[Event], *, final: bool = False) -> None:
        """Write to the chain; what it does not take goes back to the controller, unless the journal is required."""
        self._unwritten += events
        again = self._body.get("events_again_since")
        try:
            journal.append(self._store, self._unwritten, None if again is None else float(str(again)))
        except OpsError as error:
            self.go_past(error, "the journal's records wait on the controller")
            if self._policy.journal == "required" and not final and not self._request.break_glass:
                raise OpsError(
                    "journal_unavailable",
                    f"The journal is required here and could not be written: {error.cause}",
                    f"{error.remedy} Or go past it with break_glass; the records then wait on the controller.",
                ) from error
            return
        self._unwritten = []

    def _report(self, *, failed: bool) -> dict[str, object]:
        self._give_back(failed=failed)
        if self._silencing is not None:
            self._silencing.close(failed)
        return {
            "guard_report": {
                "refused": failed and self._plan is None,
                "run": self._request.run,
                "token": self._token,
                "unwritten": [event.as_json() for event in self._unwritten],
                "break_glass": self.break_glass,
                "bypassed": [{"code": item.code, "cause": item.cause} for item in self._bypassed],
                "overdue": self._overdue,
                "interrupted": self._interrupted,
            }
        }

    def refused(self, error: OpsError) -> dict[str, object]:
        """The module ends with an error: before its first act a refusal, after it a failed outcome."""
        said: dict[str, object] = {"code": error.code, "cause": error.cause, "remedy": error.remedy}
        kind = "refusal" if self._plan is None else "outcome"
        self._journal(
            [self._event(kind, {**said, "failed": True, "seconds": round(time.time() - self._began, 3)})], final=True
        )
        return self._report(failed=True)

    def done(
        self, plan: Plan | None, changed: bool, message: str, undo: Mapping[str, Json] | None = None
    ) -> dict[str, object]:
        """The module ends well."""
        facts: dict[str, object] = {
            "changed": changed,
            "failed": False,
            "seconds": round(time.time() - self._began, 3),
            "message": message,
        }
        if self._plan is not None or changed:
            facts["plan"] = plan.as_dict() if plan else {}
        if undo:
            facts["undo"] = dict(undo)
        self._journal([self._event("outcome", facts)], final=True)
        return self._report(failed=False)
